# A reference stream for the detectors, and their scores bit by bit. Runs on boards (MicroPython) and on the host: the
# two must print the same. tests/bench/test_emulated_detectors.py compares them.

from array import array

PARAMS = {"window": {}, "multiscale": {"resolution": 0.0078125}, "context": {"probation": 320}}
SILENT = -1.0  # stands for None


def stream(samples):
    # 101325 +- 1, in steps of 1/128: exact in single precision, from integers that every board has. With a 0-reading,
    # a spike, a step and a stuck value.
    state = 1
    for i in range(samples):
        state = (state * 1103 + 12345) & 0xFFFF
        value = (12969600 + state % 257 - 128) / 128
        if i == 325:
            value = 0.0
        elif i == 430:
            value += 32
        elif 470 <= i < 1700:
            value += 8
        elif i >= 1850:
            value = 101325.5
        yield value


def judge(detector, values, samples):
    # The detector's scores in single precision, and the samples at which it alarmed.
    scores = array("f", bytes(4 * samples))
    alarms = []
    for i, x in enumerate(values):
        score = detector.update(x)
        scores[i] = SILENT if score is None else score
        if detector.alarm:
            alarms.append(i)
    return scores, alarms
