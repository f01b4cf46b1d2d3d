"""Stock firmware: what micropython.org offers, and how an image comes into the cache, a file of one's own included.

A board's page https://micropython.org/download/RPI_PICO/ links every image of it; the images lie in
https://micropython.org/resources/firmware/. micropython.org publishes no hashes: HTTPS vouches for the first download,
its recorded SHA-256 for every later use.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

from midgehost import firmware_cache
from midgehost.boards import Board, FirmwareImage
from midgehost.errors import FlashError, NotFound
from midgehost.firmware_cache import Image, find
from midgehost.flash.backend import BadImage, WrongImage
from midgehost.flash.recognise import recognise

__all__ = ["Image", "Offer", "add", "find", "get", "offers"]

_SITE: Final = "https://micropython.org"
_LARGEST: Final = 16 << 20  # bytes; stock images have at most 3 MB
_LARGEST_PAGE: Final = 4 << 20
_SILENCE_S: Final = 10.0  # without a byte
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

Progress = Callable[[int, int], None]


class Offline(FlashError):
    """The site cannot be reached, or does not answer as it should."""

    code = "flash.offline"

    def __init__(self, site: str, why: str) -> None:
        self.site, self.why = site, why
        super().__init__(
            f"{site} cannot be reached: {why}.",
            "Use a cached image (`midge firmware list`), or bring a file and run `midge firmware add FILE`.",
        )


class BrokenDownload(FlashError):
    """A download ended early, took too long or brought something else."""

    code = "flash.download"

    def __init__(self, url: str, why: str) -> None:
        self.url, self.why = url, why
        super().__init__(f"{url} did not arrive: {why}; nothing was kept.", "Try again.")


@dataclass(frozen=True)
class Offer:
    """An image that the site has."""

    name: str
    version: str
    date: str  # YYYYMMDD

    @property
    def release(self) -> bool:
        """Not a preview."""
        return firmware_cache.age(self.version)[1]


def offers(board: Board, arch: str | None = None, deadline_s: float = 30.0) -> list[Offer]:
    """The board's images on the site, releases before previews, newest first. Raises NotFound, Offline."""
    image = board.image(arch)
    ending = f".{board.flash.format}" if board.flash else ""
    page = _Links()
    url = f"{_site()}/download/{image.page}/"
    page.feed(_fetch(url, time.monotonic() + deadline_s, _LARGEST_PAGE).decode("utf-8", "replace"))
    found: dict[str, Offer] = {}
    for link in page.links:
        name = urllib.parse.unquote(urllib.parse.urlsplit(link).path).rpartition("/")[2]
        parsed = firmware_cache.parse_name(name)
        if parsed and parsed[0] == image.file and name.endswith(ending):
            found[name] = Offer(name, version=parsed[2], date=parsed[1])
    return sorted(found.values(), key=lambda o: (o.release, firmware_cache.age(o.version), o.date), reverse=True)


def get(
    board: Board,
    version: str | None = None,
    arch: str | None = None,
    progress: Progress | None = None,
    deadline_s: float = 300.0,
) -> Image:
    """Brings an image (by default the newest release) into the cache, unless it is there; it is checked either way.

    Raises NotFound for a version that the site does not have, Offline, BrokenDownload, BadImage, WrongImage,
    ChangedImage. Whatever fails leaves the cache as it was.
    """
    end = time.monotonic() + deadline_s
    image = board.image(arch)
    if version is not None:
        try:
            return find(board, version, arch)
        except NotFound:
            pass
    available = offers(board, arch, deadline_s)
    wanted = [offer for offer in available if (offer.release if version is None else offer.version == version)]
    if not wanted:
        known = ", ".join(offer.version for offer in available) or "none"
        raise NotFound(f"{_site()} has no {image.file} {version or 'release'}.", f"It has: {known}.")
    name = wanted[0].name
    for cached in firmware_cache.of_board(board, arch):
        if cached.path.name == name:
            return firmware_cache.checked(cached)
    url = f"{_site()}/resources/firmware/{urllib.parse.quote(name)}"
    data = _fetch(url, end, _LARGEST, progress)
    _require(Path(name), data, board, image)
    return firmware_cache.store(name, data, url)


def add(path: Path, board: Board | None = None) -> Image:
    """Takes a local image into the cache, recognised by its content, and by its name where that is a stock one.

    Raises BadImage, WrongImage (it is not for `board`), NotFound (it is for no board that midge knows).
    """
    data = path.read_bytes()
    found = recognise(path, data)
    named = firmware_cache.parse_name(path.name)
    fitting = found.board() if board is None else None
    if board is not None and (image := found.of_board(board)):
        fitting = board, image
    if fitting is None:
        known = " or ".join(sorted(found.machines)) or "another board"
        if board is not None:
            raise WrongImage(str(path), known, board.name)
        raise NotFound(f"{path} is for {known}, which no board file describes.", "Name the board with --board.")
    fitting_board, image = fitting
    if named and (named[0], named[2]) != (image.file, found.version):
        if firmware_cache.board_of(named[0]):
            why = f"its name says {named[0]} {named[2]}, its content {image.file} {found.version}"
            raise BadImage(str(path), why)
        raise NotFound(
            f"{named[0]} is another build than the stock {image.file} of {fitting_board.name}.",
            f"Flash it with `midge flash --board {fitting_board.name} --firmware {path}`.",
        )
    name = f"{image.file}-{found.date}-v{found.version}.{found.format}"
    return firmware_cache.store(path.name if named else name, data, str(path.resolve()))


def _require(path: Path, data: bytes, board: Board, image: FirmwareImage) -> None:
    """Raises BadImage, WrongImage unless the data is an image for that board."""
    found = recognise(path, data)
    if found.of_board(board) != image:
        raise WrongImage(str(path), " or ".join(sorted(found.machines)) or "another board", board.name)


class _Links(HTMLParser):
    """Collects what a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to where `_require_https` lets one go."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _site() -> str:
    return (os.environ.get("MIDGE_FIRMWARE_URL") or _SITE).rstrip("/")


def _require_https(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Offline(url, "firmware comes over HTTPS only")


def _fetch(url: str, end: float, largest: int, progress: Progress | None = None) -> bytes:
    """The whole body, until the monotonic time `end`. Raises Offline, NotFound, BrokenDownload."""
    with _opened(url, end) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isascii() and length.isdigit() else None
        if total is None and not response.chunked:
            raise BrokenDownload(url, "the server does not say how long it is")
        if (total or 0) > largest:
            raise BrokenDownload(url, f"its {total:,} bytes are too many")
        body = bytearray()
        while chunk := response.read1(1 << 16):
            body += chunk
            if len(body) > largest:
                raise BrokenDownload(url, f"more than {largest:,} bytes came")
            if time.monotonic() > end:
                raise BrokenDownload(url, f"it took too long, {len(body):,} bytes came")
            if progress and total:
                progress(len(body), total)
    if total is not None and len(body) != total:
        raise BrokenDownload(url, f"{len(body):,} of {total:,} bytes came")
    return bytes(body)


@contextmanager
def _opened(url: str, end: float) -> Generator[http.client.HTTPResponse]:
    """An open response; what the network does to it becomes one of our errors."""
    _require_https(url)
    local = urllib.parse.urlsplit(url).hostname in _LOOPBACK
    proxies = [urllib.request.ProxyHandler({})] if local else []
    opener = urllib.request.build_opener(_NoDowngrade, *proxies)
    request = urllib.request.Request(url, headers={"User-Agent": "midge"})
    seconds = max(0.1, min(_SILENCE_S, end - time.monotonic()))
    try:
        response = opener.open(request, timeout=seconds)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            raise NotFound(f"{url} does not exist.", "See `midge boards` for the names of boards.") from None
        raise Offline(_site(), f"it answers with status {error.code}") from None
    except urllib.error.URLError as error:
        raise Offline(_site(), _reason(error.reason)) from None
    except (http.client.HTTPException, OSError) as error:
        raise Offline(_site(), _reason(error)) from None
    with response:
        try:
            yield response
        except (http.client.HTTPException, OSError) as error:
            raise BrokenDownload(url, _reason(error)) from None


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came for too long"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
