"""`midge init`: a node folder to start from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from midgehost.errors import NodeFileError

_NODE = """\
# A node of midge: what the board samples, judges, does and says. Every key is in docs/node-file.md.
schema = 1
name = "{name}"
board = "{board}"                       # {title}

[sensor.accel]
driver = "mpu6050"                      # mpu6050 or adc
bus = {{ i2c = {i2c}, sda = {sda}, scl = {scl} }}
channels = ["x", "y", "z"]
unit = "m/s2"                           # or "g"
rate_hz = 50

[sampling]
mode = "batch"                          # stream | batch | event | adaptive
window = 128                            # samples that features and models see at once
hop = 64                                # samples from one window to the next

[[stage]]
id = "z"
use = "anomaly.multiscale"              # or anomaly.window, anomaly.context
input = "accel.x"
params = {{ holdoff = 200, resolution = 0.01 }}

# A network on the windows: put a quantised .tflite beside this file, and its labels into model.toml.
# [[stage]]
# id = "net"
# use = "inference"
# model = "mymodel"                     # mymodel.tflite
# input = ["accel.x", "accel.y", "accel.z"]

[[action]]
when = "z.alarm"                        # and, or, not, comparisons; net.class == 'imbalance', net.p > 0.9
do = [{{ record = "alert" }}]           # or {{ gpio = 15, value = 1, for_ms = 2000 }}, {{ log = "text" }}

[link.serial]
queue = 256                             # records that wait while nobody listens
every_s = 0.2                           # from one record of a signal to the next
"""
_README = """\
# {name}

A node of midge on {title}. `node.toml` says what it does; models lie beside it (`mymodel.tflite`, the names
of its classes as `labels = ["..", ".."]` in `model.toml`).

    midge deploy . --port {port}
    midge monitor --port {port}

Try a detector on a recording before the board gets it: `midge detect FILE.csv --column NAME --detector multiscale`.
"""


def command(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    board: Annotated[str, typer.Option(help="A board file's name, e.g. pico-w.")] = "virtual",
) -> None:
    """Writes a commented node folder for a board: a z-score on an accelerometer, ready to deploy."""
    from midgehost.boards import board as find_board

    target = find_board(board)
    path = folder / "node.toml"
    if path.exists():
        raise NodeFileError(str(path), "there is a node file already", "Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-._")[:32] or "node"
    words = {"name": name, "board": board, "title": target.title, **target.default_i2c}
    path.write_text(_NODE.format(**words), encoding="utf-8")
    readme = folder / "README.md"
    if not readme.exists():
        port = "virtual:board.img" if board == "virtual" else "/dev/ttyACM0"
        readme.write_text(_README.format(port=port, **words), encoding="utf-8")
    print(f"{path} written. Next: midge deploy {folder} --port PORT")
