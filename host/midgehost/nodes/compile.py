"""`compile_node`: a folder with a node.toml becomes the JSON that the board runs, and the list of what it needs."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midgehost.boards import Board, all_boards
from midgehost.boards import board as find_board
from midgehost.errors import NodeFileError, NotFound
from midgehost.nodes.actions import compile_action
from midgehost.nodes.reading import decode_text, dotted, line_of, nearest, read_node
from midgehost.nodes.schema import Node
from midgehost.nodes.sensing import check_ram, check_sampling, compile_sensor
from midgehost.nodes.signals import Signals
from midgehost.nodes.stages import StagePlan, compile_stage

NODE_FILE = "node.toml"
_RESERVED_IDS = ("sys", "alert")  # names of the node's own records


@dataclass(frozen=True)
class CompiledNode:
    """A checked node. `models` maps a name to its file. `modules` are the device modules it names, dotted below
    `midge`; with all that these import they are what the board needs (kernels come with the models)."""

    name: str
    board: Board
    config: dict[str, Any]
    models: dict[str, Path]
    drivers: tuple[str, ...]
    modules: tuple[str, ...]

    def render(self, model_paths: Mapping[str, str]) -> bytes:
        """node.json, canonical: same node, same bytes. `model_paths` says where each model lies on the board."""
        stages = [
            stage | {"model": model_paths[stage["model"]]} if "model" in stage else stage
            for stage in self.config["stages"]
        ]
        return json.dumps(
            self.config | {"stages": stages}, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()

    @property
    def json(self) -> bytes:
        """node.json with the models' names where their paths will stand."""
        return self.render({name: name for name in self.models})


def compile_node(node_dir: str | Path, platform: str = "") -> CompiledNode:
    """Reads, checks and compiles `node_dir`/node.toml, for a board that answers as `platform` where one is known.

    Raises NodeFileError (with file and line), ModelError.
    """
    path = Path(node_dir) / NODE_FILE
    data = _read(path)
    text = data.decode("utf-8-sig", "replace")
    try:
        return _compile(read_node(decode_text(data)), path.parent, platform)
    except NodeFileError as error:
        raise error.located(str(path), line_of(text, error.where)) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        do = "Write one with: midge init DIR --board NAME"
        raise NodeFileError(str(path), "there is no node file", do) from None
    except OSError as error:
        raise NodeFileError(str(path), f"it cannot be read: {error.strerror}", "Check the path.") from None


def _compile(node: Node, folder: Path, platform: str) -> CompiledNode:
    board = _board(node.board)
    _check_family(board, platform)
    _check_names(node)
    check_sampling(node.sampling)
    sensors = [compile_sensor(sensor_id, sensor, node, board) for sensor_id, sensor in node.sensor.items()]
    check_ram(sensors, node, board)
    signals = Signals(node)
    _check_reported(node, signals)
    plans = [
        compile_stage(f"stage[{i}]", stage, signals, node.sampling.window, folder) for i, stage in enumerate(node.stage)
    ]
    actions = [compile_action(f"action[{i}]", action, signals, board) for i, action in enumerate(node.action)]
    config: dict[str, Any] = {
        "schema": node.schema,
        "name": node.name,
        "sampling": _sampling(node),
        "sensors": sensors,
        "stages": [plan.config for plan in plans],
        "values": len(signals.values),
        "actions": actions,
        "link": {"queue": node.link.serial.queue},
        "monitor_ms": round(1000 * node.monitor.interval_s),
        "update": {"confirm_ms": round(1000 * node.update.confirm_s), "boots": node.update.boots},
    }
    if node.watchdog_ms is not None:
        config["watchdog_ms"] = node.watchdog_ms
    return _compiled(node, board, config, plans)


def _compiled(node: Node, board: Board, config: dict[str, Any], plans: list[StagePlan]) -> CompiledNode:
    drivers = tuple(sorted({sensor.driver for sensor in node.sensor.values()}))
    modules = {"node", *(f"drivers.{driver}" for driver in drivers), *(name for plan in plans for name in plan.modules)}
    models: dict[str, Path] = {}
    for i, plan in enumerate(plans):
        if plan.model and models.setdefault(plan.model.name, plan.model.path) != plan.model.path:
            what = f"two models are called {plan.model.name!r}"
            raise NodeFileError(f"stage[{i}].model", what, "Rename one of the files.")
    return CompiledNode(node.name, board, config, models, drivers, tuple(sorted(modules)))


def _board(name: str) -> Board:
    try:
        return find_board(name)
    except NotFound as error:
        raise NodeFileError("board", error.what.rstrip("."), error.do) from None


def _check_family(board: Board, platform: str) -> None:
    """Refuses a node for another family of boards than the one that answers (`sys.platform`)."""
    family = board.platform
    if not platform or not family or family == platform:
        return
    fitting = [name for name, other in all_boards().items() if other.platform == platform]
    do = f"Choose {' or '.join(fitting)} here, or the other port." if fitting else "Choose the other port."
    what = f"{board.name!r} is a board of {family}, the one that answers is of {platform}"
    raise NodeFileError("board", what, do)


def _check_names(node: Node) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", node.name):
        what = f"{node.name!r} cannot name a node"
        raise NodeFileError("name", what, "Use at most 32 letters, digits, '-', '_' and '.'.")
    if not node.sensor:
        raise NodeFileError("sensor", "the node has no sensor", "Write a table [sensor.<name>].")
    places = [(dotted("sensor", sensor_id), sensor_id) for sensor_id in node.sensor]
    places += [(f"stage[{i}].id", stage.id) for i, stage in enumerate(node.stage)]
    taken: set[str] = set(_RESERVED_IDS)
    for where, name in places:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise NodeFileError(where, f"{name!r} is no name", "Use letters, digits and _, and start with a letter.")
        if name in taken:
            raise NodeFileError(where, f"the name {name!r} is taken", "Choose another one.")
        taken.add(name)


def _check_reported(node: Node, signals: Signals) -> None:
    known = signals.channel_names()
    for name in node.link.serial.signals or ():
        if name not in known:
            what = f"there is no signal {name!r}"
            raise NodeFileError("link.serial.signals", what, nearest(name, known, "signals"))


def _sampling(node: Node) -> dict[str, Any]:
    """What the device must know of the mode; counts of samples stand with each sensor."""
    sampling = node.sampling
    if sampling.mode == "event":
        return {"mode": sampling.mode, "threshold": sampling.threshold}
    if sampling.mode == "adaptive":
        intervals = {"normal_ms": round(1000 * sampling.normal_s), "alert_ms": round(1000 * sampling.alert_s)}
        return {"mode": sampling.mode, **intervals}
    return {"mode": sampling.mode}
