"""The README's first board: the example nodes run, and a finger on the pin is an alert."""

from __future__ import annotations

from pathlib import Path

import pytest

import midgehost
from conftest import ROOT
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.protocol import deploy
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import AnalogueInput, Recording

EXAMPLES = sorted((ROOT / "examples").glob("*/node.toml"))


@pytest.mark.parametrize("node", EXAMPLES, ids=lambda path: path.parent.name)
def test_live_data_and_an_alert_at_a_touch(node: Path, tmp_path: Path) -> None:
    faster = node.read_text().replace("rate_hz = 50\n", "rate_hz = 200\n") + "\n[update]\nconfirm_s = 0.2\n"
    (tmp_path / "node.toml").write_text(faster)
    profile = node.parent.name.removeprefix("first-")
    quiet, touch = [(0.10 + 0.002 * (i % 5),) for i in range(800)], [(0.1 + 0.2 * (i % 4),) for i in range(100)]
    sensor = AnalogueInput({"pico": 26, "esp32": 32}[profile], Recording(quiet + touch, end="hold"))
    wanted, heard = {"pin.touch", "z.score", "alert"}, set[str]()
    with VirtualBoard(profile=profile, sensors=[sensor]) as board, midgehost.connect(board.path) as connected:
        deploy(connected.transport, connected.info, build_payload(tmp_path, connected.info))
        for record in connected.records(timeout=10):
            heard.add(record.name)
            if wanted <= heard:
                break
    assert wanted <= heard


def test_there_are_two() -> None:
    assert len(EXAMPLES) == 2
