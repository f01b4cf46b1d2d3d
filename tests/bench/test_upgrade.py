"""`midge upgrade`: a node that an older midge deployed gets this one's modules and goes on; and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uf2_files as files

from conftest import FAN
from midgehost import firmware_cache
from midgehost.cli.app import run
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import probe
from midgehost.deploy.protocol import Terms, deploy
from midgehost.deploy.slots import Slots
from midgehost.deploy.transport import SerialTransport
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.virtual_pico import VirtualPico

NODE = """
schema = 1
name = "old"
board = "pico"
[sensor.room]
driver = "adc"
bus = { adc = 26 }
channels = ["level"]
unit = "V"
rate_hz = 20
[update]
confirm_s = 0.2
"""
Upgrade = Callable[..., tuple[int, dict[str, object], str]]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one made image, a BOOTSEL place of the test's own, a node folder."""
    monkeypatch.setenv("MIDGE_BOOTSEL", str(tmp_path / "media"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MIDGE_FIRMWARE_URL", "http://127.0.0.1:9")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "node.toml").write_text(NODE)
    return tmp_path


@pytest.fixture
def upgrade(capsys: pytest.CaptureFixture[str]) -> Upgrade:
    """Runs `midge upgrade --json`: (exit code, its report, its last line on stderr)."""

    def go(*arguments: object) -> tuple[int, dict[str, object], str]:
        code = run(["upgrade", *map(str, arguments), "--json"])
        told = capsys.readouterr()
        return code, json.loads(told.out.strip().splitlines()[-1]), (told.err.strip().splitlines() or [""])[-1]

    return go


def older(line: SerialTransport, folder: Path) -> Payload:
    """The node as an older midge would have deployed it: one module has another text."""
    payload = build_payload(folder, probe(line))
    lib = dict(payload.lib)
    lib["midge/clock.mpy"] += bytes(1)
    return dataclasses.replace(payload, lib=lib)


def put(board: VirtualBoard, payload: Callable[[SerialTransport], Payload]) -> None:
    with SerialTransport(board.path) as line:
        deploy(line, probe(line), payload(line), Terms())


def test_older_modules_are_replaced_and_the_node_goes_on(board: VirtualBoard, desk: Path, upgrade: Upgrade) -> None:
    put(board, lambda line: older(line, desk / "node"))
    code, report, _ = upgrade("--port", board.path, "--check")
    assert (code, report["node"], report["deployed"]) == (0, "old", None)
    assert report["steps"] == ["replace 1 device module", "deploy it: test, trial, confirm"]
    code, report, _ = upgrade("--port", board.path)
    done = report["deployed"]
    assert code == 0 and isinstance(done, dict) and done["slot"] == "b"
    assert done["sent"] == ["/midge/b/lib/midge/clock.mpy"]
    code, report, _ = upgrade("--port", board.path)
    assert (code, report["steps"], report["deployed"]) == (0, [], None)
    with SerialTransport(board.path) as line:
        assert (
            line.get("/midge/b/lib/midge/clock.mpy") == build_payload(desk / "node", probe(line)).lib["midge/clock.mpy"]
        )


def test_a_bundle_of_another_format_needs_the_folder(board: VirtualBoard, upgrade: Upgrade) -> None:
    with SerialTransport(board.path) as line:
        deploy(line, probe(line), build_payload(FAN, probe(line)), Terms())
        slots = Slots(line)
        slots.hold()
        (path,) = slots.models_of("a")
        line.put(path, line.get(path)[:4] + b"\x63" + line.get(path)[5:])
        slots.release()
    code, report, error = upgrade("--port", board.path)
    assert code == 2 and "midge upgrade NODE_DIR" in error
    assert report["error"]["code"] == "deploy.cannot_upgrade"  # type: ignore[index]


def test_a_board_without_a_node_is_refused(board: VirtualBoard, upgrade: Upgrade) -> None:
    code, report, _ = upgrade("--port", board.path)
    assert code == 2 and report["error"]["code"] == "deploy.cannot_upgrade"  # type: ignore[index]


@pytest.fixture
def pico(desk: Path) -> Iterator[VirtualPico]:
    """A Pico with a node, at `<desk>/board`."""
    with VirtualPico(desk / "media" / "RPI-RP2", link=desk / "board", restart_s=0.1) as pico:
        assert pico.board.wait_ready()
        put(pico.board, lambda line: build_payload(desk / "node", probe(line)))
        yield pico


def test_firmware_is_replaced_after_a_backup(
    pico: VirtualPico, desk: Path, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk / "cache"))
    firmware_cache.store("RPI_PICO-20241129-v1.24.1.uf2", files.stock(version="1.24.1"), "test")
    code, report, error = upgrade("--port", pico.path, "--firmware", "1.24.1")
    assert code == 0, error
    assert report["restored"] is False and Path(str(report["backup"])).is_file()
    assert isinstance(report["deployed"], dict) and report["node"] == "old"
    with SerialTransport(pico.path) as line:
        assert probe(line).version == (1, 24, 1)
