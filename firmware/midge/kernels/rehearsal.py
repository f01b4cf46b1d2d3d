# A fixed run of machine code for signals, before it is trusted. Its numbers are exact in single and double precision,
# so that every board must end with the same bits: OUTCOMES, CRC-32 of them.

from array import array
from binascii import crc32

OUTCOMES = {"multiscale": 0x2FCCB9E3, "context": 0x4C67C781, "spectrum": 0x5FD3BF5F}

_ROOT = __name__.rsplit(".", 2)[0]


def passes(module):
    return outcome(module) == OUTCOMES[module]


def outcome(module):
    return _spectrum() if module == "spectrum" else _detector(module)


def _detector(kind):
    # Noise in steps of 1/8, then a spike and a step.
    anomaly = __import__(_ROOT + ".anomaly", None, None, ("make",))
    params = {"resolution": 0.125}
    if kind == "context":
        params["probation"] = 80
    judge = anomaly.make(kind, params)
    for i, limit in enumerate((64.0, 36.75, 21.125, 12.125)):
        judge._io[4 + i] = limit
    number = 1
    check = 0
    for i in range(340):
        number = (number * 1103 + 12345) & 0xFFFF
        judge.update((1000.0 if i == 320 else 8.0 if i > 330 else 0.0) + (number % 129 - 64) / 8)
        if i > 300:
            check = crc32(bytes(judge._io), check)
    for part in judge._scales.state() + ((judge._floats,) + judge._contexts.state() if kind == "context" else ()):
        check = crc32(bytes(part), check)
    return check


def _spectrum():
    fft = __import__(_ROOT + ".fft", None, None, ("Spectrum",))
    spectrum = fft.Spectrum(64, "rectangular")
    spectrum.transform(array("h", [i * 7919 % 2003 - 1000 for i in range(64)]))
    return crc32(bytes(spectrum.magnitude))
