"""The host's side of a manifest: a board takes what it makes, and it refuses what a board refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from forgeries import FLOOR, World, every_variant
from hypothesis import given
from hypothesis import strategies as st

from midgehost import twin
from midgehost.deploy.manifest import LIMIT, BadManifest, Manifest, Signature, make, next_version, parse
from midgehost.deploy.plan import Payload
from midgehost.keys import KeyStore, signed

PAYLOAD = Payload(
    node_json=b'{"name":"fan-3"}',
    lib={"midge/node.mpy": b"node" * 300, "midge/__init__.mpy": b"", "midge/kernels/machine/x.mpy": b"x"},
    models={"fan": b"MDGB" + bytes(1000)},
)
FACTS = {"arch": "armv6m", "firmware": (1, 26, 1), "boards": ("pico-w",), "node": None, "clock": 1000}


@pytest.fixture(scope="module")
def world() -> World:
    """Keys and forgeries."""
    return World()


def made(**changes: Any) -> Manifest:
    """The manifest of PAYLOAD."""
    return make(PAYLOAD, **({"name": "fan-3", "board": "pico-w", "arch": "armv6m", "version": 7} | changes))


def put(root: Path, slot: str, text: bytes) -> None:
    """PAYLOAD in a slot of the folder that stands for a board's /midge."""
    files = {path.removeprefix("/midge/"): data for path, data in PAYLOAD.files(slot).items()}
    for path, data in (files | {f"{slot}/manifest": text}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


@pytest.mark.parametrize("alg", ["RS256", "HS256", None])
def test_a_board_takes_what_the_host_makes(tmp_path: Path, alg: Any) -> None:
    key, trust = None, None
    if alg:
        store = KeyStore(tmp_path / "keys")
        store.new("home", alg, "passphrase")
        key = store.open("home", "passphrase")
        trust = {"node": "fan-3", "keys": [key.trusted()], "serial": 0}
    manifest = made(expires=1001)
    put(tmp_path / "midge", "b", signed(manifest.line(), key))
    found = twin.module("update").verify(f"{tmp_path}/midge/b", trust, 6, FACTS)
    assert found == json.loads(manifest.line()) and found["version"] == 7
    assert parse((tmp_path / "midge/b/manifest").read_bytes()) == (
        manifest,
        key and Signature(alg, key.id, key.sign(manifest.line())),
    )


def test_the_line_is_canonical() -> None:
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in PAYLOAD.files("b").items()}
    (model,) = (path for path in digests if path.startswith("/midge/models/"))
    assert made(arch=None).line().decode() == (
        '{"arch":"","board":"pico-w","files":{'
        f'"{model}":[1004,"{digests[model]}"],'
        '"lib/midge/__init__.mpy":[0,"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],'
        f'"lib/midge/kernels/machine/x.mpy":[1,"{digests["/midge/b/lib/midge/kernels/machine/x.mpy"]}"],'
        f'"lib/midge/node.mpy":[1200,"{digests["/midge/b/lib/midge/node.mpy"]}"],'
        f'"node.json":[16,"{digests["/midge/b/node.json"]}"]}},'
        '"firmware":["1.23","1.30"],"name":"fan-3","schema":1,"version":7}'
    )
    assert made().line() == made(expires=None).line() != made(expires=1).line()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 0}, "version 0 is out of range"),
        ({"version": 2**53}, "out of range"),
        ({"expires": 0}, "expires 0"),
        ({"expires": 2**53}, "out of range"),
        ({"firmware": ("1.023", "1.30")}, "'1.023' is no firmware"),
        ({"firmware": ("1.23", "")}, "'' is no firmware"),
        ({"name": 'a"b'}, "characters"),
        ({"name": "a\\b"}, "characters"),
        ({"board": "pic\xf6"}, "characters"),
        ({"name": "a\nb"}, "characters"),
        ({"name": "x" * LIMIT}, "a board reads 32,768"),
    ],
)
def test_what_no_board_takes_is_not_made(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadManifest, match=why):
        made(**changes)


@pytest.mark.parametrize("path", ["../x", "a/../b", "./a", "a/./b", "", "a//b", "/etc/x", "a/", "a b", "\xe9", "a\n"])
def test_odd_paths_are_not_made(path: str) -> None:
    with pytest.raises(BadManifest, match="no path"):
        Manifest(
            schema=1, name="n", board="b", arch="", version=1, firmware=("1.23", "1.30"), files={path: (0, "0" * 64)}
        ).line()


def test_what_a_board_finds_malformed_does_not_parse(world: World) -> None:
    # Except for what only the board knows: its keys, and which file or number is the right one.
    malformed = [
        case
        for case in every_variant(world, 1)
        if case.call == "verify" and case.codes == ("update.bad_manifest",) and case.text is not None
    ]
    malformed += [case for case in every_variant(world, 1) if case.codes == ("update.bad_path",)]
    assert len(malformed) > 120
    taken = [case.kind for case in malformed if _parses(case.text or b"")]
    assert taken == []
    for case in world.genuine():
        assert case.call != "verify" or case.text is None or _parses(case.text), case.text


def _parses(text: bytes) -> bool:
    try:
        parse(text)
    except BadManifest:
        return False
    return True


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 255))
def test_anything_is_parsed_or_refused(noise: bytes, at: int, byte: int) -> None:
    _parses(noise)
    text = bytearray(signed(made().line(), None))
    text[at % len(text)] = byte
    if _parses(bytes(text)):
        found, _ = parse(bytes(text))
        assert signed(found.line(), None) == bytes(text)


def test_versions_rise() -> None:
    assert next_version(0, 1_800_000_000.9) == 1_800_000_000
    assert next_version(1_800_000_000, 1_800_000_000.0) == 1_800_000_001
    assert next_version(2_000_000_000, 1_800_000_000.0) == 2_000_000_001  # a host whose clock was ahead
    assert next_version(FLOOR, 5.0) == FLOOR + 1
