# Records: SenML (RFC 8428) as JSON, one pack a line.
# A record is a dict: n (name), u (unit), v | vs | vb (number, text, truth), t (integer milliseconds, see clock.py),
# and for alerts model, plan, kernels, score. On the wire time is decimal seconds written from the integer: a float32
# second would step by 128 s.
# Pure: runs on MicroPython and CPython alike.

import json
import struct

_OF_ALERTS = ("model", "plan", "kernels", "score")


def record(name, value, t, unit=None):
    # A record of that value, which is a number, a text or a truth.
    field = "vb" if isinstance(value, bool) else "vs" if isinstance(value, str) else "v"
    made = {"n": name, field: value, "t": t}
    if unit:
        made["u"] = unit
    return made


def alert(what, t, model=None, plan=None, kernels=None, score=None):
    # An alert, with what computed it: the model's name, the hash of its plan, the level of its kernels.
    made = {"n": "alert", "vs": what, "t": t}
    for key, value in (("model", model), ("plan", plan), ("kernels", kernels), ("score", score)):
        if value is not None:
            made[key] = value
    return made


class Packer:
    # Writes records as packs. JSON has neither NaN nor infinity: a record whose value is one, or is no value at all,
    # is left out and counted in `dropped`.

    def __init__(self, base_name=""):
        self.base_name = base_name
        self.dropped = 0

    def pack(self, records):
        # One line of JSON, without the line's end; "" when no record is left. The first record's time is the base.
        base = None
        written = []
        for r in records:
            value = _value(r)
            if value is None:
                self.dropped += 1
                continue
            head = ""
            if not written:
                base = r.get("t")
                head = self._head(base)
            written.append("{" + head + _body(r, value, base) + "}")
        return "[" + ",".join(written) + "]" if written else ""

    def _head(self, base):
        text = '"bn":' + json.dumps(self.base_name) + "," if self.base_name else ""
        return text if base is None else text + '"bt":' + _seconds(base) + ","


def to_json(value):
    # As json.dumps, with floats written by float_text and null for NaN and infinity. Other objects: their str().
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value) or "null"
    if isinstance(value, dict):
        return "{" + ",".join([json.dumps(str(key)) + ":" + to_json(value[key]) for key in value]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([to_json(item) for item in value]) + "]"
    return json.dumps(str(value))


def float_text(x):
    # The float32 nearest to x in the fewest digits, six to nine, that read back as the same float32; None for NaN and
    # infinity. In integers: what ports print for a float differs between versions, and is not always exact.
    try:
        bits = struct.unpack("<I", struct.pack("<f", x))[0]
    except OverflowError:  # CPython, for what float32 cannot hold
        return None
    sign = "-" if bits >> 31 else ""
    exponent = (bits >> 23) & 255
    mantissa = bits & 0x7FFFFF
    if exponent == 255:
        return None
    if exponent:
        mantissa |= 0x800000
    else:
        exponent = 1
    if mantissa == 0:
        return sign + "0.0"
    # |x| = over / under, exactly. Nearer than near / under, a decimal reads back as x: half the step to the next
    # float32, which is half as long below a power of two.
    over, under, near = mantissa << 2, 4, 1 if mantissa == 0x800000 else 2
    if exponent >= 150:
        over <<= exponent - 150
        near <<= exponent - 150
    else:
        under <<= 150 - exponent
    # 10 ** (point - 1) <= |x| < 10 ** point
    point = 0
    while over >= under:
        under *= 10
        point += 1
    while over * 10 < under:
        over *= 10
        near *= 10
        point -= 1
    # Nine digits always do. Fewer are tried in small integers, and proved in long ones.
    over *= 1000000000
    near *= 1000000000
    nine = (over + (under >> 1)) // under
    room = near // under + 1
    digits = nine
    for step in (1000, 100, 10):
        fewer = (nine + step // 2) // step * step
        if abs(fewer - nine) <= room and abs(fewer * under - over) < near:
            digits = fewer
            break
    if digits == 1000000000:  # rounded up to the next power of ten
        point += 1
    return sign + _place(str(digits).rstrip("0"), point)


def _place(digits, point):
    # Decimal point after `point` digits, in the shorter of JSON's two ways to write it.
    if -4 < point <= 0:
        return "0." + "0" * -point + digits
    if 0 < point <= 9:
        whole = digits + "0" * (point - len(digits))
        return whole[:point] + "." + (whole[point:] or "0")
    return digits[0] + "." + (digits[1:] or "0") + "e%d" % (point - 1)


def _body(r, value, base):
    text = '"n":' + json.dumps(r["n"])
    if "u" in r:
        text += ',"u":' + json.dumps(r["u"])
    text += "," + value
    t = r.get("t", base)
    if t != base:
        text += ',"t":' + _seconds(t - (base or 0))
    for key in _OF_ALERTS:
        if key in r:
            text += ',"' + key + '":' + to_json(r[key])
    return text


def _value(r):
    # The record's value as a JSON field, or None.
    if "v" in r:
        text = to_json(r["v"])
        return None if text == "null" else '"v":' + text
    if "vs" in r:
        return '"vs":' + json.dumps(r["vs"])
    if "vb" in r:
        return '"vb":' + to_json(bool(r["vb"]))
    return None


def _seconds(ms):
    sign = "-" if ms < 0 else ""
    ms = abs(ms)
    return "%s%d.%03d" % (sign, ms // 1000, ms % 1000)
