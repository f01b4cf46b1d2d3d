"""Kernels for RV32IMC: ESP32-C3 and C6, and the RP2350 in RISC-V mode."""
