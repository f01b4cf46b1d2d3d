# The bundle file, read without trusting it: header, table and hashes are checked before a section is used.
# The format is in DESIGN.md; the host's side is host/midgehost/models/{container,bundle}.py.

import binascii
import hashlib
import struct

from midge.errors import MidgeError

MAJOR = 1
_NEEDED = 1  # flag: who does not know this section must refuse the bundle
_KNOWN = ("META", "TENS", "PLAN", "PARM", "WGHT", "TEST")
_ENTRY = 48  # bytes of a table entry


def damaged(why):
    return MidgeError("model.bad_bundle", why)


class Bundle:
    # An open bundle. `seek(kind)` goes to a section and returns its length. Raises MidgeError model.bad_bundle.

    def __init__(self, path):
        try:
            self.file = open(path, "rb")
        except OSError as error:
            raise MidgeError("model.not_found", "%s: %s" % (path, error))
        self._sections = {}
        try:
            self._read_table()
        except Exception:
            self.close()
            raise

    def _read_table(self):
        head = self.file.read(16)
        if len(head) < 16 or head[:4] != b"MDGB":
            raise damaged("it does not begin with MDGB")
        major, minor, count, total, checksum = struct.unpack("<BBHII", head[4:])
        if major != MAJOR:
            raise damaged("format version %d, this firmware reads %d" % (major, MAJOR))
        if self.file.seek(0, 2) != total or not 0 < count <= 32:
            raise damaged("it is cut short")
        self.file.seek(16)
        table = self.file.read(_ENTRY * count)
        if len(table) < _ENTRY * count:
            raise damaged("it is cut short")
        if binascii.crc32(table, binascii.crc32(head[:12] + bytes(4))) & 0xFFFFFFFF != checksum:
            raise damaged("the checksum of its table differs")
        for i in range(0, len(table), _ENTRY):
            kind, offset, length, flags = struct.unpack_from("<4sIII", table, i)
            kind = kind.decode()
            if kind not in _KNOWN:
                if flags & _NEEDED:
                    raise damaged("it needs section %s" % kind)
                continue
            if offset + length > total:
                raise damaged("section %s lies outside" % kind)
            digest = table[i + 16 : i + _ENTRY]
            self._check(kind, offset, length, digest)
            self._sections[kind] = (offset, length, digest)
        for kind in _KNOWN:
            if kind not in self._sections:
                raise damaged("it has no section %s" % kind)

    def _check(self, kind, offset, length, digest):
        # Streamed: a section may be larger than the heap.
        self.file.seek(offset)
        buffer = bytearray(512)
        view = memoryview(buffer)
        sha = hashlib.sha256()
        while length:
            n = self.file.readinto(view[: min(512, length)])
            if not n:
                break
            sha.update(view[:n])
            length -= n
        if length or sha.digest() != digest:
            raise damaged("the hash of section %s differs" % kind)

    def size(self, kind):
        return self._sections[kind][1]

    def seek(self, kind, at=0):
        offset, length, _ = self._sections[kind]
        self.file.seek(offset + at)
        return length

    def read(self, kind):
        return self.file.read(self.seek(kind))

    def plan_hash(self):
        # Eight hex digits over what is computed: plan, parameters and weights.
        sha = hashlib.sha256()
        for kind in ("PLAN", "PARM", "WGHT"):
            sha.update(self._sections[kind][2])
        return binascii.hexlify(sha.digest()[:4]).decode()

    def close(self):
        self.file.close()
