"""What an upgrade does: every combination of what may differ, against a table of what must follow."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import pytest

from midgehost.deploy.upgrade_plan import CannotUpgrade, Firmware, Found, Place, Upgrade, Wanted, decide

SIZE = 1_441_792
MODULES = {"midge/node.mpy": "n1", "midge/records.mpy": "r1"}
FOUND = Found(
    firmware=(1, 24, 1),
    arch="armv6m",
    place=Place(SIZE),
    used=200_000,
    node="fan",
    modules=MODULES,
    bundles={"net": ""},
    base="/midge/base-1",
)
WANTED = Wanted(schema=1, modules=MODULES, base="/midge/base-1", oldest=(1, 23), too_new=(1, 30))
NEW = Firmware((1, 26, 1), Place(SIZE, start=655_360))


def refusal(found: Found, wanted: Wanted) -> str:
    with pytest.raises(CannotUpgrade, match="Nothing was changed") as refused:
        decide(found, wanted)
    return str(refused.value)


def test_what_is_current_is_left_alone() -> None:
    assert decide(FOUND, WANTED) == Upgrade()
    assert decide(FOUND, WANTED).is_current and decide(FOUND, WANTED).steps == ()
    same = dataclasses.replace(NEW, version=FOUND.firmware)
    assert decide(FOUND, dataclasses.replace(WANTED, firmware=same)).is_current


# Each dimension: what differs, and what must be done for it.
MODULE_CASES: list[tuple[dict[str, str], tuple[str, ...]]] = [
    ({}, ()),
    ({"midge/node.mpy": "n2"}, ("midge/node.mpy",)),
    ({"midge/new.mpy": "x", "midge/node.mpy": "n2"}, ("midge/new.mpy", "midge/node.mpy")),
]
BASE_CASES = [("/midge/base-1", False), ("/midge/base-2", True)]
FIRMWARE_CASES: list[tuple[Firmware | None, str | None, bool]] = [
    (None, None, False),
    (NEW, "1.26.1", False),
    (dataclasses.replace(NEW, place=None), "1.26.1", False),
    (dataclasses.replace(NEW, place=Place(868_352)), "1.26.1", True),
    (dataclasses.replace(NEW, version=(1, 23, 0)), "1.23.0", False),
]
FOLDER_CASES = [(None, False), ("fan", True)]


@pytest.mark.parametrize("case", list(itertools.product(MODULE_CASES, BASE_CASES, FIRMWARE_CASES, FOLDER_CASES)))
def test_everything_that_differs_is_done_and_nothing_else(case: Any) -> None:
    (modules, changed), (base, new_base), (firmware, version, files_go), (folder, from_folder) = case
    wanted = dataclasses.replace(
        WANTED, modules={**MODULES, **modules}, base=base, firmware=firmware, folder_node=folder
    )
    todo = decide(FOUND, wanted)
    assert todo == Upgrade(version, files_go, changed, new_base, from_folder)
    words = "\n".join(todo.steps)
    assert ("flash MicroPython" in words) == (version is not None)
    assert ("restore the files" in words) == files_go
    assert ("compare the files" in words) == (version is not None and not files_go)
    assert (f"replace {len(changed)} device module" in words) == bool(changed)
    assert ("the boot code" in words) == new_base
    assert ("deploy it" in words) == bool(changed or new_base or from_folder)
    assert todo.is_current == (not words)


def test_a_module_that_is_no_longer_needed_counts() -> None:
    more = dataclasses.replace(FOUND, modules={**MODULES, "midge/old.mpy": "o"})
    assert decide(more, WANTED).modules == ("midge/old.mpy",)


# Each is refused without the folder, and taken with it.
NEEDS_FOLDER: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"bundles": {"net": "it has format version 2"}}, {}, "bundle net cannot be taken over: it has format version 2"),
    ({"schema": None}, {}, "node.json does not read"),
    ({"schema": 2}, {}, "schema 2, this midge writes 1"),
    ({}, {"unknown": ("midge/gone.mpy",)}, "no device module midge/gone.mpy"),
    ({}, {"firmware": dataclasses.replace(NEW, arch="rv32imc")}, "for rv32imc, the bundles are for armv6m"),
]


@pytest.mark.parametrize("picked", [p for n in (1, 2, 5) for p in itertools.combinations(NEEDS_FOLDER, n)])
def test_what_needs_the_folder_says_so_and_names_every_reason(picked: Any) -> None:
    have: dict[str, Any] = {}
    want: dict[str, Any] = {}
    for on_board, here, _ in picked:
        if not ("schema" in have and "schema" in on_board):
            have |= on_board
        want |= here
    found, wanted = dataclasses.replace(FOUND, **have), dataclasses.replace(WANTED, **want)
    text = refusal(found, wanted)
    assert "midge upgrade NODE_DIR" in text
    for on_board, _, words in picked:
        if all(have[key] == value for key, value in on_board.items()):
            assert words in text
    assert decide(found, dataclasses.replace(wanted, folder_node="fan", unknown=())).from_folder


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"node": ""}, {}, "no node of midge's.*midge deploy NODE_DIR"),
    ({"trial": True}, {}, "on trial.*Wait"),
    ({}, {"folder_node": "pump"}, "'pump', the board runs 'fan'"),
    ({"firmware": (1, 22, 2)}, {}, r"board's firmware is MicroPython 1\.22\.2; .* 1\.23 up to.* 1\.30.*--firmware"),
    ({"firmware": (1, 30)}, {}, "board's firmware is MicroPython 1.30;"),
    ({}, {"firmware": dataclasses.replace(NEW, version=(1, 30, 0))}, "new firmware is MicroPython 1.30.0"),
    ({}, {"firmware": dataclasses.replace(NEW, version=(1, 22, 2))}, "new firmware is MicroPython 1.22.2"),
    ({}, {"firmware": dataclasses.replace(NEW, place=Place(100_000))}, "take 200,000 bytes, .* has 100,000"),
    ({"place": Place(SIZE, "fat")}, {"firmware": dataclasses.replace(NEW, place=Place(868_352))}, "back from fat"),
]


@pytest.mark.parametrize(("have", "want", "words"), REFUSED)
@pytest.mark.parametrize("folder", [None, "fan"])
def test_what_cannot_be_upgraded_is_refused(
    have: dict[str, Any], want: dict[str, Any], words: str, folder: str | None
) -> None:
    wanted = dataclasses.replace(WANTED, **{"folder_node": folder, **want})
    assert re.search(words, refusal(dataclasses.replace(FOUND, **have), wanted))


def test_too_old_firmware_is_no_obstacle_when_it_is_replaced() -> None:
    old = dataclasses.replace(FOUND, firmware=(1, 22, 2))
    assert decide(old, dataclasses.replace(WANTED, firmware=NEW)).firmware == "1.26.1"


@pytest.mark.parametrize(
    ("here", "there", "survives"),
    [
        (Place(SIZE), Place(SIZE), True),
        (Place(SIZE, start=1), Place(SIZE), True),
        (Place(SIZE), Place(SIZE, start=1), True),
        (Place(SIZE, start=1), Place(SIZE, start=1), True),
        (Place(SIZE, start=1), Place(SIZE, start=2), False),
        (Place(SIZE), Place(SIZE - 4096), False),
        (Place(SIZE, "fat"), Place(SIZE), True),
    ],
)
def test_files_survive_where_the_new_firmware_looks_for_them(here: Place, there: Place, survives: bool) -> None:
    assert here.survives(there) == survives
