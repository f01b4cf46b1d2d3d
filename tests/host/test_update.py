"""The device's verifier on CPython: it takes what is genuine and refuses every forgery by its own reason; without any
one of its checks it takes a forgery.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from forgeries import FLOOR, KINDS, NODE, Case, Pair, World, every_variant, forged, lay, outcome
from mutants import mutants

from midgehost import twin

update = twin.module("update")
crypto = twin.module("crypto")


@pytest.fixture(scope="module")
def world() -> World:
    """Keys, made for this run: none lies in the repository."""
    return World()


@pytest.fixture(scope="module")
def laid(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Path]]:
    """Every genuine update and every variant of every forgery, each in a folder of its own."""
    root = tmp_path_factory.mktemp("corpus")
    cases = [*world.genuine(), *every_variant(world, seed=1)]
    return [(case, lay(case, root / str(number))) for number, case in enumerate(cases)]


def test_what_is_genuine_is_taken(world: World, tmp_path: Path) -> None:
    for case in world.genuine():
        assert outcome(update, case, lay(case, tmp_path / "midge")) == "accepted", case.text


def test_what_is_returned(world: World, tmp_path: Path) -> None:
    case = world.genuine()[0]
    root = lay(case, tmp_path / "midge")
    assert update.verify(f"{root}/b", case.trust, FLOOR, case.facts, f"{root}/a") == world.manifest()
    lay(world.statement(), root)
    assert update.accept_keys(f"{root}/keys", world.trust) == {
        "keys": [world.next_pair.trusted],
        "node": NODE,
        "serial": 4,
    }
    lay(next(case for case in world.genuine() if case.call == "read_trust"), root)
    assert update.read_trust(f"{root}/trust.json") == world.trust
    assert update.read_trust(f"{root}/absent.json") is None


def test_each_forgery_has_its_reason(laid: list[tuple[Case, Path]]) -> None:
    found = [(case.kind, case.codes, outcome(update, case, root)) for case, root in laid if case.codes]
    assert {kind for kind, _, _ in found} == set(KINDS) and len(found) > 350
    assert [line for line in found if line[2] not in line[1]] == []
    codes = {
        "bad_manifest", "unsigned", "unknown_key", "bad_signature", "bad_trust", "older", "expired", "no_clock",
        "wrong_node", "wrong_board", "wrong_arch", "wrong_firmware", "missing_file", "wrong_length", "wrong_hash",
        "extra_file", "bad_path",
    }  # fmt: skip
    assert {code for _, _, code in found} == {f"update.{code}" for code in codes}


def _refused(world: World, seed: int, count: int, root: Path) -> Counter[str]:
    refused: Counter[str] = Counter()
    for case in forged(world, seed, count):
        code = outcome(update, case, lay(case, root))
        assert code in case.codes, (case, code)
        refused[code] += 1
    return refused


def test_400_forgeries(world: World, tmp_path: Path) -> None:
    assert _refused(world, 5, 400, tmp_path / "midge").total() == 400


@pytest.mark.soak
def test_9500_forgeries(world: World, tmp_path: Path) -> None:
    refused = _refused(world, 6, 9500, tmp_path / "midge")
    assert refused.total() == 9500
    print("\n| refused by the device's verifier on CPython | of 9,500 |\n|---|---|")
    print("\n".join(f"| {code} | {number} |" for code, number in refused.most_common()))


def test_every_check_is_needed(laid: list[tuple[Case, Path]]) -> None:
    # A mutant is found when a case ends otherwise than it should; one that lacks a whole check must take a forgery.
    killers: Counter[int] = Counter()  # cases that told mutants apart come first: most of them find the next as well
    accepted, survivors, weak = 0, list[str](), list[str]()
    count = 0
    for mutant in mutants():
        count += 1
        verifier = mutant.load()
        found, takes = False, False
        for number in sorted(range(len(laid)), key=lambda number: -killers[number]):
            case, root = laid[number]
            code = outcome(verifier, case, root)
            if code in (case.codes or ("accepted",)):
                continue
            found, takes = True, takes or code == "accepted"
            if takes or not mutant.removes:
                killers[number] += 1
                break
        accepted += takes
        if not found:
            survivors.append(f"{mutant.where}: {mutant.change}")
        elif mutant.removes and not takes:
            weak.append(f"{mutant.where}: {mutant.change}")
    assert survivors == [] and weak == []
    assert count > 250 and accepted > 80


def test_no_raise_escapes_the_mutants() -> None:
    # Each refusal in the source is one of the checks that are removed.
    folder = Path(str(update.__file__)).parent
    raises = sum((folder / f"{name}.py").read_text().count("raise ") for name in ("crypto", "manifest", "update"))
    assert raises == sum(mutant.where.split(": ", 1)[1].startswith("raise") for mutant in mutants())


# --- crypto -----------------------------------------------------------------------------------------------------------


def test_hmac_agrees_with_hashlib() -> None:
    rng = random.Random(1)
    for size in (0, 1, 31, 32, 63, 64, 65, 131, 200):
        secret, message = rng.randbytes(size), rng.randbytes(rng.randrange(300))
        assert crypto.hmac_sha256(secret, message) == hmac.digest(secret, message, "sha256")


def test_rsa_agrees_with_cryptography(world: World) -> None:
    rng = random.Random(2)
    for pair in (world.pair, world.next_pair):
        modulus = bytes.fromhex(pair.trusted["n"])
        for _ in range(40):
            message = rng.randbytes(rng.randrange(500))
            signature = pair.sign(message)
            assert crypto.rsa_verifies(modulus, hashlib.sha256(message).digest(), signature)
            assert not crypto.rsa_verifies(modulus, hashlib.sha256(message + b"x").digest(), signature)


def test_other_sizes_of_keys_are_refused() -> None:
    digest = hashlib.sha256(b"x").digest()
    for bits in (1024, 2040, 2047, 2056, 3072):
        key = rsa.generate_private_key(65537, bits)
        size = (bits + 7) // 8
        block = (
            b"\0\1" + b"\xff" * (size - 54) + b"\0" + bytes.fromhex("3031300d060960864801650304020105000420") + digest
        )
        n = key.public_key().public_numbers().n
        signature = pow(int.from_bytes(block, "big"), key.private_numbers().d, n)
        for length in {size, 256}:
            if size <= length:
                assert not crypto.rsa_verifies(n.to_bytes(size, "big"), digest, signature.to_bytes(length, "big"))


def test_a_secret_is_not_in_its_id() -> None:
    key = {"alg": "HS256", "k": "00" * 32}
    assert crypto.key_id(key) == hmac.digest(bytes(32), b"midge key id", "sha256").hex()[:8]
    assert crypto.key_id(key) != hashlib.sha256(bytes(32)).hexdigest()[:8]
    pair = Pair()
    assert crypto.key_id(pair.trusted) == hashlib.sha256(bytes.fromhex(pair.trusted["n"])).hexdigest()[:8]
