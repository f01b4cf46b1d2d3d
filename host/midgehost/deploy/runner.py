"""A model on a board without a node: bundle and device modules are sent, inputs run, outputs brought back."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.deploy.modules import compile_modules
from midgehost.deploy.node_folder import bundle_of, kernel_modules
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.slots import Slots
from midgehost.deploy.transport import Transport
from midgehost.errors import DataError, ModelError, NoKernels, RemoteError, TooBig
from midgehost.models.bundle import Bundle, TensorInfo
from midgehost.models.plan import PlannedCall

LEVELS = ("machine", "viper", "portable")

_FOLDER = "/midge/run"  # beside the slots: a deployed node is not touched
_INVOKE_TIMEOUT = 300.0
_LOAD = """
import sys,gc,binascii
if {lib!r} not in sys.path:sys.path.insert(0,{lib!r})
from midge.inference import Model
from midge.errors import MidgeError
_model=None
gc.collect()
try:
 _model=Model({path!r},{level!r})
 print('ok',_model.level,_model.plan_hash)
except MidgeError as e:
 print('refused',e.code,e.what)
def _midge_dump(view):
 for i in range(0,len(view),192):print(binascii.b2a_base64(view[i:i+192]).decode(),end='')
 print()
"""
_FEED = "_view=_model.input({i})[{at}:{end}]\n_view[:]=binascii.a2b_base64({text!r})"
_CHUNK = 1536


class ModelOnBoard:
    """A bundle that is loaded on a board. Raises NoKernels, and TooBig and others as the board reports them.

    Machine code leaves out what is dead in a model, unless it is converted not `pruned`.
    """

    def __init__(
        self,
        transport: Transport,
        info: BoardInfo,
        model: Path | Bundle,
        kernels: str | None = None,
        pruned: bool = True,
    ) -> None:
        self.transport = transport
        if kernels not in (None, *LEVELS):
            raise NoKernels(kernels, "midge has no such level")
        arch = info.arch if kernels in (None, "machine") else None
        self.bundle = model if isinstance(model, Bundle) else bundle_of(model, arch=arch, pruned=pruned)
        self._send(info, kernels)
        self.level, self.plan_hash = self._load(kernels)

    def invoke(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for one array an input. Raises DataError for a wrong number, type or shape."""
        self._feed(inputs)
        self.transport.exec("_model.invoke()", _INVOKE_TIMEOUT)
        return [self._fetch(f"_model.output({i})", tensor) for i, tensor in enumerate(self.bundle.outputs)]

    def steps(self, inputs: Sequence[NDArray[Any]]) -> Iterator[int]:
        """Runs operator by operator and yields each one's number when it is done; `peek` then shows its output."""
        self._feed(inputs)
        self.transport.exec("_steps=_model.steps()")
        slices: dict[int, int] = {}
        for call in self._calls:
            slices[call.operator] = slices.get(call.operator, 0) + call.slices
        for operator, count in sorted(slices.items()):
            self.transport.exec(f"for _ in range({count}):next(_steps)", _INVOKE_TIMEOUT)
            yield operator

    def peek(self, operator: int, nbytes: int) -> bytes:
        """The first bytes of an operator's output, while nothing else has been written over it."""
        offset = min(call.out for call in self._calls if call.operator == operator)
        return self._dump(f"memoryview(_model._arena)[{offset}:{offset + nbytes}]")

    @property
    def _calls(self) -> Sequence[PlannedCall]:
        """The plan that runs."""
        machine = self.bundle.machine
        return machine.calls if machine is not None and self.level == "machine" else self.bundle.calls

    def _send(self, info: BoardInfo, kernels: str | None) -> None:
        if kernels == "viper" and info.arch is None:
            raise NoKernels("viper", f"{info.title} has no viper emitter")
        Slots(self.transport).hold()  # a node may have started a watchdog
        modules = {"inference", *kernel_modules([self.bundle], info, kernels)}
        for path, data in compile_modules(modules, info.arch).items():
            self._put(f"{_FOLDER}/lib/{path}", data)
        self._put(f"{_FOLDER}/model.midge", self.bundle.encode())

    def _put(self, path: str, data: bytes) -> None:
        try:
            if self.transport.sha256(path) == hashlib.sha256(data).hexdigest():
                return
        except RemoteError:  # not there yet
            pass
        self.transport.put(path, data)

    def _load(self, kernels: str | None) -> tuple[str, str]:
        self.transport.restart()  # sending has scattered small objects over the heap, and it does not compact
        code = _LOAD.format(lib=f"{_FOLDER}/lib", path=f"{_FOLDER}/model.midge", level=kernels)
        words = self.transport.exec(code, 60).strip().split(" ", 2)
        if words[0] != "ok":
            raise RefusedByBoard(words[1], words[2])
        return words[1], words[2]

    def _feed(self, inputs: Sequence[NDArray[Any]]) -> None:
        tensors = self.bundle.inputs
        if len(inputs) != len(tensors):
            raise DataError(f"The model takes {len(tensors)} inputs, not {len(inputs)}.", "Give one array an input.")
        for i, (value, tensor) in enumerate(zip(inputs, tensors, strict=True)):
            value = np.asarray(value)
            if value.dtype != tensor.dtype or value.size * value.itemsize != tensor.nbytes:
                have, want = f"{value.dtype}{list(value.shape)}", f"{tensor.dtype}{list(tensor.shape)}"
                raise DataError(f"Input {i} is {have}, the model takes {want}.", "Quantise and reshape it.")
            raw = value.tobytes()
            for at in range(0, len(raw), _CHUNK):
                part = raw[at : at + _CHUNK]
                text = binascii.b2a_base64(part, newline=False).decode()
                self.transport.exec(_FEED.format(i=i, at=at, end=at + len(part), text=text))

    def _fetch(self, expression: str, tensor: TensorInfo) -> NDArray[Any]:
        return np.frombuffer(self._dump(expression), tensor.dtype).reshape(tensor.shape).copy()

    def _dump(self, expression: str) -> bytes:
        lines = self.transport.exec(f"_midge_dump({expression})", 60).split()
        return b"".join(binascii.a2b_base64(line) for line in lines)


class RefusedByBoard(ModelError):
    """The board would not load the bundle; `code` is the device's own."""

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        heap = code == TooBig.code
        do = (
            "Give it more heap, or a smaller model." if heap else "Convert the model again, with this version of midge."
        )
        super().__init__(f"The board refused the model: {what}.", do)
