"""Detectors and the FFT on the stock MicroPython image in the emulated Pico: microseconds a call from Python.

Part of `make bench-kernels`. The loop around the calls is subtracted. Exits 1 where a target is missed; says so and
exits 0 where there is no image in midge's firmware cache.
"""

from __future__ import annotations

from typing import Final

from bench_kernels import table
from midgehost.deploy.modules import compile_modules
from midgehost.errors import NotFound
from midgehost.virtual.emulated import EmulatedPico, find_image

TARGETS: Final = {"multiscale.update": 60, "context.update": 110, "256-point FFT": 2000}
_TIME: Final = """
import sys, time
sys.path.insert(0, '/lib')
from array import array
from midge.anomaly import make
from midge.fft import Spectrum
x = array('f', [20 + (i * 7919 % 101) / 50 for i in range(700)])
def timed(f, values):
    t = time.ticks_us()
    for v in values:
        f(v)
    d = time.ticks_diff(time.ticks_us(), t)
    t = time.ticks_us()
    for v in values:
        pass
    return (d - time.ticks_diff(time.ticks_us(), t)) / len(values)
for kind in ('multiscale', 'context'):
    d = make(kind, {'probation': 300} if kind == 'context' else {})
    for v in x[:400]:
        d.update(v)
    print(timed(d.update, x[400:600]))
w = array('h', [(i * 7919) % 2000 - 1000 for i in range(256)])
s = Spectrum(256)
print(timed(s.transform, [w] * 5))
"""


def main() -> int:
    """Runs all of it."""
    try:
        image = find_image("pico")
    except NotFound as error:
        print(f"\nThe emulated Pico is left out: {error}")
        return 0
    modules = compile_modules(["anomaly.multiscale", "anomaly.context", "fft"], "armv6m")
    with EmulatedPico(files={f"/lib/{path}": data for path, data in modules.items()}) as pico:
        times = [float(line) for line in pico.exec(_TIME, 600).split()]
    lines = [
        [name, f"{us:.1f}", str(most), "yes" if us <= most else "**no**"]
        for us, (name, most) in zip(times, TARGETS.items(), strict=True)
    ]
    print(f"\n### {image.name}, emulated at 125 MHz")
    table(["what", "us", "target", "met"], lines)
    return 0 if all(us <= most for us, most in zip(times, TARGETS.values(), strict=True)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
