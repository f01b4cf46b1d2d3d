"""What a stage may listen to: channels of a sensor, a features stage as a whole, or one of its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from midgehost.errors import NodeFileError
from midgehost.nodes.reading import nearest
from midgehost.nodes.rules import Kind, Value
from midgehost.nodes.schema import Node, Sensor


@dataclass(frozen=True)
class Channels:
    """Channels of one sensor, by their numbers."""

    sensor_id: str
    sensor_index: int
    sensor: Sensor
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class FeatureVector:
    """All features of a stage: `size` numbers from table place `at` on, fresh with every window of the sensor."""

    stage_id: str
    sensor_index: int
    at: int
    size: int


@dataclass(frozen=True)
class Feature:
    """One feature, at its place in the table of values."""

    sensor_index: int
    at: int


@dataclass
class Signals:
    """Every name that a stage's `input` may use, and the board's table of stage values as it grows."""

    node: Node
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    vectors: dict[str, FeatureVector] = field(default_factory=dict[str, FeatureVector])

    def add_values(self, stage_id: str, kinds: Mapping[str, Kind], labels: tuple[str, ...] = ()) -> int:
        """Gives the stage's values consecutive places in the table; returns the first."""
        first = len(self.values)
        for name, kind in kinds.items():
            self.values[f"{stage_id}.{name}"] = Value(len(self.values), kind, labels if kind == "label" else ())
        return first

    def channels(self, where: str, names: tuple[str, ...]) -> Channels:
        """Channels of one sensor, in the order given. Raises NodeFileError."""
        sensor_ids = {name.partition(".")[0] for name in names}
        if len(sensor_ids) > 1:
            raise NodeFileError(where, f"{', '.join(names)} come from different sensors", "Use channels of one sensor.")
        found = [self._channel(where, name) for name in names]
        if len(set(found)) < len(found):
            raise NodeFileError(where, f"{', '.join(names)} names a channel twice", "Name each channel once.")
        sensor_id = sensor_ids.pop()
        return Channels(sensor_id, list(self.node.sensor).index(sensor_id), self.node.sensor[sensor_id], tuple(found))

    def feature(self, name: str) -> Feature | None:
        """One feature of an earlier stage, or None if the name is no feature's."""
        vector = self.vectors.get(name.partition(".")[0])
        return Feature(vector.sensor_index, self.values[name].index) if vector and name in self.values else None

    def channel_names(self) -> list[str]:
        """`accel.x` and so on, of every sensor."""
        return [
            f"{sensor_id}.{channel}" for sensor_id, sensor in self.node.sensor.items() for channel in sensor.channels
        ]

    def _channel(self, where: str, name: str) -> int:
        known = self.channel_names()
        if name not in known:
            features = [value for value in self.values if value.partition(".")[0] in self.vectors]
            candidates = [*known, *self.vectors, *features]
            raise NodeFileError(where, f"there is no signal {name!r}", nearest(name, candidates, "signals"))
        sensor_id, _, channel = name.partition(".")
        return self.node.sensor[sensor_id].channels.index(channel)
