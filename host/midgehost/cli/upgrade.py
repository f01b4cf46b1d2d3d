"""`midge upgrade`: firmware, device modules and bundles of a node that runs.

Joins what knows nothing of each other: the node on the board (deploy), the image and its layout (flash), the keys.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midgehost.cli.passphrase import FromFd, FromFile, passphrase
from midgehost.cli.port import PortOption
from midgehost.errors import DeployError, MidgeError, NotFound

if TYPE_CHECKING:
    from rich.console import Console

    from midgehost.api import Board as Connected
    from midgehost.cli.progress import Watch
    from midgehost.deploy.fs_image import FileSystem
    from midgehost.deploy.plan import Payload
    from midgehost.deploy.probe import BoardInfo
    from midgehost.deploy.protocol import Report, Terms
    from midgehost.deploy.upgrade import Node
    from midgehost.deploy.upgrade_plan import Firmware


class Broken(DeployError):
    """New firmware is on its way or there, and the rest of the upgrade failed."""

    code = "deploy.upgrade_broken"
    exit_code = 1

    def __init__(self, error: MidgeError, backup: Path, port: str, version: str) -> None:
        self.error, self.backup = error, backup
        restore = f"midge restore {backup} --port {port} --fit --with-trust"
        super().__init__(
            f"{error.what} All files of the board are in {backup}.",
            f"{error.do} To go back: midge flash --port {port} --firmware {version}, then {restore}",
        )


@dataclass(frozen=True)
class Order:
    """What the command line asks for."""

    node_dir: Path | None
    port: str
    firmware: str | None
    check: bool


@dataclass(frozen=True)
class Done:
    """What `--json` prints. `firmware` is the version before; `backup` is empty where none was needed."""

    node: str
    port: str
    firmware: str
    tools: tuple[str, ...]
    steps: tuple[str, ...]
    backup: str = ""
    restored: bool = False
    deployed: dict[str, Any] | None = None  # None: nothing was done


def command(
    node_dir: Annotated[Path | None, typer.Argument(help="The node's folder, where its bundles are made anew.")] = None,
    port: PortOption = "",
    firmware: Annotated[str | None, typer.Option(help="A version or a file; default: it stays as it is.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what would be done.")] = False,
    passphrase_file: FromFile = None,
    passphrase_fd: FromFd = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Bring a running node up to this midge: firmware, device modules, bundles. Its files come along.

    Without NODE_DIR the board's own bundles and node file are kept. What cannot be taken over is refused before
    anything changes; new firmware comes after a backup of all files.
    """
    from rich.console import Console

    from midgehost.cli.progress import transfer
    from midgehost.deploy.protocol import Terms
    from midgehost.deploy.signing import signer
    from midgehost.keys import KeyStore

    began = time.monotonic()
    said = Console(quiet=as_json, highlight=False, soft_wrap=True)
    terms = Terms(signer=signer(KeyStore(), lambda: passphrase(passphrase_file, passphrase_fd)))
    with transfer(Console(quiet=as_json, stderr=True)) as watch:
        done = _Work(Order(node_dir, port, firmware, check), terms, said, watch).run()
    if as_json:
        print(json.dumps(asdict(done)))
    elif done.deployed is not None:
        what = f"{done.node} runs in slot {done.deployed['slot']}, version {done.deployed['version']}"
        said.print(f"[green]upgraded[/]: {what}, {time.monotonic() - began:.1f} s")
        for part, reason in done.deployed["disabled"].items():
            said.print(f"[yellow]{part} does not work[/]: {reason}")
    elif done.steps:
        said.print(f"{done.node}: {'; '.join(done.steps)}")
    else:
        said.print(f"{done.node} is up to date")


class _Work:
    """One upgrade."""

    def __init__(self, order: Order, terms: Terms, said: Console, watch: Watch) -> None:
        self._order, self._terms, self._said, self._watch = order, terms, said, watch

    def run(self) -> Done:
        """Looks, decides, and does it unless it is only to be checked."""
        from midgehost import connect
        from midgehost.deploy.protocol import resuming
        from midgehost.deploy.slots import Slots
        from midgehost.deploy.upgrade import look, remade, wanted
        from midgehost.deploy.upgrade_plan import decide

        order = self._order
        with connect(order.port) as board:
            with resuming(board.transport):
                self._watch.step("looking at the node")
                info = board.info
                node = look(board.transport, info)
                image, new = self._image(info)
                then = dataclasses.replace(info, arch=(new.arch if new else None) or info.arch)
                payload = remade(node, then, order.node_dir)
                todo = decide(node.found, wanted(node, then, payload, order.node_dir, new))
                done = Done(node.found.node, order.port, info.firmware, node.tools, todo.steps)
                if order.check or todo.is_current:
                    Slots(board.transport).release()
                    return done
            if todo.firmware is None:
                return dataclasses.replace(done, deployed=asdict(self._deploy(board, node, payload)))
            content, backup = self._back_up(board, node)
        self._said.print(f"all files are kept in {backup}")
        with _way_back(order, info, backup):
            return self._with_firmware(image, node, content, dataclasses.replace(done, backup=str(backup)))

    def _with_firmware(self, image: Path, node: Node, content: FileSystem, done: Done) -> Done:
        """Flashes, brings the files back if they are gone, deploys."""
        from midgehost import connect
        from midgehost.cli import flash
        from midgehost.deploy.protocol import resuming
        from midgehost.deploy.upgrade import bring_back, remade

        watch = self._watch
        written = flash.write(flash.Order(None, self._order.port, str(image), None, False), self._said, watch)
        with connect(written.port) as board:
            restored = bring_back(board.transport, board.info, content, watch.progress, watch.step)
            with resuming(board.transport):
                payload = remade(node, board.info, self._order.node_dir)
            report = self._deploy(board, node, payload)
        return dataclasses.replace(done, port=written.port, restored=restored, deployed=asdict(report))

    def _deploy(self, board: Connected, node: Node, payload: Payload) -> Report:
        """The signed deployment: it proves the node, even where nothing has changed."""
        from midgehost.deploy.protocol import deploy
        from midgehost.tested import remember

        info = board.info
        progress, step = self._watch.progress, self._watch.step
        report = deploy(board.transport, info, payload, self._terms, progress=progress, on_step=step)
        remember(node.found.node, info.board.name if info.board else "", info.firmware)
        return report

    def _image(self, info: BoardInfo) -> tuple[Path, Firmware | None]:
        """The image that is asked for, and what it means for the board's files.

        Raises NotFound, BadImage, WrongImage.
        """
        from midgehost.cli import flash
        from midgehost.deploy.upgrade_plan import Firmware, Place
        from midgehost.firmware_cache import age
        from midgehost.flash.backend import WrongImage
        from midgehost.flash.layout import file_system
        from midgehost.flash.recognise import recognise

        if self._order.firmware is None:
            return Path(), None
        board = info.board
        if board is None or board.flash is None:
            which = board.title if board else info.machine
            raise NotFound(f"midge has no firmware for {which}.", "Leave --firmware out.")
        arch = info.arch if any(image.arch == info.arch for image in board.firmware) else None
        path, _ = flash.find_image(board, self._order.firmware, arch, self._watch)
        data = path.read_bytes()
        found = recognise(path, data)
        kind = found.of_board(board)
        if kind is None:
            raise WrongImage(str(path), " or ".join(sorted(found.machines)) or "another board", board.name)
        if found.version not in board.tested_firmware:
            doubt = f"midge's tests have not run on MicroPython {found.version} for {board.title}"
            self._said.print(f"[yellow]{doubt}[/]")
        numbers = (*age(found.version)[0], 0, 0)[:3]
        region = file_system(data, board)
        place = Place(region.size, start=region.start) if region else None
        return path, Firmware(numbers, place, kind.arch if len(board.firmware) > 1 else None)

    def _back_up(self, board: Connected, node: Node) -> tuple[FileSystem, Path]:
        """All files of the board, in the cache, under a name that is new."""
        from midgehost.deploy.backup import read_board, save
        from midgehost.resources import cache_dir

        content = read_board(board.transport, board.info, self._watch.progress, self._watch.step)
        folder = cache_dir() / "backups"
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in node.found.node)
        path = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.img"
        save(content, path)
        return content, path


@contextmanager
def _way_back(order: Order, info: BoardInfo, backup: Path) -> Generator[None]:
    """Whatever fails from here on says how to get the old state back. Raises Broken."""
    try:
        yield
    except MidgeError as error:
        raise Broken(error, backup, order.port, info.firmware) from error
