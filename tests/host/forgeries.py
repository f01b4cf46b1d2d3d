"""Updates that no board may take: forged, damaged, replayed, downgraded, expired, made for another board or node.

Each kind is a function of a random generator; what it makes differs from a genuine update by just that one fault, so a
verifier that lacks the check for it takes it. Used on CPython, on virtual boards, and against mutated verifiers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

FOLDER = b"<an empty folder>"
FLOOR = 100
NODE, OTHER_NODE = "fan-3", "fan-4"
FACTS = {"arch": "armv6m", "firmware": (1, 26, 1), "boards": ("pico-w",), "node": None, "clock": 1_800_000_000}
MODEL = "/midge/models/fan-0123456789ab.midge"
FILES = {  # below /midge
    "b/node.json": b'{"name":"fan-3"}',
    "b/lib/midge/__init__.mpy": b"",
    "b/lib/midge/node.mpy": bytes(range(256)) * 3,
    "models/fan-0123456789ab.midge": b"MDGB" + bytes(700),
}
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


@dataclass(frozen=True)
class Case:
    """One update. `codes`: how it must be refused; empty: it is genuine. `files` are below /midge."""

    kind: str
    codes: tuple[str, ...]
    text: bytes | None  # the manifest, the statement of keys or the trust file; None: there is none
    files: Mapping[str, bytes] = field(default_factory=lambda: FILES)
    trust: dict[str, Any] | None = None
    floor: int = FLOOR
    facts: Mapping[str, Any] = field(default_factory=lambda: FACTS)
    call: str = "verify"  # or accept_keys, read_trust
    has_active: bool = True  # whether /midge/active names a slot
    active: bytes | None = None  # its manifest; None: it is not there

    def all_files(self) -> dict[str, bytes]:
        """Everything below /midge that belongs to it."""
        place = {"verify": "b/manifest", "accept_keys": "keys", "read_trust": "trust.json"}[self.call]
        files = {"a/manifest": self.active, **self.files, place: self.text}
        return {path: data for path, data in files.items() if data is not None}


class Pair:
    """An RSA key, and what only forgers do with one."""

    def __init__(self, bits: int = 2048) -> None:
        self.key = rsa.generate_private_key(65537, bits)
        self.n = self.key.public_key().public_numbers().n
        modulus = self.n.to_bytes(256, "big")
        self.id = hashlib.sha256(modulus).hexdigest()[:8]
        self.trusted = {"alg": "RS256", "id": self.id, "n": modulus.hex()}

    def sign(self, line: bytes) -> bytes:
        """A correct signature."""
        return self.key.sign(line, padding.PKCS1v15(), hashes.SHA256())

    def sign_block(self, block: bytes) -> bytes:
        """The number whose 65537th power is this block."""
        return pow(int.from_bytes(block, "big"), self.key.private_numbers().d, self.n).to_bytes(256, "big")

    def mark(self, signature: bytes) -> bytes:
        """Line 2."""
        return b"RS256 %s %s" % (self.id.encode(), base64.b64encode(signature))


class Secret:
    """An HMAC key."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.id = hmac.digest(secret, b"midge key id", "sha256").hex()[:8]
        self.trusted = {"alg": "HS256", "id": self.id, "k": secret.hex()}

    def sign(self, line: bytes) -> bytes:
        """A correct signature."""
        return hmac.digest(self.secret, line, "sha256")

    def mark(self, signature: bytes) -> bytes:
        """Line 2."""
        return b"HS256 %s %s" % (self.id.encode(), base64.b64encode(signature))


Signer = Pair | Secret
_CASES: dict[str, Callable[[World, random.Random], Case]] = {}


def _kind(*codes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a maker of forgeries that are refused with one of these codes (without `update.`)."""

    def register(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(world: World, rng: random.Random) -> Case:
            return replace(make(world, rng), kind=name, codes=tuple(f"update.{code}" for code in codes))

        name = make.__name__
        assert name not in _CASES
        _CASES[name] = made
        return make

    return register


def dumps(value: Any) -> bytes:
    """Canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class World:
    """Keys and a genuine update, for forgeries to start from."""

    def __init__(self) -> None:
        self.pair, self.next_pair, self.stranger, self.weak = Pair(), Pair(), Pair(), Pair(2046)
        self.secret = Secret(b"s" * 32)
        self.trust = {"node": NODE, "keys": [self.pair.trusted, self.secret.trusted], "serial": 3}
        self.active = self.update(version=FLOOR)

    def manifest(self, **changes: Any) -> dict[str, Any]:
        """A genuine manifest, with these changes."""
        paths = {path.removeprefix("b/"): data for path, data in FILES.items() if path.startswith("b/")}
        paths |= {"/midge/" + path: data for path, data in FILES.items() if path.startswith("models/")}
        made = {
            "arch": "armv6m",
            "board": "pico-w",
            "files": {path: [len(data), hashlib.sha256(data).hexdigest()] for path, data in paths.items()},
            "firmware": ["1.23", "1.30"],
            "name": NODE,
            "schema": 1,
            "version": FLOOR + 1,
        }
        return made | changes

    def update(self, line: bytes | None = None, signer: Signer | None = None, **changes: Any) -> bytes:
        """Both lines, correctly signed."""
        line = line if line is not None else dumps(self.manifest(**changes))
        signer = signer or self.pair
        return line + b"\n" + signer.mark(signer.sign(line)) + b"\n"

    def case(self, text: bytes | None, **fields: Any) -> Case:
        """What a forger of that text sends to this world's board."""
        fields = {"trust": self.trust, "active": self.active} | fields
        return Case(kind="genuine", codes=(), text=text, **fields)

    def genuine(self) -> list[Case]:
        """Updates that must be taken."""
        far = FACTS["clock"] + 1
        made = self.manifest()
        long = Secret(bytes(range(100)))
        made["files"]["lib/a-b.c_d/e.mpy"] = [0, hashlib.sha256(b"").hexdigest()]
        return [
            self.case(self.update()),
            self.case(self.update(signer=self.secret)),
            self.case(self.update(signer=long), trust=self.trust | {"keys": [long.trusted]}),
            self.case(self.update(files={}), files={}),
            self.case(self.update(expires=far)),
            self.case(self.update(expires=2**53 - 1)),
            self.case(self.update(version=2**53 - 1)),
            self.case(self.update(firmware=["1.26.1", "1.26.2"])),
            self.case(self.update(version=FLOOR), floor=FLOOR),  # the running slot's own
            self.case(self.update(version=FLOOR), floor=FLOOR + 9),
            self.case(self.update(), active=None),
            self.case(self.update(), active=None, has_active=False),
            self.case(self.update(dumps(made)), files=FILES | {"b/lib/a-b.c_d/e.mpy": b""}),
            self.case(self.update(), files=FILES | {"b/lib/midge/node.mpy.try": b"", "b/lib/midge/node.mpy.ok": b"1"}),
            self.case(dumps(self.manifest(name="any")) + b"\nnone\n", trust=None),
            self.case(dumps(self.manifest()) + b"\nnone\n", trust=None, facts=FACTS | {"boards": None, "node": NODE}),
            self.statement(),
            self.statement(keys=[self.secret.trusted, self.next_pair.trusted], node=NODE, serial=2**53 - 1),
            self.case(dumps(self.trust), call="read_trust"),
            self.case(None, call="read_trust"),
        ]

    def statement(self, line: bytes | None = None, signer: Signer | None = None, **changes: Any) -> Case:
        """A statement of keys, correctly signed."""
        made = {"keys": [self.next_pair.trusted], "node": "*", "schema": 1, "serial": 4, "type": "keys"} | changes
        return self.case(self.update(line or dumps(made), signer), call="accept_keys")

    def with_file(self, path: str, data: bytes, entry: str | None = None, text: bytes | None = None) -> Case:
        """An update with one more file at `path` below /midge, and in the manifest as `entry`."""
        made = self.manifest()
        if entry is not None:
            made["files"][entry] = [len(data), hashlib.sha256(data).hexdigest()]
        return self.case(text or self.update(dumps(made)), files=FILES | {path: data})

    def edited(self, old: bytes, new: bytes, **changes: Any) -> Case:
        """A signed manifest whose text was edited before it was signed."""
        line = dumps(self.manifest(**changes))
        assert old in line
        return self.case(self.update(line.replace(old, new, 1)))

    def block(self, line: bytes, block: bytes) -> Case:
        """A signature whose 65537th power is that block."""
        assert len(block) == 256
        return self.case(line + b"\n" + self.pair.mark(self.pair.sign_block(block)) + b"\n")


KINDS = _CASES


class _Turns(random.Random):
    """Its first choice goes through the options one after the other, so that no variant of a kind is left to luck."""

    def __init__(self, seed: int, turn: int) -> None:
        super().__init__(seed)
        self.turn, self.variants = turn, 0

    def choice(self, options: Any) -> Any:
        """The option whose turn it is; later ones at random."""
        if self.variants:
            return super().choice(options)
        self.variants = len(options)
        return options[self.turn % len(options)]


def forged(world: World, seed: int, count: int) -> Iterator[Case]:
    """That many, every kind in turn."""
    names = sorted(_CASES)
    for number in range(count):
        yield _CASES[names[number % len(names)]](world, _Turns(seed * 1_000_003 + number, number // len(names)))


def every_variant(world: World, seed: int) -> Iterator[Case]:
    """Every kind with each option of its first choice."""
    for make in _CASES.values():
        variants, turn = 1, 0
        while turn < variants:
            rng = _Turns(seed + turn, turn)
            yield make(world, rng)
            variants, turn = rng.variants, turn + 1


def lay(case: Case, root: Path) -> Path:
    """Puts a case's files below `root`, a board's /midge."""
    shutil.rmtree(root, ignore_errors=True)
    for path, data in case.all_files().items():
        place = root / path
        if data is FOLDER:
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return root


def outcome(update: ModuleType, case: Case, root: Path) -> str:
    """`accepted`, the code of the refusal, or the name of an exception that is none."""
    try:
        if case.call == "accept_keys":
            update.accept_keys(f"{root}/keys", case.trust)
        elif case.call == "read_trust":
            update.read_trust(f"{root}/trust.json")
        else:
            active = f"{root}/a" if case.has_active else None
            update.verify(f"{root}/b", case.trust, case.floor, case.facts, active)
    except Exception as error:
        return getattr(error, "code", type(error).__name__)
    return "accepted"


# --- not the two lines that it should be ------------------------------------------------------------------------------


@_kind("bad_manifest")
def no_manifest(world: World, rng: random.Random) -> Case:
    return world.case(rng.choice([None, b""]))


@_kind("bad_manifest")
def too_long(world: World, rng: random.Random) -> Case:
    text = world.update(name="x" * rng.randint(32768, 40000))
    return world.case(text, trust=None)


@_kind("bad_manifest")
def third_line(world: World, rng: random.Random) -> Case:
    return world.case(world.update() + rng.choice([b"x", b"\n", b"\nx", world.update()]))


@_kind("bad_manifest")
def no_last_newline(world: World, rng: random.Random) -> Case:
    return world.case(world.update()[:-1])


@_kind("bad_manifest")
def one_line(world: World, rng: random.Random) -> Case:
    return world.case(dumps(world.manifest()) + rng.choice([b"", b"\n"]), trust=rng.choice([None, world.trust]))


@_kind("bad_manifest")
def cut_short(world: World, rng: random.Random) -> Case:
    text = world.update()
    return world.case(text[: rng.randrange(1, text.index(b"\n") + 1)])


@_kind("bad_manifest", "bad_signature")
def cut_in_the_signature(world: World, rng: random.Random) -> Case:
    text = world.update()
    return world.case(text[: rng.randrange(text.index(b"\n") + 30, len(text) - 1)] + rng.choice([b"", b"\n"]))


@_kind("bad_manifest", "bad_signature", "unknown_key")
def flipped_bit(world: World, rng: random.Random) -> Case:
    text = bytearray(world.update())
    text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    return world.case(bytes(text))


@_kind("bad_manifest", "bad_signature", "unknown_key", "unsigned")
def noise(world: World, rng: random.Random) -> Case:
    return world.case(rng.randbytes(rng.randint(1, 2000)) + rng.choice([b"", b"\nnone\n"]))


# --- JSON, signed, but not in its one form ----------------------------------------------------------------------------


@_kind("bad_manifest")
def spaces(world: World, rng: random.Random) -> Case:
    old = rng.choice([b"{", b":", b","])
    return world.edited(old, old + rng.choice([b" ", b"\t", b"\r"]))


@_kind("bad_manifest")
def space_at_the_end(world: World, rng: random.Random) -> Case:
    return world.case(world.update(dumps(world.manifest()) + rng.choice([b" ", b"\r"])))


@_kind("bad_manifest")
def duplicate_key(world: World, rng: random.Random) -> Case:
    key = rng.choice([b'"version":', b'"name":', b'"board":'])
    line = dumps(world.manifest())
    start = line.index(key)
    end = min(i for i in (line.find(b",", start), line.find(b"}", start)) if i > 0)
    return world.case(world.update(line[:start] + line[start:end] + b"," + line[start:]))


@_kind("bad_manifest")
def duplicate_file(world: World, rng: random.Random) -> Case:
    return world.edited(b'"node.json":', b'"node.json":[1,"00"],"node.json":')


@_kind("bad_manifest")
def unsorted_keys(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    names = list(made)
    while names == sorted(names):
        rng.shuffle(names)
    line = json.dumps({name: made[name] for name in names}, separators=(",", ":")).encode()
    return world.case(world.update(line))


@_kind("bad_manifest")
def escaped_letter(world: World, rng: random.Random) -> Case:
    return world.edited(b'"fan-3"', b'"\\u0066an-3"')


@_kind("bad_manifest")
def fraction(world: World, rng: random.Random) -> Case:
    number = rng.choice([b"101.0", b"1.01e2", b"101.5", b"1e99", b""])
    if not number:
        return world.edited(b'"node.json":[16,', b'"node.json":[16.0,')
    return world.edited(b'"version":101', b'"version":' + number)


@_kind("bad_manifest")
def truth_for_one(world: World, rng: random.Random) -> Case:
    return world.edited(b'"schema":1', b'"schema":true')


@_kind("bad_manifest")
def no_json(world: World, rng: random.Random) -> Case:
    line = dumps(world.manifest())
    damaged = [line[:-1], line + b"}", line.replace(b'"', b"'"), b"", b"{", b"\xff\xfe", b'{"a":}', b"{1:2}", b"{[]:1}"]
    return world.case(world.update(rng.choice(damaged)))


@_kind("bad_manifest")
def other_json(world: World, rng: random.Random) -> Case:
    keys = sorted(world.manifest())
    return world.case(world.update(rng.choice([dumps(keys), b"[]", b"1", b'"x"', b"null", b"{}"])))


@_kind("bad_manifest")
def nested_deeply(world: World, rng: random.Random) -> Case:
    depth = rng.randint(2000, 5000)
    return world.case(world.update(b'{"a":' * depth + b"1" + b"}" * depth))


# --- canonical, but no manifest ---------------------------------------------------------------------------------------


@_kind("bad_manifest")
def key_too_many(world: World, rng: random.Random) -> Case:
    return world.case(world.update(**{rng.choice(["a", "type", "zz", "Expires"]): rng.choice([1, "x", []])}))


@_kind("bad_manifest")
def key_missing(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    del made[rng.choice(sorted(made))]
    return world.case(world.update(dumps(made)))


@_kind("bad_manifest")
def other_schema(world: World, rng: random.Random) -> Case:
    return world.case(world.update(schema=rng.choice([0, 2, 10, "1"])))


@_kind("bad_manifest")
def huge_version(world: World, rng: random.Random) -> Case:
    return world.case(world.update(version=2 ** rng.randint(53, 200)))


@_kind("bad_manifest")
def low_version(world: World, rng: random.Random) -> Case:
    return world.case(world.update(version=-rng.randint(0, 5)), floor=-10)


@_kind("bad_manifest")
def no_number_as_version(world: World, rng: random.Random) -> Case:
    return world.case(world.update(version=rng.choice(["101", [101], {}, "new"])))


@_kind("bad_manifest")
def huge_expiry(world: World, rng: random.Random) -> Case:
    return world.case(world.update(expires=2 ** rng.randint(53, 200)))


@_kind("bad_manifest")
def no_number_as_expiry(world: World, rng: random.Random) -> Case:
    return world.case(world.update(expires=rng.choice(["never", [1], 0, -1])))


@_kind("bad_manifest")
def no_text_as_name(world: World, rng: random.Random) -> Case:
    return world.case(world.update(name=rng.choice([7, ["fan-3"], {}])), trust=None)


@_kind("bad_manifest")
def no_table_of_files(world: World, rng: random.Random) -> Case:
    made: Any = rng.choice([[], "", 1])
    return world.case(world.update(files=made), files={})


@_kind("bad_manifest")
def third_value_of_a_file(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    made["files"][rng.choice(sorted(made["files"]))].append(rng.choice([0, "x"]))
    return world.case(world.update(dumps(made)))


@_kind("bad_manifest")
def no_pair_for_a_file(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    made["files"]["node.json"] = rng.choice([1, "ab", [], [16], {"a": 1, "b": 2}])
    return world.case(world.update(dumps(made)))


@_kind("bad_manifest")
def third_firmware(world: World, rng: random.Random) -> Case:
    return world.case(world.update(firmware=["1.23", "1.30", rng.choice(["1.31", ""])]))


@_kind("bad_manifest")
def no_range_of_firmware(world: World, rng: random.Random) -> Case:
    return world.case(world.update(firmware=rng.choice([["1.23"], [], "19", {"1": 1, "2": 2}, 1])))


@_kind("bad_manifest")
def unreadable_firmware(world: World, rng: random.Random) -> Case:
    bad = rng.choice(["1.023", "1. 23", "1.+23", "1_0.1", "", "1.x", "1..2", 1, ["1"], "v1.23"])
    return world.case(world.update(firmware=[bad, "99"]))


# --- signatures -------------------------------------------------------------------------------------------------------


@_kind("unsigned")
def unsigned(world: World, rng: random.Random) -> Case:
    return world.case(dumps(world.manifest()) + b"\nnone\n")


@_kind("bad_manifest")
def no_three_words(world: World, rng: random.Random) -> Case:
    line, mark = world.update().splitlines()
    alg, key, text = mark.split(b" ")
    marks = [b"", b"RS256", alg + b" " + key, mark + b" x", mark + b" ", b" " + mark, alg + b"  " + key + b" " + text]
    return world.case(line + b"\n" + rng.choice(marks) + b"\n")


@_kind("unknown_key")
def stranger(world: World, rng: random.Random) -> Case:
    return world.case(world.update(signer=world.stranger))


@_kind("unknown_key")
def algorithm_confused(world: World, rng: random.Random) -> Case:
    # HMAC with the public key as its secret: the forgery that JSON web tokens made famous.
    line = dumps(world.manifest())
    confused = Secret(bytes.fromhex(world.pair.trusted["n"]))
    confused.id = world.pair.id
    return world.case(line + b"\n" + confused.mark(confused.sign(line)) + b"\n")


@_kind("unknown_key")
def other_algorithm(world: World, rng: random.Random) -> Case:
    name = rng.choice([b"none", b"None", b"RS512", b"ES256", b"rs256", b""])
    return world.case(world.update().replace(b"RS256", name))


@_kind("bad_signature")
def stranger_under_our_id(world: World, rng: random.Random) -> Case:
    line = dumps(world.manifest())
    return world.case(line + b"\n" + world.pair.mark(world.stranger.sign(line)) + b"\n")


@_kind("bad_signature")
def changed_after_signing(world: World, rng: random.Random) -> Case:
    changes = [
        (b'"version":101', b'"version":%d' % rng.randint(102, 999)),
        (b"1.30", b"1.31"),
        (b"armv6m", b"armv7m"),
        (b"fan-3", b"fan-4"),
    ]
    old, new = rng.choice(changes)
    signer = rng.choice([world.pair, world.secret])
    return world.case(world.update(signer=signer).replace(old, new, 1))


@_kind("bad_signature")
def signature_of_another(world: World, rng: random.Random) -> Case:
    signer: Signer = rng.choice([world.pair, world.secret])
    other = world.update(signer=signer, version=rng.randint(102, 10**9)).splitlines()[1]
    return world.case(dumps(world.manifest()) + b"\n" + other + b"\n")


@_kind("bad_signature")
def signature_flipped(world: World, rng: random.Random) -> Case:
    signer: Signer = rng.choice([world.pair, world.secret])
    line = dumps(world.manifest())
    signature = bytearray(signer.sign(line))
    signature[rng.randrange(len(signature))] ^= 1 << rng.randrange(8)
    return world.case(line + b"\n" + signer.mark(bytes(signature)) + b"\n")


@_kind("bad_signature")
def signature_longer(world: World, rng: random.Random) -> Case:
    signer: Signer = rng.choice([world.pair, world.secret])
    line = dumps(world.manifest())
    signature = signer.sign(line)
    longer = bytes(rng.randint(1, 3)) + signature if isinstance(signer, Pair) else signature + b"\0"
    return world.case(line + b"\n" + signer.mark(longer) + b"\n")


@_kind("bad_signature")
def signature_shorter(world: World, rng: random.Random) -> Case:
    signer: Signer = rng.choice([world.pair, world.secret])
    line = dumps(world.manifest())
    signature = signer.sign(line)
    return world.case(line + b"\n" + signer.mark(signature[: rng.randrange(len(signature))]) + b"\n")


@_kind("bad_signature")
def hmac_of_nothing(world: World, rng: random.Random) -> Case:
    return world.case(dumps(world.manifest()) + b"\n" + world.secret.mark(b"") + b"\n")


@_kind("bad_signature")
def signature_plus_modulus(world: World, rng: random.Random) -> Case:
    # The same number modulo n. It has to fit in 256 bytes, so the manifest is varied until it does.
    version = FLOOR + 1 + rng.randrange(10**9)
    while True:
        line = dumps(world.manifest(version=version))
        number = int.from_bytes(world.pair.sign(line), "big") + world.pair.n
        if number < 2**2048:
            return world.case(line + b"\n" + world.pair.mark(number.to_bytes(256, "big")) + b"\n")
        version += 1


@_kind("bad_signature")
def special_number(world: World, rng: random.Random) -> Case:
    number = rng.choice([0, 1, 2, world.pair.n - 1, world.pair.n, 2**2048 - 1])
    line = dumps(world.manifest())
    return world.case(line + b"\n" + world.pair.mark(number.to_bytes(256, "big")) + b"\n")


@_kind("bad_signature")
def cube_root(world: World, rng: random.Random) -> Case:
    # Bleichenbacher, 2006: with e = 3 the root of a block with a short padding passes where garbage may follow.
    line = dumps(world.manifest())
    block = b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_INFO + hashlib.sha256(line).digest()
    target = int.from_bytes(block.ljust(256, b"\xff"), "big")
    low, high = 0, 1 << 700
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= target else (low, middle - 1)
    assert (low**3).to_bytes(256, "big").startswith(block)
    return world.case(line + b"\n" + world.pair.mark(low.to_bytes(256, "big")) + b"\n")


@_kind("bad_signature")
def garbage_after_the_hash(world: World, rng: random.Random) -> Case:
    line = dumps(world.manifest())
    short = rng.randint(8, 190)
    block = b"\0\1" + b"\xff" * short + b"\0" + SHA256_INFO + hashlib.sha256(line).digest()
    return world.block(line, block + rng.randbytes(256 - len(block)))


@_kind("bad_signature")
def padding_broken(world: World, rng: random.Random) -> Case:
    line = dumps(world.manifest())
    block = bytearray(b"\0\1" + b"\xff" * 202 + b"\0" + SHA256_INFO + hashlib.sha256(line).digest())
    at = rng.choice([1, rng.randrange(2, 204), 204])
    block[at] = rng.choice([byte for byte in range(3) if byte != block[at]])
    return world.block(line, bytes(block))


@_kind("bad_signature")
def other_asn1(world: World, rng: random.Random) -> Case:
    line = dumps(world.manifest())
    sha256 = hashlib.sha256(line).digest()
    infos = [
        bytes.fromhex("302f300b0609608648016503040201 0420") + sha256,  # no NULL
        bytes.fromhex("30320d060960864801650304020105000420") + sha256,
        bytes.fromhex("3021300906052b0e03021a05000414") + hashlib.sha1(line).digest(),
        bytes.fromhex("3051300d060960864801650304020305000440") + hashlib.sha512(line).digest(),
        bytes.fromhex("3041300d060960864801650304020205000430") + hashlib.sha384(line).digest(),
        bytes.fromhex("302d300d06096086480165030402040500041c") + hashlib.sha224(line).digest(),
        bytes.fromhex("3051300d060960864801650304020305000440") + sha256 + sha256,
        bytes.fromhex("308131300d060960864801650304020105000420") + sha256,  # a long form of a length
        SHA256_INFO[:-1] + b"\x21" + sha256,
        sha256,
    ]
    info = rng.choice(infos)
    return world.block(line, b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info)


@_kind("bad_signature")
def other_padding(world: World, rng: random.Random) -> Case:
    line = dumps(world.manifest())
    kinds = [padding.PSS(padding.MGF1(hashes.SHA256()), 32), padding.PKCS1v15()]
    number = rng.randrange(2)
    used = hashes.SHA256() if number == 0 else rng.choice([hashes.SHA512(), hashes.SHA384()])
    return world.case(line + b"\n" + world.pair.mark(world.pair.key.sign(line, kinds[number], used)) + b"\n")


@_kind("bad_signature")
def modulus_too_short(world: World, rng: random.Random) -> Case:
    trust = world.trust | {"keys": [world.weak.trusted]}
    return world.case(world.update(signer=world.weak), trust=trust)


@_kind("bad_signature")
def key_of_no_algorithm(world: World, rng: random.Random) -> Case:
    trust = world.trust | {"keys": [world.pair.trusted | {"alg": "none"}]}
    return world.case(world.update().replace(b"RS256", b"none"), trust=trust)


@_kind("bad_signature")
def base64_of_another_form(world: World, rng: random.Random) -> Case:
    line, mark = world.update().splitlines()
    alg, key, text = mark.split(b" ")
    assert text.endswith(b"==")
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    unused_bits = text[:-3] + bytes([last[last.index(text[-3]) | rng.randint(1, 15)]]) + b"=="
    forms = [text[:5] + b"*" + text[5:], text[:9] + b"\r" + text[9:], unused_bits, text + b"=", text + b"AAAA"]
    return world.case(line + b"\n" + b" ".join([alg, key, rng.choice(forms)]) + b"\n")


@_kind("bad_signature")
def no_base64(world: World, rng: random.Random) -> Case:
    line, mark = world.update().splitlines()
    return world.case(line + b"\n" + mark[: rng.choice([-1, -2, -3, -340])] + rng.choice([b"", b"\xff"]) + b"\n")


# --- genuine, but not for this board now ------------------------------------------------------------------------------


@_kind("older")
def replayed(world: World, rng: random.Random) -> Case:
    return world.case(world.update(version=rng.randint(1, FLOOR - 1)))


@_kind("older")
def same_version(world: World, rng: random.Random) -> Case:
    return world.case(world.update(version=FLOOR, firmware=["1.23", f"1.{rng.randint(31, 99)}"]))


@_kind("older")
def replayed_after_the_slot_is_gone(world: World, rng: random.Random) -> Case:
    return world.case(world.update(version=FLOOR), active=None, has_active=rng.choice([True, False]))


@_kind("older")
def downgraded(world: World, rng: random.Random) -> Case:
    floor = rng.randint(FLOOR + 1, 10**9)
    return world.case(world.update(version=floor - rng.randint(0, floor - FLOOR - 1)), floor=floor)


@_kind("expired")
def expired(world: World, rng: random.Random) -> Case:
    return world.case(world.update(expires=FACTS["clock"] - rng.choice([0, 1, rng.randrange(10**9)])))


@_kind("no_clock")
def no_clock(world: World, rng: random.Random) -> Case:
    return world.case(world.update(expires=FACTS["clock"] + rng.randrange(10**9)), facts=FACTS | {"clock": None})


@_kind("wrong_node")
def other_node(world: World, rng: random.Random) -> Case:
    text = world.update(name=rng.choice([OTHER_NODE, "fan-33", "fan-", "", "*", "FAN-3"]))
    return world.case(text, **rng.choice([{}, {"trust": None, "facts": FACTS | {"node": NODE}}]))


@_kind("wrong_board")
def other_board(world: World, rng: random.Random) -> Case:
    return world.case(world.update(board=rng.choice(["pico", "esp32", "", "*", ["pico-w"], 1])))


@_kind("wrong_arch")
def other_arch(world: World, rng: random.Random) -> Case:
    return world.case(world.update(arch=rng.choice(["armv7m", "xtensawin", "", "x64", 4])))


@_kind("wrong_firmware")
def older_firmware(world: World, rng: random.Random) -> Case:
    firmware = rng.choice([(1, 22, 2), (1, 9, 0), (0, 99, 9)])
    return world.case(world.update(), facts=FACTS | {"firmware": firmware})


@_kind("wrong_firmware")
def newer_firmware(world: World, rng: random.Random) -> Case:
    firmware = rng.choice([(1, 30, 0), (1, 100, 0), (2, 0, 0)])
    return world.case(world.update(), facts=FACTS | {"firmware": firmware})


# --- files ------------------------------------------------------------------------------------------------------------


def _some_file(rng: random.Random) -> str:
    return rng.choice([path for path in FILES if FILES[path]])


@_kind("missing_file")
def file_missing(world: World, rng: random.Random) -> Case:
    gone = rng.choice(["b/lib/midge/node.mpy", "b/node.json", "models/fan-0123456789ab.midge"])
    return world.case(world.update(), files={path: data for path, data in FILES.items() if path != gone})


@_kind("missing_file")
def folder_for_a_file(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    made["files"]["lib/midge"] = made["files"]["lib/midge/__init__.mpy"]
    return world.case(world.update(dumps(made)))


@_kind("wrong_length")
def file_shorter(world: World, rng: random.Random) -> Case:
    path = _some_file(rng)
    return world.case(world.update(), files=FILES | {path: FILES[path][: rng.randrange(len(FILES[path]))]})


@_kind("wrong_length")
def file_longer(world: World, rng: random.Random) -> Case:
    path = rng.choice(list(FILES))
    return world.case(world.update(), files=FILES | {path: FILES[path] + rng.randbytes(rng.randint(1, 40))})


@_kind("wrong_length")
def length_of_another_type(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    made["files"]["node.json"][0] = rng.choice(["16", -16, [16], 2**70])
    return world.case(world.update(dumps(made)))


@_kind("wrong_hash")
def file_flipped(world: World, rng: random.Random) -> Case:
    path = _some_file(rng)
    data = bytearray(FILES[path])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return world.case(world.update(), files=FILES | {path: bytes(data)})


@_kind("wrong_hash")
def hash_of_another_form(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    entry = made["files"]["node.json"]
    entry[1] = rng.choice([entry[1].upper(), entry[1][:-1], "", 0, [entry[1]], entry[1] + "0"])
    return world.case(world.update(dumps(made)))


@_kind("extra_file")
def file_too_many(world: World, rng: random.Random) -> Case:
    paths = ["b/x.py", "b/lib/midge/node.py", "b/lib/midge/deep/er/x.mpy", "b/lib/manifest", "b/manifest.new"]
    path = rng.choice([*paths, "b/lib/x.ok", "b/node.json.bak", "b/.ok", "b/try"])
    return world.with_file(path, rng.randbytes(rng.randrange(9)))


@_kind("extra_file")
def folder_too_many(world: World, rng: random.Random) -> Case:
    # MicroPython looks for the folder `node` before the module `node.mpy`.
    return world.with_file(rng.choice(["b/lib/midge/node", "b/x", "b/lib/y"]), FOLDER)


@_kind("extra_file")
def file_left_out(world: World, rng: random.Random) -> Case:
    made = world.manifest()
    del made["files"][rng.choice([path for path in made["files"] if not path.startswith("/")])]
    return world.case(world.update(dumps(made)))


@_kind("bad_path")
def path_up(world: World, rng: random.Random) -> Case:
    path, entry = rng.choice(
        [("a/x.mpy", "../a/x.mpy"), ("a/x.mpy", "lib/../../a/x.mpy"), ("x", "../x"), ("x", "/midge/models/../x")]
    )
    return world.with_file(path, b"x", entry)


@_kind("bad_path")
def path_twice(world: World, rng: random.Random) -> Case:
    # Two names for one file.
    return world.with_file(
        "b/lib/midge/node.mpy",
        FILES["b/lib/midge/node.mpy"],
        rng.choice(
            ["lib//midge/node.mpy", "lib/./midge/node.mpy", "./lib/midge/node.mpy", "lib/midge/../midge/node.mpy"]
        ),
    )


@_kind("bad_path")
def path_from_the_root(world: World, rng: random.Random) -> Case:
    entry = rng.choice(
        ["/main.py", "/midge/trust.json", "/midge/b/node.json", "/midge/models", "/", "//midge/models/x"]
    )
    return world.with_file("models/x", b"x", entry)


@_kind("bad_path")
def path_below_the_models(world: World, rng: random.Random) -> Case:
    return world.with_file("models/deep/x", b"x", rng.choice(["/midge/models/deep/x", "/midge/models/"]))


@_kind("bad_path")
def path_of_odd_letters(world: World, rng: random.Random) -> Case:
    name = rng.choice(["a b", "\xe9", "a:b", "a~1", "\u202e"])
    return world.with_file(f"b/lib/{name}", b"x", f"lib/{name}")


@_kind("bad_path")
def path_empty(world: World, rng: random.Random) -> Case:
    return world.with_file("b/lib/x", b"x", rng.choice(["", "lib/", "."]))


# --- statements of keys -----------------------------------------------------------------------------------------------


@_kind("bad_manifest")
def manifest_as_statement(world: World, rng: random.Random) -> Case:
    return world.case(world.update(), call="accept_keys")


@_kind("bad_manifest")
def statement_as_manifest(world: World, rng: random.Random) -> Case:
    return replace(world.statement(), call="verify")


@_kind("bad_manifest")
def statement_of_another_kind(world: World, rng: random.Random) -> Case:
    return world.statement(**rng.choice([{"type": "key"}, {"schema": 2}, {"a": 1}, {"type": 1}]))


@_kind("unknown_key")
def statement_of_a_stranger(world: World, rng: random.Random) -> Case:
    return world.statement(signer=rng.choice([world.stranger, world.next_pair]))


@_kind("unsigned", "bad_signature")
def statement_unsigned(world: World, rng: random.Random) -> Case:
    case = world.statement()
    line = case.text.splitlines()[0]
    return replace(case, text=line + b"\n" + rng.choice([b"none", world.pair.mark(rng.randbytes(256))]) + b"\n")


@_kind("wrong_node")
def statement_for_another_node(world: World, rng: random.Random) -> Case:
    return world.statement(node=rng.choice([OTHER_NODE, "", "**", ["*"], 1]))


@_kind("older")
def statement_replayed(world: World, rng: random.Random) -> Case:
    return world.statement(serial=rng.choice([3, 2, 1, 0, -1]))


@_kind("older")
def serial_out_of_range(world: World, rng: random.Random) -> Case:
    return world.statement(serial=rng.choice([2 ** rng.randint(53, 99), "4", [4]]))


@_kind("bad_manifest")
def statement_of_no_keys(world: World, rng: random.Random) -> Case:
    return world.statement(keys=rng.choice([[], {}, "", 1]))


def _named(entry: dict[str, str]) -> dict[str, str]:
    """The entry under the id of the key that it holds."""
    if "k" in entry:
        return entry | {"id": Secret(bytes.fromhex(entry["k"])).id}
    return entry | {"id": hashlib.sha256(bytes.fromhex(entry["n"])).hexdigest()[:8]}


def damaged_keys(world: World) -> list[Any]:
    """What is no key for a board."""
    public, secret = world.next_pair.trusted, world.secret.trusted
    return [
        public | {"id": "00000000"},
        public | {"id": 1},
        public | {"e": 3},
        public | {"alg": "HS256"},
        public | {"alg": "none"},
        public | {"n": "xyz"},
        public | {"n": 5},
        _named(public | {"n": public["n"][:-1] + "0"}),  # even
        _named(public | {"n": public["n"] + "01"}),
        _named(public | {"n": public["n"][2:]}),
        world.weak.trusted,
        _named(secret | {"k": "00" * 31}),
        secret | {"id": "00000000"},
        secret | {"alg": "RS256"},
        secret | {"a": 1},
        secret | {"k": None},
        "key",
        1,
        [],
        ["alg", "id", "n"],
    ]


def _register_damaged_keys() -> None:
    """A kind for each of them, in a statement and among the trusted ones."""
    for number in range(20):

        def in_a_statement(world: World, rng: random.Random, number: int = number) -> Case:
            before = rng.choice([[], [world.next_pair.trusted]])
            return world.statement(keys=[*before, damaged_keys(world)[number]])

        def in_trust(world: World, rng: random.Random, number: int = number) -> Case:
            before = rng.choice([[], [world.pair.trusted]])
            return world.case(dumps(world.trust | {"keys": [*before, damaged_keys(world)[number]]}), call="read_trust")

        in_a_statement.__name__ = f"damaged_key_{number}_in_a_statement"
        in_trust.__name__ = f"damaged_key_{number}_in_trust"
        _kind("bad_manifest")(in_a_statement)
        _kind("bad_trust")(in_trust)


_register_damaged_keys()


# --- the file of trusted keys -----------------------------------------------------------------------------------------


@_kind("bad_trust")
def trust_damaged(world: World, rng: random.Random) -> Case:
    text = dumps(world.trust)
    texts = [text[: rng.randrange(len(text))], b"{}", b"[]", b"null", b"1", text.replace(b'"keys"', b'"key"')]
    return world.case(rng.choice(texts), call="read_trust")


@_kind("bad_trust")
def trust_of_another_form(world: World, rng: random.Random) -> Case:
    changes = [
        {"node": 1},
        {"node": None},
        {"serial": "3"},
        {"keys": []},
    ]
    return world.case(dumps(world.trust | rng.choice(changes)), call="read_trust")
