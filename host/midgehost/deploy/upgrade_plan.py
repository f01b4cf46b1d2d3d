"""What an upgrade has to do, decided from two descriptions: what is on the board, and what this midge would put there.

Nothing here touches a board or a file. Without the node's folder only what midge itself makes can be made anew: device
modules and boot code. A bundle whose format is no longer read, or a node.json of another schema, needs the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from midgehost.errors import DeployError

Version = tuple[int, ...]


class CannotUpgrade(DeployError):
    """The node cannot be upgraded so; nothing was changed. `reasons` are whole sentences."""

    code = "deploy.cannot_upgrade"

    def __init__(self, reasons: tuple[str, ...], do: str) -> None:
        self.reasons = reasons
        super().__init__(f"{' '.join(reasons)} Nothing was changed.", do)


@dataclass(frozen=True)
class Place:
    """A board's file system: bytes, littlefs or fat; where it begins in flash, None where nobody knows."""

    size: int
    kind: str = "littlefs"
    start: int | None = None

    def survives(self, other: Place) -> bool:
        """Whether firmware that keeps its files there finds these."""
        unknown = self.start is None or other.start is None
        return self.size == other.size and (unknown or self.start == other.start)


@dataclass(frozen=True)
class Found:
    """What is on the board."""

    firmware: Version
    arch: str | None
    place: Place
    used: int  # bytes of the file system
    node: str  # its name; empty: there is no node of midge's
    trial: bool = False  # an update is proving itself
    schema: int | None = 1  # of node.json; None: it does not read
    modules: Mapping[str, str] = field(default_factory=dict[str, str])  # path below lib/: SHA-256
    bundles: Mapping[str, str] = field(default_factory=dict[str, str])  # name: why it is not usable; empty: it is
    base: str = ""  # folder of the boot code


@dataclass(frozen=True)
class Firmware:
    """The image that is to be written. `arch` None: its board has images for one arch only."""

    version: Version
    place: Place | None  # None: the image does not say
    arch: str | None = None

    @property
    def text(self) -> str:
        """1.26.1"""
        return _dotted(self.version)


@dataclass(frozen=True)
class Wanted:
    """What this midge would put there. `modules` is made from the modules that the board has, or from the folder."""

    schema: int
    modules: Mapping[str, str]  # path below lib/: SHA-256
    base: str
    oldest: Version  # firmware that device modules run on ...
    too_new: Version  # ... and the first that they do not
    unknown: tuple[str, ...] = ()  # modules on the board that this midge does not have
    firmware: Firmware | None = None  # None: it stays
    folder_node: str | None = None  # the name of the node in the folder; None: there is no folder


@dataclass(frozen=True)
class Upgrade:
    """What has to be done, in this order: firmware, files if they go with it, then a deployment of the rest."""

    firmware: str | None = None  # the version to flash
    files_go: bool = False  # the firmware keeps its files elsewhere: they are brought back from the backup
    modules: tuple[str, ...] = ()  # that are changed, new or no longer needed
    base: bool = False
    from_folder: bool = False  # node file and bundles are made anew

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to do."""
        return self == Upgrade()

    @property
    def steps(self) -> tuple[str, ...]:
        """In words."""
        found: list[str] = []
        if self.firmware:
            found.append(f"back up all files, then flash MicroPython {self.firmware}")
            found.append("restore the files, which do not survive it" if self.files_go else "compare the files")
        if self.from_folder:
            found.append("make the node file and its bundles anew from the folder")
        if self.modules:
            found.append(f"replace {len(self.modules)} device module{'' if len(self.modules) == 1 else 's'}")
        if self.base:
            found.append("replace the boot code")
        if self.from_folder or self.modules or self.base:
            found.append("deploy it: test, trial, confirm")
        return tuple(found)


def decide(found: Found, wanted: Wanted) -> Upgrade:
    """What has to be done. Raises CannotUpgrade with every reason at once."""
    _require_node(found, wanted)
    if wanted.folder_node is None:
        _require_no_folder_is_needed(found, wanted)
    _require_firmware(found, wanted)
    changed = {
        path for path in {*found.modules, *wanted.modules} if found.modules.get(path) != wanted.modules.get(path)
    }
    new = wanted.firmware
    flash = new is not None and new.version != found.firmware
    return Upgrade(
        firmware=new.text if new and flash else None,
        files_go=bool(new and flash and new.place and not found.place.survives(new.place)),
        modules=tuple(sorted(changed)),
        base=found.base != wanted.base,
        from_folder=wanted.folder_node is not None,
    )


def _require_node(found: Found, wanted: Wanted) -> None:
    if not found.node:
        raise CannotUpgrade(("There is no node of midge's on the board.",), "Run `midge deploy NODE_DIR`.")
    if found.trial:
        why = "The node on the board is on trial and has not confirmed itself yet."
        raise CannotUpgrade((why,), "Wait until `midge monitor` shows it confirmed, then try again.")
    if wanted.folder_node not in (None, found.node):
        why = f"The folder's node is {wanted.folder_node!r}, the board runs {found.node!r}."
        raise CannotUpgrade((why,), "Name the folder of the node that runs there, or deploy the other one.")


def _require_no_folder_is_needed(found: Found, wanted: Wanted) -> None:
    reasons = [f"The bundle {name} cannot be taken over: {why}." for name, why in sorted(found.bundles.items()) if why]
    if found.schema is None:
        reasons.append("The board's node.json does not read.")
    elif found.schema != wanted.schema:
        reasons.append(f"The board's node.json has schema {found.schema}, this midge writes {wanted.schema}.")
    if wanted.unknown:
        reasons.append(f"This midge has no device module {', '.join(sorted(wanted.unknown))}.")
    new = wanted.firmware
    if new and new.arch is not None and new.arch != found.arch:
        reasons.append(f"The new firmware is for {new.arch}, the bundles are for {found.arch}.")
    if reasons:
        raise CannotUpgrade(
            tuple(reasons), "Run `midge upgrade NODE_DIR`, with the folder that the node was made from."
        )


def _require_firmware(found: Found, wanted: Wanted) -> None:
    new = wanted.firmware
    version = new.version if new else found.firmware
    if not wanted.oldest <= version < wanted.too_new:
        which = "The new firmware" if new else "The board's firmware"
        allowed = f"{_dotted(wanted.oldest)} up to, but not including, {_dotted(wanted.too_new)}"
        why = f"{which} is MicroPython {_dotted(version)}; device modules run on {allowed}."
        raise CannotUpgrade((why,), f"Give --firmware with a version from {_dotted(wanted.oldest)} on.")
    if new is None or new.version == found.firmware or new.place is None or found.place.survives(new.place):
        return
    if found.place.kind != new.place.kind:
        why = f"The new firmware makes a new file system, and the files cannot go back from {found.place.kind} to it."
        raise CannotUpgrade((why,), "Run `midge backup`, flash, then deploy the node from its folder.")
    if found.used > new.place.size:
        why = f"The files take {found.used:,} bytes, the new firmware's file system has {new.place.size:,}."
        raise CannotUpgrade((why,), "Delete files, or choose firmware with a larger file system.")


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
