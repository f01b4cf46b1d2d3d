# MPU-6050 accelerometer at register level ("MPU-6000 and MPU-6050 Register Map", InvenSense, revision 4.2).

from machine import I2C, Pin
from micropython import const

from midge.errors import MidgeError

_SMPLRT_DIV = const(0x19)
_CONFIG = const(0x1A)
_ACCEL_CONFIG = const(0x1C)
_ACCEL_XOUT_H = const(0x3B)
_PWR_MGMT_1 = const(0x6B)
_WHO_AM_I = const(0x75)

_CLOCK_OF_GYRO = const(1)  # PWR_MGMT_1: awake, on the gyroscope's clock, which the manual advises for stability
_TIMEOUT_US = const(5000)  # samples are taken in interrupts: the usual 50 ms would stop everything else
_GRAVITY = 9.80665  # m/s2
_AXES = "xyz"
_RANGES = (2, 4, 8, 16)  # g, by AFS_SEL
_BANDWIDTHS = (184, 94, 44, 21, 10, 5)  # Hz of the low-pass filter, by DLPF_CFG from 1 on


def open(config):
    # config: i2c, sda, scl, freq, address (0x68), who_am_i (0x68; some clones answer with another number), channels
    # (of x, y, z), unit ("m/s2" or "g"), range (2, 4, 8 or 16 g), rate_hz (sets the filter and the sensor's own rate).
    sda, scl, freq = Pin(config["sda"]), Pin(config["scl"]), config.get("freq", 400000)
    return MPU6050(I2C(config["i2c"], sda=sda, scl=scl, freq=freq, timeout=_TIMEOUT_US), config)


class MPU6050:
    def __init__(self, bus, config):
        self._bus = bus
        self._address = config.get("address", 0x68)
        self._six = bytearray(6)
        full_scale = config.get("range", 2)
        self.unit = config.get("unit", "m/s2")
        axes = config.get("channels", _AXES)
        if full_scale not in _RANGES:
            raise MidgeError("sensor.bad_config", "MPU-6050 range is 2, 4, 8 or 16 g, not %s" % full_scale)
        if self.unit not in ("m/s2", "g"):
            raise MidgeError("sensor.bad_config", "MPU-6050 measures in m/s2 or g, not %s" % self.unit)
        for axis in axes:
            if axis not in _AXES or len(axis) != 1:
                raise MidgeError("sensor.bad_config", "MPU-6050 has the channels x, y, z, not %s" % axis)
        self.channels = len(axes)
        self.scale = full_scale / 32768 * (1 if self.unit == "g" else _GRAVITY)
        self.offset = 0.0
        self._high_bytes = bytes([2 * _AXES.index(axis) for axis in axes])
        self._set_up(config, _RANGES.index(full_scale))

    def read_into(self, ring, offset):
        six = self._six
        self._bus.readfrom_mem_into(self._address, _ACCEL_XOUT_H, six)
        for high in self._high_bytes:
            ring[offset] = ((six[high] << 8 | six[high + 1]) ^ 0x8000) - 0x8000  # big-endian two's complement
            offset += 1

    def _set_up(self, config, range_code):
        rate_hz = config.get("rate_hz", 1000)
        try:
            identity = self._bus.readfrom_mem(self._address, _WHO_AM_I, 1)[0]
            if identity != config.get("who_am_i", 0x68):
                what = "the device at %s is no MPU-6050: it calls itself 0x%02x" % (self._where(config), identity)
                raise MidgeError("sensor.wrong_device", what)
            self._write(_PWR_MGMT_1, _CLOCK_OF_GYRO)
            self._write(_CONFIG, _filter_code(rate_hz))
            self._write(_SMPLRT_DIV, max(0, min(255, int(1000 / rate_hz) - 1)))
            self._write(_ACCEL_CONFIG, range_code << 3)
        except OSError as error:
            what = "no MPU-6050 answers at %s (errno %s)" % (self._where(config), error.errno)
            raise MidgeError("sensor.no_answer", what)

    def _write(self, register, value):
        self._bus.writeto_mem(self._address, register, bytes((value,)))

    def _where(self, config):
        pins = (self._address, config.get("i2c"), config.get("sda"), config.get("scl"))
        return "0x%02x on I2C %s (SDA pin %s, SCL pin %s)" % pins


def _filter_code(rate_hz):
    # DLPF_CFG of the widest filter that keeps what is above half the rate out of the samples, else the narrowest.
    for code, bandwidth in enumerate(_BANDWIDTHS):
        if bandwidth <= rate_hz / 2:
            return code + 1
    return len(_BANDWIDTHS)
