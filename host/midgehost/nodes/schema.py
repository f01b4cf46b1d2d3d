"""What may stand in a node file: one struct a table. Names and defaults are the user's contract: never rename one."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from midgehost.nodes.limits import (
    FASTEST_HZ,
    LARGEST_COUNT,
    LARGEST_SIGNAL,
    LAST_PIN,
    LONGEST_S,
    SLOWEST_HZ,
    Text,
    Within,
)

SCHEMA = 1  # of node.toml, and of the node.json that is made from it

Number = int | float
Pin = Annotated[int, Within(0, LAST_PIN, "Use the GPIO's number.")]
Count = Annotated[int, Within(0, LARGEST_COUNT)]
Seconds = Annotated[Number, Within(0.001, LONGEST_S, f"Write 0.001 to {LONGEST_S} seconds.", or_zero=True)]
Rate = Annotated[
    Number,
    Within(SLOWEST_HZ, FASTEST_HZ, f"Choose a rate the board keeps up with: 0.00001 to {FASTEST_HZ}.", or_zero=True),
]
Pulse = Annotated[int, Within(1, 1000 * LONGEST_S, f"Write 1 to {1000 * LONGEST_S} milliseconds, or leave it out.")]
Watchdog = Annotated[int, Within(1000, 8300, "Write 1000 to 8300: what every board's watchdog counts.")]
Word = Annotated[str, Text(32)]
Name = Annotated[str, Text(80)]  # two words and what joins them


class Bus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the sensor is wired: `{ i2c, sda, scl }` or `{ adc }` (pin numbers), with an optional speed and address."""

    i2c: Annotated[int, Within(0, 1, "Boards have the buses 0 and 1.")] | None = None
    sda: Pin | None = None
    scl: Pin | None = None
    freq: Annotated[int, Within(1000, 1_000_000, "Write 1000 to 1000000 Hz; most sensors take 400000.")] = 400_000
    address: Annotated[int, Within(0x08, 0x77, "Write 0x08 to 0x77, as in the sensor's data sheet.")] | None = None
    adc: Pin | tuple[Pin, ...] | None = None

    @property
    def analog_pins(self) -> tuple[int, ...]:
        """`adc`, always as a tuple."""
        return (self.adc,) if isinstance(self.adc, int) else self.adc or ()

    @property
    def pins(self) -> tuple[int, ...]:
        """Every pin that the sensor is wired to."""
        return *(pin for pin in (self.sda, self.scl) if pin is not None), *self.analog_pins


class Sensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[sensor.<id>]`: a driver, its wiring, the channels to read and how often."""

    driver: Word
    bus: Bus = Bus()
    channels: tuple[Word, ...]
    unit: Annotated[str, Text(16, needed=False)]
    rate_hz: Rate = 0  # required, but in mode "adaptive", which has intervals
    stuck_after: Count = 500  # unchanged samples in a row before the node reports `sensor.stuck`; 0: never
    params: dict[str, Number | Annotated[str, Text(32)]] = {}  # handed to the driver, e.g. `range`; see `drivers`


Mode = Literal["stream", "batch", "event", "adaptive"]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[sampling]`: when samples are taken and handled."""

    mode: Mode = "stream"
    window: Count = 0  # batch, event: samples that are handled together; features and models see this many
    hop: Count = 0  # samples from one window to the next; 0: window
    every_s: Seconds = 0  # batch: the same by time
    # event: a window in which nothing moved further than this (sensor's unit) is dropped
    threshold: Annotated[Number, Within(0, LARGEST_SIGNAL)] = 0
    normal_s: Seconds = 0  # adaptive: seconds from one sample to the next ...
    alert_s: Seconds = 0  # ... and after two anomalies in a row


Use = Literal["anomaly.window", "anomaly.multiscale", "anomaly.context", "features", "inference"]


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[stage]]`: one step of the data's way. `input` names channels (`accel.x`) or an earlier features stage."""

    id: Word
    use: Use
    input: Name | tuple[Name, ...]
    model: Annotated[str, Text(200)] | None = None
    params: dict[str, Number | Name | tuple[Name, ...]] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        """`input`, always as a tuple."""
        return (self.input,) if isinstance(self.input, str) else self.input


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that an action does: exactly one of `gpio`, `record`, `log`."""

    gpio: Pin | None = None
    value: Literal[0, 1] = 1
    for_ms: Pulse | None = None  # absent: the pin follows the rule
    record: Annotated[str, Text(64)] | None = None
    log: Annotated[str, Text(200)] | None = None


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[action]]`: when a rule becomes true, do these."""

    when: Annotated[str, Text(1000, free=True)]
    do: tuple[Step, ...]


class SerialLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[link.serial]`: which signals go out and how often."""

    queue: Annotated[int, Within(8, 2048, "Write 8 to 2048: they wait in the board's heap.")] = 256
    signals: tuple[str, ...] | None = None  # absent: every channel
    every_s: Seconds = 0.1  # from one record of a signal or score to the next; 0: every sample


class Links(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[link.*]`."""

    serial: SerialLink = SerialLink()


class Monitor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[monitor]`: the node's own health."""

    interval_s: Annotated[Number, Within(1, LONGEST_S, f"Write 1 to {LONGEST_S} seconds.")] = 10


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[update]`: how a new node proves itself before it replaces the one that ran."""

    confirm_s: Annotated[Number, Within(0.1, 3600, "Write 0.1 to 3600 seconds.")] = 10  # healthy for so long
    boots: Annotated[int, Within(1, 20, "Write 1 to 20 starts.")] = 3  # that may end before it has


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole node file."""

    schema: int
    name: Word
    board: Word
    sensor: dict[str, Sensor]
    sampling: Sampling = Sampling()
    stage: tuple[Stage, ...] = ()
    action: tuple[Action, ...] = ()
    link: Links = Links()
    monitor: Monitor = Monitor()
    update: Update = Update()
    watchdog_ms: Watchdog | None = None
