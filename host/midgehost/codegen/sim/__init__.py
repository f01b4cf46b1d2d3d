"""Emulated cores, on which generated kernels are run, counted and compared."""
