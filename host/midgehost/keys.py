"""Keys that sign updates: made, rotated and kept encrypted on this computer.

One file a key, `$XDG_CONFIG_HOME/midge/keys/<name>.<serial>.json`, readable by its owner only. The private key (RS256:
its PKCS #8 DER; HS256: 32 random bytes) is a Fernet token under scrypt of the passphrase; what the file says in clear
is for `midge keys list`, and whoever needs a public key to be right opens the private one. `cryptography`'s own
encrypted PEM would do, but for its 2048 rounds of PBKDF2.

Rotating a key makes a successor of the same name and the next serial, which the key signs. These signatures are kept:
a board that trusts an old key is led to the newest, one step after the other.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import time
import unicodedata
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from midgehost.errors import KeysError, NotFound
from midgehost.resources import config_dir

Alg = Literal["RS256", "HS256"]

_RSA_BITS: Final = 2048
_EXPONENT: Final = 65537
_SECRET_BYTES: Final = 32
_ID_LABEL: Final = b"midge key id"  # an HS256 key's id must not tell its secret
_SCRYPT: Final = {"n": 2**16, "r": 8, "p": 2}  # RFC 7914: 64 MB, a third of a second
_LIMIT: Final = 65536  # bytes of a key file


class NoKey(KeysError):
    """There is no key of that name or id; an empty one: there is none at all."""

    code = "keys.not_found"

    def __init__(self, wanted: str, known: list[str]) -> None:
        self.wanted = wanted
        hint = f"Known keys: {', '.join(known)}." if known else "Make one: midge keys new NAME"
        super().__init__(f"There is no key {wanted!r}." if wanted else "You have no key.", hint)


class KeyExists(KeysError):
    """A key of that name is there already, or another program has just rotated it."""

    code = "keys.exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a key {name!r} already.", f"Choose another name, or: midge keys rotate {name}")


class Exposed(KeysError):
    """Others can read the key, its folder or the passphrase's file."""

    code = "keys.exposed"

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        super().__init__(
            f"{path} belongs to somebody else, or others can reach it.", f"Make it yours alone: chmod {mode} {path}"
        )


class DamagedKey(KeysError):
    """The key file does not read, or does not hold what it says."""

    code = "keys.damaged"

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} is no usable key: {why}.", "Restore it from a backup, or make and adopt a new key.")


class WrongPassphrase(KeysError):
    """The passphrase does not open the key."""

    code = "keys.wrong_passphrase"

    def __init__(self, name: str) -> None:
        super().__init__(f"The passphrase does not open the key {name!r}.", "Try again; or its file is damaged.")


class NoPassphrase(KeysError):
    """There is no passphrase, or an empty one."""

    code = "keys.no_passphrase"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"A passphrase is needed, {why}.", "Set MIDGE_KEY_PASSPHRASE or name a file: --passphrase-file FILE"
        )


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a key's file says in clear. `made` is Unix seconds, `serial` counts the rotations before it."""

    name: str
    id: str
    alg: Alg
    made: int
    serial: int
    rotated_from: str | None  # ids
    rotated_to: str | None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1]
    name: str
    id: str
    alg: Alg
    made: int
    serial: int
    rotated_from: str | None = None
    endorsed: str | None = None  # by the key before: line 2 of the statement that names this one
    salt: str
    sealed: str


class SigningKey:
    """An opened key. It shows nothing of itself but `name`, `alg`, `id` and `serial`."""

    __slots__ = ("_private", "alg", "id", "name", "serial")
    alg: Alg

    def __init__(self, name: str, serial: int, alg: Alg, private: bytes) -> None:
        """`private` as the file holds it. Raises ValueError when it is no key."""
        self.name, self.serial, self.alg = name, serial, alg
        self._private: Any = private
        if alg == "RS256":
            from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
            from cryptography.hazmat.primitives.serialization import load_der_private_key

            key = load_der_private_key(private, None)
            if not isinstance(key, RSAPrivateKey) or key.key_size != _RSA_BITS:
                raise ValueError("no RSA key of 2048 bits")
            self._private = key
        elif len(private) != _SECRET_BYTES:
            raise ValueError("no secret of 32 bytes")
        self.id = self._id()

    def __repr__(self) -> str:
        return f"<{self.alg} key {self.name} {self.id}>"

    def __reduce__(self) -> Any:
        raise TypeError("a signing key is not for copying")

    def sign(self, message: bytes) -> bytes:
        """RSA PKCS#1 v1.5 with SHA-256 (RFC 8017), 256 bytes, or HMAC-SHA256 (RFC 2104), 32 bytes."""
        if self.alg == "HS256":
            return hmac.digest(self._private, message, "sha256")
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._private.sign(message, PKCS1v15(), SHA256())

    def trusted(self) -> dict[str, str]:
        """What a board keeps to verify with, see /midge/trust.json. For HS256 that is the secret itself."""
        entry = {"alg": self.alg, "id": self.id}
        return entry | ({"n": self._modulus().hex()} if self.alg == "RS256" else {"k": self._private.hex()})

    def _modulus(self) -> bytes:
        return self._private.public_key().public_numbers().n.to_bytes(_RSA_BITS // 8, "big")

    def _id(self) -> str:
        if self.alg == "RS256":
            return hashlib.sha256(self._modulus()).hexdigest()[:8]
        return hmac.digest(self._private, _ID_LABEL, "sha256").hex()[:8]


def canonical(value: Any) -> bytes:
    """JSON in one form only (RFC 8785, for ASCII keys and integers)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def signed(line: bytes, key: SigningKey | None) -> bytes:
    """A manifest's or statement's two lines; without a key, those of an unsigned one."""
    return line + b"\n" + (_mark(line, key) if key else b"none") + b"\n"


def _mark(line: bytes, key: SigningKey) -> bytes:
    return f"{key.alg} {key.id} {base64.b64encode(key.sign(line)).decode()}".encode()


def _statement(key: SigningKey) -> bytes:
    """The line that makes a board trust this key in place of the one before."""
    return canonical({"keys": [key.trusted()], "node": "*", "schema": 1, "serial": key.serial, "type": "keys"})


class KeyStore:
    """The keys of a folder, by default this person's. Every method raises Exposed, DamagedKey and OSError."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or config_dir() / "keys"

    def keys(self) -> list[KeyInfo]:
        """All of them, by name and serial."""
        files = self._files()
        follows = {file.rotated_from: file.id for file in files if file.rotated_from}
        return [
            KeyInfo(
                name=file.name,
                id=file.id,
                alg=file.alg,
                made=file.made,
                serial=file.serial,
                rotated_from=file.rotated_from,
                rotated_to=follows.get(file.id),
            )
            for file in files
        ]

    def find(self, name: str) -> KeyInfo:
        """The newest key of that name, or the key with that id. Raises NoKey."""
        keys = self.keys()
        for key in reversed(keys):
            if name in (key.name, key.id):
                return key
        raise NoKey(name, sorted({key.name for key in keys}))

    def require_free(self, name: str) -> None:
        """Raises KeyExists, or NotFound for an impossible name."""
        if not re.fullmatch("[a-z0-9][a-z0-9-]{0,31}", name):
            raise NotFound(f"A key cannot be called {name!r}.", "Use small letters, digits and hyphens.")
        if any(file.name == name for file in self._files()):
            raise KeyExists(name)

    def new(self, name: str, alg: Alg, passphrase: str) -> KeyInfo:
        """Makes a key. Raises as `require_free`."""
        self.require_free(name)
        self._write(SigningKey(name, 0, alg, _make(alg)), passphrase)
        return self.find(name)

    def open(self, name: str, passphrase: str) -> SigningKey:
        """The key that `find` finds. Raises NoKey, WrongPassphrase."""
        return self._open(self._file(self.find(name)), passphrase)

    def rotate(self, name: str, passphrase: str, alg: Alg | None = None) -> KeyInfo:
        """Makes the newest key's successor, under the same passphrase. Raises as `open`."""
        old = self.open(name, passphrase)
        new = SigningKey(old.name, old.serial + 1, alg or old.alg, _make(alg or old.alg))
        self._write(new, passphrase, old)
        return self.find(new.id)

    def statements(self, key_id: str, passphrase: str) -> list[bytes]:
        """What leads a board from that key to the newest, in order; each holds an HS256 successor's secret in clear.

        Raises as `open`, also where the passphrase of a successor is another one.
        """
        start = self.find(key_id)
        later = [file for file in self._files() if file.name == start.name and file.serial > start.serial]
        lines: list[bytes] = []
        for file in later:
            line = _statement(self._open(file, passphrase))
            lines.append(line + b"\n" + (file.endorsed or "none").encode() + b"\n")
        return lines

    # --- files --------------------------------------------------------------------------------------------------------

    def _file(self, key: KeyInfo) -> _File:
        return self._read(self.folder / f"{key.name}.{key.serial}.json")

    def _files(self) -> list[_File]:
        if not self.folder.is_dir():
            return []
        _require_private(self.folder, self.folder.stat(), "700")
        found = [self._read(path) for path in self.folder.glob("*.json")]
        return sorted(found, key=lambda file: (file.name, file.serial))

    def _read(self, path: Path) -> _File:
        with path.open("rb") as source:
            _require_private(path, os.fstat(source.fileno()), "600")
            data = source.read(_LIMIT)
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.MsgspecError, ValueError):  # its text may quote the file: left out
            raise DamagedKey(path, "it does not read") from None
        if path.name != f"{file.name}.{file.serial}.json":
            raise DamagedKey(path, "its name is not the key's")
        return file

    def _open(self, file: _File, passphrase: str) -> SigningKey:
        from cryptography.fernet import InvalidToken

        path = self.folder / f"{file.name}.{file.serial}.json"
        try:
            private = _fernet(passphrase, base64.b64decode(file.salt, validate=True)).decrypt(file.sealed)
        except InvalidToken:
            raise WrongPassphrase(file.name) from None
        except ValueError:
            raise DamagedKey(path, "its salt or its private half is no base64") from None
        try:
            key = SigningKey(file.name, file.serial, file.alg, private)
        except (ValueError, TypeError):
            raise DamagedKey(path, f"it holds no {file.alg} key") from None
        if key.id != file.id:
            raise DamagedKey(path, "it holds another key than it says")
        return key

    def _write(self, key: SigningKey, passphrase: str, before: SigningKey | None = None) -> None:
        """Whole or not at all, and never over another one: written beside, then linked. Raises KeyExists."""
        if not passphrase:
            raise NoPassphrase("and it cannot be empty")
        salt = secrets.token_bytes(16)
        file = _File(
            schema=1,
            name=key.name,
            id=key.id,
            alg=key.alg,
            made=int(time.time()),
            serial=key.serial,
            rotated_from=before.id if before else None,
            endorsed=_mark(_statement(key), before).decode() if before else None,
            salt=base64.b64encode(salt).decode(),
            sealed=_fernet(passphrase, salt).encrypt(_private_bytes(key)).decode(),
        )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _require_private(self.folder, self.folder.stat(), "700")
        path = self.folder / f"{key.name}.{key.serial}.json"
        beside = self.folder / f".{path.name}.{secrets.token_hex(4)}"
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                target.write(msgspec.json.format(msgspec.json.encode(file), indent=1))
                target.flush()
                os.fsync(target.fileno())
            os.link(beside, path)
        except FileExistsError:
            raise KeyExists(key.name) from None
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()


def _make(alg: Alg) -> bytes:
    """A new private key as a file holds it."""
    if alg == "HS256":
        return secrets.token_bytes(_SECRET_BYTES)
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    return _der(generate_private_key(_EXPONENT, _RSA_BITS))


def _der(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())


def _private_bytes(key: SigningKey) -> bytes:
    private = key._private  # pyright: ignore[reportPrivateUsage]
    return private if key.alg == "HS256" else _der(private)


def _fernet(passphrase: str, salt: bytes) -> Any:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    text = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    return Fernet(base64.urlsafe_b64encode(Scrypt(salt=salt, length=32, **_SCRYPT).derive(text)))


def _require_private(path: Path, status: os.stat_result, mode: str) -> None:
    """Raises Exposed unless it is this person's, and nobody else's."""
    if os.name == "posix" and (status.st_mode & 0o077 or status.st_uid != os.geteuid()):
        raise Exposed(path, mode)
