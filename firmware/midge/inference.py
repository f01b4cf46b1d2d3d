# A model on the board: loads a bundle and runs its plan. What a bundle is: DESIGN.md; kernels: midge/kernels.

from midge.kernels import forget
from midge.kernels.plan import Plan


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
    # Inputs may be overwritten by `invoke`; outputs hold until the next one. `breathe` is called between two kernels of
    # the tests that loading may run.

    name = level = reason = residence = plan_hash = None
    inputs = outputs = _inputs = _outputs = ()
    _arena = None
    _plan = Plan()

    def __init__(self, path, level=None, breathe=None):
        from midge.loading import load

        self._path = path

        try:
            load(self, path, level, breathe)
        finally:
            forget("midge.loading")

    def input(self, i=0):
        # The bytes of input i (int8 as two's complement): write it before `invoke`.
        return self._inputs[i]

    def output(self, i=0):
        return self._outputs[i]

    def invoke(self):
        # Runs the plan; allocates nothing. Raises MidgeError model.kernel_status (4: a float input is not a number),
        # model.weights_moved (load it again: its file was written to).
        self._plan.run()

    def steps(self):
        # `invoke` one kernel call at a time, yielding its operator's number: sampling, links and Ctrl-C live between.
        self._plan.start()
        operator = self._plan.step()
        while operator >= 0:
            yield operator
            operator = self._plan.step()

    def self_test(self, breathe=None):
        # The number of the bundle's test vectors that this board does not reproduce.
        from midge.loading import self_test

        try:
            return self_test(self, self._path, breathe)
        finally:
            forget("midge.loading")
