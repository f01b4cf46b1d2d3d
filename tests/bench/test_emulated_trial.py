"""Updates on trial on the stock Pico image: the chip's own watchdog, reset causes and file system."""

from __future__ import annotations

import dataclasses
import time

import pytest
from cuts import small_node

from midgehost.deploy import manifest
from midgehost.deploy.base import Base, make_base
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import probe
from midgehost.errors import NotFound
from midgehost.keys import signed
from midgehost.virtual.emulated import EmulatedPico, find_image

pytestmark = pytest.mark.emulated
_REMEMBERED = """
for n in ('active','trial','floor'):
 try:print(open('/midge/'+n).read())
 except OSError:print('-')
"""


@pytest.fixture(scope="module")
def base() -> Base:
    """The boot code for a Pico, or a skip that says where to put an image."""
    try:
        find_image("pico")
    except NotFound as error:
        pytest.skip(str(error))
    with EmulatedPico() as pico:
        return make_base(probe(pico))


def tried(base: Base, new: Payload, until: str, seconds: float) -> tuple[str, list[str]]:
    """Confirmed version 5 in slot a, the new node armed as version 6 in slot b: what the board says up to that word,
    and the active slot, trial and floor after it."""
    files = {**base.files, "/main.py": base.main, "/midge/active": b"a", "/midge/floor": b"5", "/midge/trial": b"b 3"}
    for slot, node, version in (("a", small_node("red"), 5), ("b", new, 6)):
        made = manifest.make(node, name="n", board=base.board or "", arch="armv6m", version=version)
        files |= {**node.files(slot), f"/midge/{slot}/manifest": signed(made.line(), None)}
    with EmulatedPico(files=files) as pico:
        heard, end = "", time.monotonic() + seconds
        while until not in heard and time.monotonic() < end:
            pico.write(b'{"cmd":"status","id":1}\n')
            heard += pico.read(2).decode()
        return heard, pico.exec(_REMEMBERED).split("\n")[:3]


def test_a_healthy_update_confirms_itself(base: Base) -> None:
    heard, remembered = tried(base, small_node("green"), '"state": "confirmed"', 60)
    assert '"state": "trial"' in heard
    assert remembered == ["b", "-", "6"]


@pytest.mark.soak
def test_an_endless_loop_is_bitten(base: Base) -> None:
    node = small_node("blue")
    source = node.lib["midge/node.py"].replace(b"update.confirm()", b"while True: pass")
    hanging = dataclasses.replace(node, lib={**node.lib, "midge/node.py": source})
    heard, remembered = tried(base, hanging, "fell_back", 300)
    assert "version 6 in slot b is given up: update.watchdog" in heard
    assert remembered == ["a", "-", "5"]
