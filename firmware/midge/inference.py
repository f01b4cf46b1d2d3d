# A model on the board: loads a bundle and runs its plan. What a bundle is: DESIGN.md; kernels: midge/kernels.

import gc
import json
import struct

from midge.errors import MidgeError
from midge.kernels import forget

_ABI = 1


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
    # A loaded bundle. `level` is machine, viper or portable; None takes the best that bundle and board have, and
    # `reason` then says why machine code in the bundle is not used. `residence` says where weights are: ram, flash or
    # stream. Raises MidgeError: model.not_found, model.bad_bundle, model.too_big, model.no_kernels.
    # Inputs may be overwritten by `invoke`; outputs hold until the next one.

    def __init__(self, path, level=None):
        self._path = path
        self.level = self.reason = None
        bundle = _opened(path)
        try:
            self.info = json.loads(bundle.read("META"))
            if self.info.get("abi") != _ABI:
                raise MidgeError("model.bad_bundle", "its kernel calls have version %s" % self.info.get("abi"))
            self.name = self.info["name"]
            if bundle.machine and level in (None, "machine"):
                self._load_machine(bundle, level)
            if self.level is None:
                self._load_general(bundle, level)
        finally:
            _close(bundle)

    def _load_machine(self, bundle, level):
        # Where the machine code cannot be used: `reason` is why, if another plan will do, else that is raised.
        try:
            from midge.kernels.machine import load

            load(self, bundle)
            self.level = "machine"
        except (MidgeError, ImportError) as error:
            self._unload()
            if level == "machine" or not bundle.general:
                raise
            self.reason = getattr(error, "what", "no machine code on this board")

    def _load_general(self, bundle, level):
        if level == "machine" or not bundle.general:
            raise MidgeError("model.no_kernels", "no plan for %s in this bundle" % (level or "this board"))
        from midge.kernels.general import load

        load(self, bundle, level)

    def load(self, bundle, need, tensors, plan):
        # A plan of the class `plan`, in the memory that `need` names. The arena comes first, while the heap is whole:
        # the collector does not move.
        gc.collect()
        nbytes = need["arena_bytes"] + need["scratch_bytes"]
        try:
            if nbytes + plan.heap(bundle, need) > gc.mem_free():
                raise MemoryError
            self._arena = bytearray(nbytes)
            self._plan = plan(self, bundle, self._arena)
            self.inputs, self.outputs = _tensors(bundle.read(tensors))
        except MemoryError:  # not enough, or not in one piece
            self._unload()
            raise MidgeError(
                "model.too_big", "it needs %d bytes of heap, %d are free" % (need["heap_bytes"], gc.mem_free())
            )
        self._rows = self._plan.rows
        self.residence = self._plan.residence
        self.plan_hash = bundle.digest(*plan.sections)
        view = memoryview(self._arena)
        self._inputs = [view[t.offset : t.offset + t.nbytes] for t in self.inputs]
        self._outputs = [view[t.offset : t.offset + t.nbytes] for t in self.outputs]

    def _unload(self):
        self._arena = self._plan = self._rows = self._inputs = self._outputs = None
        gc.collect()

    def input(self, i=0):
        # The bytes of input i (int8 as two's complement): write it before `invoke`.
        return self._inputs[i]

    def output(self, i=0):
        return self._outputs[i]

    def invoke(self):
        # Runs the plan; allocates nothing. Raises MidgeError model.kernel_status (4: a float input is not a number),
        # model.weights_moved (load it again: its file was written to).
        self._start()
        rows = self._rows
        at = 0
        while at < len(rows):
            if rows[at] + rows[at + 2] < rows[at + 1]:
                while self._at == at:
                    self._step()
            else:
                status = self._plan.call(at >> 2)
                if status:
                    raise _refused(rows[at + 3], status)
                self._at = at + 4
            at += 4

    def steps(self):
        # `invoke` one kernel call at a time, yielding its operator's number: sampling, links and Ctrl-C live between.
        self._start()
        while self._at < len(self._rows):
            yield self._step()

    def _start(self):
        self._plan.start()
        self._at = self._done = 0

    def _step(self):
        # The next slice of the plan: `_done` rows of the call whose four words lie at `_at` are computed already.
        at = self._at
        last, operator = self._rows[at + 1], self._rows[at + 3]
        row = self._rows[at] + self._done
        end = row + self._rows[at + 2]
        if end >= last:
            end = last
            self._at += 4
            self._done = 0
        else:
            self._done += end - row
        status = self._plan.run(at >> 2, row, end)
        if status:
            raise _refused(operator, status)
        return operator

    def self_test(self, bundle=None):
        # The number of the bundle's test vectors that this board does not reproduce.
        if bundle is None:
            bundle = _opened(self._path)
            try:
                return self.self_test(bundle)
            finally:
                _close(bundle)
        failed = 0
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
        return failed


def _opened(path):
    from midge.bundle import Bundle

    return Bundle(path)


def _close(bundle):
    bundle.close()
    forget("midge.bundle")


def _refused(operator, status):
    return MidgeError("model.kernel_status", "operator %d: status %d" % (operator, status))


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
