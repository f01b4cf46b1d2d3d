"""The kinds of stage: what each may listen to, what its parameters are, what it says, which device modules it needs.

Detectors and features are built here with the device's own classes (see `midgehost.twin`): names, defaults and ranges
of parameters live in one place, the code that will run on the board.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midgehost import twin
from midgehost.errors import NodeFileError
from midgehost.nodes.reading import convert_value, dotted, nearest
from midgehost.nodes.rules import Kind
from midgehost.nodes.schema import Number, Stage
from midgehost.nodes.signals import Channels, FeatureVector, Signals
from midgehost.nodes.sources import ModelSource, find_model


@dataclass
class StagePlan:
    """A compiled stage: its part of node.json, the model it runs, the device modules to import."""

    config: dict[str, Any]
    modules: tuple[str, ...]
    model: ModelSource | None = None


def compile_stage(where: str, stage: Stage, signals: Signals, window: int, folder: Path) -> StagePlan:
    """One stage; its values are added to `signals`. Raises NodeFileError, ModelError."""
    if not stage.inputs:
        raise NodeFileError(f"{where}.input", "it is empty", "Name a signal.")
    if stage.model is not None and stage.use != "inference":
        raise NodeFileError(f"{where}.model", f"a stage that uses {stage.use} runs no model", "Remove the key.")
    if stage.use == "features":
        return _features(where, stage, signals, window)
    if stage.use == "inference":
        return _inference(where, stage, signals, window, folder)
    return _detector(where, stage, signals)


def _detector(where: str, stage: Stage, signals: Signals) -> StagePlan:
    if len(stage.inputs) != 1:
        raise NodeFileError(f"{where}.input", "a detector listens to one signal", "Make one stage a channel.")
    kind = stage.use.partition(".")[2]
    params = _built(where, stage, type(twin.detector(kind)), {})
    config: dict[str, Any] = {"id": stage.id, "use": "detector", "kind": kind, "params": params}
    feature = signals.feature(stage.inputs[0])
    if feature is not None:
        config |= {"sensor": feature.sensor_index, "value": feature.at}
    else:
        channels = signals.channels(f"{where}.input", stage.inputs)
        config |= {"sensor": channels.sensor_index, "channel": channels.numbers[0]}
    config["at"] = signals.add_values(stage.id, {"score": "number", "alarm": "bool"})
    return StagePlan(config, ("stages.detector", stage.use))


def _features(where: str, stage: Stage, signals: Signals, window: int) -> StagePlan:
    channels = signals.channels(f"{where}.input", stage.inputs)
    _need_window(where, window)
    fixed = {
        "window": window,
        "rate_hz": channels.sensor.rate_hz,
        "channels": len(channels.numbers),
        "scale": 1.0,
        "offset": 0.0,
    }
    if "names" not in stage.params:
        raise NodeFileError(f"{where}.params.names", "the key is missing", 'Write: params = { names = ["rms"] }')
    params = _built(where, stage, twin.module("features").Features, fixed)
    fields = _feature_fields(channels, tuple(params["names"]))
    if not fields or len(set(fields)) < len(fields):
        what = "it names a feature twice" if fields else "it is empty"
        raise NodeFileError(f"{where}.params.names", what, "Name each feature once.")
    config: dict[str, Any] = {
        "id": stage.id,
        "use": stage.use,
        "sensor": channels.sensor_index,
        "channels": list(channels.numbers),
        "window": window,
        "params": params,
        "fields": fields,
    }
    kinds: dict[str, Kind] = dict.fromkeys(fields, "number")
    config["at"] = signals.add_values(stage.id, kinds)
    signals.vectors[stage.id] = FeatureVector(stage.id, channels.sensor_index, config["at"], len(fields))
    return StagePlan(config, ("stages.features",))


def _feature_fields(channels: Channels, names: tuple[str, ...]) -> list[str]:
    """What rules and records call the features: `rms`, `band_5_10` for `band:5-10`, `x_rms` with several channels."""
    words = [name.replace(":", "_").replace("-", "_").replace(".", "p") for name in names]
    if len(channels.numbers) == 1:
        return words
    return [f"{channels.sensor.channels[number]}_{word}" for number in channels.numbers for word in words]


_SAYS: dict[str, dict[str, Kind]] = {
    "class": {"class": "label", "p": "number"},
    "score": {"score": "number"},
    "value": {"value": "number"},
}


def _inference(where: str, stage: Stage, signals: Signals, window: int, folder: Path) -> StagePlan:
    if stage.model is None:
        raise NodeFileError(f"{where}.model", "the key is missing", 'Write: model = "..."')
    for key in stage.params:
        raise NodeFileError(dotted(f"{where}.params", key), "an inference stage has no parameters", "Remove the key.")
    model = find_model(f"{where}.model", stage.model, folder)
    config: dict[str, Any] = {"id": stage.id, "use": stage.use, "model": model.name, "says": model.says}
    if len(stage.inputs) == 1 and stage.inputs[0] in signals.vectors:
        vector = signals.vectors[stage.inputs[0]]
        config |= {"sensor": vector.sensor_index, "value": vector.at, "size": vector.size}
        given, size = f"{vector.stage_id} gives {vector.size} features", vector.size
    else:
        channels = signals.channels(f"{where}.input", stage.inputs)
        _need_window(where, window)
        size = window * len(channels.numbers)
        config |= {"sensor": channels.sensor_index, "channels": list(channels.numbers)}
        given = f"the window gives {window} samples x {len(channels.numbers)} channels"
    shape = "x".join(map(str, model.input_shape))
    if size != model.input_size:
        raise NodeFileError(
            f"{where}.input", f"{given}, {model.name} takes {shape}", "Correct the window or the channels."
        )
    labels = model.labels or tuple(str(i) for i in range(model.output_size))
    if model.says == "class":
        config["labels"] = list(labels)
    config["at"] = signals.add_values(stage.id, _SAYS[model.says], labels)
    return StagePlan(config, ("stages.inference",), model)


def _need_window(where: str, window: int) -> None:
    if not window:
        raise NodeFileError(where, "this stage works on windows, the node has none", "Write [sampling] window = 128")


_KINDS: dict[type, Any] = {int: int, float: Number, str: str}  # of a parameter, by its default; without: texts


def _built(where: str, stage: Stage, cls: Callable[..., Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a device class, defaults filled in, after building one with them. Raises NodeFileError."""
    signature = inspect.signature(cls)
    free = {name: p.default for name, p in signature.parameters.items() if name not in fixed}
    given: dict[str, Any] = {}
    for key, value in stage.params.items():
        if key not in free:
            raise NodeFileError(
                dotted(f"{where}.params", key),
                f"{stage.use} has no parameter {dotted('', key)!r}",
                nearest(key, free, "parameters"),
            )
        kind = _KINDS.get(type(free[key]), tuple[str, ...])
        value = convert_value(dotted(f"{where}.params", key), value, kind)
        given[key] = list(value) if isinstance(value, tuple) else value
    filled = {name: default for name, default in free.items() if default is not inspect.Parameter.empty} | given
    try:
        cls(**filled, **fixed)
    except (TypeError, ValueError, OverflowError) as error:
        raise NodeFileError(f"{where}.params", f"{stage.use} refuses them: {error}", "Correct the value.") from None
    return filled
