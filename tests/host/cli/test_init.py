"""`midge init`: the folder it writes compiles for every board, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from midgehost.boards import all_boards
from midgehost.cli.app import run
from midgehost.nodes import compile_node
from midgehost.nodes.schema import Node


@pytest.mark.parametrize("board", sorted(all_boards()))
def test_writes_a_node_that_compiles(tmp_path: Path, board: str) -> None:
    assert run(["init", str(tmp_path / "pump"), "--board", board]) == 0
    node = compile_node(tmp_path / "pump")
    assert (node.name, node.board.name, node.models) == ("pump", board, {})
    (sensor,) = node.config["sensors"]
    wiring = {key: sensor["config"][key] for key in ("i2c", "sda", "scl")}
    assert wiring == all_boards()[board].default_i2c
    assert (tmp_path / "pump" / "README.md").read_text().startswith("# pump\n")


def test_the_model_that_is_commented_out_would_compile(tmp_path: Path) -> None:
    fan = Path(__file__).resolve().parents[3] / "models" / "fan"
    folder = tmp_path / "pump"
    assert run(["init", str(folder), "--board", "pico"]) == 0
    for name in ("fan.tflite", "model.toml"):
        (folder / name).write_bytes((fan / name).read_bytes())
    lines = (folder / "node.toml").read_text().splitlines()
    start = lines.index("# [[stage]]")
    for i in range(start, start + 5):
        lines[i] = lines[i].removeprefix("# ").replace("mymodel", "fan", 1)
    (folder / "node.toml").write_text("\n".join(lines))
    assert list(compile_node(folder).models) == ["fan"]


def test_a_folder_with_a_strange_name(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "Hall 3, pump #1"), "--board", "pico"]) == 0
    assert compile_node(tmp_path / "Hall 3, pump #1").name == "Hall-3-pump-1"


def test_refuses_to_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "node.toml").write_text("mine")
    assert run(["init", str(tmp_path), "--board", "pico"]) == 2
    assert (tmp_path / "node.toml").read_text() == "mine"
    assert "there is a node file already" in capsys.readouterr().err


def test_unknown_board_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "x"), "--board", "pico-v"]) == 2
    assert not (tmp_path / "x").exists()
    assert "pico" in capsys.readouterr().err


def test_every_table_of_the_schema_is_shown(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "x")]) == 0
    text = (tmp_path / "x" / "node.toml").read_text()
    may_lack = ("monitor", "update", "watchdog_ms")
    missing = [key for key in Node.__struct_fields__ if key not in text and key not in may_lack]
    assert missing == []
