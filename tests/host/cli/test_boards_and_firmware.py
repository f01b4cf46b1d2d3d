"""`midge boards` and `midge firmware`: tables for people, JSON for scripts, one line where the network is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midgehost.boards import all_boards
from midgehost.cli.app import run


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("MIDGE_FIRMWARE_URL", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_boards_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["boards"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert rows["pico-w"] == ["pico-w", "armv6m", "wifi", "ble", "125", "188", "2.0", "0.8", "RPI_PICO_W"]
    assert rows["esp32"][-4:] == ["~160", "4.0", "2.0", "ESP32_GENERIC"]
    assert set(all_boards()) < set(rows)


def test_one_board_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["boards", "esp32"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for part in (
        "esptool, chip esp32, at 0x1000",
        "~12,288 bytes",
        "analogue 32-36, 39; default 34",
        "0, 2, 4, 12-15, 25-27 only without Wi-Fi: refused",
        "https://github.com/micropython/micropython/issues/6219",
        "10c4:ea60",
    ):
        assert part in out
    assert run(["boards", "pico"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "UF2 on the drive RPI-RP2, family e48bff56" in out
    assert "tested on 1.24.1, 1.26.1" in out
    assert "I2C 1 SDA 2, 6, 10, 14, 18, 22, 26; SCL 3, 7, 11, 15, 19, 27" in out


def test_boards_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["boards", "--json"]) == 0
    assert [table["name"] for table in json.loads(capsys.readouterr().out)] == list(all_boards())
    assert run(["boards", "pico2", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [image["arch"] for image in table["firmware"]] == ["armv7emsp", "rv32imc"]


def test_an_unknown_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["boards", "pico-x"]) == 2
    assert "Did you mean pico-w?" in capsys.readouterr().err


def test_a_board_file_of_one_s_own(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = folders / "CONFIG" / "midge" / "boards"
    own.mkdir(parents=True)
    (own / "broken.toml").write_text('name = "broken"\n')
    assert run(["boards"]) == 2
    err = capsys.readouterr().err
    assert "broken.toml: Object missing required field" in err
    assert "[board.bad_file]" in err


def test_firmware_without_network(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["firmware", "list"]) == 0
    assert "No image in" in capsys.readouterr().out
    assert run(["firmware", "list", "pico"]) == 0
    assert "127.0.0.1:9 cannot be reached" in capsys.readouterr().out
    assert run(["firmware", "list", "pico", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert (table["cached"], table["available"]) == ([], [])
    assert "cannot be reached" in table["offline"]
    assert run(["firmware", "list", "pico", "--offline", "--json"]) == 0
    assert "offline" not in json.loads(capsys.readouterr().out)
    assert run(["firmware", "get", "pico"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("[flash.offline]\n")


def test_add_then_list_then_get(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = b"\xe9" + bytes(99) + b"MicroPython v1.26.1 on 2025-09-11; ESP32C3 module with ESP32-C3\0"
    (folders / "c3.bin").write_bytes(text)
    assert run(["firmware", "add", str(folders / "c3.bin"), "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    assert (added["board"], added["arch"], added["version"]) == ("esp32-c3", "rv32imc", "1.26.1")
    assert run(["firmware", "list"]) == 0
    assert added["sha256"][:16] in capsys.readouterr().out
    assert run(["firmware", "get", "esp32-c3", "--version", "1.26.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == added
    assert run(["firmware", "add", str(folders / "c3.bin"), "--board", "esp32"]) == 2
    assert "[flash.wrong_image]" in capsys.readouterr().err
    assert run(["firmware", "add", str(folders / "nothing.bin")]) == 2
    assert "[host.os]" in capsys.readouterr().err
