# Runs on MicroPython for levels.py: micropython run_kernels.py FIRMWARE LEVEL CASES RESULTS
# CASES is a stream of int32: number of jobs, then for each job its arena and its kernel calls; RESULTS are the arenas.
# The heap is locked while a viper kernel runs: one that allocates fails.
import gc
import sys
from array import array

import micropython

QUANTIZE_FLOAT32 = 0x62  # reads floats, which are objects


def ints(stream, count):
    return array("i", stream.read(4 * count))


def run(level, cases_path, results_path):
    from midge.kernels.general import _kernels as load

    with open(cases_path, "rb") as cases, open(results_path, "wb") as results:
        for _ in range(ints(cases, 1)[0]):
            gc.collect()
            size, calls = ints(cases, 2)
            arena = bytearray(cases.read(size))
            for _ in range(calls):
                number, slices, weights_size, params_size = ints(cases, 4)
                weights = cases.read((weights_size + 3) // 4 * 4)
                params = ints(cases, params_size)
                kernel = load(level, [number])[number]
                lock = level == "viper" and number != QUANTIZE_FLOAT32
                for _ in range(slices):
                    block = ints(cases, 9)
                    if lock:
                        micropython.heap_lock()
                    try:
                        status = kernel(block, arena, weights, params)
                    finally:
                        if lock:
                            micropython.heap_unlock()
                    if status != 0:
                        raise ValueError("kernel %#x: status %d" % (number, status))
            results.write(arena)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    run(*sys.argv[2:])
