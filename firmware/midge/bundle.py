# The bundle file, read without trusting it: header, table and hashes are checked before a section is used.
# The format is in DESIGN.md; the host's side is host/midgehost/models/{container,bundle}.py.

import binascii
import hashlib
import struct
from array import array

from midge.errors import MidgeError

MAJOR = 1
_NEEDED = 1  # flag: who does not know this section must refuse the bundle
_ALWAYS = ("META", "TENS", "TEST")
_GENERAL = ("PLAN", "PARM", "WGHT")  # the plan that every board runs
_MACHINE = ("TENM", "PLNM", "PRMM", "WGTM", "KERN")  # machine code for one arch, and its plan
_ENTRY = 48  # bytes of a table entry


def damaged(why):
    return MidgeError("model.bad_bundle", why)


class Bundle:
    # An open bundle. `seek(kind)` goes to a section and returns its length. `machine` and `general` say which plans it
    # holds; `damage` is the MidgeError that forbids its machine code, if the other plan is sound. Raises MidgeError
    # model.bad_bundle.

    def __init__(self, path):
        self.path = path
        self.damage = None
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
            if kind not in _ALWAYS and kind not in _GENERAL and kind not in _MACHINE:
                if flags & _NEEDED:
                    raise damaged("it needs section %s" % kind)
                continue
            if offset + length > total:
                raise damaged("section %s lies outside" % kind)
            self._sections[kind] = (offset, length, table[i + 16 : i + _ENTRY])
        self.machine = "KERN" in self._sections
        self.general = "PLAN" in self._sections or not self.machine
        for kind in _ALWAYS + (_GENERAL if self.general else ()):
            self._check(kind)
        if self.machine:
            try:
                for kind in _MACHINE:
                    self._check(kind)
            except MidgeError as error:
                if not self.general:
                    raise
                self.damage = error

    def _check(self, kind):
        # Streamed: a section may be larger than the heap.
        if kind not in self._sections:
            raise damaged("it has no section %s" % kind)
        offset, length, digest = self._sections[kind]
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

    def offset(self, kind):
        # From the start of the file.
        return self._sections[kind][0]

    def size(self, kind):
        return self._sections[kind][1]

    def seek(self, kind, at=0):
        offset, length, _ = self._sections[kind]
        self.file.seek(offset + at)
        return length

    def read(self, kind):
        return self.file.read(self.seek(kind))

    def words(self, kind):
        # A section of int32.
        words = array("i", bytes(self.seek(kind)))
        self.file.readinto(words)
        return words

    def places(self, kind):
        # Offset and length of each tile of a section of weights, from the section's start, one after the other.
        size = self.seek(kind)
        (count,) = struct.unpack("<I", self.file.read(4))
        if 4 + 8 * count > size:
            raise damaged("its table of tiles is too long")
        places = array("I", self.file.read(8 * count))
        for i in range(0, 2 * count, 2):
            if places[i] + places[i + 1] > size:
                raise damaged("a tile lies outside")
        return places

    def tiles(self, kind):
        # Every tile of a section of weights, in RAM.
        places = self.places(kind)
        found = []
        for i in range(0, len(places), 2):
            tile = bytearray(places[i + 1])
            self.seek(kind, places[i])
            self.file.readinto(tile)
            found.append(tile)
        return found

    def digest(self, *kinds):
        # Eight hex digits over these sections: what is computed, or the code that computes it.
        sha = hashlib.sha256()
        for kind in kinds:
            sha.update(self._sections[kind][2])
        return binascii.hexlify(sha.digest()[:4]).decode()

    def close(self):
        self.file.close()
