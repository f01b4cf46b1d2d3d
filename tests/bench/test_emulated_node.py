"""A signed 44 KB node on the stock image: adopted, deployed over the pty, verified on the board, confirmed, running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from emulated import stock_image

from midgehost.cli.app import run
from midgehost.deploy.base import make_base
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.probe import BoardInfo, probe
from midgehost.deploy.slots import Refused, Slots
from midgehost.deploy.transport import SerialTransport
from midgehost.keys import KeyStore
from midgehost.ports import announce
from midgehost.virtual.emulated import TIME_SCALE, EmulatedPico
from midgehost.virtual.pico.board import EmulatedBoard
from midgehost.virtual.sensors import AnalogueInput, Mpu6050, Recording

pytestmark = pytest.mark.emulated

NODE = """
schema = 1
name = "shelf"
board = "pico"
[sensor.accel]
driver = "mpu6050"
bus = { i2c = 0, sda = 4, scl = 5 }
channels = ["x", "y", "z"]
unit = "g"
rate_hz = 50
[sensor.light]
driver = "adc"
bus = { adc = 26 }
channels = ["level"]
unit = "V"
rate_hz = 10
[sampling]
mode = "batch"
window = 16
hop = 16
[[stage]]
id = "swing"
use = "features"
input = "accel.y"
params = { names = ["std"] }
[[stage]]
id = "z"
use = "anomaly.multiscale"
input = "light.level"
[[action]]
when = "z.alarm"
do = [{ record = "alert" }]
[link.serial]
queue = 64
signals = ["accel.x", "light.level"]
every_s = 0.1
[update]
confirm_s = 1
"""
PASSPHRASE = "correct horse"
MOST_RSA_MS = 500  # what one signature may take of a boot
VERIFY = """
import json, time
from midge import crypto
with open('/midge/trust.json') as f:
    key = json.load(f)['keys'][0]
def timed(signature):
    start = time.ticks_us()
    good = crypto.verifies(key, {line!r}, signature)
    return good, time.ticks_diff(time.ticks_us(), start)
print(json.dumps([timed(bytes.fromhex({signature!r})), timed(bytes(256))]))
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    """One key, `mine`, where the commands look for it."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("midgehost.keys._SCRYPT", {"n": 2, "r": 8, "p": 1})
    store = KeyStore()
    store.new("mine", "RS256", PASSPHRASE)
    return store


def stock_info() -> BoardInfo:
    """What a stock Pico says of itself."""
    with EmulatedPico() as pico:
        return probe(pico)


def check_running(line: SerialTransport) -> None:
    """The node is confirmed and healthy; its records hold what its sensors' recordings do."""
    node = NodeConnection(line)
    assert node.greet(20), node.last_words
    status = node.command("status")
    assert (status["node"], status["update"]["state"], status["disabled"]) == ("shelf", "confirmed", {})
    assert all(sensor["state"] == "running" for sensor in status["sensors"].values())
    seen: dict[str, float] = {}
    for record in node.records(300):
        seen[record.name] = round(float(record.value), 2) if record.is_number else 0.0
        if {"accel.x", "light.level"} <= seen.keys():
            break
    assert seen["accel.x"] in (0.25, 0.5) and seen["light.level"] in (0.82, 0.83, 1.65)


def check_signatures(line: SerialTransport, store: KeyStore, base: str) -> None:
    """The board tells a good signature from a bad one, soon enough; says how soon."""
    manifest = line.get("/midge/a/manifest").split(b"\n")[0]
    signature = store.open("mine", PASSPHRASE).sign(manifest)
    line.restart()
    code = f"import sys\nsys.path.insert(0,{base!r})\n" + VERIFY.format(line=manifest, signature=signature.hex())
    (good, us), (bad, _) = json.loads(line.exec(code, 60))
    print(f"\nRSA-2048 with SHA-256 on the stock image, emulated at 125 MHz: {us / 1000:.0f} ms a signature")
    assert good and not bad and us / 1000 < MOST_RSA_MS


def test_a_signed_node_arrives_verified(tmp_path: Path, store: KeyStore, capsys: pytest.CaptureFixture[str]) -> None:
    stock_image()
    base = make_base(stock_info())
    folder, passphrase = tmp_path / "shelf", tmp_path / "passphrase"
    folder.mkdir()
    (folder / "node.toml").write_text(NODE)
    passphrase.write_text(PASSPHRASE + "\n")
    passphrase.chmod(0o600)
    accel = Recording([(0.25, 0.0, 1.0), (0.5, 0.0, 1.0)], end="loop")
    light = Recording([(0.25,), (0.5,)], end="loop")
    with (
        EmulatedBoard(files=base.files, sensors=[Mpu6050(accel), AnalogueInput(26, light)], pace=10) as board,
        announce(board.port),
    ):
        to_board = ["--port", board.path, "--passphrase-file", str(passphrase)]
        assert run(["adopt", "--key", "mine", "--node", "shelf", *to_board]) == 0
        assert run(["deploy", str(folder), *to_board, "--json"]) == 0
        report = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert report["confirmed"] and report["signed_by"] == store.find("mine").id
        assert report["slot"] == "a" and report["sent_bytes"] > 40_000 and not report["disabled"]
        board.power_cycle()
        with SerialTransport(board.path, "emulated:pico", TIME_SCALE) as line:
            check_running(line)
            check_signatures(line, store, base.folder)
            line.exec("f = open('/midge/a/node.json', 'r+b')\nf.write(b'[')\nf.close()")
            with pytest.raises(Refused) as refused:
                Slots(line).check("a", base)
            assert refused.value.remote_code == "update.wrong_hash"
