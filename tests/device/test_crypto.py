# midge: device
# Signatures and updates on the board's own interpreter: 31-bit small ints, its own pow, hashlib and json.
import binascii
import gc
import hashlib
import json
import os

import midge.crypto as crypto
import midge.update as update
from midge.errors import MidgeError

# A key whose private half was thrown away, and its signature over b"midge" (made by OpenSSL).
MODULUS = (
    "9e1e8e238469cd1f92d5a6c369c77a9be2edcafdf0d50febd571e96fa3598ac38e4b5cebabc4609c6c0ed659d32a864eab79"
    "428b5544497f1638d216efd9f2f5780baa21bf7ea3a613db3fc167998ad5286dc93fce1dc55c7c33a7f14c200201a6ea273f"
    "1b455f24e472add71dbc59dcf84c92d9029fce83cc5dc076e830f599decdb76646204018c34abd8eb4aeed5f3a2625ffa1d0"
    "f51bff44fbd751eba9e2cbd8b107f121e86cf7f41914f34327a8b6db634fee3421a6c78abfe926abf34c9d42bffc00d19174"
    "b8254afcf2ad72b48ab28d0baa32f7b7d56eaab928797b7a0df24979cee9ec7f2aac75089fe51142198ddd9c9a36573c9b15"
    "998ac3a165c3"
)
SIGNATURE = (
    "8fb1f797ed0ca5267d75f0547cbdfbf9ee673eb9da2bd31b61dcb8d915b96f33b29b3ffe160d53b4beffaa45cc5e992ac3e2"
    "baf5f94419648699bcc6fc1dd2f78d6266bb834cd08c6fd34a415bb1e9791ce50c86a7024daeb9289e5f2c2326a65a2eab74"
    "8fbdd7d7a919440fef3ccb8fcd0975c2ba7951fb4e514be9c2d451f6bc406f961247aa9bf0205eb95f5f288f9639a12188a0"
    "026ad97b59e306961ea02d126c1dcc8fa9b1b2c94d42f84b035d7aa751fa38af62431fb4ca1a0da15f55480ffae97fb67f4a"
    "6a8f9aef366970a75318213b4ad2780fb181c6b22b2c30b73a84c2ee88ca194b0935272c8a755281f5c79ded4ff13ab9651a"
    "06e18a7f676e"
)
RS256 = {"alg": "RS256", "id": "d4aede7c", "n": MODULUS}
HS256 = {"alg": "HS256", "id": "c6dbb10b", "k": "61" * 32}
# RFC 4231, cases 1 to 4, 6 and 7: key, data, HMAC-SHA256.
VECTORS = (
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
)
FACTS = {"arch": "armv6m", "firmware": (1, 26, 1), "boards": ("pico",), "node": "fan-3", "clock": 1000}
ROOT = "/update_test"


def test_hmac_vectors():
    for secret, data, digest in VECTORS:
        assert binascii.hexlify(crypto.hmac_sha256(secret, data)).decode() == digest


def test_rsa_vector():
    signature = binascii.unhexlify(SIGNATURE)
    assert crypto.is_key(RS256) and crypto.key_id(RS256) == RS256["id"]
    assert crypto.verifies(RS256, b"midge", signature)
    assert not crypto.verifies(RS256, b"midgE", signature)


def test_rsa_refuses():
    signature = binascii.unhexlify(SIGNATURE)
    n = int.from_bytes(binascii.unhexlify(MODULUS), "big")
    s = int.from_bytes(signature, "big")
    assert pow(s, 65537, n) == pow(s + n, 65537, n)
    forms = [b"", signature[1:], signature[:-1], b"\x00" + signature, signature + b"\x00", bytes(256), b"\xff" * 256]
    forms += [
        bytes(255) + b"\x01",
        (n - s).to_bytes(256, "big"),
        binascii.unhexlify(MODULUS),
        (s + n).to_bytes(257, "big"),
    ]
    for at in (0, 1, 127, 255):
        flipped = bytearray(signature)
        flipped[at] ^= 0x10
        forms.append(bytes(flipped))
    for form in forms:
        assert not crypto.verifies(RS256, b"midge", form), form


def test_hmac_refuses():
    assert crypto.is_key(HS256) and crypto.key_id(HS256) == HS256["id"]
    tag = crypto.hmac_sha256(b"a" * 32, b"midge")
    assert crypto.verifies(HS256, b"midge", tag)
    for form in (b"", tag[:31], tag + b"\x00", bytes([tag[0] ^ 1]) + tag[1:], tag[:31] + bytes([tag[31] ^ 0x80])):
        assert not crypto.verifies(HS256, b"midge", form)
    assert not crypto.verifies({"alg": "none", "id": "", "k": ""}, b"midge", b"")


def test_keys_that_are_none():
    for key in (
        {},
        {"alg": "RS256"},
        dict(RS256, id="00000000"),
        dict(RS256, n=MODULUS[:-2]),
        dict(RS256, n="zz"),
        dict(HS256, k="00"),
        dict(HS256, k=5),
        [],
        "key",
        1,
        None,
    ):
        assert not crypto.is_key(key), key


def _remove(path):
    for name in os.listdir(path):
        inner = path + "/" + name
        if os.stat(inner)[0] & 0x4000:
            _remove(inner)
        else:
            os.remove(inner)
    os.rmdir(path)


def _folder(path):
    try:
        os.mkdir(path)
    except OSError as error:
        if error.errno != 17:
            raise


def _slot(size=600, edit=None, **changes):
    # An update signed with HS256; returns what verify takes.
    if ROOT[1:] in os.listdir("/"):
        _remove(ROOT)
    for path in ("", "/b", "/b/lib"):
        _folder(ROOT + path)
    sha = hashlib.sha256()
    block = bytes(range(200))
    with open(ROOT + "/b/lib/x.mpy", "wb") as f:
        for _ in range(size // 200):
            f.write(block)
            sha.update(block)
    made = {"arch": "armv6m", "board": "pico", "firmware": ["1.23", "1.30"], "name": "fan-3", "schema": 1, "version": 7}
    made["files"] = {"lib/x.mpy": [size, binascii.hexlify(sha.digest()).decode()]}
    made.update(changes)
    line = "{%s}" % ",".join(['"%s":%s' % (key, json.dumps(made[key]).replace(" ", "")) for key in sorted(made)])
    if edit:
        assert edit[0] in line
        line = line.replace(edit[0], edit[1])
    tag = binascii.b2a_base64(crypto.hmac_sha256(b"a" * 32, line.encode())).decode()
    with open(ROOT + "/b/manifest", "w") as f:
        f.write("%s\nHS256 %s %s" % (line, HS256["id"], tag))
    return ROOT + "/b", {"node": "fan-3", "keys": [RS256, HS256], "serial": 1}, 6, FACTS


def _code(arguments):
    try:
        update.verify(*arguments)
    except MidgeError as error:
        return error.code
    return "accepted"


def test_update_is_taken():
    assert update.verify(*_slot())["version"] == 7


def test_update_is_refused():
    # What MicroPython's json, str and int take, and CPython's do not or the other way round, is among these.
    for edit in (
        ('"schema":1', '"schema":1.0'),
        ('"schema":1', '"schema":true'),
        ('"schema":1', '"schema":01'),
        ('"schema":1', '"schema":1,"schema":1'),
        ('"version":7', '"version":7.0'),
        ('"version":7', '"version":7e0'),
        ('"version":7', '"version":+7'),
        ('"version":7', '"version": 7'),
        ('"name":"fan-3"', '"name":"\\u0066an-3"'),
        ('"firmware":["1.23"', '"firmware":["1.23",'),
        ('"firmware":["1.23"', '"firmware":["1.023"'),
        ('"version":7', '"version":9007199254740992'),
        ("600", "600.0"),
        ("{", "{,"),
        ("7}", "7}}"),
        ("7}", "7,}"),
        (',"version"', ' "version"'),
        ("{", "[" * 500),
    ):
        assert _code(_slot(edit=edit)) == "update.bad_manifest", edit[1]
    assert _code(_slot(version=6)) == "update.older"
    assert _code(_slot(name="fan-4")) == "update.wrong_node"
    assert _code(_slot(expires=1000)) == "update.expired"
    assert _code(_slot(firmware=["1.27", "1.30"])) == "update.wrong_firmware"
    assert _code(_slot(files={"../x": [0, ""]})) == "update.bad_path"


def test_files_are_not_read_whole():
    # Garbage included: 20 KB take no more than 600 bytes do, and the manifest that runs is no block of 32 KB.
    used = []
    for size in (600, 20000):
        folder, trust, _, facts = _slot(size)
        arguments = (folder, trust, 7, facts, folder)
        update.verify(*arguments)
        gc.collect()
        gc.disable()
        try:
            before = gc.mem_alloc()
            update.verify(*arguments)
            used.append(gc.mem_alloc() - before)
        finally:
            gc.enable()
    assert used[1] - used[0] < 1000 and used[0] < 30000, used


def test_facts_of_this_board():
    found = update.facts(("pico",), "fan-3")
    assert sorted(found) == ["arch", "boards", "clock", "firmware", "node"]
    assert found["firmware"] >= (1, 23) and found["boards"] == ("pico",) and found["node"] == "fan-3"
    assert found["arch"] in ("x64", "armv6m", "armv7emsp", "xtensawin", "rv32imc")
    assert found["clock"] is None or found["clock"] > 1700000000
    if ROOT[1:] in os.listdir("/"):
        _remove(ROOT)
