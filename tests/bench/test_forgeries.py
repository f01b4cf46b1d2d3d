"""Forged updates at a virtual board whose node runs: its boot code refuses each by its reason, and the node goes on."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from cuts import small_node
from forgeries import FOLDER, Case, World, forged
from slot_state import holds

from midgehost.deploy.adoption import adopt
from midgehost.deploy.base import make_base
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import BoardInfo, probe
from midgehost.deploy.protocol import Terms, deploy
from midgehost.deploy.signing import signer
from midgehost.deploy.slots import Refused, Slots
from midgehost.deploy.transport import SerialTransport
from midgehost.keys import KeyStore
from midgehost.virtual.board import VirtualBoard

SECRET = "correct horse"
LARGE = 6000  # bytes of a file that are sent by themselves
FULL = (("nested_deeply", "board.out_of_memory"),)  # 5,000 dicts do not fit: refused as well
# Lays a case's files below /forged, as if that were /midge, and lets the base's own verifier judge them.
_AGENT = """
import os,binascii
def _rm(p):
 for n in os.listdir(p):
  q=p+'/'+n
  if os.stat(q)[0]&0x4000:_rm(q)
  else:os.remove(q)
 os.rmdir(p)
def _mk(p):
 i=p.find('/',1)
 while i>0:
  try:os.mkdir(p[:i])
  except OSError as e:
   if e.errno!=17:raise
  i=p.find('/',i+1)
def _lay(files):
 for p in files:
  _mk(p)
  if files[p] is not None:
   with open(p,'wb') as f:f.write(binascii.a2b_base64(files[p]))
def _judge(call,trust,floor,facts,active):
 from midge import update
 from midge.errors import describe
 try:
  if call=='accept_keys':update.accept_keys('/forged/keys',trust)
  elif call=='read_trust':update.read_trust('/forged/trust.json')
  else:update.verify('/forged/b',trust,floor,facts,active)
  print('accepted')
 except Exception as e:
  print(describe(e)['code'])
  if isinstance(e,MemoryError):
   import sys;sys.print_exception(e)
"""


@pytest.fixture(scope="module")
def world() -> World:
    """Keys and forgeries."""
    return World()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyStore]:
    """The key that the board is adopted with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("midgehost.keys._SCRYPT", {"n": 2, "r": 8, "p": 1})
        store = KeyStore(tmp_path_factory.mktemp("keys") / "keys")
        store.new("mine", "RS256", SECRET)
        yield store


@pytest.fixture(scope="module")
def node() -> Payload:
    """What runs."""
    return small_node("red")


@pytest.fixture
def line(store: KeyStore, node: Payload) -> Iterator[SerialTransport]:
    """An adopted board with a confirmed node."""
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        info = probe(line)
        adopt(line, info, store.open("mine", SECRET), "n")
        assert deploy(line, info, node, by(store)).confirmed
        yield line


def by(store: KeyStore, **fields: int) -> Terms:
    return Terms(signer=signer(store, lambda: SECRET), **fields)


def judged(line: SerialTransport, case: Case) -> str:
    """What the board says of a case."""
    files = {f"/forged/{path}": data for path, data in case.all_files().items()}
    small = {path: data for path, data in files.items() if len(data) <= LARGE}
    texts = {
        f"{path}/" if data is FOLDER else path: None if data is FOLDER else base64.b64encode(data).decode()
        for path, data in small.items()
    }
    line.exec(f"_lay({ {'/forged/b/': None, **texts}!r})")
    for path in files.keys() - small.keys():
        line.put(path, files[path])
    active = "/forged/a" if case.has_active else None
    answer = line.exec(
        f"_judge({case.call!r},{case.trust!r},{case.floor},{dict(case.facts)!r},{active!r})\n_rm('/forged')"
    )
    return answer.strip()


def refused(line: SerialTransport, cases: Iterator[Case], info: BoardInfo) -> Counter[str]:
    """How often for which reason, while the node is held."""
    slots, found = Slots(line), Counter[str]()
    slots.hold()
    line.exec(_AGENT + make_base(info).enter())
    for case in cases:
        slots.keep_held()
        answer = judged(line, case)
        code = answer.splitlines()[0]
        assert code in case.codes or (case.kind, code) in FULL, (answer, case)
        found[code] += 1
    slots.release()
    return found


def undisturbed(line: SerialTransport, node: Payload, version: int) -> None:
    """The confirmed node runs on, and all that the board knows is what it was."""
    connection = NodeConnection(line)
    assert connection.greet(15), connection.last_words
    status = connection.command("status")
    assert status["update"]["state"] == "confirmed" and status["update"]["version"] == version
    assert status["colour"] == "red"
    assert holds(line, node, "a") and Slots(line).version_floor() == version


def test_forgeries_at_the_repl(line: SerialTransport, world: World, node: Payload) -> None:
    info, version = probe(line), Slots(line).version_floor()
    assert refused(line, forged(world, 11, 136), info).total() == 136
    undisturbed(line, node, version)


@pytest.mark.soak
def test_500_forgeries_at_the_repl(line: SerialTransport, world: World, node: Payload) -> None:
    info, version = probe(line), Slots(line).version_floor()
    found: Counter[str] = Counter()
    cases = list(forged(world, 12, 520))
    for start in range(0, len(cases), 52):
        found += refused(line, iter(cases[start : start + 52]), info)
        undisturbed(line, node, version)
    assert found.total() == 520
    print("\n| refused by a virtual board | of 520 |\n|---|---|")
    print("\n".join(f"| {code} | {number} |" for code, number in found.most_common()))


# --- through a whole deployment ---------------------------------------------------------------------------------------

Forgery = Callable[[bytes, bytes], bytes]  # from the manifest of the new node and that of the running one
FORGERIES: dict[str, tuple[Forgery, str]] = {
    "replayed": (lambda _, old: old, "update."),
    "unsigned": (lambda new, _: new.splitlines()[0] + b"\nnone\n", "update.unsigned"),
    "cut short": (lambda new, _: new[: len(new) // 2], "update.bad_manifest"),
    "one bit": (lambda new, _: new[:40] + bytes([new[40] ^ 1]) + new[41:], "update.bad_signature"),
    "old signature": (
        lambda new, old: new.splitlines()[0] + b"\n" + old.splitlines()[1] + b"\n",
        "update.bad_signature",
    ),
    "raised": (lambda new, _: new.replace(b'"version":', b'"version":9'), "update.bad_signature"),
    "empty": (lambda _, __: b"", "update.bad_manifest"),
    "of another": (lambda new, _: World().update(new.splitlines()[0]), "update.unknown_key"),
}


@pytest.mark.parametrize("kind", ["replayed", "one bit"])
def test_forgeries_through_a_deployment(
    line: SerialTransport, store: KeyStore, node: Payload, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    _deploy_forged(line, store, node, monkeypatch, [kind])


@pytest.mark.soak
def test_more_forgeries_through_a_deployment(
    line: SerialTransport, store: KeyStore, node: Payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    _deploy_forged(line, store, node, monkeypatch, list(FORGERIES) * 5)


def _forging(genuine: Callable[..., None], forge: Forgery, running: bytes) -> Callable[..., None]:
    """A host that writes a forged manifest."""
    return lambda slots, slot, data: genuine(slots, slot, forge(data, running))


def _deploy_forged(
    line: SerialTransport, store: KeyStore, node: Payload, monkeypatch: pytest.MonkeyPatch, kinds: list[str]
) -> None:
    info, version = probe(line), Slots(line).version_floor()
    running = line.get("/midge/a/manifest")
    genuine = Slots.write_manifest
    for kind in kinds:
        forge, code = FORGERIES[kind]
        with monkeypatch.context() as patch:
            patch.setattr(Slots, "write_manifest", _forging(genuine, forge, running))
            with pytest.raises(Refused) as refusal:
                deploy(line, info, small_node("green"), by(store))
        assert refusal.value.remote_code.startswith(code), kind
        undisturbed(line, node, version)
