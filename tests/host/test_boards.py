"""Board files: the shipped ones fit the firmware's sources, a new one is a file, a wrong one says which key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from midgehost.boards import BadBoardFile, all_boards, board, i2c_pins, identify, read_board
from midgehost.errors import NotFound
from midgehost.resources import boards_dir

NAMES = ["esp32", "esp32-c3", "esp32-c6", "esp32-s3", "pico", "pico-w", "pico2", "pico2-w", "virtual"]
FAMILIES = {"rp2040": [0xE48BFF56], "rp2350": [0xE48BFF59, 0xE48BFF5A]}  # pico-sdk, boot/uf2.h
OFFSETS = {"esp32": 0x1000, "esp32s3": 0, "esp32c3": 0, "esp32c6": 0}  # ESP-IDF, CONFIG_BOOTLOADER_OFFSET_IN_FLASH


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's own board files: none but what a test writes."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "midge" / "boards"
    folder.mkdir(parents=True)
    return folder


def changed(text: str, **keys: str) -> str:
    """The text of a board file with some top-level keys set to other TOML values."""
    for key, value in keys.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert count == 1
    return text


def shipped(name: str) -> str:
    return (boards_dir() / f"{name}.toml").read_text()


def test_all_are_there() -> None:
    assert list(all_boards()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_flash_methods_fit_the_chips(name: str) -> None:
    one = board(name)
    if one.flash is None:
        assert one.chip == "unix"
    elif one.flash.method == "esptool":
        assert (one.flash.chip, one.flash.offset) == (one.chip, OFFSETS[one.chip])
        assert one.exec_bytes == 12 * 1024
    else:
        assert [image.family for image in one.firmware] == FAMILIES[one.chip]
        assert one.usb.running == ("2e8a:0005",)
        assert one.usb.bootloader == (("2e8a:0003",) if one.chip == "rp2040" else ("2e8a:000f",))


@pytest.mark.parametrize("name", ["pico", "pico-w", "pico2", "pico2-w"])
def test_i2c_pins_are_those_of_the_port(name: str) -> None:
    """ports/rp2/machine_i2c.h: SDA and SCL on even and odd pins, the buses on even and odd pairs of pins."""
    one = board(name)
    assert one.pins is not None
    for pin in one.pins.gpio:
        for bus in (0, 1):
            assert (pin in i2c_pins(one, bus, "sda")) == (pin % 2 == 0 and pin // 2 % 2 == bus and pin != 25)
            assert (pin in i2c_pins(one, bus, "scl")) == (pin % 2 == 1 and pin // 2 % 2 == bus and pin != 25)


@pytest.mark.parametrize("name", NAMES)
def test_problems_name_an_issue(name: str) -> None:
    for problem in board(name).problem:
        assert re.fullmatch(r"https://github\.com/micropython/micropython/issues/\d+", problem.url)


@pytest.mark.parametrize(
    ("platform", "machine", "name"),
    [
        ("rp2", "Raspberry Pi Pico with RP2040", "pico"),
        ("rp2", "Raspberry Pi Pico W with RP2040", "pico-w"),
        ("rp2", "Raspberry Pi Pico2 with RP2350", "pico2"),
        ("rp2", "Raspberry Pi Pico2 with RP2350-RISCV", "pico2"),
        ("rp2", "Raspberry Pi Pico 2 W with RP2350", "pico2-w"),
        ("esp32", "Generic ESP32 module with ESP32", "esp32"),
        ("esp32", "Generic ESP32S3 module with ESP32S3", "esp32-s3"),
        ("esp32", "Generic ESP32S3 module with Octal-SPIRAM with ESP32-S3", "esp32-s3"),
        ("esp32", "ESP32C3 module with ESP32-C3", "esp32-c3"),
        ("esp32", "ESP32C6 module with ESP32C6", "esp32-c6"),
        ("rp2", "midge virtual board (pico)", "virtual"),
        ("rp2", "Adafruit Feather RP2040 with RP2040", None),
        ("esp32", "Raspberry Pi Pico with RP2040", None),
        ("esp32", "Generic ESP32S2 module with ESP32-S2", None),
    ],
)
def test_a_board_is_identified_by_what_it_says(platform: str, machine: str, name: str | None) -> None:
    found = identify(platform, machine)
    assert (found and found.name) == name


def test_adding_a_board_is_adding_a_file(config: Path) -> None:
    text = changed(shipped("pico"), name='"shaker"', machine="['^Shaker with RP2040$']", heap_bytes="100_000")
    (config / "shaker.toml").write_text(text)
    assert list(all_boards()) == [*NAMES, "shaker"]
    assert board("shaker").heap_bytes == 100_000
    found = identify("rp2", "Shaker with RP2040")
    assert found is board("shaker")


def test_what_fits_two_boards_is_neither(config: Path) -> None:
    (config / "twin.toml").write_text(changed(shipped("pico"), name='"twin"'))
    assert identify("rp2", "Raspberry Pi Pico with RP2040") is None
    assert identify("rp2", "Raspberry Pi Pico W with RP2040") is board("pico-w")


def test_a_person_may_replace_a_shipped_board(config: Path) -> None:
    (config / "pico.toml").write_text(changed(shipped("pico"), clock_mhz="200"))
    assert board("pico").clock_mhz == 200


@pytest.mark.parametrize(
    ("keys", "key", "why"),
    [
        ({"name": '"other"'}, "name", "not the file's name"),
        ({"clock_mhz": "0"}, "clock_mhz", ">= 1"),
        ({"heap_bytes": '"a lot"'}, "heap_bytes", "Expected `int`"),
        ({"fs_bytes": "3_000_000"}, "fs_bytes", "larger than the flash"),
        ({"flash_bytes": "2_097_152\nheap_online_bytes = 300_000"}, "heap_online_bytes", "more than heap_bytes"),
        ({"drive": '"RPI-RP2"\nchip = "rp2040"'}, "flash.chip", "belongs to method esptool"),
        ({"default_adc": "26\ni2c.2.sda = [4]"}, "i2c.2", "the buses 0 and 1"),
        ({"machine": "['[']"}, "machine", "no regular expression"),
        ({"judged": '["heap_byte"]'}, "judged", "no number of this file"),
        ({"arches": '["xtensawin"]'}, "firmware.arch", "not among the board's arches"),
        ({"family": "0xe48bff56\nsize = 1"}, "firmware[0]", "unknown field `size`"),
        ({"method": '"esptool"'}, "firmware.family", "belongs to method uf2"),
        ({"issue": '"see the forum"'}, "problem[0].issue", "regex"),
        ({"default_adc": "5"}, "default_adc", "not in pins.adc"),
        ({"default_i2c": "{ i2c = 0, sda = 6, scl = 5 }"}, "default_i2c.sda", "cannot use pin 6"),
        ({"default_i2c": "{ i2c = 2, sda = 4, scl = 5 }"}, "default_i2c.i2c", "no bus 2"),
        ({"default_i2c": "{ i2c = 0, sda = 4 }"}, "default_i2c", "needs the keys"),
        ({"method": '"dfu"'}, "flash.method", "Invalid enum value"),
        ({"drive": '"RPI-RP2"\ncolour = 1'}, "flash", "unknown field `colour`"),
        ({"running": '["2E8A:5"]'}, "usb.running[0]", "regex"),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, keys: dict[str, str], key: str, why: str) -> None:
    text = shipped("pico")
    if "issue" in keys:
        text = text[: text.index("[[problem]]")] + '[[problem]]\nwhat = "x"\nissue = ""\n'
    path = tmp_path / "pico.toml"
    path.write_text(changed(text, **keys))
    with pytest.raises(BadBoardFile, match=re.escape(why)) as refused:
        read_board(path)
    assert refused.value.key == key
    assert str(path) in str(refused.value)


def test_images_need_a_way_onto_the_board(tmp_path: Path) -> None:
    path = tmp_path / "pico.toml"
    path.write_text(re.sub(r"\[flash\]\n(\w+ = .*\n)+", "", shipped("pico")))
    with pytest.raises(BadBoardFile, match="images need a way") as refused:
        read_board(path)
    assert refused.value.key == "flash"


def test_a_file_that_is_no_toml(config: Path) -> None:
    (config / "half.toml").write_text('name = "half')
    with pytest.raises(BadBoardFile, match=r"half\.toml: it is no readable TOML"):
        all_boards()


def test_an_image_by_its_arch() -> None:
    assert board("pico2").image().file == "RPI_PICO2"
    assert board("pico2").image("rv32imc").file == "RPI_PICO2-RISCV"
    assert board("pico2").image("rv32imc").page == "RPI_PICO2"
    with pytest.raises(NotFound, match=r"no stock image for armv6m\. Known: armv7emsp, rv32imc"):
        board("pico2").image("armv6m")
    with pytest.raises(NotFound, match="no stock image"):
        board("virtual").image()
