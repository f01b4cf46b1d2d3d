"""Hand-written kernels for ARMv6-M, the Cortex-M0+ of the RP2040: no DSP, no long multiply, a multiply in one cycle."""
