"""Device modules as boards take them: which ones, compiled for which arch, from the cache the second time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from midgehost.deploy import modules
from midgehost.deploy.modules import CompileError, compile_modules

ARMV6M, X64 = 4, 2  # as .mpy headers number the arches


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A device package of its own, and a cache of its own."""
    sources = {
        "__init__.py": "",
        "main.py": "import midge.node",
        "node.py": "import midge.links.serial\nfrom midge import errors\n",
        "errors.py": "class MidgeError(Exception): pass\n",
        "unused.py": "",
        "links/serial.py": "from midge.errors import MidgeError\nfrom . import packing\n",
        "links/packing.py": "from ..fast import add\n",
        "fast.py": "import micropython\n@micropython.viper\ndef add(a: int) -> int:\n    return a + 1\n",
        "broken.py": "def f(:\n",
    }
    for name, text in sources.items():
        path = tmp_path / "midge" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(modules, "firmware_dir", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caches = (modules._all_modules, modules._imports)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path / "midge"
    for cache in caches:
        cache.cache_clear()


def test_only_what_is_imported_is_shipped(package: Path) -> None:
    names = ["__init__", "errors", "fast", "links/packing", "links/serial", "node"]
    assert sorted(compile_modules(["node"], "x64")) == [f"midge/{name}.mpy" for name in names]
    assert sorted(compile_modules(["midge.errors"], "x64")) == ["midge/__init__.mpy", "midge/errors.mpy"]


def test_machine_code_is_for_the_arch_and_bytecode_for_all(package: Path) -> None:
    for arch, number in (("armv6m", ARMV6M), ("x64", X64)):
        files = compile_modules(["node"], arch)
        assert [data[:2] for data in files.values()] == [b"M\x06"] * len(files)
        assert files["midge/fast.mpy"][2] >> 2 & 0xF == number
        assert files["midge/errors.mpy"][2] >> 2 & 0xF == 0
        assert files["midge/errors.mpy"][3] == 31, "small ints must fit a board's 31 bits"
    assert compile_modules(["errors"], "x64") == compile_modules(["errors"], "armv6m")
    assert "midge/fast.mpy" not in compile_modules(["node"], None)


def test_source_is_shipped_as_it_is(package: Path) -> None:
    files = compile_modules(["links.serial"], "x64", source=True)
    assert files["midge/links/serial.py"] == (package / "links/serial.py").read_bytes()
    assert "midge/fast.py" in files


def test_the_second_time_nothing_is_compiled(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_modules(["node"], "x64")
    monkeypatch.setattr(modules, "_mpy_cross", lambda *_: pytest.fail("mpy-cross was run"))
    assert compile_modules(["node"], "x64") == first


def test_a_changed_source_is_compiled_anew(package: Path) -> None:
    first = compile_modules(["errors"], "x64")
    (package / "errors.py").write_text("class MidgeError(ValueError): pass\n")
    assert compile_modules(["errors"], "x64")["midge/errors.mpy"] != first["midge/errors.mpy"]


def test_what_does_not_compile_is_named(package: Path) -> None:
    (package / "errors.py").write_text("x = 1\nbreak\n")  # the parser lets it pass, the compiler does not
    for name, why in (("broken", "line 1: invalid syntax"), ("errors", "SyntaxError"), ("nothere", "no such module")):
        with pytest.raises(CompileError, match=rf"midge.{name}\S* cannot be shipped: .*{why}"):
            compile_modules([name], "x64")


def test_main_is_ours_and_never_a_module() -> None:
    assert modules.main_source().startswith(b"# midge:")
    assert "midge/main.mpy" not in compile_modules(None, "x64")


@pytest.mark.parametrize("arch", ["armv6m", "armv7emsp", "xtensa", "xtensawin", "rv32imc", "x64", None])
def test_the_whole_package_compiles_for_every_arch(arch: str | None) -> None:
    kernels = {name for name in compile_modules(None, arch) if name.startswith("midge/kernels/viper/")}
    families = {path.stem for path in (modules.firmware_dir() / "midge/kernels/viper").glob("*.py")} - {"__init__"}
    assert len(families) >= 7
    assert kernels >= {f"midge/kernels/viper/{name}.mpy" for name in families} if arch else len(kernels) <= 1
