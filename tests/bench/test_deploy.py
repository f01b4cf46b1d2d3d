"""Deploying to a virtual board: only what changed is sent, whatever breaks leaves the old node running."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from conftest import FAN
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import BoardInfo, probe
from midgehost.deploy.protocol import Report, deploy, remove
from midgehost.deploy.slots import ForeignMain, Slots
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import Full, HashMismatch, LineDropped, Rejected
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import Mpu6050, Recording


@pytest.fixture
def sensed() -> Iterator[VirtualBoard]:
    """A board with a moving accelerometer."""
    moving = [((i * 7919 % 101) / 400, 0.1, 1.0) for i in range(997)]
    with VirtualBoard(sensors=[Mpu6050(Recording(moving, end="loop"))]) as board:
        yield board


@pytest.fixture(scope="module")
def node_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fan's node."""
    folder = tmp_path_factory.mktemp("fan")
    for name in ("node.toml", "fan.tflite", "model.toml"):
        shutil.copy(FAN / name, folder / name)
    return folder


def payload_for(line: SerialTransport, node_dir: Path) -> tuple[BoardInfo, Payload]:
    info = probe(line)
    return info, build_payload(node_dir, info)


def put_node(line: SerialTransport, node_dir: Path) -> Report:
    info, payload = payload_for(line, node_dir)
    return deploy(line, info, payload)


def is_running(board: VirtualBoard) -> bool:
    with SerialTransport(board.path) as line:
        return "sys.reset" in NodeConnection(line).greet(15) or "running" in NodeConnection(line).greet(15)


def test_second_deploy_sends_only_what_changed(sensed: VirtualBoard, node_dir: Path, tmp_path: Path) -> None:
    with SerialTransport(sensed.path) as line:
        first = put_node(line, node_dir)
        assert first.tested == 1 and len(first.sent) > 30
        assert put_node(line, node_dir).sent_bytes == 0
        changed = tmp_path / "changed"
        shutil.copytree(node_dir, changed)
        text = (changed / "node.toml").read_text()
        (changed / "node.toml").write_text(text.replace("holdoff", "holdoff").replace("for_ms = 500", "for_ms = 400"))
        report = put_node(line, changed)
    assert [path.rsplit("/", 1)[1] for path in report.sent] == ["node.json"]
    assert report.slot != first.slot


def test_a_record_of_the_node_arrives(sensed: VirtualBoard, node_dir: Path) -> None:
    with SerialTransport(sensed.path) as line:
        put_node(line, node_dir)
        names = {record.name for record in NodeConnection(line).records(timeout=4)}
    assert {"accel.x", "accel.y", "sys.heap", "sys.accel.rate"} <= names


def test_board_full_before_anything_is_sent(node_dir: Path) -> None:
    with VirtualBoard(flash_bytes=80 * 1024) as board, SerialTransport(board.path) as line:
        info, payload = payload_for(line, node_dir)
        with pytest.raises(Full) as full:
            deploy(line, info, payload)
        assert full.value.needed > full.value.free
        assert Slots(line).files() == {}


@pytest.mark.parametrize("seed", range(3))
def test_line_pulled_while_sending(sensed: VirtualBoard, node_dir: Path, tmp_path: Path, seed: int) -> None:
    cut_at(sensed, node_dir, tmp_path, seed)


@pytest.mark.soak
def test_line_pulled_at_30_places(node_dir: Path, tmp_path: Path) -> None:
    print("\n| seed | cut after | of | then |\n|---|---|---|---|")
    for seed in range(100, 130):
        moving = [((i * 7919 % 101) / 400, 0.1, 1.0) for i in range(997)]
        with VirtualBoard(sensors=[Mpu6050(Recording(moving, end="loop"))]) as board:
            after, total = cut_at(board, node_dir, tmp_path / str(seed), seed)
        print(f"| {seed} | {after} | {total} | old node ran on, next deploy succeeded |")


def cut_at(board: VirtualBoard, node_dir: Path, folder: Path, seed: int) -> tuple[int, int]:
    """Deploys, deploys something else, pulls the line on the way; the old node must come back, and a retry succeed."""
    other = folder / "other"
    shutil.copytree(node_dir, other)
    text = (other / "node.toml").read_text()
    (other / "node.toml").write_text(
        text.replace('"anomaly.window"', '"anomaly.multiscale"').replace("size = 40, warmup = 10, ", "")
    )
    seen: list[int] = []
    with SerialTransport(board.path) as line:
        first = put_node(line, node_dir)
        info, payload = payload_for(line, other)
        total = sum(map(len, payload.lib.values()))
        where = Random(seed).randrange(1, 3000)

        def pull(done: int, _: int) -> None:
            seen.append(done)
            if done >= where:
                board.unplug()

        with pytest.raises(LineDropped):
            deploy(line, info, payload, progress=pull)
    board.replug()
    board.power_cycle()
    with SerialTransport(board.path) as line:
        assert NodeConnection(line).greet(15), "the old node did not come back"
        assert Slots(line).active() == first.slot
        again = deploy(line, info, payload)
        assert again.slot != first.slot
    return seen[-1], total


def test_damage_on_the_way_is_noticed(sensed: VirtualBoard, node_dir: Path) -> None:
    with SerialTransport(sensed.path) as line:
        first = put_node(line, node_dir)
        info, payload = payload_for(line, node_dir)
        damaged = Payload(payload.node_json + b" ", payload.lib, payload.models)
        line.exec("import binascii\n_right=binascii.a2b_base64")
        put = line.put

        def bad_put(path: str, data: bytes, progress: object = None) -> None:
            if path.endswith("node.json"):
                put(path, data[:-1] + b"X")
                line._has_agent = True
                if line.sha256(path) != __import__("hashlib").sha256(data).hexdigest():
                    raise HashMismatch(path)
            put(path, data)

        line.put = bad_put  # type: ignore[method-assign]
        with pytest.raises(HashMismatch):
            deploy(line, info, damaged)
        line.put = put  # type: ignore[method-assign]
        assert Slots(line).active() == first.slot


def test_failing_self_test_is_rejected(sensed: VirtualBoard, node_dir: Path) -> None:
    from dataclasses import replace

    from midgehost.models.bundle import Bundle, Vector

    with SerialTransport(sensed.path) as line:
        first = put_node(line, node_dir)
        info, payload = payload_for(line, node_dir)
        bundle = Bundle.decode(payload.models["fan"])
        wrong = Vector(bundle.tests[0].inputs, (bytes([1, 2, 3]),))
        models = {"fan": replace(bundle, tests=(wrong, *bundle.tests[1:])).encode()}
        config = payload.node_json.replace(b'"model":"/midge', b'"model":"/midge')
        with pytest.raises(Rejected, match="self-test"):
            deploy(line, info, Payload(config + b" ", payload.lib, models))
        assert Slots(line).active() == first.slot
    assert is_running(sensed)


def test_foreign_main_is_kept_and_comes_back(sensed: VirtualBoard, node_dir: Path) -> None:
    with SerialTransport(sensed.path) as line:
        line.put("/main.py", b"print('mine')\n")
        info, payload = payload_for(line, node_dir)
        with pytest.raises(ForeignMain):
            deploy(line, info, payload)
        assert line.get("/main.py") == b"print('mine')\n"
        deploy(line, info, payload, force=True)
        assert remove(line) > 30
        assert line.get("/main.py") == b"print('mine')\n"
        assert line.exec("import os\nprint(os.listdir('/'))") == "['main.py']\n"
