# What a manifest or a statement of keys says, once it is proved that a trusted key has signed it.
#
# Line 1 is canonical JSON (RFC 8785: keys sorted, no spaces; integers and ASCII only), line 2 is `alg keyid base64` of
# the signature over the bytes of line 1, or `none`. The signature is looked at before the JSON.
# Pure: runs on MicroPython and CPython alike.

import binascii
import hashlib
import json
import os

from . import crypto
from .errors import MidgeError

_LIMIT = 32768  # bytes of both lines


def bad(why):
    return MidgeError("update.bad_manifest", why)


def read(path, trust):
    # The dict of line 1 and the SHA-256 of that line.
    size = size_of(path)
    if not 0 < size <= _LIMIT:
        raise bad("%s is missing or too long" % path)
    with open(path, "rb") as f:
        lines = f.read(size).split(b"\n", 2)
    if len(lines) != 3 or lines[2]:
        raise bad("it is not two lines")
    line, mark = lines[0], lines[1]
    if trust is not None:
        _check_signature(line, mark, trust["keys"])
    digest = hashlib.sha256(line).digest()
    try:
        made = json.loads(line)
        canonical = type(made) is dict and _digest(made) == digest
    except (ValueError, TypeError, RuntimeError):  # no JSON, no keys to sort, nested beyond the stack
        canonical = False
    if not canonical:
        raise bad("its first line is no canonical JSON")
    return made, digest


def first_line(folder):
    # The SHA-256 of a manifest's first line; None where there is none.
    if folder is None or size_of(folder + "/manifest") < 0:
        return None
    with open(folder + "/manifest", "rb") as f:
        return hashlib.sha256(f.readline().rstrip(b"\n")).digest()


def size_of(path):
    # Bytes of a file; -1 where there is none.
    try:
        found = os.stat(path)
    except OSError:
        return -1
    return found[6] if found[0] & 0x8000 else -1


def _check_signature(line, mark, keys):
    parts = mark.split(b" ", 3)
    named = [key for key in keys if [key["alg"].encode(), key["id"].encode()] == parts[:2]]
    if mark == b"none":
        raise MidgeError("update.unsigned", "this board takes signed updates only")
    elif len(parts) != 3:
        raise bad("its second line is no signature")
    elif not named:
        raise MidgeError("update.unknown_key", "signed with a key that is not trusted here")
    elif not crypto.verifies(named[0], line, _from_base64(parts[2])):
        raise MidgeError("update.bad_signature", "the signature is wrong")


def _from_base64(text):
    # b"" for what is no base64, or not as an encoder writes it: a signature has one form.
    try:
        found = binascii.a2b_base64(text)
    except ValueError:
        return b""
    return found if binascii.b2a_base64(found).strip() == text else b""


def _digest(value):
    # Of the canonical form. A duplicate key, a space, a float, an escape: the digest is another one.
    sha = hashlib.sha256()
    for piece in _pieces(value):
        sha.update(piece.encode())
    return sha.digest()


def _pieces(value):
    kind = type(value)
    if kind is dict:
        yield "{"
        mark = ""
        for key in sorted(value):
            yield '%s"%s":' % (mark, key)
            yield from _pieces(value[key])
            mark = ","
        yield "}"
    elif kind is list:
        yield "["
        mark = ""
        for item in value:
            yield mark
            yield from _pieces(item)
            mark = ","
        yield "]"
    elif kind is str:
        yield '"%s"' % value
    elif kind is int:
        yield str(value)
