"""Which key signs for a board: one that it trusts, or the successor of one, with what makes the board trust that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from midgehost.errors import DeployError
from midgehost.keys import KeyStore, SigningKey


class NoTrustedKey(DeployError):
    """The board takes signed updates only, and no key that it trusts is on this computer."""

    code = "deploy.no_key"

    def __init__(self, trusted: Sequence[str]) -> None:
        self.trusted = tuple(trusted)
        super().__init__(
            f"The board takes updates signed by {' or '.join(trusted)} only, and no such key is here.",
            "Deploy from the computer that has the key, or copy its file there to your keys.",
        )


@dataclass(frozen=True)
class Credentials:
    """`statements` lead the board to `key`, in order; empty when it trusts it already."""

    key: SigningKey
    statements: tuple[bytes, ...] = ()


Signer = Callable[[Sequence[str]], Credentials]  # from the ids that the board trusts. Raises KeysError, NoTrustedKey


def signer(store: KeyStore, passphrase: Callable[[], str]) -> Signer:
    """Signs with the newest key of the name that a board trusts; the passphrase is asked for when there is one."""

    def choose(trusted: Sequence[str]) -> Credentials:
        known = store.keys()
        held = [key for key in known if key.id in trusted]
        if not held:
            raise NoTrustedKey(trusted)
        oldest = held[-1]
        newest = [key for key in known if key.name == oldest.name][-1]
        secret = passphrase()
        statements = () if newest.id in trusted else tuple(store.statements(oldest.id, secret))
        return Credentials(store.open(newest.id, secret), statements)

    return choose


def nobody(trusted: Sequence[str]) -> Credentials:
    """Signs nothing. Raises NoTrustedKey."""
    raise NoTrustedKey(trusted)
