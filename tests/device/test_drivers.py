# midge: device
# Drivers on buses and inputs that the test answers for.
from array import array

from midge import drivers
from midge.drivers.adc import Analog
from midge.drivers.mpu6050 import MPU6050
from midge.errors import MidgeError


class Bus:
    # An I2C bus with one register-level device; silent where `failure` says so.
    def __init__(self, identity=0x68, failure=None):
        self.registers = bytearray(128)
        self.registers[0x75] = identity
        self.registers[0x6B] = 0x40
        self.failure = failure

    def _find(self, address):
        if self.failure or address != 0x68:
            raise self.failure or OSError(5)

    def readfrom_mem(self, address, register, count):
        self._find(address)
        return bytes(self.registers[register : register + count])

    def readfrom_mem_into(self, address, register, buf):
        self._find(address)
        for i in range(len(buf)):
            buf[i] = self.registers[register + i]

    def writeto_mem(self, address, register, data):
        self._find(address)
        self.registers[register : register + len(data)] = data


class Input:
    def __init__(self, value):
        self.value = value

    def read_u16(self):
        return self.value


def error_of(call, *args):
    try:
        call(*args)
    except MidgeError as error:
        return error
    raise AssertionError("no error")


def config(**more):
    made = {"i2c": 0, "sda": 4, "scl": 5, "channels": ["x", "y", "z"], "unit": "g", "rate_hz": 50}
    made.update(more)
    return made


def test_counts_are_signed_and_big_endian():
    bus = Bus()
    driver = MPU6050(bus, config())
    bus.registers[0x3B:0x41] = b"\x40\x00\xc0\x00\x80\x01"
    ring = array("h", bytes(10))
    driver.read_into(ring, 1)
    assert list(ring) == [0, 16384, -16384, -32767, 0]
    for i, edge in ((0x3B, b"\x7f\xff"), (0x3D, b"\x80\x00"), (0x3F, b"\xff\xff")):
        bus.registers[i : i + 2] = edge
    driver.read_into(ring, 0)
    assert list(ring)[:3] == [32767, -32768, -1]


def test_a_driver_reads_with_the_heap_locked():
    import micropython

    driver = MPU6050(Bus(), config())
    driver._bus = Registers()
    ring = array("h", bytes(6))
    read = driver.read_into
    micropython.heap_lock()
    try:
        for _ in range(20):
            read(ring, 0)
    finally:
        micropython.heap_unlock()
    assert list(ring) == [0x0102, 0x0304, 0x0506]


class Registers:
    def readfrom_mem_into(self, address, register, buf):
        for i in range(6):
            buf[i] = i + 1


def test_only_the_channels_that_were_asked_for():
    bus = Bus()
    driver = MPU6050(bus, config(channels=["z", "x"]))
    bus.registers[0x3B:0x41] = b"\x00\x01\x00\x02\x00\x03"
    ring = array("h", bytes(4))
    driver.read_into(ring, 0)
    assert driver.channels == 2 and list(ring) == [3, 1]


def test_scale_follows_range_and_unit():
    for full_scale, code in ((2, 0), (4, 8), (8, 16), (16, 24)):
        bus = Bus()
        driver = MPU6050(bus, config(range=full_scale))
        assert abs(driver.scale * 32768 - full_scale) < 1e-5
        assert bus.registers[0x1C] == code
    driver = MPU6050(Bus(), config(unit="m/s2"))
    assert abs(driver.scale * 16384 - 9.80665) < 1e-5
    assert driver.offset == 0 and driver.unit == "m/s2"


def test_set_up_wakes_it_and_sets_rate_and_filter():
    for rate_hz, divider, dlpf in ((1000, 0, 1), (200, 4, 2), (50, 19, 4), (10, 99, 6), (1, 255, 6), (0.1, 255, 6)):
        bus = Bus()
        MPU6050(bus, config(rate_hz=rate_hz))
        assert bus.registers[0x6B] == 1
        assert (bus.registers[0x19], bus.registers[0x1A]) == (divider, dlpf), (rate_hz, bus.registers[0x19:0x1B])


def test_no_answer_names_bus_pins_and_address():
    error = error_of(MPU6050, Bus(failure=OSError(5)), config())
    assert error.code == "sensor.no_answer"
    for word in ("0x68", "I2C 0", "SDA pin 4", "SCL pin 5", "errno 5"):
        assert word in error.what, error.what
    assert error_of(MPU6050, Bus(), config(address=0x69)).code == "sensor.no_answer"


def test_another_device_is_named():
    error = error_of(MPU6050, Bus(identity=0x71), config())
    assert error.code == "sensor.wrong_device" and "0x71" in error.what
    assert MPU6050(Bus(identity=0x71), config(who_am_i=0x71)).channels == 3


def test_bad_configurations():
    for more in ({"range": 3}, {"unit": "furlong"}, {"channels": ["w"]}, {"channels": ["xy"]}, {"channels": [""]}):
        assert error_of(MPU6050, Bus(), config(**more)).code == "sensor.bad_config", more


def test_a_silent_sensor_raises_oserror_when_read():
    bus = Bus()
    driver = MPU6050(bus, config())
    bus.failure = OSError(5)
    try:
        driver.read_into(array("h", bytes(6)), 0)
        raise AssertionError("no error")
    except OSError as error:
        assert error.errno == 5


def test_analogue_counts_are_centred():
    driver = Analog([Input(0), Input(32768), Input(65535)], {"unit": "V"})
    ring = array("h", bytes(6))
    driver.read_into(ring, 0)
    assert list(ring) == [-32768, 0, 32767]
    values = [count * driver.scale + driver.offset for count in ring]
    assert abs(values[0]) < 1e-4 and abs(values[1] - 1.65) < 1e-3 and abs(values[2] - 3.3) < 1e-4


def test_analogue_inputs_take_any_range():
    driver = Analog([Input(0)], {"unit": "Cel", "low": -40, "high": 125})
    assert abs(-32768 * driver.scale + driver.offset + 40) < 1e-3
    assert abs(32767 * driver.scale + driver.offset - 125) < 1e-3


def test_as_many_pins_as_channels():
    assert error_of(drivers.open, "adc", {"adc": 26, "channels": ["a", "b"]}).code == "sensor.bad_config"


def test_an_unknown_driver():
    error = error_of(drivers.open, "thermocouple", {})
    assert error.code == "sensor.unknown_driver" and "thermocouple" in error.what


def test_a_pin_that_is_no_analogue_input():
    error = error_of(drivers.open, "adc", {"adc": 2, "channels": ["a"]})
    assert error.code == "sensor.bad_config" and "pin 2" in error.what
