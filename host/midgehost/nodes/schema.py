"""What may stand in a node file: one struct a table. Names and defaults are the user's contract: never rename one."""

from __future__ import annotations

from typing import Literal

import msgspec

Number = int | float


class Bus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the sensor is wired: `{ i2c, sda, scl }` or `{ adc }` (pin numbers), with an optional speed and address."""

    i2c: int | None = None
    sda: int | None = None
    scl: int | None = None
    freq: int = 400_000
    address: int | None = None
    adc: int | tuple[int, ...] | None = None


class Sensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[sensor.<id>]`: a driver, its wiring, the channels to read and how often."""

    driver: str
    bus: Bus = Bus()
    channels: tuple[str, ...]
    unit: str
    rate_hz: Number = 0  # required, but in mode "adaptive", which has intervals
    stuck_after: int = 500  # unchanged samples in a row before the node reports `sensor.stuck`; 0: never
    params: dict[str, Number | str] = {}  # handed to the driver, e.g. `range`


Mode = Literal["stream", "batch", "event", "adaptive"]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[sampling]`: when samples are taken and handled."""

    mode: Mode = "stream"
    window: int = 0  # batch, event: samples that are handled together; features and models see this many
    hop: int = 0  # samples from one window to the next; 0: window
    every_s: Number = 0  # batch: the same by time
    threshold: Number = 0  # event: a window in which nothing moved further than this (sensor's unit) is dropped
    normal_s: Number = 0  # adaptive: seconds from one sample to the next ...
    alert_s: Number = 0  # ... and after two anomalies in a row


Use = Literal["anomaly.window", "anomaly.multiscale", "anomaly.context", "features", "inference"]


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[stage]]`: one step of the data's way. `input` names channels (`accel.x`) or an earlier features stage."""

    id: str
    use: Use
    input: str | tuple[str, ...]
    model: str | None = None
    params: dict[str, Number | str | tuple[str, ...]] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        """`input`, always as a tuple."""
        return (self.input,) if isinstance(self.input, str) else self.input


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that an action does: exactly one of `gpio`, `record`, `log`."""

    gpio: int | None = None
    value: Literal[0, 1] = 1
    for_ms: int | None = None  # absent: the pin follows the rule
    record: str | None = None
    log: str | None = None


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[action]]`: when a rule becomes true, do these."""

    when: str
    do: tuple[Step, ...]


class SerialLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[link.serial]`: which signals go out and how often."""

    queue: int = 256
    signals: tuple[str, ...] | None = None  # absent: every channel
    every_s: Number = 0.1  # from one record of a signal or score to the next; 0: every sample


class Links(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[link.*]`."""

    serial: SerialLink = SerialLink()


class Monitor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[monitor]`: the node's own health."""

    interval_s: Number = 10


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole node file."""

    schema: int
    name: str
    board: str
    sensor: dict[str, Sensor]
    sampling: Sampling = Sampling()
    stage: tuple[Stage, ...] = ()
    action: tuple[Action, ...] = ()
    link: Links = Links()
    monitor: Monitor = Monitor()
    watchdog_ms: int | None = None
