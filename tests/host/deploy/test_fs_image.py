"""Images: what goes in comes out, for every tree; damage of any kind is noticed; the layout is MicroPython's."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from littlefs import LittleFS, UserContext

from midgehost.deploy.fs_image import FAT, LITTLEFS, BadBackup, FileSystem, NoRoom, Origin, decode, encode, spread

BLOCK = 4096
PICO = Origin("Raspberry Pi Pico with RP2040", "rp2", "armv6m", LITTLEFS, BLOCK, 64)


def system(files: dict[str, bytes], folders: set[str] | None = None, origin: Origin = PICO) -> FileSystem:
    above = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/" and at}
    return FileSystem(origin, frozenset(above | (folders or set())), files)


def sample() -> FileSystem:
    """20 files of up to 7 KB in four folders."""
    return system({f"/d{i % 4}/e/f{i}": random.Random(i).randbytes(i * i * 20) for i in range(20)}, {"/empty"})


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)


@given(st.dictionaries(st.lists(names, min_size=1, max_size=5).map(tuple), st.binary(max_size=6000), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_tree_comes_back(tree: dict[tuple[str, ...], bytes]) -> None:
    paths = sorted(tree)
    files = {
        "/" + "/".join(path): tree[path]
        for path in paths
        if not any(other != path and other[: len(path)] == path for other in paths)
    }
    content = system(files)
    assert decode(encode(content), "x") == content


def test_the_layout_is_that_of_the_stock_file_system() -> None:
    image = encode(sample())
    assert len(image) == PICO.size
    assert image[8:16] == b"littlefs"
    assert int.from_bytes(image[20:24], "little") == 0x00020000, "on-disk version"
    assert [int.from_bytes(image[at : at + 4], "little") for at in (24, 28)] == [BLOCK, 64]
    assert image == encode(sample()), "the same files make the same image"
    disk: Any = LittleFS(context=UserContext(0, buffer=bytearray(image)), block_size=BLOCK, block_count=64)
    assert disk.listdir("/") == ["d0", "d1", "d2", "d3", "empty"]


@pytest.mark.parametrize(("platform", "inlined"), [("rp2", 512), ("esp32", 128)])
def test_small_files_are_inlined_as_far_as_the_board_reads_them(platform: str, inlined: int) -> None:
    """MicroPython reads an inlined file through a cache of four times its program size, and no further."""

    def blocks(size: int) -> int:
        content = system({"/x": bytes(size)}, origin=dataclasses.replace(PICO, platform=platform))
        disk: Any = LittleFS(
            context=UserContext(0, buffer=bytearray(encode(content))), block_size=BLOCK, block_count=64
        )
        return disk.used_block_count

    assert blocks(inlined) == 2
    assert blocks(inlined + 1) == 3


def test_names_in_this_order_take_less_room() -> None:
    paths = [f"/g{i}" for i in range(335)]
    assert sorted(spread(paths)) == sorted(paths)

    def pairs(order: list[str]) -> int:
        disk: Any = LittleFS(block_size=BLOCK, block_count=99, prog_size=256, read_size=32, cache_size=1024)
        for path in order:
            with disk.open(path, "wb"):
                pass
            disk.setattr(path, "\x01", bytes(8))
        return disk.used_block_count

    assert pairs(spread(paths)) < 0.75 * pairs(sorted(paths))


def test_a_file_system_of_fat_may_take_more_room_as_an_image() -> None:
    fat = Origin("x", "esp32", None, FAT, 512, 256)
    content = system({f"/{i}": bytes(600) for i in range(100)}, origin=fat)
    image = encode(content)
    assert len(image) > fat.size
    assert decode(image, "x") == content


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(NoRoom, match=r"300,000 bytes, the file system has room for 262,144"):
        encode(system({"/x": bytes(300_000)}))


# --- damage -----------------------------------------------------------------------------------------------------------


def damage(image: bytes, seed: int) -> tuple[str, bytes]:
    """One kind of damage within the first 50 blocks, which are in use."""
    chance = random.Random(seed)
    harmed = bytearray(image)
    kind = ("bits", "block", "swap", "zeros", "cut", "longer")[seed % 6]
    at = chance.randrange(50) * BLOCK
    if kind == "bits":
        for _ in range(chance.choice([1, 3, 30])):
            harmed[chance.randrange(50 * BLOCK)] ^= 1 << chance.randrange(8)
    elif kind == "block":
        harmed[at : at + BLOCK] = chance.randbytes(BLOCK)
    elif kind == "swap":
        to = chance.randrange(50) * BLOCK
        harmed[at : at + BLOCK], harmed[to : to + BLOCK] = harmed[to : to + BLOCK], harmed[at : at + BLOCK]
    elif kind == "zeros":
        at, size = chance.randrange(50 * BLOCK), chance.choice([1, 100, 5000, 60000])
        harmed[at : at + size] = bytes(len(harmed[at : at + size]))
    elif kind == "cut":
        del harmed[chance.randrange(len(harmed)) :]
    else:
        harmed += bytes(chance.choice([1, BLOCK]))
    return kind, bytes(harmed)


def test_damage_is_refused_or_without_effect() -> None:
    content = sample()
    image = encode(content)
    ends = Counter[str]()
    for seed in range(300):
        kind, harmed = damage(image, seed)
        try:
            assert decode(harmed, "x") == content, (kind, seed)
            ends["without effect"] += 1
            assert kind not in ("cut", "longer")
        except BadBackup:
            ends["refused"] += 1
    assert ends["refused"] > 150 and ends["without effect"] > 20


def test_other_images_are_refused() -> None:
    disk: Any = LittleFS(block_size=BLOCK, block_count=64)
    with pytest.raises(BadBackup, match="none of `midge backup`"):
        decode(bytes(disk.context.buffer), "x")
    disk.setattr("/", "M", b'{"midge":2}')
    with pytest.raises(BadBackup, match="another version of midge"):
        decode(bytes(disk.context.buffer), "x")
    disk.setattr("/", "M", b'{"midge":1}')
    with pytest.raises(BadBackup, match="its description does not read"):
        decode(bytes(disk.context.buffer), "x")
    for image in (b"", b"\xff" * BLOCK, bytes(64 * BLOCK), b"UF2\n" * 4096):
        with pytest.raises(BadBackup, match="no littlefs image"):
            decode(image, "x")
