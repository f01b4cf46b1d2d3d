"""Pins in a node file: what the board does not have, or needs for itself, is refused with those that work."""

from __future__ import annotations

from pathlib import Path

import pytest

from midgehost.errors import NodeFileError
from midgehost.nodes import compile_node

NODE = """\
schema = 1
name = "n"
board = "{board}"
[sensor.s]
driver = "{driver}"
bus = {bus}
channels = {channels}
unit = "{unit}"
rate_hz = 10
[[stage]]
id = "z"
use = "anomaly.multiscale"
input = "s.x"
[[action]]
when = "z.alarm"
do = [{{ gpio = {gpio}, value = 1 }}]
"""


def compiled(folder: Path, board: str, bus: str, gpio: int = 15) -> dict[str, object]:
    """The sensor's wiring as the board gets it."""
    analog = "adc" in bus
    channels = [f"c{i}" for i in range(bus.count(","))] if "[" in bus else []
    words = {
        "driver": "adc" if analog else "mpu6050",
        "channels": str(["x", *channels]).replace("'", '"'),
        "unit": "V" if analog else "g",
    }
    (folder / "node.toml").write_text(NODE.format(board=board, bus=bus, gpio=gpio, **words))
    return compile_node(folder).config["sensors"][0]["config"]


@pytest.mark.parametrize(
    ("board", "bus", "gpio"),
    [
        ("pico", "{ adc = 29 }", 25),
        ("pico", "{ i2c = 1, sda = 26, scl = 27 }", 0),
        ("pico-w", "{ adc = [26, 28] }", 22),
        ("pico2", "{ i2c = 0, sda = 28, scl = 21 }", 15),
        ("esp32", "{ adc = 36 }", 33),
        ("esp32", "{ i2c = 1, sda = 25, scl = 32 }", 2),
        ("esp32-c3", "{ i2c = 0, sda = 0, scl = 10 }", 9),
        ("virtual", "{ adc = 3 }", 54),
        ("virtual", "{ i2c = 1, sda = 4, scl = 5 }", 0),
    ],
)
def test_pins_that_work(tmp_path: Path, board: str, bus: str, gpio: int) -> None:
    wiring = compiled(tmp_path, board, bus, gpio)
    assert all(key in wiring for key in ("adc",)) or wiring["sda"] != wiring["scl"]


@pytest.mark.parametrize(
    ("board", "bus", "what", "do"),
    [
        ("pico", "{ adc = 25 }", "pin 25 of pico is no analogue input", "Use one of 26, 27, 28, 29."),
        ("pico-w", "{ adc = [26, 29] }", "pin 29 of pico-w is no analogue input", "Use one of 26, 27, 28."),
        ("esp32", "{ adc = 25 }", "on ADC2, which does not work with Wi-Fi", "Use one of 32, 33, 34, 35, 36, 39."),
        ("esp32", "{ adc = 5 }", "pin 5 of esp32 is no analogue input", "Use one of 32"),
        ("esp32-s3", "{ adc = 11 }", "on ADC2", "Use one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10."),
        ("esp32-c3", "{ adc = 5 }", "on ADC2", "Use one of 0, 1, 2, 3, 4."),
        ("pico", "{ i2c = 0, sda = 6, scl = 5 }", "pin 6 of pico cannot be SDA of I2C bus 0", "Use one of 0, 4, 8"),
        ("pico", "{ i2c = 1, sda = 6, scl = 5 }", "pin 5 of pico cannot be SCL of I2C bus 1", "Use one of 3, 7, 11"),
        ("pico", "{ i2c = 0, sda = 5, scl = 4 }", "pin 5 of pico cannot be SDA of I2C bus 0", "Use one of 0, 4"),
        ("esp32", "{ i2c = 0, sda = 34, scl = 22 }", "pin 34 of esp32 cannot be SDA", "Use one of 0, 2, 4"),
        ("esp32", "{ i2c = 0, sda = 21, scl = 6 }", "pin 6 of esp32 cannot be SCL", "Use one of 0, 2, 4"),
        ("esp32-c3", "{ i2c = 1, sda = 6, scl = 7 }", "esp32-c3 has no I2C bus 1", "Use 0."),
    ],
)
def test_pins_that_do_not(tmp_path: Path, board: str, bus: str, what: str, do: str) -> None:
    with pytest.raises(NodeFileError) as refused:
        compiled(tmp_path, board, bus, 2)
    assert (refused.value.where, refused.value.line) == ("sensor.s.bus", 6)
    assert what in str(refused.value)
    assert refused.value.do.startswith(do)


@pytest.mark.parametrize(
    ("board", "pin"), [("pico-w", 25), ("pico", 29), ("esp32", 34), ("esp32", 6), ("esp32-c6", 12)]
)
def test_an_action_switches_no_pin_that_the_board_needs(tmp_path: Path, board: str, pin: int) -> None:
    bus = "{ i2c = 0, sda = 4, scl = 5 }"
    with pytest.raises(NodeFileError, match=f"pin {pin} of {board} is no output for you") as refused:
        compiled(tmp_path, board, bus, pin)
    assert refused.value.where == "action[0].do[0].gpio"
