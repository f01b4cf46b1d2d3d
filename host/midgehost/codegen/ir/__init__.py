"""A small intermediate representation: kernels are written once in it and lowered to every instruction set."""
