# Signatures as a board checks them: RSA-2048 PKCS#1 v1.5 with SHA-256 (RFC 8017, 8.2.2), HMAC-SHA256 (RFC 2104).
# A key is a dict as /midge/trust.json holds it: {"alg": "RS256", "id", "n"} or {"alg": "HS256", "id", "k"}, in hex.
# Pure: runs on MicroPython (whose pow takes three arguments) and CPython alike.

import binascii
import hashlib

_BYTES = 256  # of a modulus and of a signature
_EXPONENT = 65537
_BLOCK = 64  # of SHA-256
# Everything of the padded block but the hash: 00 01 ff ... ff 00, DER of DigestInfo for SHA-256 (RFC 8017, 9.2).
_PADDING = b"\x00\x01" + b"\xff" * 202 + b"\x00"
_DIGEST_INFO = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
_ID_LABEL = b"midge key id"  # a key's id must not tell its secret


def verifies(key, message, signature):
    # Whether the signature (bytes) is the key's over the message. A key of another kind verifies nothing.
    if key["alg"] == "RS256":
        return rsa_verifies(binascii.unhexlify(key["n"]), hashlib.sha256(message).digest(), signature)
    if key["alg"] == "HS256":
        return same(hmac_sha256(binascii.unhexlify(key["k"]), message), signature)
    return False


def rsa_verifies(modulus, digest, signature):
    # All big-endian bytes. The block is made anew and compared whole: nothing of the signature's own is parsed, so
    # there is nothing to hide in it (Bleichenbacher's forgery of 2006 hid behind a parser).
    n = int.from_bytes(modulus, "big")
    s = int.from_bytes(signature, "big")
    if n >> 2047 != 1 or len(signature) != _BYTES or s >= n:
        return False
    return pow(s, _EXPONENT, n) == int.from_bytes(_PADDING + _DIGEST_INFO + digest, "big")


def hmac_sha256(secret, message):
    if len(secret) > _BLOCK:
        secret = hashlib.sha256(secret).digest()
    secret = secret + bytes(_BLOCK - len(secret))
    inner = hashlib.sha256(bytes([byte ^ 0x36 for byte in secret]))
    inner.update(message)
    outer = hashlib.sha256(bytes([byte ^ 0x5C for byte in secret]))
    outer.update(inner.digest())
    return outer.digest()


def same(a, b):
    # Takes as long for a difference in the first byte as for one in the last: no byte can be guessed by itself.
    if len(a) != len(b):
        return False
    differing = 0
    for x, y in zip(a, b):
        differing |= x ^ y
    return differing == 0


def key_id(key):
    # Eight hex digits that name a key.
    if key["alg"] == "RS256":
        digest = hashlib.sha256(binascii.unhexlify(key["n"])).digest()
    else:
        digest = hmac_sha256(binascii.unhexlify(key["k"]), _ID_LABEL)
    return binascii.hexlify(digest[:4]).decode()


def is_key(key):
    # Whether it is well formed: a board that trusted another one would take no update ever again.
    try:
        if sorted(key) == ["alg", "id", "n"] and key["alg"] == "RS256":
            number = binascii.unhexlify(key["n"])
            return len(number) == _BYTES and number[0] > 127 and number[-1] & 1 == 1 and key["id"] == key_id(key)
        if sorted(key) == ["alg", "id", "k"] and key["alg"] == "HS256":
            return len(binascii.unhexlify(key["k"])) >= 32 and key["id"] == key_id(key)
    except (TypeError, ValueError, AttributeError):
        pass
    return False
