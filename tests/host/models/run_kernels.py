# Runs on MicroPython for levels.py: micropython run_kernels.py FIRMWARE LEVEL CASES RESULTS
# CASES is a stream of int32: number of jobs, then for each job its arena and its kernel calls; RESULTS are the arenas.
import sys
from array import array

sys.path.insert(0, sys.argv[1])

FAMILIES = {1: "dense", 2: "conv", 3: "pool", 4: "elementwise", 5: "move", 6: "table", 7: "softmax"}


def ints(stream, count):
    return array("i", stream.read(4 * count))


def kernel(level, number):
    module = "midge.kernels.%s.%s" % (level, FAMILIES[number >> 4])
    __import__(module)
    return sys.modules[module].KERNELS[number]


def run(level, cases, results):
    for _ in range(ints(cases, 1)[0]):
        size, calls = ints(cases, 2)
        arena = bytearray(cases.read(size))
        for _ in range(calls):
            number, slices, weights_size, params_size = ints(cases, 4)
            weights = cases.read((weights_size + 3) // 4 * 4)
            params = ints(cases, params_size)
            for _ in range(slices):
                status = kernel(level, number)(ints(cases, 9), arena, weights, params)
                if status != 0:
                    raise ValueError("kernel %#x: status %d" % (number, status))
        results.write(arena)


with open(sys.argv[3], "rb") as cases, open(sys.argv[4], "wb") as results:
    run(sys.argv[2], cases, results)
