"""Keys that sign updates: made, rotated, kept, refused; and no word of theirs in any output."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from midgehost import keys, twin
from midgehost.cli.app import run
from midgehost.errors import NotFound
from midgehost.keys import Alg, KeyInfo, KeyStore, SigningKey, canonical, signed

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "correct horse, b\xe4ttery"
ALGS: tuple[Alg, ...] = ("RS256", "HS256")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This person's keys, for one test; a cheaper scrypt."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MIDGE_KEY_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(keys, "_SCRYPT", {"n": 2**10, "r": 8, "p": 1})
    return tmp_path / "midge" / "keys"


def _all(store: KeyStore) -> list[KeyInfo]:
    return store.keys()


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ALGS)
def test_a_board_verifies_what_a_key_signs(folder: Path, alg: Alg) -> None:
    made = KeyStore().new("home", alg, PASSPHRASE)
    key = KeyStore().open("home", PASSPHRASE)
    trusted = key.trusted()
    crypto = twin.module("crypto")
    assert (made.id, made.alg, made.serial) == (key.id, alg, 0) == (trusted["id"], trusted["alg"], key.serial)
    assert crypto.is_key(trusted) and crypto.key_id(trusted) == key.id
    assert crypto.verifies(trusted, b"message", key.sign(b"message"))
    assert not crypto.verifies(trusted, b"massage", key.sign(b"message"))
    assert ("k" in trusted) == (alg == "HS256")


def test_real_scrypt_opens_and_refuses(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    made = store.new("home", "HS256", PASSPHRASE)
    assert store.open("home", PASSPHRASE).id == made.id
    with pytest.raises(keys.WrongPassphrase):
        store.open(made.id, PASSPHRASE + " ")
    assert keys._SCRYPT == {"n": 65536, "r": 8, "p": 2}


def test_a_passphrase_is_the_same_however_it_is_typed(folder: Path) -> None:
    KeyStore().new("home", "HS256", "b\xe4ttery")
    assert KeyStore().open("home", "ba\u0308ttery").name == "home"


def test_files_are_for_their_owner_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        KeyStore().new("home", "RS256", PASSPHRASE)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()] == [("home.0.json", 0o600)]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_reach_is_refused(folder: Path, mode: int) -> None:
    store = KeyStore()
    store.new("home", "HS256", PASSPHRASE)
    path = folder / "home.0.json"
    path.chmod(mode)
    with pytest.raises(keys.Exposed, match=rf"chmod 600 {path}"):
        store.open("home", PASSPHRASE)
    path.chmod(0o600)
    folder.chmod(0o700 | mode & 0o077)
    with pytest.raises(keys.Exposed, match=rf"chmod 700 {folder}"):
        store.keys()
    with pytest.raises(keys.Exposed):
        store.new("other", "HS256", PASSPHRASE)
    folder.chmod(0o700)
    assert store.open("home", PASSPHRASE).name == "home"


def test_a_key_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KeyStore().new("home", "HS256", PASSPHRASE)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(keys.Exposed):
        KeyStore().keys()


def test_names(folder: Path) -> None:
    store = KeyStore()
    for name in ("", "Home", "../x", "a.b", "-a", "a" * 33, "a/b"):
        with pytest.raises(NotFound, match="cannot be called"):
            store.new(name, "HS256", PASSPHRASE)
    store.new("home", "HS256", PASSPHRASE)
    with pytest.raises(keys.KeyExists):
        store.new("home", "RS256", PASSPHRASE)
    with pytest.raises(keys.NoKey, match="Known keys: home"):
        store.open("hime", PASSPHRASE)
    with pytest.raises(keys.NoPassphrase):
        store.new("other", "HS256", "")
    assert [key.name for key in _all(store)] == ["home"]


def test_damaged_files(folder: Path) -> None:
    store = KeyStore()
    store.new("home", "RS256", PASSPHRASE)
    path = folder / "home.0.json"
    whole = path.read_text()
    other = store.new("other", "RS256", PASSPHRASE)
    secret = store.new("secret", "HS256", PASSPHRASE)
    sealed = {name: json.loads((folder / f"{name}.0.json").read_text()) for name in ("other", "secret")}
    for text in ("", whole[:200], whole[:-30], "[]", "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(keys.DamagedKey, match="does not read"):
            store.open("home", PASSPHRASE)
    for changes, why in (
        ({"name": "hame"}, "its name"),
        ({"serial": 1}, "its name"),
        ({"alg": "none"}, "does not read"),
        ({"extra": 1}, "does not read"),
        ({"salt": "*"}, "base64"),
        ({"salt": sealed["other"]["salt"], "sealed": sealed["other"]["sealed"]}, "another key than it says"),
        ({"salt": sealed["secret"]["salt"], "sealed": sealed["secret"]["sealed"]}, "holds no RS256 key"),
    ):
        path.write_text(whole)
        _edit(path, **changes)
        with pytest.raises(keys.DamagedKey, match=why):
            store.open("home", PASSPHRASE)
    path.write_text(whole)
    _edit(path, sealed=json.loads(whole)["sealed"][:-8] + "AAAAAAA=")
    with pytest.raises(keys.WrongPassphrase):
        store.open("home", PASSPHRASE)
    assert store.open(other.id, PASSPHRASE).name == "other" and store.open(secret.id, PASSPHRASE).alg == "HS256"


def test_a_key_shows_and_gives_nothing(folder: Path) -> None:
    KeyStore().new("home", "HS256", PASSPHRASE)
    key = KeyStore().open("home", PASSPHRASE)
    assert repr(key) == str(key) == f"<HS256 key home {key.id}>"
    for copied in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            copied(key)


def test_nothing_is_left_when_writing_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            KeyStore().new("home", "HS256", PASSPHRASE)
    assert list(folder.iterdir()) == []


# --- rotation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algs", [("RS256", "RS256", "RS256"), ("HS256", "HS256", "RS256"), ("RS256", "HS256", "HS256")]
)
def test_a_board_two_rotations_behind_follows(folder: Path, tmp_path: Path, algs: tuple[Alg, Alg, Alg]) -> None:
    store, update = KeyStore(), twin.module("update")
    first = store.new("home", algs[0], PASSPHRASE)
    trust = {"node": "fan-3", "keys": [store.open("home", PASSPHRASE).trusted()], "serial": 0}
    second = store.rotate("home", PASSPHRASE, algs[1])
    third = store.rotate("home", PASSPHRASE, algs[2])
    assert (second.rotated_from, third.rotated_from, third.serial) == (first.id, second.id, 2)
    assert [key.rotated_to for key in _all(store)] == [second.id, third.id, None]
    assert store.open("home", PASSPHRASE).id == third.id and store.open(first.id, PASSPHRASE).id == first.id
    statements = store.statements(first.id, PASSPHRASE)
    assert len(statements) == 2 and store.statements(third.id, PASSPHRASE) == []
    path = tmp_path / "keys"
    path.write_bytes(statements[1])  # not before its turn
    with pytest.raises(Exception, match=r"update\.unknown_key"):
        update.accept_keys(str(path), trust)
    for statement in statements:
        path.write_bytes(statement)
        trust = update.accept_keys(str(path), trust)
    assert trust["serial"] == 2 and [key["id"] for key in trust["keys"]] == [third.id]
    with pytest.raises(Exception, match=r"update\.unknown_key"):  # the way back is closed
        update.accept_keys(str(path), trust)
    assert statements[1] != signed(statements[1].splitlines()[0], None)


def test_rotation_keeps_the_algorithm_and_needs_the_passphrase(folder: Path) -> None:
    store = KeyStore()
    store.new("home", "HS256", PASSPHRASE)
    with pytest.raises(keys.WrongPassphrase):
        store.rotate("home", "another one")
    assert store.rotate("home", PASSPHRASE).alg == "HS256"
    with pytest.raises(keys.KeyExists):  # its successor is there: two programs at once
        store.rotate(store.keys()[0].id, PASSPHRASE)
    assert [key.serial for key in _all(store)] == [0, 1]


def test_canonical_form() -> None:
    assert canonical({"b": [1, "x"], "a": {"d": 1, "c": 2}}) == b'{"a":{"c":2,"d":1},"b":[1,"x"]}'


# --- the command line -------------------------------------------------------------------------------------------------


def test_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "list"]) == 0 and "midge keys new NAME" in capsys.readouterr().out
    assert run(["keys", "new", "home", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first | {"made": 0, "id": ""} == {
        "name": "home", "id": "", "alg": "RS256", "made": 0, "serial": 0, "rotated_from": None, "rotated_to": None
    }  # fmt: skip
    assert run(["keys", "rotate", "home", "--alg", "HS256"]) == 0
    assert "HS256" in capsys.readouterr().out
    assert run(["keys", "list", "--json"]) == 0
    old, new = json.loads(capsys.readouterr().out)
    assert (old["rotated_to"], new["rotated_from"], new["alg"]) == (new["id"], old["id"], "HS256")
    assert run(["keys", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"followed by {new['id']}") and lines[1].endswith(f"follows {old['id']}")


def test_where_a_passphrase_comes_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    secret.write_text("from a file\r\nand more\n")
    assert run(["keys", "new", "a", "--alg", "HS256", "--passphrase-file", str(secret)]) == 0
    assert KeyStore().open("a", "from a file").name == "a"
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe\n")
    os.close(writer)
    assert run(["keys", "new", "b", "--alg", "HS256", "--passphrase-fd", str(reader)]) == 0
    assert KeyStore().open("b", "from a pipe").name == "b"
    secret.chmod(0o644)
    assert run(["keys", "rotate", "a", "--passphrase-file", str(secret)]) == 2
    secret.chmod(0o600)
    secret.write_text("\n")
    assert run(["keys", "rotate", "a", "--passphrase-file", str(secret)]) == 2
    monkeypatch.setenv("MIDGE_KEY_PASSPHRASE", "")
    assert run(["keys", "rotate", "a"]) == 2
    monkeypatch.delenv("MIDGE_KEY_PASSPHRASE")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run(["keys", "rotate", "a"]) == 2
    codes = re.findall(r"\[(keys\.\w+)\]", capsys.readouterr().err)
    assert codes == ["keys.exposed", "keys.no_passphrase", "keys.no_passphrase", "keys.no_passphrase"]


def test_a_passphrase_is_asked_for_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MIDGE_KEY_PASSPHRASE")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers = ["one", "two", "three", "three", "three", ""]
    monkeypatch.setattr("getpass.getpass", lambda _: answers.pop(0))
    assert run(["keys", "new", "home", "--alg", "HS256"]) == 2  # one, two
    assert run(["keys", "new", "home", "--alg", "HS256"]) == 0
    assert run(["keys", "rotate", "home"]) == 0
    assert run(["keys", "rotate", "home"]) == 2 and answers == []
    assert re.findall(r"\[(keys\.\w+)\]", capsys.readouterr().err) == ["keys.no_passphrase"] * 2


# --- secrets ----------------------------------------------------------------------------------------------------------


def _words(key: SigningKey) -> list[str]:
    """What must not be seen of a key, in the forms in which it could be."""
    raw = keys._private_bytes(key)
    found = [raw.hex(), base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")]
    if key.alg == "RS256":
        numbers = key._private.private_numbers()
        found += [str(number) for number in (numbers.p, numbers.q, numbers.d)]
        found += [f"{number:x}" for number in (numbers.p, numbers.q, numbers.d)]
    return [*found, repr(raw)[2:40]]


@pytest.mark.parametrize("alg", ALGS)
def test_no_secret_is_ever_shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], alg: Alg
) -> None:
    store, wrong = KeyStore(), "wrong staple"
    shown: list[str] = []

    def attempt(*arguments: str, code: int | None, crash: tuple[Any, str] | None = None) -> None:
        for options in ([], ["--json"]):
            with monkeypatch.context() as patch:
                if crash:
                    patch.setattr(*crash, _crash)
                try:
                    found = run(["keys", *arguments, *options])
                except RuntimeError:  # a bug of midge: the interpreter would print this
                    found = None
                    shown.append(traceback.format_exc())
            assert found == code, capfd.readouterr()

    def _crash(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    assert run(["keys", "new", "home", "--alg", alg]) == 0
    path = folder / "home.0.json"
    whole = path.read_text()
    attempt("new", "home", code=2)
    attempt("new", "Not A Name", code=2)
    attempt("rotate", "absent", code=2)
    attempt("rotate", "home", "--passphrase", PASSPHRASE, code=2)  # no such option: argv is for everyone to read
    attempt("list", code=0)
    monkeypatch.setenv("MIDGE_KEY_PASSPHRASE", wrong)
    attempt("rotate", "home", code=2)
    monkeypatch.setenv("MIDGE_KEY_PASSPHRASE", PASSPHRASE)
    for damaged in (whole[:-40], whole.replace('"sealed": "gAAAA', '"sealed": "gAAAB'), whole.replace("home", "hime")):
        path.write_text(damaged)
        attempt("rotate", "home", code=2)
    path.write_text(whole)
    path.chmod(0o644)
    attempt("list", code=2)
    attempt("rotate", "home", code=2)
    path.chmod(0o600)
    attempt("rotate", "home", code=None, crash=(keys, "_fernet"))
    attempt("rotate", "home", code=None, crash=(keys, "_make"))
    attempt("rotate", "home", code=None, crash=(keys, "_private_bytes"))
    attempt("rotate", "home", code=None, crash=(SigningKey, "sign"))
    attempt("rotate", "home", code=None, crash=(os, "fsync"))
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(blocked))
    attempt("new", "other", code=2)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert run(["keys", "rotate", "home"]) == 0
    assert run(["keys", "list", "--json"]) == 0
    out, err = capfd.readouterr()
    shown += [out, err, *(file.read_text() for file in folder.iterdir())]
    secrets = [PASSPHRASE, json.dumps(PASSPHRASE)[1:-1], wrong]
    secrets += [word for info in _all(store) for word in _words(store.open(info.id, PASSPHRASE))]
    text = "\n".join(shown)
    assert len(shown) > 10 and "a bug" in text and "keys.wrong_passphrase" in text and "keys.damaged" in text
    assert [word for word in secrets if word in text] == []


def test_no_private_key_is_in_the_repository() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: nothing to look through")
    pattern = "BEGIN [A-Z ]*PRIVATE" + " KEY"
    found = subprocess.run(["git", "grep", "-nE", pattern], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
