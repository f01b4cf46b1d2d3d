# The `update` of a detector on machine code. Native code does without the polling of bytecode's jumps, which costs more
# than all else here.

import micropython


def updater(step, at, io, follow):
    # A function of its own, as it finds what it uses faster than a method does. `at` is what the step takes; `follow`
    # takes what is neither a mere score nor None.
    @micropython.native
    def update(x):
        io[0] = x  # SAMPLE
        status = step(at)
        if status == 2:  # SCORED
            return io[1]  # SCORE
        if status == 0:  # LEARNING
            return None
        return follow(status, x)

    return update
