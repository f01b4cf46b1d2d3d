"""A node folder made ready for one board: node file compiled, models converted, device modules for the board's arch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from midgehost.boards import Board
from midgehost.deploy.modules import compile_modules
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.slots import model_path
from midgehost.models.bundle import Bundle
from midgehost.models.kernels import family_module
from midgehost.nodes import compile_node


def build_payload(node_dir: Path, info: BoardInfo, source: bool = False) -> Payload:
    """The payload of `node_dir` for the board that answered. Raises NodeFileError, ModelError, CompileError."""
    node = compile_node(node_dir, info.platform)
    bundles = {name: bundle_of(path, node.board, info.arch) for name, path in node.models.items()}
    models = {name: bundle.encode() for name, bundle in bundles.items()}
    modules = [*node.modules, *kernel_modules(bundles.values(), info)]
    return Payload(
        node_json=node.render({name: model_path(name, data) for name, data in models.items()}),
        lib=compile_modules(modules, info.arch, source),
        models=models,
        board=node.board.name,
    )


def bundle_of(model: Path, board: Board | None = None, arch: str | None = None, pruned: bool = True) -> Bundle:
    """A bundle as it is, anything else converted for the board and the arch that it reports (None: no machine code).

    Raises BadBundle, ModelError.
    """
    if model.suffix == ".midge":
        return Bundle.decode(model.read_bytes())
    from midgehost.codegen.convert import convert

    return convert(model, board, arch, pruned=pruned)


def kernel_modules(bundles: Iterable[Bundle], info: BoardInfo, level: str | None = None) -> set[str]:
    """The device modules of the kernels that these bundles call at a level, or (None) at those the board may choose."""
    if level == "machine":
        return set()
    level = level or ("portable" if info.arch is None else "viper")
    kernels = {call.kernel for bundle in bundles for call in bundle.calls}
    return {f"kernels.{level}.{family_module(kernel)}" for kernel in kernels}
