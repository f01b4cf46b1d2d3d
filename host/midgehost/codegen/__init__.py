"""From lowered operators to machine code: assemblers, kernels by arch, weight packers, the .mpy container writer."""
