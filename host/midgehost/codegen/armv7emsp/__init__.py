"""Kernels for ARMv7E-M and ARMv8-M with DSP: Cortex-M4, M7 and M33 (RP2350)."""
