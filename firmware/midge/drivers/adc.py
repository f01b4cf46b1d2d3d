# Analogue inputs of the board, one channel a pin.

from machine import ADC, Pin

from midge.errors import MidgeError


def open(config):
    # config: adc (a pin, or one a channel), unit, low and high: the values at 0 and at full scale (default 0 .. 3.3,
    # volts on a board that measures against its supply), in `unit`.
    pins = config["adc"]
    if isinstance(pins, int):
        pins = (pins,)
    if len(pins) != len(config["channels"]):
        what = "%d channels are named for %d analogue pins" % (len(config["channels"]), len(pins))
        raise MidgeError("sensor.bad_config", what)
    inputs = []
    for pin in pins:
        try:
            inputs.append(_full_range(ADC(Pin(pin))))
        except ValueError as error:
            raise MidgeError("sensor.bad_config", "pin %s is no analogue input: %s" % (pin, error))
    return Analog(inputs, config)


class Analog:
    def __init__(self, inputs, config):
        self._inputs = inputs
        self.channels = len(inputs)
        self.unit = config.get("unit", "V")
        low, high = config.get("low", 0.0), config.get("high", 3.3)
        self.scale = (high - low) / 65535
        self.offset = low + 32768 * self.scale

    def read_into(self, ring, offset):
        for analog in self._inputs:
            ring[offset] = analog.read_u16() - 32768  # 0..65535 centred into an int16
            offset += 1


def _full_range(analog):
    # ESP32 measures up to about 1 V unless told to attenuate.
    if hasattr(ADC, "ATTN_11DB"):
        analog.atten(ADC.ATTN_11DB)
    return analog
