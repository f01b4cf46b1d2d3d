"""Stock images: found on a page like micropython.org's, downloaded whole or not at all, recorded and checked."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from midgehost import firmware_cache
from midgehost.boards import board
from midgehost.errors import NotFound
from midgehost.firmware_cache import ChangedImage, find
from midgehost.flash import images, uf2_image
from midgehost.flash.backend import BadImage, WrongImage
from midgehost.flash.images import BrokenDownload, Offline

Answer = Callable[[BaseHTTPRequestHandler], None]
PAGE = """<!doctype html><html><body><h2>Firmware</h2><h3>Releases</h3>
<p><a class="firmware" href="/resources/firmware/RPI_PICO-20250911-v1.26.1.uf2">v1.26.1 (2025-09-11) .uf2</a>
 / <a href="/resources/firmware/RPI_PICO-20250911-v1.26.1.elf">[.elf]</a>
 / <a href="/resources/firmware/RPI_PICO-20250911-v1.26.1.bin">[.bin]</a>
 / <a href="https://github.com/micropython/micropython/releases/tag/v1.26.1">[Release notes]</a></p>
<p><a class="firmware" href="/resources/firmware/RPI_PICO-20231005-v1.21.0.uf2">v1.21.0</a></p>
<p><a class="firmware" href="/resources/firmware/RPI_PICO-20230426-v1.9.0.uf2">v1.9.0</a></p>
<p><a href="http://elsewhere.example/resources/firmware/RPI_PICO-20250809-v1.26.0.uf2">v1.26.0</a></p>
<h3>Preview builds</h3>
<p><a href="/resources/firmware/RPI_PICO-20251010-v1.27.0-preview.12.g1234567.uf2">v1.27.0-preview.12</a></p>
<p><a href="/resources/firmware/RPI_PICO_W-20250911-v1.26.1.uf2">another board's</a></p>
<p><a href="/resources/firmware/RPI_PICO-RISCV-20250911-v1.26.1.uf2">another variant's</a></p>
<a>no link</a></body></html>"""


def uf2(version: str = "1.26.1", machine: str = "Raspberry Pi Pico with RP2040", family: int = 0xE48BFF56) -> bytes:
    """A made UF2 file that says so of itself, its banner cut by the end of a block."""
    year = "2025-09-11"
    text = bytes(240) + f"MicroPython v{version} on {year}\0; {machine}\0".encode()
    text += bytes(-len(text) % 256)
    return uf2_image.serialise(family, 0x1000_0000, text)


def esp(version: str = "1.26.1", machine: str = "Generic ESP32 module with ESP32") -> bytes:
    return b"\xe9" + bytes(99) + f"MicroPython v{version} on 2025-09-11; {machine}\0".encode()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "cache" / "midge" / "firmware"


class Site:
    """A local micropython.org: what it answers by path, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Answer] = {}
        self.asked: list[str] = []


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            answer = site.answers.get(self.path)
            if answer is None:
                self.send_error(404)
            elif callable(answer):
                answer(self)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("MIDGE_FIRMWARE_URL", f"http://127.0.0.1:{server.server_port}/")
        site.answers["/download/RPI_PICO/"] = PAGE.encode()
        site.answers["/resources/firmware/RPI_PICO-20250911-v1.26.1.uf2"] = uf2()
        yield site
        server.shutdown()
        thread.join()


IMAGE = "/resources/firmware/RPI_PICO-20250911-v1.26.1.uf2"


def sends(body: bytes, length: int | None, status: int = 200, location: str = "") -> Answer:
    """An answer that says this of its length."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        if length is not None:
            request.send_header("Content-Length", str(length))
        if location:
            request.send_header("Location", location)
        request.end_headers()
        request.wfile.write(body)

    return answer


def test_what_the_site_offers(site: Site) -> None:
    offered = images.offers(board("pico"))
    versions = ["1.26.1", "1.26.0", "1.21.0", "1.9.0", "1.27.0-preview.12.g1234567"]
    assert [offer.version for offer in offered] == versions
    assert offered[0] == images.Offer("RPI_PICO-20250911-v1.26.1.uf2", "1.26.1", "20250911")
    assert [offer.release for offer in offered] == [True] * 4 + [False]


def test_a_variant_has_its_board_s_page(site: Site) -> None:
    site.answers["/download/RPI_PICO2/"] = PAGE.replace("RPI_PICO-RISCV-", "RPI_PICO2-RISCV-").encode()
    offered = images.offers(board("pico2"), "rv32imc")
    assert [offer.name for offer in offered] == ["RPI_PICO2-RISCV-20250911-v1.26.1.uf2"]


def test_get_downloads_once_and_records_the_hash(site: Site, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    image = images.get(board("pico"), progress=lambda done, total: seen.append((done, total)))
    data = uf2()
    assert image.path == cache / "RPI_PICO-20250911-v1.26.1.uf2"
    assert image.path.read_bytes() == data
    assert (image.version, image.nbytes, image.sha256) == ("1.26.1", len(data), hashlib.sha256(data).hexdigest())
    assert image.source.endswith(IMAGE)
    assert seen[-1] == (len(data), len(data))
    record = json.loads((cache / "RPI_PICO-20250911-v1.26.1.uf2.json").read_text())
    assert record == {"bytes": len(data), "sha256": image.sha256, "source": image.source}
    assert images.get(board("pico")) == image == find(board("pico"))
    assert site.asked.count(IMAGE) == 1


def test_a_cached_version_needs_no_network(site: Site) -> None:
    image = images.get(board("pico"), "1.26.1")
    site.asked.clear()
    assert images.get(board("pico"), "1.26.1") == image
    assert site.asked == []


def test_a_version_that_the_site_does_not_have(site: Site) -> None:
    with pytest.raises(NotFound, match=r"no RPI_PICO 1\.25\.0\. It has: 1\.26\.1, 1\.26\.0, 1\.21\.0"):
        images.get(board("pico"), "1.25.0")


def test_a_board_without_a_page(site: Site) -> None:
    with pytest.raises(NotFound, match="download/ESP32_GENERIC/ does not exist"):
        images.get(board("esp32"))


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (sends(uf2()[:700], len(uf2())), BrokenDownload, "700 of 1,024 bytes"),
        (sends(uf2(), None), BrokenDownload, "does not say how long"),
        (sends(b"", 1 << 30), BrokenDownload, "too many"),
        (sends(b"", 0, 503), Offline, "status 503"),
        (sends(b"", 0, 404), NotFound, "does not exist"),
        (sends(b"", 0, 302, "http://elsewhere.example/x.uf2"), Offline, "over HTTPS only"),
        (sends(b"", 0, 302, "ftp://127.0.0.1/x.uf2"), Offline, "over HTTPS only"),
        (b"<html>please log in to the hotel's network</html>", BadImage, "begins like neither"),
        (uf2()[:-512] + bytes(512), BadImage, "not a usable firmware image"),
        (uf2()[:512], BadImage, "not a usable firmware image"),
        (uf2(machine="Raspberry Pi Pico W with RP2040"), WrongImage, "Pico W with RP2040, not for pico"),
        (uf2(family=0xE48BFF59), WrongImage, "not for pico"),
        (uf2_image.serialise(0xE48BFF56, 0x1000_0000, bytes(256)), BadImage, "no MicroPython in it"),
    ],
)
def test_a_bad_download_leaves_nothing(
    site: Site, cache: Path, answer: bytes | Answer, error: type[Exception], why: str
) -> None:
    site.answers[IMAGE] = answer
    with pytest.raises(error, match=why):
        images.get(board("pico"))
    assert not cache.exists() or list(cache.iterdir()) == []
    site.answers[IMAGE] = uf2()
    assert images.get(board("pico")).version == "1.26.1"


def test_a_download_without_end(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunks(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for _ in range(50):
            request.wfile.write(b"100\r\n" + bytes(256) + b"\r\n")
        request.wfile.write(b"0\r\n\r\n")
        request.close_connection = True

    monkeypatch.setattr(images, "_LARGEST", 10_000)
    site.answers[IMAGE] = chunks
    with pytest.raises(BrokenDownload, match="more than 10,000 bytes came"):
        images.get(board("pico"))
    assert not cache.exists()


def test_a_slow_download_ends_at_its_deadline(site: Site, cache: Path) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        sends(b"", 1 << 20)(request)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                request.wfile.write(b"U")
            except OSError:
                return
            time.sleep(0.02)

    site.answers[IMAGE] = drip
    began = time.monotonic()
    with pytest.raises(BrokenDownload, match="took too long"):
        images.get(board("pico"), deadline_s=0.5)
    assert time.monotonic() - began < 2
    assert not cache.exists()


def test_a_silent_site(site: Site) -> None:
    def silence(request: BaseHTTPRequestHandler) -> None:
        request.connection.recv(1)  # until the client gives up

    site.answers["/download/RPI_PICO/"] = silence
    with pytest.raises(Offline, match="nothing came for too long"):
        images.get(board("pico"), deadline_s=0.3)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_FIRMWARE_URL", "http://127.0.0.1:9")  # discard: nobody listens
    with pytest.raises(Offline, match=r"cannot be reached: .*refused.*midge firmware add FILE"):
        images.get(board("pico"))


def test_plain_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_FIRMWARE_URL", "http://micropython.example")
    with pytest.raises(Offline, match="over HTTPS only"):
        images.offers(board("pico"))


def test_a_changed_image_is_not_used(site: Site) -> None:
    image = images.get(board("pico"))
    data = bytearray(image.path.read_bytes())
    data[100] ^= 1
    image.path.write_bytes(data)
    with pytest.raises(ChangedImage):
        find(board("pico"))
    with pytest.raises(ChangedImage):
        images.get(board("pico"))
    image.path.unlink()
    assert images.get(board("pico")) == image


def test_find_takes_the_newest_release(cache: Path) -> None:
    cache.mkdir(parents=True)
    for name in ("20240101-v1.9.2", "20241129-v1.24.1", "20250101-v1.25.0-preview.1.gabc"):
        (cache / f"RPI_PICO-{name}.uf2").write_bytes(name.encode())
    (cache / "RPI_PICO_W-20250911-v1.26.1.uf2").write_bytes(b"another board")
    (cache / "notes.txt").write_text("mine")
    assert find(board("pico")).version == "1.24.1"
    assert find(board("pico"), "1.9.2").version == "1.9.2"
    assert find(board("pico"), "1.25.0-preview.1.gabc").path.name.endswith("gabc.uf2")
    assert [image.version for image in firmware_cache.of_board(board("pico"))][-1] == "1.9.2"
    with pytest.raises(NotFound, match=r"RPI_PICO 1\.26\.1 in .*midge firmware get pico --version 1\.26\.1"):
        find(board("pico"), "1.26.1")
    with pytest.raises(NotFound, match="RPI_PICO2-RISCV"):
        find(board("pico2"), arch="rv32imc")


def test_what_a_person_put_there_is_recorded_when_first_seen(cache: Path) -> None:
    cache.mkdir(parents=True)
    path = cache / "RPI_PICO-20250911-v1.26.1.uf2"
    path.write_bytes(uf2())
    assert find(board("pico")).sha256 == hashlib.sha256(uf2()).hexdigest()
    path.write_bytes(uf2("1.26.2"))
    with pytest.raises(ChangedImage):
        find(board("pico"))


def test_a_cache_that_takes_no_record(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "RPI_PICO-20250911-v1.26.1.uf2").write_bytes(uf2())
    (cache / "RPI_PICO-20250911-v1.26.1.uf2.json").mkdir()
    assert find(board("pico")).version == "1.26.1"


@pytest.mark.parametrize(
    ("data", "name", "stored"),
    [
        (uf2(), "RPI_PICO-20250911-v1.26.1.uf2", "RPI_PICO-20250911-v1.26.1.uf2"),
        (uf2(), "firmware.uf2", "RPI_PICO-20250911-v1.26.1.uf2"),
        (uf2(machine="Raspberry Pi Pico W with RP2040"), "a", "RPI_PICO_W-20250911-v1.26.1.uf2"),
        (uf2(machine="Raspberry Pi Pico2 with RP2350", family=0xE48BFF59), "a", "RPI_PICO2-20250911-v1.26.1.uf2"),
        (
            uf2("1.28.0", "Raspberry Pi Pico2 with RP2350-RISCV", 0xE48BFF5A),
            "a",
            "RPI_PICO2-RISCV-20250911-v1.28.0.uf2",
        ),
        (esp(), "a", "ESP32_GENERIC-20250911-v1.26.1.bin"),
        (esp(machine="Generic ESP32S3 module with ESP32S3"), "a", "ESP32_GENERIC_S3-20250911-v1.26.1.bin"),
        (esp(machine="ESP32C6 module with ESP32-C6"), "a", "ESP32_GENERIC_C6-20250911-v1.26.1.bin"),
    ],
)
def test_add_recognises_a_file(tmp_path: Path, cache: Path, data: bytes, name: str, stored: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    image = images.add(path)
    assert image.path == cache / stored
    assert image.path.read_bytes() == data
    assert image.source == str(path)
    owner = firmware_cache.board_of(image.file)
    assert owner is not None
    assert find(owner[0], arch=owner[1].arch) == image
    assert images.add(path, owner[0]) == image


@pytest.mark.parametrize(
    ("data", "name", "named", "error", "why"),
    [
        (uf2(), "a.uf2", "pico-w", WrongImage, "Raspberry Pi Pico with RP2040, not for pico-w"),
        (uf2(), "a.uf2", "esp32", WrongImage, "not for esp32"),
        (
            uf2(),
            "RPI_PICO_W-20250911-v1.26.1.uf2",
            None,
            BadImage,
            "its name says RPI_PICO_W 1.26.1, its content RPI_P",
        ),
        (uf2(), "RPI_PICO-20250911-v1.26.0.uf2", None, BadImage, "its name says RPI_PICO 1.26.0"),
        (
            esp(machine="Generic ESP32 module with SPIRAM with ESP32"),
            "ESP32_GENERIC-SPIRAM-20250911-v1.26.1.bin",
            None,
            NotFound,
            "another build than the stock ESP32_GENERIC",
        ),
        (uf2(machine="Feather RP2040 with RP2040"), "a.uf2", None, NotFound, "no board file describes"),
        (b"Adafruit CircuitPython", "a.uf2", None, BadImage, "begins like neither"),
        (b"\xe9" + bytes(50), "a.bin", None, BadImage, "no MicroPython in it"),
        (b"", "a.bin", None, BadImage, "begins like neither"),
    ],
)
def test_add_refuses(
    tmp_path: Path, cache: Path, data: bytes, name: str, named: str | None, error: type[Exception], why: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(error, match=why):
        images.add(path, board(named) if named else None)
    assert not cache.exists()


@pytest.mark.parametrize(("name", "file"), [("pico", "RPI_PICO"), ("pico-w", "RPI_PICO_W")])
def test_the_real_images_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str) -> None:
    real = Path.home() / ".cache" / "midge" / "firmware"
    found = sorted(real.glob(f"{file}-2*.uf2"))
    if not found:
        pytest.skip(f"no stock image in the cache: midge firmware get {name}")
    for number, path in enumerate(found):
        copy = tmp_path / f"{number}.uf2"
        copy.write_bytes(path.read_bytes())
        assert images.add(copy).path.name == path.name
