"""Pins: what a node wires must be on its board and can do there what is asked of it."""

from __future__ import annotations

from collections.abc import Iterable

from midgehost.boards import Board, i2c_pins
from midgehost.errors import NodeFileError
from midgehost.nodes.schema import Bus


def check_bus(where: str, bus: Bus, board: Board) -> None:
    """Refuses analogue and I2C pins that do not work on this board. Raises NodeFileError, naming those that do."""
    if bus.i2c is None:
        _check_analog(where, bus.analog_pins, board)
        return
    if board.i2c and str(bus.i2c) not in board.i2c:
        raise NodeFileError(where, f"{board.name} has no I2C bus {bus.i2c}", _choice(map(int, board.i2c)))
    for role, pin in (("sda", bus.sda), ("scl", bus.scl)):
        allowed = i2c_pins(board, bus.i2c, "sda" if role == "sda" else "scl")
        if allowed and pin not in allowed:
            what = f"pin {pin} of {board.name} cannot be {role.upper()} of I2C bus {bus.i2c}"
            raise NodeFileError(where, what, _choice(allowed))


def check_output(where: str, pin: int, board: Board) -> None:
    """Refuses a pin that the board cannot switch, or needs for itself. Raises NodeFileError."""
    if board.pins is not None and pin not in board.pins.gpio:
        raise NodeFileError(where, f"pin {pin} of {board.name} is no output for you", _choice(board.pins.gpio))


def _check_analog(where: str, pins: Iterable[int], board: Board) -> None:
    if board.pins is None:
        return
    for pin in pins:
        if pin in board.pins.adc:
            continue
        if pin in board.pins.adc_shared:
            what = f"pin {pin} of {board.name} is on ADC2, which does not work with Wi-Fi"
        else:
            what = f"pin {pin} of {board.name} is no analogue input"
        raise NodeFileError(where, what, _choice(board.pins.adc))


def _choice(allowed: Iterable[int]) -> str:
    numbers = [str(number) for number in allowed]
    return f"Use {numbers[0]}." if len(numbers) == 1 else f"Use one of {', '.join(numbers)}."
