"""Sensors and sampling: from rates, windows and seconds to the sample counts and buffers the board works with."""

from __future__ import annotations

from math import ceil
from typing import Any

from midgehost.boards import Board
from midgehost.errors import NodeFileError
from midgehost.nodes.drivers import check_driver
from midgehost.nodes.schema import Bus, Node, Sampling, Sensor
from midgehost.nodes.wiring import check_bus

_SMALLEST_RING = 64  # samples
_STREAM_CHUNK = 32  # samples that a stream handles together at most ...
_STREAM_MS = 50  # ... and how long they wait for each other
RESERVED_BYTES = 64_000  # heap for a node's modules and records: `virtual` takes 110 KB, of twice the word size


def check_sampling(sampling: Sampling) -> None:
    """Refuses keys that contradict the mode. Raises NodeFileError."""
    if sampling.hop > sampling.window:
        raise NodeFileError("sampling.hop", "it is longer than the window", "Write at most the window.")
    only = {"every_s": "batch", "threshold": "event", "normal_s": "adaptive", "alert_s": "adaptive"}
    for key, mode in only.items():
        if getattr(sampling, key) and sampling.mode != mode:
            raise NodeFileError(f"sampling.{key}", f"it belongs to mode {mode!r}", f"Remove it, or choose {mode!r}.")
    if sampling.mode == "stream" and (sampling.window or sampling.hop):
        raise NodeFileError("sampling.window", "a stream has no windows", 'Write mode = "batch".')
    if sampling.mode == "batch" and not (sampling.window or sampling.every_s):
        raise NodeFileError("sampling.window", "a batch has no size", "Write window = 128, or every_s = 1.")
    if sampling.mode == "adaptive" and (sampling.window or sampling.hop):
        raise NodeFileError("sampling.window", "an adaptive node has no windows", "Remove it, or sample at a rate.")
    if sampling.every_s and (sampling.window or sampling.hop):
        raise NodeFileError("sampling.every_s", "a batch ends by time or by size, not both", "Remove one.")
    if sampling.mode == "adaptive" and not 0.001 <= sampling.alert_s <= sampling.normal_s:
        raise NodeFileError("sampling.alert_s", "it must lie in 0.001 <= alert_s <= normal_s", "Correct the intervals.")


def compile_sensor(sensor_id: str, sensor: Sensor, node: Node, board: Board) -> dict[str, Any]:
    """A sensor's part of node.json. Raises NodeFileError."""
    where = f"sensor.{sensor_id}"
    _check_channels(where, sensor)
    check_driver(where, sensor)
    check_bus(f"{where}.bus", sensor.bus, board)
    rate_hz = _rate(where, sensor, node.sampling)
    size = _batch_size(node.sampling, rate_hz)
    link = node.link.serial
    reported = [
        number
        for number, channel in enumerate(sensor.channels)
        if link.signals is None or f"{sensor_id}.{channel}" in link.signals
    ]
    return {
        "id": sensor_id,
        "driver": sensor.driver,
        "config": {
            **_given(sensor.bus),
            **sensor.params,
            "channels": list(sensor.channels),
            "unit": sensor.unit,
            "rate_hz": rate_hz,
        },
        "channels": list(sensor.channels),
        "unit": sensor.unit,
        "rate_hz": rate_hz,
        "size": size,
        "hop": node.sampling.hop,
        "max_ms": _STREAM_MS if node.sampling.mode == "stream" else round(1000 * node.sampling.every_s),
        "capacity": max(2 * size, ceil(rate_hz), _SMALLEST_RING),
        "stuck_after": sensor.stuck_after,
        "report": reported,
        "every_ms": round(1000 * link.every_s),
    }


def check_ram(sensors: list[dict[str, Any]], node: Node, board: Board) -> None:
    """Refuses buffers that do not leave the board the heap it works with. Raises NodeFileError."""
    available = board.heap_bytes - RESERVED_BYTES
    needed = 0
    for i, stage in enumerate(node.stage):
        size = stage.params.get("size", 0)  # of a detector's window, in floats
        if not isinstance(size, int):
            continue  # the detector refuses it
        needed += 4 * max(0, size)
        if needed > available:
            what = f"the detectors' windows need {needed:,} bytes, {board.name} has {available:,}"
            raise NodeFileError(f"stage[{i}].params.size", what, "Choose a smaller one.")
    for sensor in sensors:
        samples = sensor["capacity"] + sensor["size"]
        needed += 2 * samples * len(sensor["channels"])
    if needed > available:
        raise NodeFileError(
            "sampling.every_s" if node.sampling.every_s else "sampling.window",
            f"its buffers need {needed:,} bytes, {board.name} has {available:,}",
            "Choose a shorter window or fewer channels.",
        )


def _check_channels(where: str, sensor: Sensor) -> None:
    if not sensor.channels:
        raise NodeFileError(f"{where}.channels", "it is empty", "Name the channels to read.")
    for channel in sensor.channels:
        if not channel.isidentifier():
            raise NodeFileError(f"{where}.channels", f"{channel!r} is no name", "Use letters, digits and _.")
    if len(set(sensor.channels)) < len(sensor.channels):
        raise NodeFileError(f"{where}.channels", "it names a channel twice", "Name each channel once.")


def _rate(where: str, sensor: Sensor, sampling: Sampling) -> float:
    if sampling.mode == "adaptive":
        if sensor.rate_hz:
            what = "in mode 'adaptive' the rate follows from sampling.normal_s"
            raise NodeFileError(f"{where}.rate_hz", what, "Remove the key.")
        return 1 / sampling.normal_s
    if not sensor.rate_hz:
        raise NodeFileError(f"{where}.rate_hz", "the key is missing", "Write: rate_hz = 50")
    return sensor.rate_hz


def _batch_size(sampling: Sampling, rate_hz: float) -> int:
    """Samples that are handled together. Where each one may change what happens next, that is one."""
    if sampling.mode == "stream":
        return _STREAM_CHUNK
    return sampling.window or ceil(sampling.every_s * rate_hz) or 1


def _given(bus: Bus) -> dict[str, Any]:
    """The keys of the bus that apply: an ADC has no speed, an I2C sensor that was given no address its driver's own."""
    keys = ("adc",) if bus.adc is not None else ("i2c", "sda", "scl", "freq", "address")
    return {key: getattr(bus, key) for key in keys if getattr(bus, key) is not None}
