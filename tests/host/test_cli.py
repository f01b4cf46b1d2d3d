"""The command line: starting is cheap, refusals are one line, JSON has its promised form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from midgehost.cli.app import COMMANDS, run

HEAVY = ("numpy", "tensorflow", "esptool", "bleak", "matplotlib", "rich", "typer", "mpremote", "serial")


def test_version_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['midge', '--version']\nfrom midgehost.cli import main\nmain()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    version, modules = done.stdout.split("\n", 1)
    assert version == "midge 0.1.0"
    assert not set(HEAVY) & {name.split(".")[0] for name in modules.split()}


def test_importing_the_api_is_light() -> None:
    code = "import sys, midgehost\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert not set(HEAVY) & {name.split(".")[0] for name in done.stdout.split()}


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_unknown_command_and_option_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conver"]) == 2
    assert run(["convert", "--bord", "pico", "x.tflite"]) == 2
    assert "Error" in capsys.readouterr().err


def test_inspect_json(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(models_dir / "kws_ref_model.tflite"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"ops", "macs", "weight_bytes", "arena_bytes", "scratch_bytes", "refusals"}
    assert (report["macs"], report["weight_bytes"], report["arena_bytes"]) == (2656768, 24376, 16000)
    assert report["ops"][1]["op"] == "DEPTHWISE_CONV_2D" and report["refusals"] == []


@pytest.mark.parametrize(
    ("model", "board", "code", "words"),
    [
        ("mnist_cnn_fp32", None, "model.unsupported_type", "float32"),
        ("ad01_int8", "virtual", "model.too_big", "298,404"),
        ("vww_96_int8", "virtual", "model.too_big", "heap"),
    ],
)
def test_inspect_refuses(
    models_dir: Path, capsys: pytest.CaptureFixture[str], model: str, board: str | None, code: str, words: str
) -> None:
    options = ["--board", board] if board else []
    assert run(["inspect", str(models_dir / f"{model}.tflite"), "--json", *options]) == 2
    refusals = json.loads(capsys.readouterr().out)["refusals"]
    assert refusals[0]["code"] == code and words in refusals[0]["what"] and refusals[0]["do"]


def test_convert_writes_nothing_when_it_refuses(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models_dir / "mnist_cnn_fp32.tflite"
    assert run(["convert", str(model), "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("midge: ") and line.endswith("[model.unsupported_type]")


def test_convert_into_what_is_no_folder(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(["convert", str(models_dir / "mnist_cnn_int8.tflite"), "-o", str(tmp_path / "file")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot be written" in line and line.endswith("[data]")


def test_inspect_shows_where_the_heap_goes(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(models_dir / "mnist_cnn_int8.tflite"), "--board", "pico"]) == 0
    text = capsys.readouterr().out
    assert "51,228" in text and "2,144" in text and "of 228,800 on Raspberry Pi Pico" in text
    assert run(["inspect", str(models_dir / "ad01_int8.tflite"), "--board", "pico"]) == 0
    assert "weights in flash" in capsys.readouterr().out
    assert run(["inspect", str(models_dir / "ad01_int8.tflite"), "--board", "virtual"]) == 2
    assert "refused" in capsys.readouterr().out


def test_convert_twice_gives_the_same_bytes(models_dir: Path, tmp_path: Path) -> None:
    for name in "ab":
        assert run(["convert", str(models_dir / "mnist_cnn_int8.tflite"), "-o", str(tmp_path / name)]) == 0
    first, second = ((tmp_path / name / "mnist_cnn_int8.midge").read_bytes() for name in "ab")
    assert first == second and first[:4] == b"MDGB"


def test_unknown_board_names_the_nearest(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(models_dir / "mnist_cnn_int8.tflite"), "--board", "pico-v"]) == 2
    assert "Did you mean pico-w?" in capsys.readouterr().err


def test_init_makes_a_node_that_compiles(tmp_path: Path) -> None:
    from midgehost.nodes import compile_node

    for board, sda in (("virtual", 4), ("esp32", 21)):
        assert run(["init", str(tmp_path / board), "--board", board]) == 0
        node = compile_node(tmp_path / board)
        assert node.board.name == board and node.config["sensors"][0]["config"]["sda"] == sda
    assert run(["init", str(tmp_path / "virtual")]) == 2


def test_detect_finds_the_jump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [20 + (i * 7919 % 13) / 10 for i in range(900)]
    values[700] = 60.0
    recording = tmp_path / "room.csv"
    recording.write_text("time,t\n" + "".join(f"{i} s,{v}\n" for i, v in enumerate(values)))
    png = tmp_path / "room.png"
    for detector in ("window", "multiscale"):
        options = ["--column", "t", "--detector", detector, "--png", str(png), "--json"]
        assert run(["detect", str(recording), *options]) == 0
        report = json.loads(capsys.readouterr().out)
        assert [(a["index"], a["time"]) for a in report["alarms"]] == [(700, "700 s")]
        assert png.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "Did you mean 'b'"),
        ("a,bb\n1,x\n", "line 2"),
        ("a,bb\n", "holds no samples"),
        ("", "has no column"),
    ],
)
def test_detect_refuses_a_bad_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "r.csv").write_text(text)
    assert run(["detect", str(tmp_path / "r.csv"), "--column", "bb"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line and line.endswith("[data]")


def test_detect_skips_what_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [str(20 + i * 7919 % 13 / 10) for i in range(500)]
    cells[100], cells[200] = "nan", "inf"
    (tmp_path / "r.csv").write_text("v\n" + "\n".join(cells) + "\n")
    assert run(["detect", str(tmp_path / "r.csv"), "--column", "v", "--json", "--png", str(tmp_path / "p.png")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["skipped"] == [100, 200] and report["alarms"] == []


@pytest.mark.parametrize(
    "command", [["convert", "x.tflite"], ["inspect", "x.tflite"], ["detect", "x.csv", "--column", "y"]]
)
def test_a_file_that_is_absent_is_called_absent(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be read: No such file or directory. Check the path." in line


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["init", "{file}/node"], "Not a directory"),
        (["convert", "{model}", "-o", "{file}"], "cannot be written"),
        (["detect", "{csv}", "--column", "v", "--png", "{file}/x.png"], "host.os"),
        (["detect", "{csv}", "--column", "v", "--png", "/dev/null/x.png"], "host.os"),
        (["detect", "{csv}", "--column", "v", "--png", "x.xyz"], "is no name for a PNG"),
        (["detect", "{csv}", "--column", "huge"], "cannot be drawn"),
        (["detect", "{csv}", "--column", "v", "--threshold", "nan"], "threshold cannot be nan"),
        (["detect", "{csv}", "--column", "v", "--resolution", "inf"], "resolution cannot be inf"),
        (["detect", "{csv}", "--column", "v", "--detector", "window", "--size", "9" * 20], "does not take this"),
        (["monitor", "--port", "virtual", "--seconds", "nan", "--csv", "{folder}"], "cannot be written"),
        (["board", "start", "--accel", "{csv}", "--columns", "v,v"], "three axes"),
        (["board", "start", "--accel", "{csv}", "--columns", "v,v,nan"], "line 2: no sensor gives"),
        (["board", "start", "--accel", "{csv}", "--columns", "v,v,v", "--rate", "0"], "cannot play at 0 Hz"),
        (["board", "start", "--adc", "\u00b2={csv}:v"], "does not read"),
        (["board", "start", "--link", "{folder}/none/link"], "host.os"),
        (["inspect", "a\nb.tflite"], "a b.tflite cannot be read"),
    ],
)
def test_what_the_computer_refuses_ends_in_one_line(
    command: list[str], words: str, models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "x.csv").write_text("v,nan,huge\n" + "1,nan,1e308\n2,nan,-1e308\n" * 50)
    names = {"file": "file", "csv": "x.csv", "folder": ""}
    places = {name: str(tmp_path / path) for name, path in names.items()}
    places["model"] = str(models_dir / "hello_world_int8.tflite")
    assert run([part.format(**places) for part in command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_terminal_of_another_encoding_gets_the_table(models_dir: Path) -> None:
    command = [sys.executable, "-c", "from midgehost.cli import main; main()", "inspect"]
    command.append(str(models_dir / "hello_world_int8.tflite"))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "") and "FULLY_CONNECTED" in done.stdout
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("midge: ") and len(done.stderr.splitlines()) == 1


def test_a_bundle_is_no_model(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(models_dir / "hello_world_int8.tflite"), "-o", str(tmp_path)]) == 0
    assert run(["inspect", str(tmp_path / "hello_world_int8.midge")]) == 2
    assert "it is a bundle of midge's. Name the .tflite file" in capsys.readouterr().err
