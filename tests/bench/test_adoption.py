"""An adopted board takes what its key has signed, follows the key's successors, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cuts import small_node
from slot_state import holds, manifest_of

from midgehost.cli.app import run
from midgehost.deploy import protocol
from midgehost.deploy.adoption import Adopted, NoNodeName, adopt
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import probe
from midgehost.deploy.protocol import Terms, deploy, remove
from midgehost.deploy.signing import Credentials, NoTrustedKey, signer
from midgehost.deploy.slots import Refused, Slots
from midgehost.deploy.transport import SerialTransport
from midgehost.keys import KeyStore
from midgehost.virtual.board import VirtualBoard

SECRET = "correct horse"
NODE = """
schema = 1
name = "n"
board = "virtual"
[sensor.light]
driver = "adc"
bus = { adc = 26 }
channels = ["level"]
unit = "V"
rate_hz = 10
[update]
confirm_s = 0.1
"""


@pytest.fixture(scope="module", autouse=True)
def quick_passphrases() -> Iterator[None]:
    """What makes guessing slow makes tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("midgehost.keys._SCRYPT", {"n": 2, "r": 8, "p": 1})
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """Keys take a while: these are made once."""
    store = KeyStore(tmp_path_factory.mktemp("made") / "keys")
    store.new("mine", "RS256", SECRET)
    return store


@pytest.fixture
def store(made: KeyStore, tmp_path: Path) -> KeyStore:
    """A store with one key, `mine`."""
    return KeyStore(Path(shutil.copytree(made.folder, tmp_path / "keys")))


@pytest.fixture(scope="module")
def node() -> Payload:
    return small_node("red")


@pytest.fixture
def line() -> Iterator[SerialTransport]:
    """A board without anything."""
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        yield line


def by(store: KeyStore, **fields: int) -> Terms:
    return Terms(signer=signer(store, lambda: SECRET), **fields)


def state(line: SerialTransport) -> str:
    node = NodeConnection(line)
    assert node.greet(15), node.last_words
    return node.command("status")["update"]["state"]


def test_an_adopted_board_takes_signed_updates_only(line: SerialTransport, store: KeyStore, node: Payload) -> None:
    info = probe(line)
    key = store.open("mine", SECRET)
    done = adopt(line, info, key, "n")
    assert (done.node, done.key, done.stranded) == ("n", key.id, False)
    with pytest.raises(Adopted, match=f"trusts {key.id}.*--forget"):
        adopt(line, info, key, "n")
    report = deploy(line, info, node, by(store))
    assert (report.confirmed, report.signed_by) == (True, key.id)
    with pytest.raises(NoTrustedKey, match=key.id):
        deploy(line, info, small_node("green"))
    for version in (report.version, report.version - 1):
        with pytest.raises(Refused) as older:
            deploy(line, info, small_node("green"), by(store, version=version))
        assert older.value.remote_code == "update.older"
    assert state(line) == "confirmed"
    assert holds(line, node, "a")
    assert not Slots(line).exists("/midge/b/manifest")  # nor is it a way back, should what runs be damaged one day


def test_forged_and_foreign_updates_are_refused_by_the_board(
    line: SerialTransport, store: KeyStore, node: Payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the host does: unsigned, signed by a key that is not trusted, or for another node."""
    info = probe(line)
    adopt(line, info, store.open("mine", SECRET), "n")
    deploy(line, info, node, by(store))
    store.new("other", "RS256", SECRET)
    foreign = Terms(signer=lambda _: Credentials(store.open("other", SECRET)))
    elsewhere = small_node("green")
    renamed = Payload(elsewhere.node_json.replace(b'"name": "n"', b'"name": "pump"'), node.lib, node.models)
    for payload, terms, code in (
        (elsewhere, foreign, "update.unknown_key"),
        (renamed, by(store), "update.wrong_node"),
    ):
        with pytest.raises(Refused) as refused:
            deploy(line, info, payload, terms)
        assert refused.value.remote_code == code
    monkeypatch.setattr(protocol, "signed", lambda text, _: text + b"\nnone\n")
    with pytest.raises(Refused) as refused:
        deploy(line, info, elsewhere, by(store))
    assert refused.value.remote_code == "update.unsigned"
    assert state(line) == "confirmed"
    assert holds(line, node, "a")


def test_a_board_follows_the_successors_of_its_key(line: SerialTransport, store: KeyStore, node: Payload) -> None:
    """Twice rotated: both statements are passed on. What ran under the old key still starts."""
    info = probe(line)
    first = store.open("mine", SECRET)
    adopt(line, info, first, "n")
    deploy(line, info, node, by(store))
    store.rotate("mine", SECRET)
    store.rotate("mine", SECRET)
    newest = store.open("mine", SECRET)
    report = deploy(line, info, node, by(store))
    assert (report.sent, report.signed_by, report.slot) == ((), newest.id, "a")
    trust = Slots(line).trust()
    assert trust is not None
    assert [key["id"] for key in trust["keys"]] == [newest.id] and trust["serial"] == 2
    line.reset()
    assert state(line) == "confirmed"
    old_key = Terms(signer=lambda _: Credentials(first))
    with pytest.raises(Refused) as refused:
        deploy(line, info, small_node("green"), old_key)
    assert refused.value.remote_code == "update.unknown_key"
    assert deploy(line, info, small_node("green"), by(store)).signed_by == newest.id


def test_a_node_from_before_the_adoption_is_deployed_again(
    line: SerialTransport, store: KeyStore, node: Payload
) -> None:
    info = probe(line)
    deploy(line, info, node)
    done = adopt(line, info, store.open("mine", SECRET))
    assert (done.node, done.stranded) == ("n", True)
    assert not NodeConnection(line).greet(10)
    report = deploy(line, info, node, by(store))
    assert (report.slot, report.confirmed) == ("b", True)
    assert not any(path.startswith("/midge/b") for path in report.sent), "the board copies what it has"
    assert state(line) == "confirmed"


def test_hmac_keys_serve_as_well(line: SerialTransport, store: KeyStore, node: Payload) -> None:
    store.new("simple", "HS256", SECRET)
    info = probe(line)
    done = adopt(line, info, store.open("simple", SECRET), "n")
    assert done.alg == "HS256"
    assert deploy(line, info, node, by(store)).signed_by == done.key


def test_an_update_expires_before_it_is_taken_not_after(line: SerialTransport, store: KeyStore, node: Payload) -> None:
    info = probe(line)
    with pytest.raises(Refused) as refused:
        deploy(line, info, node, Terms(expires=1_700_000_000))
    assert refused.value.remote_code == "update.expired"
    report = deploy(line, info, node, Terms(expires=4_000_000_000))
    assert manifest_of(line, report.slot).expires == 4_000_000_000
    line.exec("import machine\nmachine.RTC().datetime((2100,1,1,0,0,0,0,0))")
    line.reset()
    assert state(line) == "confirmed"


def test_what_a_removal_keeps(line: SerialTransport, store: KeyStore, node: Payload) -> None:
    info = probe(line)
    with pytest.raises(NoNodeName, match="--node"):
        adopt(line, info, store.open("mine", SECRET))
    adopt(line, info, store.open("mine", SECRET), "n")
    report = deploy(line, info, node, by(store))
    assert remove(line).adopted
    assert set(Slots(line).files()) == {"/midge/trust.json", "/midge/floor"}
    with pytest.raises(Refused) as refused:
        deploy(line, info, node, by(store, version=report.version))
    assert refused.value.remote_code == "update.older"
    assert not remove(line, forget=True).adopted
    assert Slots(line).files() == {}
    assert deploy(line, info, node, Terms(version=1)).version == 1


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("MIDGE_KEY_PASSPHRASE", SECRET)
    (tmp_path / "node.toml").write_text(NODE)
    with VirtualBoard() as board:
        use_the_commands(["--port", board.path], tmp_path, capsys)


def use_the_commands(port: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adopt", *port, "--node", "n", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "keys.not_found"
    KeyStore().new("mine", "HS256", SECRET)
    assert run(["adopt", *port, "--node", "n", "--json"]) == 0
    adopted = json.loads(capsys.readouterr().out)
    assert run(["adopt", *port, "--node", "n", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "deploy.adopted"
    assert run(["deploy", str(folder), *port, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["signed_by"], report["confirmed"]) == (adopted["key"], True)
    assert run(["remove", *port]) == 0
    out, err = capsys.readouterr()
    assert "It stays adopted" in out
    assert SECRET not in out + err
