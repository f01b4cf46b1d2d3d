"""Actions: compiled rules and the steps they trigger."""

from __future__ import annotations

from typing import Any

from midgehost.boards import Board
from midgehost.errors import NodeFileError
from midgehost.nodes.rules import Program, compile_rule
from midgehost.nodes.schema import Action, Node, Step
from midgehost.nodes.signals import Signals
from midgehost.nodes.wiring import check_output


def compile_action(where: str, action: Action, signals: Signals, board: Board) -> dict[str, Any]:
    """An action's part of node.json. Raises NodeFileError."""
    if not action.do:
        raise NodeFileError(f"{where}.do", "it is empty", 'Write: do = [{ record = "alert" }]')
    steps = [_step(f"{where}.do[{i}]", step, signals.node, board) for i, step in enumerate(action.do)]
    program = compile_rule(f"{where}.when", action.when, signals.values)
    return {"when": program, "text": action.when, "do": steps} | _evidence(program, signals)


def _evidence(program: Program, signals: Signals) -> dict[str, int]:
    """What an alert of this rule quotes: the place of the model in the node file, and of a score in the values."""
    stages = {name.partition(".")[0] for name, value in signals.values.items() if value.index in program}
    found: dict[str, int] = {}
    for place, stage in enumerate(signals.node.stage):
        if stage.id not in stages:
            continue
        if stage.use == "inference":
            found.setdefault("model", place)
        for field in ("score", "p"):
            if value := signals.values.get(f"{stage.id}.{field}"):
                found.setdefault("score", value.index)
    return found


def _step(where: str, step: Step, node: Node, board: Board) -> dict[str, Any]:
    kinds = [key for key in ("gpio", "record", "log") if getattr(step, key) is not None]
    if len(kinds) != 1:
        raise NodeFileError(where, "it must have exactly one of gpio, record, log", "Split it, or name one.")
    if step.gpio is None:
        if step.for_ms is not None:
            raise NodeFileError(f"{where}.for_ms", "it belongs to gpio", "Remove the key.")
        return {kinds[0]: getattr(step, kinds[0])}
    for sensor_id, sensor in node.sensor.items():
        if step.gpio in sensor.bus.pins:
            raise NodeFileError(f"{where}.gpio", f"pin {step.gpio} is wired to sensor.{sensor_id}", "Use another pin.")
    check_output(f"{where}.gpio", step.gpio, board)
    return {"gpio": step.gpio, "value": step.value} | ({"for_ms": step.for_ms} if step.for_ms else {})
