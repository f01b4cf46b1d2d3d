# A model on the board: loads a bundle and runs its plan. What a bundle is: DESIGN.md; kernels: midge/kernels.

import gc
import json
import struct
from array import array

from midge.bundle import Bundle, damaged
from midge.errors import MidgeError
from midge.kernels import levels, load

_ABI = 1
_CALL = 48  # bytes of a call in PLAN


class Tensor:
    # An input or output: shape, dtype ("int8", "float32"), scale and zero point, labels. It lies at `offset`, `nbytes`
    # long, in the arena.

    def __init__(self, name, shape, dtype, scale, zero_point, labels, offset, nbytes):
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.scale = scale
        self.zero_point = zero_point
        self.labels = labels
        self.offset = offset
        self.nbytes = nbytes


class Model:
    # A loaded bundle. `level` is portable or viper; None takes the best that this board runs. Raises MidgeError:
    # model.not_found, model.bad_bundle, model.too_big, model.no_kernels.
    # Inputs may be overwritten by `invoke`; outputs hold until the next one.

    def __init__(self, path, level=None):
        self._path = path
        bundle = Bundle(path)
        try:
            self._load(bundle, level or levels()[0])
        except MemoryError:  # not enough, or not in one piece
            self._arena = self._params = self._calls = self._tiles = None
            gc.collect()
            raise _too_big(self.info["heap_bytes"])
        finally:
            bundle.close()

    def _load(self, bundle, level):
        self.info = json.loads(bundle.read("META"))
        if self.info.get("abi") != _ABI:
            raise damaged("kernel call version %s, this firmware has %d" % (self.info.get("abi"), _ABI))
        self.name = self.info["name"]
        gc.collect()
        arena = self.info["arena_bytes"] + self.info["scratch_bytes"]
        if arena + bundle.size("WGHT") + bundle.size("PARM") > gc.mem_free():
            raise _too_big(self.info["heap_bytes"])
        # The arena first, while the heap is whole: the collector does not move.
        self._arena = bytearray(arena)
        self._read_tiles(bundle)
        size = bundle.seek("PARM")
        self._params = array("i", bytes(size))
        bundle.file.readinto(self._params)
        self.inputs, self.outputs = _tensors(bundle.read("TENS"))
        self._read_calls(bundle, level)
        self.level = level
        self.plan_hash = bundle.plan_hash()
        view = memoryview(self._arena)
        self._inputs = [view[t.offset : t.offset + t.nbytes] for t in self.inputs]
        self._outputs = [view[t.offset : t.offset + t.nbytes] for t in self.outputs]

    def _read_tiles(self, bundle):
        size = bundle.seek("WGHT")
        (count,) = struct.unpack("<I", bundle.file.read(4))
        places = array("I", bundle.file.read(8 * count))
        self._tiles = []
        for i in range(0, 2 * count, 2):
            if places[i] + places[i + 1] > size:
                raise damaged("a tile lies outside")
            tile = bytearray(places[i + 1])
            bundle.seek("WGHT", places[i])
            bundle.file.readinto(tile)
            self._tiles.append(tile)

    def _read_calls(self, bundle, level):
        plan = bundle.read("PLAN")
        words = [struct.unpack_from("<12i", plan, i) for i in range(0, len(plan), _CALL)]
        kernels = load(level, {w[0] for w in words})
        arena = len(self._arena)
        self._calls = []  # (kernel, block, tile, last row, rows a slice, operator)
        for kernel, in0, in1, out, tile, weights, params, scratch, row0, row1, operator, slice_rows in words:
            if tile >= len(self._tiles) or slice_rows < 1 or max(in0, in1, out, scratch) >= arena or out < 0:
                raise damaged("a call leaves the arena")
            block = array("i", [_ABI, in0, in1, out, weights, params, scratch, row0, row1])
            memory = self._tiles[tile] if tile >= 0 else self._arena
            self._calls.append((kernels[kernel], block, memory, row0, row1, slice_rows, operator))

    def input(self, i=0):
        # The bytes of input i (int8 as two's complement): write it before `invoke`.
        return self._inputs[i]

    def output(self, i=0):
        return self._outputs[i]

    def invoke(self):
        # Runs the plan; allocates nothing. Raises MidgeError model.kernel_status (4: a float input is not a number).
        self._next = self._done = 0
        while self._next < len(self._calls):
            self._step()

    def steps(self):
        # `invoke` one kernel call at a time, yielding its operator's number: sampling, links and Ctrl-C live between.
        self._next = self._done = 0
        while self._next < len(self._calls):
            yield self._step()

    def _step(self):
        # The next slice of the plan: `_done` rows of call `_next` are computed already.
        kernel, block, tile, first, last, rows, operator = self._calls[self._next]
        row = first + self._done
        end = row + rows
        if end >= last:
            end = last
            self._next += 1
            self._done = 0
        else:
            self._done += rows
        block[7] = row
        block[8] = end
        status = kernel(block, self._arena, tile, self._params)
        if status:
            raise MidgeError("model.kernel_status", "operator %d: status %d" % (operator, status))
        return operator

    def self_test(self):
        # The number of the bundle's test vectors that this board does not reproduce.
        failed = 0
        bundle = Bundle(self._path)
        try:
            bundle.seek("TEST")
            (count,) = struct.unpack("<I", bundle.file.read(4))
            for _ in range(count):
                for view in self._inputs:
                    bundle.file.readinto(view)
                self.invoke()
                same = True
                for view in self._outputs:
                    same = bundle.file.read(len(view)) == view and same
                failed += not same
        finally:
            bundle.close()
        return failed


def _too_big(needed):
    return MidgeError("model.too_big", "it needs %d bytes of heap, %d are free" % (needed, gc.mem_free()))


def _tensors(section):
    # (inputs, outputs) of a TENS section.
    n_inputs, n_outputs = section[0], section[1]
    found = []
    at = 4
    for _ in range(n_inputs + n_outputs):
        offset, nbytes, mantissa, zero, exponent, letter, rank, n_name, n_labels = struct.unpack_from(
            "<IIiibBBBI", section, at
        )
        at += 24
        shape = struct.unpack_from("<%dI" % rank, section, at)
        at += 4 * rank
        name = str(section[at : at + n_name], "utf8")
        at += n_name
        labels = str(section[at : at + n_labels], "utf8")
        at += n_labels
        at += -at % 4
        dtype = "float32" if letter == 102 else "int8"
        scale = mantissa * 2.0**exponent
        found.append(Tensor(name, shape, dtype, scale, zero, labels.split("\n") if labels else [], offset, nbytes))
    return found[:n_inputs], found[n_inputs:]
