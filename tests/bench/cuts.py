"""Lines that are pulled, and a node that is quick to deploy, so that a test can cut it off hundreds of times."""

from __future__ import annotations

import json
import random

import pytest

from midgehost.deploy.line import Line
from midgehost.deploy.modules import compile_modules
from midgehost.deploy.plan import Payload
from midgehost.deploy.slots import model_path
from midgehost.virtual.board import VirtualBoard

# What a node has to do with the host and the boot code, and no more. Version and colour are the payload's own.
_NODE = """
import json, select, sys, time
from midge import colour
def run(path, update):
    with open(path) as f:
        config = json.load(f)
    if config['colour'] != colour.NAME:
        raise ValueError('a mixture')
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    confirm = time.ticks_add(time.ticks_ms(), config['update']['confirm_ms'])
    while True:
        if update.state == 'trial' and time.ticks_diff(confirm, time.ticks_ms()) < 0:
            {healthy}
        update.feed()
        if poll.poll(10):
            try:
                asked = json.loads(sys.stdin.readline())
            except ValueError:
                continue
            value = {{'update': update.about(), 'disabled': {{}}, 'colour': colour.NAME}}
            print(json.dumps({{'re': asked['id'], 'ok': True, 'value': value}}))
"""
_CONFIRM = "update.confirm()"
_FAIL = "update.fail({'code': 'model.self_test', 'what': 'as planned'})"
_MODEL = """
class Model:
    def __init__(self, path, level=None, breathe=None):
        self._path = path
    def self_test(self, breathe=None):
        with open(self._path, 'rb') as f:
            return 0 if f.read(4) == b'MDGB' else 1
"""


def small_node(colour: str, *, healthy: bool = True, confirm_ms: int = 50) -> Payload:
    """A node of five modules and a model, 30 KB, that tells its colour; not `healthy`: it ends its own trial."""
    noise = random.Random(colour)
    model = b"MDGB" + noise.randbytes(9000)
    config = {
        "name": "n",
        "colour": colour,
        "model": model_path("fake", model),
        "update": {"confirm_ms": confirm_ms, "boots": 3},
    }
    lib = {
        "midge/node.py": _NODE.format(healthy=_CONFIRM if healthy else _FAIL).encode(),
        "midge/inference.py": _MODEL.encode(),
        "midge/colour.py": f"NAME = {colour!r}\n".encode(),
        "midge/same.bin": random.Random("same").randbytes(6000),
        f"midge/only/{colour}.bin": noise.randbytes(5000),
        "midge/other.bin": noise.randbytes(7000),
        **compile_modules(["errors"], None),
    }
    return Payload(json.dumps(config).encode(), lib, {"fake": model}, "virtual")


class Scissors:
    """Pulls the line at the n-th write to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, board: VirtualBoard, at: int | None = None) -> None:
        self.count = 0
        write = Line.write

        def cutting(line: Line, data: bytes) -> int:
            self.count += 1
            if self.count == at:
                board.unplug()
            return write(line, data)

        monkeypatch.setattr(Line, "write", cutting)
