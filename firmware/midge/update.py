# Whether an update may run: its manifest is signed by a key that the board trusts, is meant for this node, board and
# firmware, is newer than what was confirmed here, and names exactly the files that are there. docs/updates.md has the
# format, manifest.py reads it. Every refusal is a MidgeError with a code of its own, update.*.
# Pure: runs on MicroPython and CPython alike. The host's tests forge manifests against this very file.

import binascii
import hashlib
import json
import os

from . import crypto
from .errors import MidgeError
from .manifest import bad, first_line, read, size_of

_LARGEST = 9007199254740991  # 2**53 - 1: integers up to here are the same in every JSON reader (RFC 7493, 2.2)
_KEYS = ["arch", "board", "files", "firmware", "name", "schema", "version"]
_CHUNK = 512  # bytes of a file that are hashed at once
_MODELS = "/midge/models/"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
_ARCHES = (  # by number, in what sys.implementation says of .mpy files
    "", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp",
    "xtensa", "xtensawin", "rv32imc",
)  # fmt: skip
_ABI = 0x306  # 6.3


def verify(folder, trust, floor, facts, active=None):
    # The manifest (a dict) of the slot in `folder`, once all of it is proved. `trust` is what /midge/trust.json holds,
    # None on a board that trusts no key: then no signature is asked for. `floor` is the highest version confirmed;
    # `active` the folder of the confirmed slot, whose manifest is good although it is not newer. Facts: see `facts`.
    made, digest = read(folder + "/manifest", trust)
    _check_form(made)
    _check_target(made, trust["node"] if trust is not None else facts["node"], facts)
    if made["version"] <= floor and digest != first_line(active):
        raise MidgeError("update.older", "version %d, %d has run here" % (made["version"], floor))
    if "expires" in made:
        if facts["clock"] is None:
            raise MidgeError("update.no_clock", "the update expires, and the clock is not set")
        elif facts["clock"] >= made["expires"]:
            raise MidgeError("update.expired", "it expired at %d" % made["expires"])
    _check_files(folder, made["files"])
    _check_nothing_else(folder, made["files"], "")
    return made


def read_trust(path):
    # What /midge/trust.json holds; None where there is none. One that does not read is no reason to trust anybody.
    if size_of(path) < 0:
        return None
    try:
        with open(path) as f:
            trust = json.load(f)
        node, serial = trust["node"], trust["serial"]
        sound = type(node) is str and type(serial) is int and trust["keys"] and all(map(crypto.is_key, trust["keys"]))
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise MidgeError("update.bad_trust", path)
    return trust


def accept_keys(path, trust):
    # What /midge/trust.json is to hold after a rotation: the file at `path` has the two lines of a manifest, but names
    # the keys that follow, and a key that is trusted now has signed it. Its node may be "*": any that trusts that key.
    made, _ = read(path, trust)
    if sorted(made) != ["keys", "node", "schema", "serial", "type"] or (made["schema"], made["type"]) != (1, "keys"):
        raise bad("it is no statement of keys")
    if made["node"] != "*" and made["node"] != trust["node"]:
        raise MidgeError("update.wrong_node", "for %s, this is %s" % (made["node"], trust["node"]))
    if not _is_count(made["serial"]) or made["serial"] <= trust["serial"]:
        raise MidgeError("update.older", "serial %s, %d is known here" % (made["serial"], trust["serial"]))
    keys = made["keys"]
    if type(keys) is not list or not keys or not all([crypto.is_key(key) for key in keys]):
        raise bad("a key of it is damaged")
    return {"keys": keys, "node": trust["node"], "serial": made["serial"]}


def facts(boards=None, node=None):
    # What this board knows of itself. `boards`: the names that it goes by, `node`: the name of its node (None: any).
    import sys

    from .clock import Clock

    mpy = getattr(sys.implementation, "_mpy", 0)
    arch = mpy >> 10 & 15 if mpy & 0x3FF == _ABI else 0
    clock = Clock()
    return {
        "arch": _ARCHES[arch] if arch < len(_ARCHES) else "?",
        "firmware": tuple(sys.implementation.version[:3]),
        "boards": boards,
        "node": node,
        "clock": clock.now_ms() // 1000 if clock.is_set() else None,  # Unix seconds
    }


# --- what it says -----------------------------------------------------------------------------------------------------


def _is_count(value):
    return type(value) is int and 0 < value <= _LARGEST


def _check_form(made):
    if [key for key in sorted(made) if key != "expires"] != _KEYS or made["schema"] != 1:
        raise bad("its keys are not those of schema 1")
    if not _is_count(made["version"]) or not _is_count(made.get("expires", 1)):
        raise bad("a number is none, or out of range")
    if type(made["name"]) is not str or type(made["files"]) is not dict:
        raise bad("its name is no text, or its files are no table")
    for entry in made["files"].values():
        if type(entry) is not list or len(entry) != 2:
            raise bad("a file has no length and hash")
    if type(made["firmware"]) is not list or len(made["firmware"]) != 2:
        raise bad("its firmware is no range")


def _check_target(made, node, facts):
    if node is not None and made["name"] != node:
        raise MidgeError("update.wrong_node", "for %s, this is %s" % (made["name"], node))
    if facts["boards"] is not None and made["board"] not in facts["boards"]:
        raise MidgeError("update.wrong_board", "for %s, this is %s" % (made["board"], " ".join(facts["boards"])))
    if made["arch"] != facts["arch"]:
        raise MidgeError("update.wrong_arch", "for %s, this is %s" % (made["arch"], facts["arch"]))
    lowest, end = [_numbers(text) for text in made["firmware"]]
    if not lowest <= facts["firmware"] < end:
        raise MidgeError("update.wrong_firmware", "for %s up to below %s" % tuple(made["firmware"]))


def _numbers(text):
    # "1.26" as (1, 26).
    try:
        found = tuple([int(part) for part in text.split(".")])
    except (ValueError, AttributeError):
        found = ()
    if not found or ".".join([str(number) for number in found]) != text:
        raise bad("%s is no firmware version" % text)
    return found


# --- the files --------------------------------------------------------------------------------------------------------


def _check_files(folder, files):
    for path, entry in files.items():
        place = _place(folder, path)
        size = size_of(place)
        if size < 0:
            raise MidgeError("update.missing_file", path)
        elif size != entry[0]:
            raise MidgeError("update.wrong_length", "%s: %d, not %s" % (path, size, entry[0]))
        elif _hash(place, size) != entry[1]:
            raise MidgeError("update.wrong_hash", path)


def _check_nothing_else(folder, files, above):
    # A folder without a file could hide a module: MicroPython looks for folders first. What the manifest names was a
    # file a moment ago; only the rest is asked for what it is, which takes a Pico 4 ms a name.
    names = os.listdir(folder)
    if not names:
        raise MidgeError("update.extra_file", above)
    for name in names:
        path = above + name
        if path in files or path == "manifest" or _is_mark(path, files):
            continue
        if os.stat(folder + "/" + name)[0] & 0x4000:
            _check_nothing_else(folder + "/" + name, files, path + "/")
        else:
            raise MidgeError("update.extra_file", path)


def _is_mark(path, files):
    # Of kernels/trust.py, beside a module of machine code.
    base, _, end = path.rpartition(".")
    return end in ("try", "ok") and base in files


def _place(folder, path):
    # Where the file is: below the slot, or directly in the folder of models that slots share.
    if path.startswith(_MODELS):
        folder = folder.rsplit("/", 1)[0] + "/models"
        parts = [path[len(_MODELS) :]]
    else:
        parts = path.split("/")
    for part in parts:
        if part in ("", ".", "..") or part.strip(_LETTERS):
            raise MidgeError("update.bad_path", path)
    return folder + "/" + "/".join(parts)


def _hash(path, size):
    # In hex. Streamed: a model may be larger than the heap.
    sha = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    with open(path, "rb") as f:
        for _ in range(size // _CHUNK):
            f.readinto(buffer)
            sha.update(buffer)
        sha.update(f.read(size % _CHUNK))
    return binascii.hexlify(sha.digest()).decode()
