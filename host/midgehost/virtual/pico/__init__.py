"""An emulated Pico: the stock firmware image on rp2040py's RP2040, with flash, USB serial, sensors, resets and power.

`chip` is the processor, made faster and stricter; `flash`, `usb`, `wiring` are what hangs on it; `machine` is all of
it, run by whoever calls it; `board` runs a machine in a thread behind a pty.
"""
