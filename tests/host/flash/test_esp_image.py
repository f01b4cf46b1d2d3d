"""ESP32 images against a board, before anything is erased."""

from __future__ import annotations

import random
import struct

import pytest

import esp_images
from midgehost.flash.esp_image import EspImage, Malformed, OtherChip, parse

CHIPS = tuple(esp_images.OFFSETS)


def read(data: bytes, chip: str = "esp32") -> EspImage:
    return parse(data, chip, esp_images.OFFSETS[chip])


def refusal(data: bytes, chip: str = "esp32") -> str:
    with pytest.raises(Malformed) as raised:
        read(data, chip)
    return str(raised.value)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_merged_image_is_bootloader_partitions_and_app(chip: str) -> None:
    data = esp_images.merged(chip)
    image = read(data, chip)
    assert image.bootloader.start == esp_images.OFFSETS[chip]
    assert [part.label for part in image.partitions] == ["nvs", "phy_init", "factory", "vfs"]
    assert image.app.start == 0x10000
    assert image.app.end == esp_images.OFFSETS[chip] + len(data)
    assert (image.project, image.version) == ("micropython", "v1.26.1")
    assert image.bootloader.flash_bytes == 4 << 20


def test_the_flash_size_in_the_header() -> None:
    assert read(esp_images.merged("esp32s3", flash_size=3), "esp32s3").app.flash_bytes == 8 << 20


@pytest.mark.parametrize("chip", CHIPS)
def test_an_image_for_another_chip_is_named(chip: str) -> None:
    other = "esp32s3" if chip != "esp32s3" else "esp32c6"
    with pytest.raises(OtherChip) as raised:
        parse(esp_images.merged(other), chip, esp_images.OFFSETS[other])
    assert raised.value.chip == other


def test_an_app_for_another_chip_behind_the_right_bootloader() -> None:
    with pytest.raises(OtherChip) as raised:
        read(esp_images.merged("esp32c3", app_chip="esp32c6"), "esp32c3")
    assert raised.value.chip == "esp32c6"


def test_a_chip_that_nobody_knows() -> None:
    data = bytearray(esp_images.merged("esp32"))
    data[12:14] = struct.pack("<H", 999)
    with pytest.raises(OtherChip, match="the chip number 999"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends in the middle of its bootloader"),
        (b"UF2\nWQ]\x9e" + bytes(504), "a UF2 file"),
        (b"\x7fELF" + bytes(100), "an ELF file"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\xff" * 0x1000 + esp_images.merged("esp32"), "begins with erased flash"),
        (bytes(64), "does not begin with 0xe9 but with 0x00"),
        (esp_images.app("esp32"), "an app alone"),
        (esp_images.image("esp32", [(0x3FFF0030, bytes(100))]).ljust(0x20000, b"\xff"), "no partition table"),
        (esp_images.image("esp32", [(0x3FFF0030, bytes(100))]), "in the middle of its partition table"),
        (esp_images.image("esp32", [(0x3FFF0030, bytes(100))]).ljust(0x20000, b"\x55"), "no partition table"),
        (esp_images.image("esp32", [(0x3FFF0030, bytes(0x7000))]), "its bootloader is larger than its place"),
        (esp_images.image("esp32", []).ljust(0x20000, b"\xff"), "its bootloader has 0 segments"),
        (esp_images.image("esp32", [(0x3FFF0030, b"")] * 17), "its bootloader has 17 segments"),
    ],
)
def test_what_is_no_image(data: bytes, why: str) -> None:
    assert why in refusal(data)


def test_every_truncation_is_noticed() -> None:
    data = esp_images.merged("esp32", 3000)
    chance = random.Random(5)
    for length in {*range(60), *(chance.randrange(len(data)) for _ in range(200)), len(data) - 1}:
        refusal(data[:length])


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (1, "its bootloader"),  # segment count
        (60, "checksum of its bootloader"),
        (0x8000 - 0x1000 + 4, "MD5 of its partition table"),
        (0x10000 - 0x1000 + 3, "SHA-256 of its app factory"),  # header: not in the checksum
        (0x10000 - 0x1000 + 4000, "checksum of its app factory"),
    ],
)
def test_a_flipped_bit_is_noticed(at: int, why: str) -> None:
    data = bytearray(esp_images.merged("esp32"))
    data[at] ^= 1
    assert why in refusal(bytes(data))


def test_the_hash_itself_is_held_against_the_content() -> None:
    data = bytearray(esp_images.merged("esp32"))
    data[-1] ^= 1
    assert refusal(bytes(data)) == "the SHA-256 of its app factory is wrong"


@pytest.mark.parametrize(
    ("partitions", "why"),
    [
        (((0, 0, 0x10000, 0x1F0000, b"a"), (1, 0x81, 0x1F0000, 0x10000, b"vfs")), "partition vfs begins at 0x1f0000"),
        (((0, 0, 0x11000, 0x1E0000, b"a"),), "partition a begins at 0x11000"),
        (((1, 2, 0x8000, 0x1000, b"nvs"), (0, 0, 0x10000, 0x1E0000, b"a")), "partition nvs begins at 0x8000"),
        (((0, 0, 0x10000, 0x10000, b"tiny"),), "its app tiny is larger than its place"),
        (((1, 2, 0x9000, 0x1000, b"nvs"),), "it has no app"),
    ],
)
def test_partitions_that_cannot_be(partitions: tuple[tuple[int, int, int, int, bytes], ...], why: str) -> None:
    bootloader = esp_images.image("esp32", [(0x3FFF0030, bytes(100))])
    data = bootloader.ljust(0x7000, b"\xff") + esp_images.partition_table(partitions)
    assert why in refusal(data.ljust(0xF000, b"\xff") + esp_images.app("esp32", 100_000))


def test_an_image_without_hash_counts_by_its_checksum() -> None:
    bootloader = esp_images.image("esp32", [(0x3FFF0030, bytes(100))], hashed=False)
    whole = esp_images.merged("esp32")
    data = bootloader.ljust(0x7000, b"\xff") + whole[0x7000:]
    assert read(data).bootloader.end == 0x1000 + len(bootloader)
