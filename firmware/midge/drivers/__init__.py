# Sensor drivers: one module a sensor, with `open(config)`, which returns what a Sampler reads.
# A driver has `.channels` (int), `.scale` and `.offset` (value = count * scale + offset), `.unit`, and
# `.read_into(ring, offset)`: one int16 count a channel, without allocating, OSError when the sensor is silent.

from midge.errors import MidgeError


def open(driver, config):
    # Raises MidgeError, with a code that starts with `sensor.`
    try:
        module = __import__("midge.drivers." + driver, None, None, (driver,))
    except ImportError as error:
        raise MidgeError("sensor.unknown_driver", "driver %s does not load: %s" % (driver, error))
    return module.open(config)
