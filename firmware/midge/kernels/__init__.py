# What computes a model: general.py runs a plan on viper or portable kernels, machine.py runs generated machine code.

import sys


def forget(name):
    # Gives the heap of a module that only loading needs back to the collector: importing it again costs a file.
    package, _, last = name.rpartition(".")
    sys.modules.pop(name, None)
    if hasattr(sys.modules[package], last):
        delattr(sys.modules[package], last)
