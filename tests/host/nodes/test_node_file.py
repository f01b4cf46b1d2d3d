"""Node files: what compiles, and that each mistake ends in one error with its key, its line and what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.probe import BoardInfo
from midgehost.errors import BadFile, NodeFileError
from midgehost.nodes import compile_node
from midgehost.nodes.reading import line_of

FAN = Path(__file__).resolve().parents[3] / "models" / "fan"
NODE = """\
schema = 1
name = "fan-3"
board = "pico-w"
[sensor.accel]
driver = "mpu6050"
bus = { i2c = 0, sda = 4, scl = 5 }
channels = ["x", "y", "z"]
unit = "m/s2"
rate_hz = 50
[sampling]
mode = "batch"
window = 128
hop = 64
[[stage]]
id = "z"
use = "anomaly.multiscale"
input = "accel.x"
params = { holdoff = 100, resolution = 0.01 }
[[stage]]
id = "f"
use = "features"
input = ["accel.x", "accel.z"]
params = { names = ["rms", "band:5-10"] }
[[stage]]
id = "net"
use = "inference"
model = "fan"
input = ["accel.x", "accel.y", "accel.z"]
[[action]]
when = "z.alarm and net.class == 'opposite'"
do = [{ gpio = 15, value = 1, for_ms = 2000 }, { record = "alert" }]
[link.serial]
queue = 256
signals = ["accel.x"]
every_s = 0.2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node folder with the fan model in it."""
    (tmp_path / "fan").mkdir()
    for name in ("fan.tflite", "model.toml"):
        (tmp_path / "fan" / name).write_bytes((FAN / name).read_bytes())
    (tmp_path / "node.toml").write_text(NODE)
    return tmp_path


def test_compiles_to_what_the_board_needs(folder: Path) -> None:
    node = compile_node(folder)
    config = json.loads(node.json)
    (sensor,) = config["sensors"]
    assert (sensor["size"], sensor["hop"], sensor["capacity"], sensor["every_ms"]) == (128, 64, 256, 200)
    assert sensor["report"] == [0]
    assert sensor["config"]["sda"] == 4 and sensor["config"]["rate_hz"] == 50
    detector, features, net = config["stages"]
    assert detector["params"] == {"holdoff": 100, "resolution": 0.01, "threshold": 1.0}
    assert features["fields"] == ["x_rms", "x_band_5_10", "z_rms", "z_band_5_10"]
    assert (detector["at"], features["at"], net["at"], config["values"]) == (0, 2, 6, 8)
    assert net["labels"] == ["neighbouring", "perpendicular", "opposite"] and net["says"] == "class"
    assert config["actions"][0]["when"] == [1, 6, ["opposite"], "==", "and"]
    assert config["actions"][0] | {"model": 2, "score": 0} == config["actions"][0]
    assert node.models == {"fan": folder / "fan" / "fan.tflite"}
    assert node.modules == (
        "anomaly.multiscale",
        "drivers.mpu6050",
        "node",
        "stages.detector",
        "stages.features",
        "stages.inference",
    )


def test_same_node_same_bytes_and_paths_are_filled_in(folder: Path) -> None:
    first, second = compile_node(folder), compile_node(folder)
    assert first.json == second.json
    rendered = json.loads(first.render({"fan": "/midge/models/fan-0.midge"}))
    assert rendered["stages"][2]["model"] == "/midge/models/fan-0.midge"
    assert b" " not in first.json.replace(b"z.alarm and net.class == 'opposite'", b"")


# (what to replace, by what, the dotted key, a part of what is said, a part of what to do)
MISTAKES = [
    ("schema = 1", "schema = 2", "schema", "2 is no known version", "schema = 1"),
    ("schema = 1\n", "", "schema", "None is no known version", "schema = 1"),
    ("schema = 1", "schema = 1\nwatchdog_m = 5000", "watchdog_m", "no key 'watchdog_m'", "'watchdog_ms'"),
    ("schema = 1", "schema = 1\nwatchdog_ms = 9000", "watchdog_ms", "9000 is too large", "watchdog"),
    ('name = "fan-3"', 'name = "fan 3"', "name", "'fan 3' cannot name a node", "letters"),
    ('board = "pico-w"', 'board = "pico-v"', "board", "'pico-v'", "pico"),
    ('board = "pico-w"\n', "", "board", "missing", "board = ..."),
    ("rate_hz = 50", "rate_hx = 50", "sensor.accel.rate_hx", "no key 'rate_hx'", "'rate_hz'"),
    ("rate_hz = 50", "rate_hz = 2000", "sensor.accel.rate_hz", "2000 is too large", "rate"),
    ("rate_hz = 50", "rate_hz = -1", "sensor.accel.rate_hz", "-1 is too small", "rate"),
    ("rate_hz = 50\n", "", "sensor.accel.rate_hz", "missing", "rate_hz = 50"),
    ("rate_hz = 50", 'rate_hz = "50"', "sensor.accel.rate_hz", "'50' is not a number", "Correct"),
    ("rate_hz = 50", "rate_hz = true", "sensor.accel.rate_hz", "true is not a number", "Correct"),
    ('"mpu6050"', '"mpu6500"', "sensor.accel.driver", "no driver 'mpu6500'", "'mpu6050'"),
    ("sda = 4", "sdb = 4", "sensor.accel.bus.sdb", "no key 'sdb'", "'sda'"),
    ("sda = 4, ", "", "sensor.accel.bus", "two pins", "sda"),
    ("i2c = 0, ", "", "sensor.accel.bus", "i2c or adc", "Write"),
    ('["x", "y", "z"]', '["x", "x", "z"]', "sensor.accel.channels", "twice", "once"),
    ('["x", "y", "z"]', '["x", 3]', "sensor.accel.channels[1]", "3 is not a string", "Correct"),
    ('["x", "y", "z"]', "[]", "sensor.accel.channels", "empty", "Name"),
    ('["x", "y", "z"]', '["x y"]', "sensor.accel.channels", "'x y' is no name", "letters"),
    ("[sensor.accel]", "[sensor.sys]", "sensor.sys", "'sys' is taken", "another"),
    ("[sensor.accel]", "[sensor.in]", "sensor.in", "'in' is no name", "letters"),
    ('mode = "batch"', 'mode = "batsch"', "sampling.mode", "'batsch' is not one of", "'batch'"),
    ('mode = "batch"', 'mode = "stream"', "sampling.window", "no windows", "batch"),
    ('mode = "batch"', 'mode = "adaptive"', "sampling.window", "no windows", "Remove"),
    ("window = 128", "window = 12.5", "sampling.window", "12.5 is not a whole number", "Correct"),
    ("window = 128\nhop = 64", "", "sampling.window", "no size", "window = 128"),
    ("hop = 64", "hop = 200", "sampling.hop", "longer than the window", "at most"),
    ("hop = 64", "hop = -1", "sampling.hop", "-1 is too small", "Write 0 to"),
    ("hop = 64", "threshold = 1", "sampling.threshold", "'event'", "Remove"),
    ("hop = 64", "every_s = 1", "sampling.every_s", "time or by size", "Remove"),
    ("window = 128\nhop = 64", "window = 8192\nhop = 8192", "sampling.window", "bytes", "shorter"),
    ('id = "f"', 'id = "z"', "stage[1].id", "'z' is taken", "another"),
    ('id = "f"', 'id = "accel"', "stage[1].id", "'accel' is taken", "another"),
    ('id = "f"', 'id = "class"', "stage[1].id", "'class' is no name", "letters"),
    ('"anomaly.multiscale"', '"anomaly.multscale"', "stage[0].use", "'anomaly.multscale'", "'anomaly.multiscale'"),
    ('input = "accel.x"', 'input = "accel.w"', "stage[0].input", "no signal 'accel.w'", "'accel."),
    ('input = "accel.x"', 'input = "acel.x"', "stage[0].input", "no signal 'acel.x'", "'accel.x'"),
    ('input = "accel.x"', 'input = ["accel.x", "accel.y"]', "stage[0].input", "one signal", "one stage"),
    ('input = "accel.x"', "input = []", "stage[0].input", "empty", "Name"),
    ('input = "accel.x"', 'input = "f.x_rms"', "stage[0].input", "no signal 'f.x_rms'", "signals"),
    ("holdoff = 100", "holdof = 100", "stage[0].params.holdof", "no parameter 'holdof'", "'holdoff'"),
    ("holdoff = 100", "holdoff = 0", "stage[0].params", "holdoff must be at least 1", "Correct"),
    ("holdoff = 100", 'holdoff = "a"', "stage[0].params.holdoff", "'a' is not a whole number", "Correct"),
    ("holdoff = 100", "holdoff = 9.5", "stage[0].params.holdoff", "9.5 is not a whole number", "Correct"),
    ('input = "accel.x"', 'input = "accel.x"\nmodel = "fan"', "stage[0].model", "runs no model", "Remove"),
    ('"rms", ', '"rns", ', "stage[1].params", "no feature 'rns'", "Correct"),
    ("band:5-10", "band:5.1-5.2", "stage[1].params", "no bin", "Correct"),
    ('["rms", "band:5-10"]', '"rms"', "stage[1].params.names", "'rms' is not an array", "Correct"),
    ('["rms", "band:5-10"]', '["rms", "rms"]', "stage[1].params.names", "twice", "once"),
    ('["rms", "band:5-10"]', "[]", "stage[1].params.names", "empty", "Name"),
    ('params = { names = ["rms", "band:5-10"] }', "", "stage[1].params.names", "missing", "names"),
    ('model = "fan"', 'model = "fun"', "stage[2].model", "no model 'fun'", "'fan'"),
    ('model = "fan"\n', "", "stage[2].model", "missing", "model ="),
    ('model = "fan"', 'model = "fan"\nparams = { level = 1 }', "stage[2].params.level", "no parameters", "Remove"),
    ('"accel.x", "accel.y", "accel.z"]', '"accel.x"]', "stage[2].input", "128 samples x 1 channels", "Correct"),
    ('"accel.x", "accel.y", "accel.z"]', '"accel.x", "accel.x"]', "stage[2].input", "twice", "once"),
    ("'opposite'", "'oposite'", "action[0].when", "no class 'oposite'", "'opposite'"),
    ("z.alarm and", "z.alam and", "action[0].when", "no value 'z.alam'", "'z.alarm'"),
    ("z.alarm and", "z.score and", "action[0].when", "neither true nor false", "Compare"),
    ("do = [{ gpio", "do = [{ gpoi", "action[0].do[0].gpoi", "no key 'gpoi'", "'gpio'"),
    ("gpio = 15", 'gpio = "15"', "action[0].do[0].gpio", "'15' is not a whole number", "Correct"),
    ("gpio = 15", "gpio = 99", "action[0].do[0].gpio", "99 is too large", "GPIO"),
    ("gpio = 15", "gpio = 4", "action[0].do[0].gpio", "wired to sensor.accel", "another"),
    ("value = 1", "value = 2", "action[0].do[0].value", "2 is not one of 0, 1", "Correct"),
    ("for_ms = 2000", "for_ms = 0", "action[0].do[0].for_ms", "0 is too small", "milliseconds"),
    ("gpio = 15, value = 1, ", "log = 'x', ", "action[0].do[0].for_ms", "belongs to gpio", "Remove"),
    ('{ record = "alert" }', '{ record = "a", log = "b" }', "action[0].do[1]", "exactly one", "Split"),
    ('do = [{ gpio = 15, value = 1, for_ms = 2000 }, { record = "alert" }]', "do = []", "action[0].do", "empty", "do"),
    ("queue = 256", "queue = 1", "link.serial.queue", "1 is too small", "8"),
    ('signals = ["accel.x"]', 'signals = ["accel.q"]', "link.serial.signals", "no signal 'accel.q'", "'accel."),
    ("[link.serial]", "[link.seriel]", "link.seriel", "no key 'seriel'", "'serial'"),
    ("[link.serial]", "[monitor]\ninterval_s = 0\n[link.serial]", "monitor.interval_s", "too small", "1"),
    ("{ i2c = 0, sda = 4, scl = 5 }", "3", "sensor.accel.bus", "3 is not a table", "{ }"),
    # What no board can work with.
    ("rate_hz = 50", "rate_hz = 1e-300", "sensor.accel.rate_hz", "1e-300 is too small", "0.00001"),
    ("rate_hz = 50", "rate_hz = nan", "sensor.accel.rate_hz", "nan is no number", "finite"),
    ("rate_hz = 50", "rate_hz = 50\nstuck_after = -5", "sensor.accel.stuck_after", "-5 is too small", "Write 0"),
    ("i2c = 0", "i2c = 7", "sensor.accel.bus.i2c", "7 is too large", "0 and 1"),
    ("sda = 4", "sda = 400", "sensor.accel.bus.sda", "400 is too large", "GPIO"),
    ("sda = 4", "sda = 5", "sensor.accel.bus", "both pin 5", "two pins"),
    ("i2c = 0", "i2c = 0, address = 999", "sensor.accel.bus.address", "999 is too large", "0x08 to 0x77"),
    ("i2c = 0", "i2c = 0, freq = 0", "sensor.accel.bus.freq", "0 is too small", "Hz"),
    ("i2c = 0, sda = 4, scl = 5", "adc = 26", "sensor.accel.bus", "mpu6050 needs the key i2c", "sda"),
    ('["x", "y", "z"]', '["x", "y", "w"]', "sensor.accel.channels", "no channel 'w'", "x, y, z"),
    ('"m/s2"', '"furlong"', "sensor.accel.unit", "'furlong'", "m/s2, g"),
    ('"m/s2"', '"m\\ns2"', "sensor.accel.unit", "do not print", "Leave"),
    (
        "rate_hz = 50",
        "rate_hz = 50\nparams = { range = 5 }",
        "sensor.accel.params.range",
        "one of 2, 4, 8, 16",
        "Correct",
    ),
    ("rate_hz = 50", "rate_hz = 50\nparams = { range = inf }", "sensor.accel.params.range", "inf is no", "finite"),
    ("rate_hz = 50", "rate_hz = 50\nparams = { bogus = 3 }", "sensor.accel.params.bogus", "'bogus'", "range, who_am_i"),
    ("rate_hz = 50", "rate_hz = 50\nparams = { i2c = 1 }", "sensor.accel.params.i2c", "'i2c'", "range, who_am_i"),
    ("hop = 64", "threshold = inf", "sampling.threshold", "inf is no number", "finite"),
    ("window = 128\nhop = 64", "every_s = -1", "sampling.every_s", "-1 is too small", "0.001"),
    ("window = 128\nhop = 64", "every_s = 1e308", "sampling.every_s", "too large", "3.4e38"),
    ("window = 128\nhop = 64", "every_s = 90000", "sampling.every_s", "bytes", "shorter"),
    ("window = 128", f"window = {10**19}", "sampling.window", "is too large", "Write 0"),
    ("resolution = 0.01", "threshold = nan", "stage[0].params.threshold", "nan is no number", "finite"),
    ("holdoff = 100", f"size = {10**19}", "stage[0].params.size", "bytes", "smaller"),
    ("z.alarm and", "z.score > 1e999 and", "action[0].when", "inf is no number", "finite"),
    ("z.alarm and", f"z.score > 0x{'f' * 99} and", "action[0].when", "the number is too large", "finite"),
    ("z.alarm and", "not " * 3000 + "z.alarm and", "action[0].when", "characters are too many", "1000"),
    ("z.alarm and", f"{'-' * 900}1 > z.score and", "action[0].when", "too deep", "shorter"),
    ("z.alarm and", "z.alarm\\u0000 and", "action[0].when", "is not a rule", "Use"),
    ('model = "fan"', 'model = ""', "stage[2].model", "empty", "Write"),
    ('model = "fan"', 'model = "."', "stage[2].model", "'.' names no model", "name"),
    ('model = "fan"', f'model = "{"f" * 5000}"', "stage[2].model", "5,000 characters", "200"),
    ('model = "fan"', f'model = "{"ü" * 199}"', "stage[2].model", "no model", "models"),
    ("for_ms = 2000", "for_ms = 99999999999999", "action[0].do[0].for_ms", "too large", "milliseconds"),
    ('record = "alert"', 'record = ""', "action[0].do[1].record", "empty", "Write"),
    ('record = "alert"', f'record = "{"x" * 70000}"', "action[0].do[1].record", "70,000 characters", "64"),
    ("queue = 256", f"queue = {10**19}", "link.serial.queue", "too large", "2048"),
    ("every_s = 0.2", "every_s = inf", "link.serial.every_s", "inf is no number", "finite"),
    ("every_s = 0.2", "every_s = nan", "link.serial.every_s", "nan is no number", "finite"),
    ("every_s = 0.2", "every_s = 1e308", "link.serial.every_s", "too large", "finite"),
    ("every_s = 0.2", "every_s = -1", "link.serial.every_s", "-1 is too small", "0.001"),
    ("[link.serial]", "[monitor]\ninterval_s = inf\n[link.serial]", "monitor.interval_s", "inf is no", "finite"),
    ("[link.serial]", "[monitor]\ninterval_s = 200000\n[link.serial]", "monitor.interval_s", "too large", "100000"),
    ("schema = 1", f"x = {'[' * 50}{']' * 50}\nschema = 1", "x" + "[0]" * 8, "nest too deep", "Remove"),
    ("schema = 1", f"x = 0x{'f' * 9000}\nschema = 1", "x", "the number is too large", "finite"),
]


@pytest.mark.parametrize(("old", "new", "where", "what", "do"), MISTAKES, ids=[f"{m[2]}:{m[1][:60]}" for m in MISTAKES])
def test_mistake_is_named(folder: Path, old: str, new: str, where: str, what: str, do: str) -> None:
    assert old in NODE
    text = NODE.replace(old, new, 1)
    (folder / "node.toml").write_text(text, encoding="utf-8")
    with pytest.raises(NodeFileError) as raised:
        compile_node(folder)
    error = raised.value
    assert error.where == where
    assert what in error.what and do in error.do
    assert error.line == line_of(text, where)
    assert "\n" not in str(error)
    if error.line:
        assert str(error).startswith(f"{folder / 'node.toml'}:{error.line}: {where}: ")


def test_no_toml_names_the_line(folder: Path) -> None:
    (folder / "node.toml").write_text(NODE.replace("rate_hz = 50", "rate_hz = = 50"))
    with pytest.raises(NodeFileError, match=r"node\.toml:9: .*this is no TOML"):
        compile_node(folder)


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (NODE.encode() + b"# \xe9\n", NODE.count("\n") + 1, "no UTF-8 text: byte 0xe9"),
        (NODE.encode("utf-16"), 1, "no UTF-8 text: byte 0xff"),
        (f"x = {'[' * 3000}{']' * 3000}\n{NODE}".encode(), 0, "nest too deep"),
        (f"x{'.x' * 3000} = 1\n{NODE}".encode(), 0, "nest too deep"),
        (f"x = {'9' * 6000}\n{NODE}".encode(), 0, "more than 4,000 digits"),
    ],
)
def test_what_is_no_text_to_read(folder: Path, data: bytes, line: int, what: str) -> None:
    (folder / "node.toml").write_bytes(data)
    with pytest.raises(NodeFileError) as raised:
        compile_node(folder)
    assert what in raised.value.what and raised.value.line == line


def test_a_byte_order_mark_is_stepped_over(folder: Path) -> None:
    plain = compile_node(folder).json
    (folder / "node.toml").write_bytes(NODE.replace("\n", "\r\n").encode("utf-8-sig"))
    assert compile_node(folder).json == plain


ADC = """\
schema = 1
name = "tank"
board = "pico"
[sensor.level]
driver = "adc"
bus = { adc = [26, 27] }
channels = ["a", "b"]
unit = "%"
rate_hz = 1
params = { low = 0, high = 100.5 }
[[stage]]
id = "z"
use = "anomaly.window"
input = "level.a"
[[action]]
when = "z.alarm"
do = [{ gpio = 15 }]
"""


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("[26, 27]", "26", "sensor.level.channels", "2 channels are named for 1 analogue pins"),
        ("[26, 27]", "[26, 99]", "sensor.level.bus.adc[1]", "99 is too large"),
        ("{ adc = [26, 27] }", "{ i2c = 0, sda = 4, scl = 5 }", "sensor.level.bus", "adc needs the key adc"),
        ("high = 100.5", "high = 0", "sensor.level.params", "the same"),
        ("high = 100.5", "high = 1e30", "sensor.level.params.high", "1e+30 is too large"),
        ("high = 100.5", 'high = "x"', "sensor.level.params.high", "'x' is not a number"),
        ("high = 100.5", "sda = 1", "sensor.level.params.sda", "no key 'sda'"),
        ("gpio = 15", "gpio = 27", "action[0].do[0].gpio", "wired to sensor.level"),
    ],
)
def test_analogue_inputs(tmp_path: Path, old: str, new: str, where: str, what: str) -> None:
    (tmp_path / "node.toml").write_text(ADC)
    (sensor,) = compile_node(tmp_path).config["sensors"]
    assert sensor["config"] == {
        "adc": (26, 27),
        "channels": ["a", "b"],
        "high": 100.5,
        "low": 0,
        "rate_hz": 1,
        "unit": "%",
    }
    (tmp_path / "node.toml").write_text(ADC.replace(old, new))
    with pytest.raises(NodeFileError) as raised:
        compile_node(tmp_path)
    assert raised.value.where == where and what in raised.value.what


@pytest.mark.parametrize(
    ("board", "platform", "refused"),
    [
        ("pico-w", "rp2", False),
        ("pico-w", "esp32", True),
        ("pico-w", "linux", True),
        ("esp32", "rp2", True),
        ("esp32", "esp32", False),
        ("virtual", "rp2", False),
        ("virtual", "esp32", False),
    ],
)
def test_a_node_goes_to_its_family_of_boards(folder: Path, board: str, platform: str, refused: bool) -> None:
    (folder / "node.toml").write_text(NODE.replace("pico-w", board))
    info = BoardInfo("micropython", (1, 28, 0), (6, 3), None, "", platform, "", 1, 1, 1970, 4096, 1, 1)
    if not refused:
        assert build_payload(folder, info, source=True).node_json
        return
    with pytest.raises(NodeFileError) as raised:
        build_payload(folder, info, source=True)
    assert (raised.value.where, raised.value.line) == ("board", 3)
    assert f"the one that answers is of {platform}" in raised.value.what
    assert {"esp32": "esp32", "rp2": "pico", "linux": "other port"}[platform] in raised.value.do


def test_a_folder_that_is_called_like_a_model(folder: Path) -> None:
    (folder / "fan" / "fan.tflite").unlink()
    (folder / "fan" / "fan.tflite").mkdir()
    (folder / "fan.tflite").mkdir()
    with pytest.raises(NodeFileError, match=r"fan\.tflite is a folder without a model"):
        compile_node(folder)


def test_missing_node_file(tmp_path: Path) -> None:
    with pytest.raises(NodeFileError, match="there is no node file"):
        compile_node(tmp_path)


def test_damaged_model_is_refused(folder: Path) -> None:
    (folder / "fan" / "fan.tflite").write_bytes(b"")
    with pytest.raises(BadFile):
        compile_node(folder)


def test_two_models_in_a_folder(folder: Path) -> None:
    (folder / "fan" / "other.tflite").write_bytes(b"")
    with pytest.raises(NodeFileError, match=r"holds several models: fan\.tflite, other\.tflite"):
        compile_node(folder)


@pytest.mark.parametrize("labels", ['"a", "b", "b"', '"a", "b", ""', '"a", "b", "c\\n"'])
def test_card_with_labels_that_do_not_tell(folder: Path, labels: str) -> None:
    (folder / "fan" / "model.toml").write_text(f"labels = [{labels}]")
    with pytest.raises(NodeFileError, match="not distinct texts"):
        compile_node(folder)


def test_card_with_too_many_labels(folder: Path) -> None:
    (folder / "fan" / "model.toml").write_text('labels = ["a", "b"]')
    with pytest.raises(NodeFileError, match="3 outputs, its card names 2 labels"):
        compile_node(folder)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("name", 2),
        ("sensor.accel", 4),
        ("sensor.accel.rate_hz", 9),
        ("sensor.accel.bus.sda", 6),
        ("sensor.accel.nothing", 4),
        ("stage[0].use", 16),
        ("stage[1].params.names", 23),
        ("stage[2].model", 27),
        ("action[0].do[1]", 31),
        ("nothing", 0),
    ],
)
def test_line_of_a_key(key: str, line: int) -> None:
    assert line_of(NODE, key) == line


@pytest.mark.parametrize(
    ("sampling", "size", "max_ms"),
    [
        ('mode = "stream"', 32, 50),
        ('mode = "batch"\nevery_s = 2', 100, 2000),
        ('mode = "batch"\nwindow = 10', 10, 0),
        ('mode = "event"\nthreshold = 0.5', 1, 0),
        ('mode = "event"\nthreshold = 0.5\nwindow = 16', 16, 0),
    ],
)
def test_modes_become_batches(folder: Path, sampling: str, size: int, max_ms: int) -> None:
    head, rest = NODE.split("[sampling]")
    _, tail = rest.split("[[stage]]", 1)
    stage = tail.split("[[stage]]")[0]
    (folder / "node.toml").write_text(f"{head}[sampling]\n{sampling}\n[[stage]]{stage}")
    (sensor,) = json.loads(compile_node(folder).json)["sensors"]
    assert (sensor["size"], sensor["max_ms"]) == (size, max_ms)


def test_adaptive_rate_follows_from_the_interval(folder: Path) -> None:
    head = NODE.split("[sampling]")[0].replace("rate_hz = 50\n", "")
    (folder / "node.toml").write_text(f'{head}[sampling]\nmode = "adaptive"\nnormal_s = 60\nalert_s = 5\n')
    config = json.loads(compile_node(folder).json)
    assert config["sampling"] == {"mode": "adaptive", "normal_ms": 60000, "alert_ms": 5000}
    assert config["sensors"][0]["rate_hz"] == pytest.approx(1 / 60)
    assert config["sensors"][0]["size"] == 1


@pytest.mark.parametrize("intervals", ["alert_s = 5", "normal_s = 5\nalert_s = 60", "normal_s = 5"])
def test_adaptive_intervals_must_fit(folder: Path, intervals: str) -> None:
    head = NODE.split("[sampling]")[0].replace("rate_hz = 50\n", "")
    (folder / "node.toml").write_text(f'{head}[sampling]\nmode = "adaptive"\n{intervals}\n')
    with pytest.raises(NodeFileError) as raised:
        compile_node(folder)
    assert raised.value.where == "sampling.alert_s"


def test_detector_on_a_feature(folder: Path) -> None:
    text = NODE.split("[[action]]")[0] + '[[stage]]\nid = "w"\nuse = "anomaly.window"\ninput = "f.z_rms"\n'
    (folder / "node.toml").write_text(text)
    stage = json.loads(compile_node(folder).json)["stages"][3]
    assert (stage["value"], stage["kind"], stage["at"]) == (4, "window", 8)
