"""Kernels for ESP32 and ESP32-S3."""
