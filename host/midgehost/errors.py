"""Errors that midge raises on purpose: each says what happened and what to do about it.

`code` is dotted, stable and append-only: scripts match on it, the board sends the same codes, and docs/errors.md lists
them. Subclasses carry typed fields and make the message inside the class.
"""

from __future__ import annotations


class MidgeError(Exception):
    """Base of every error that midge raises on purpose."""

    code = "midge"
    exit_code = 2  # of the command line: refused, nothing was touched; 1: it was tried, and failed

    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"{what} {do}")
        self.what = what
        self.do = do

    def as_dict(self) -> dict[str, str]:
        """The error as `--json` prints it."""
        return {"code": self.code, "what": self.what, "do": self.do}


# --- models ---------------------------------------------------------------------------------------------------------


class ModelError(MidgeError):
    """The model cannot be used as it is."""

    code = "model"


class BadFile(ModelError):
    """The file is no model, or a damaged one."""

    code = "model.bad_file"

    def __init__(self, path: str, why: str, do: str = "Export or download it again.") -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} is not a usable .tflite file: {why}.", do)


class NoFile(ModelError):
    """There is no such file, or it cannot be read."""

    code = "model.no_file"

    def __init__(self, path: str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} cannot be read: {why}.", "Check the path.")


class BadBundle(ModelError):
    """The file is no bundle, or a damaged one, or one of another format version."""

    code = "model.bad_bundle"

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"This is not a usable bundle: {why}.", "Convert the model again, with this version of midge.")


class UnknownOp(ModelError):
    """The model uses an operator that no kernel computes."""

    code = "model.unknown_op"

    def __init__(self, op: str, index: int, nearest: str | None = None) -> None:
        self.op, self.index = op, index
        hint = f"Replace it by {nearest}, or" if nearest else "Replace it, or"
        super().__init__(
            f"Operator {index} is {op}, which midge does not compute.", f"{hint} convert the model without it."
        )


class UnsupportedType(ModelError):
    """A tensor's type is one that midge does not compute (float32, uint8, int16, hybrid)."""

    code = "model.unsupported_type"

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what, do)


class UnsupportedOption(ModelError):
    """An operator is known, but not with this shape, option or quantisation."""

    code = "model.unsupported_option"

    def __init__(self, op: str, index: int, why: str, do: str) -> None:
        self.op, self.index = op, index
        super().__init__(f"Operator {index} ({op}) {why}.", do)


class DynamicShape(ModelError):
    """A tensor has no fixed shape."""

    code = "model.dynamic_shape"

    def __init__(self, tensor: str, shape: tuple[int, ...]) -> None:
        self.tensor, self.shape = tensor, shape
        super().__init__(
            f"Tensor {tensor!r} has the dynamic shape {list(shape)}.", "Export the model with a fixed batch and size."
        )


class TooBig(ModelError):
    """The model, or one tensor of it (`what`), does not fit the board. Sizes in bytes."""

    code = "model.too_big"

    def __init__(self, board: str, needed: int, available: int, what: str = "The model") -> None:
        self.board, self.needed, self.available = board, needed, available
        super().__init__(
            f"{what} needs {needed:,} bytes of heap, {board} has {available:,}.",
            "Choose a smaller model, or a board with more memory.",
        )


class BadLabels(ModelError):
    """The labels do not fit the model's first output."""

    code = "model.bad_labels"

    def __init__(self, have: int, want: int) -> None:
        self.have, self.want = have, want
        super().__init__(
            f"There are {have} labels, the model has {want} classes.", f"Give {want} labels of one line each."
        )


class BadCard(ModelError):
    """model.toml does not read."""

    code = "model.bad_card"

    def __init__(self, path: str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} does not read: {why}.", 'Write TOML: version = "1", labels = ["a", "b"].')


class NoKernels(ModelError):
    """The asked-for kernel level is not available for this bundle or board."""

    code = "model.no_kernels"

    def __init__(self, level: str, why: str) -> None:
        self.level = level
        super().__init__(f"There are no {level} kernels here: {why}.", "Use --kernels viper or --kernels portable.")


# --- boards and ports -----------------------------------------------------------------------------------------------


class BoardError(MidgeError):
    """A board cannot be found, reached or used."""

    code = "board"


class NotFound(BoardError):
    code = "board.not_found"

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what, do)


class Ambiguous(BoardError):
    code = "board.ambiguous"

    def __init__(self, name: str, candidates: list[str]) -> None:
        self.name, self.candidates = name, candidates
        super().__init__(f"{name!r} could be any of {', '.join(candidates)}.", "Name one of them.")


class Busy(BoardError):
    code = "board.busy"

    def __init__(self, port: str, do: str = "Close it (a serial monitor, Thonny) and try again.") -> None:
        self.port = port
        super().__init__(f"{port} is in use by another program.", do)


class Timeout(BoardError):
    code = "board.timeout"

    def __init__(self, port: str, doing: str, seconds: float) -> None:
        self.port, self.doing, self.seconds = port, doing, seconds
        super().__init__(
            f"{port} did not answer within {seconds:g} s while {doing}.", "Press its reset button or plug it in again."
        )


class WrongArch(BoardError):
    code = "board.wrong_arch"

    def __init__(self, port: str, have: str, want: str) -> None:
        self.port, self.have, self.want = port, have, want
        super().__init__(f"{port} runs {have}, the bundle is for {want}.", f"Convert the model for {have}.")


class Missing(MidgeError):
    """A package of an optional extra is not installed."""

    code = "host.missing_extra"

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed.", f"Run: pip install 'midge[{extra}]'")


class HostError(MidgeError):
    """This computer refused a file: no space, no permission, a folder where a file should be."""

    code = "host.os"

    def __init__(self, error: OSError) -> None:
        self.error = error
        where = f"{error.filename}: " if error.filename else ""
        super().__init__(f"{where}{error.strerror or error}.", "Check the path, its permissions and the free space.")


class RemoteError(BoardError):
    """Code that midge ran on the board raised an exception."""

    code = "board.remote_error"

    def __init__(self, port: str, traceback: str) -> None:
        self.port, self.traceback = port, traceback
        lines = traceback.strip().splitlines()
        super().__init__(f"{port} raised {lines[-1] if lines else 'an error'}", "The whole traceback is in the log.")


# --- flashing, deploying, node files, links -------------------------------------------------------------------------


class FlashError(MidgeError):
    """Flashing failed; a subclass that says so before it touched the board ends with 2."""

    code = "flash"
    exit_code = 1


class DeployError(MidgeError):
    """A deployment did not finish; what ran before still runs."""

    code = "deploy"


class Full(DeployError):
    code = "deploy.full"

    def __init__(self, needed: int, free: int) -> None:
        self.needed, self.free = needed, free
        super().__init__(
            f"The board's file system has {free:,} bytes free, the node needs {needed:,}; the old node still runs.",
            "Delete files on the board, or deploy a smaller model.",
        )


class HashMismatch(DeployError):
    code = "deploy.hash_mismatch"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"{path} arrived damaged (its SHA-256 differs); the old node still runs.",
            "Deploy again; if it repeats, change the cable.",
        )


class Rejected(DeployError):
    code = "deploy.rejected"

    def __init__(self, why: str, do: str = "The old node still runs; see the board's message above.") -> None:
        self.why = why
        super().__init__(f"The board refused the new node: {why}.", do)


class KeysError(MidgeError):
    """A key that signs updates cannot be made, found or opened. Its messages never quote a secret."""

    code = "keys"


class NodeFileError(MidgeError):
    """The node file is wrong: `where` is the dotted key, `line` its 1-based line (0: unknown)."""

    code = "node_file"

    def __init__(self, where: str, what: str, do: str, file: str = "", line: int = 0) -> None:
        self.where, self.file, self.line = where, file, line
        place = ":".join(str(part) for part in (file, line) if part)
        super().__init__(f"{place}: {where}: {what}." if place else f"{where}: {what}.", do)
        self._what = what

    def located(self, file: str, line: int) -> NodeFileError:
        """The same error, with the file and line it is about."""
        return NodeFileError(self.where, self._what, self.do, file, self.line or line)


class LinkError(MidgeError):
    """A link to a running node broke or speaks another language."""

    code = "link"


class LineDropped(LinkError):
    code = "link.dropped"

    def __init__(self, port: str, doing: str) -> None:
        self.port, self.doing = port, doing
        super().__init__(f"The line to {port} dropped while {doing}.", "Check the cable and run the command again.")


class DataError(MidgeError):
    """A recording or golden file cannot be used."""

    code = "data"
