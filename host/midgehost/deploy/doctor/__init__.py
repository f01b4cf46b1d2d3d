"""Why a board is not seen, not opened, not answering or not fit for a node: one finding a cause, each with what to do.

A check is a function from what is (`System`, or a board's `Facts`) to findings; it touches nothing. `CHECKS` are
about the computer, `BOARD_CHECKS` about a board that answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from midgehost.deploy.doctor.access import brltty, held, macos_names, modem_manager, permission
from midgehost.deploy.doctor.board import abi, answers, clock, firmware, heap, space
from midgehost.deploy.doctor.facts import Facts, facts_of
from midgehost.deploy.doctor.finding import FIX, NOTE, OK, Finding
from midgehost.deploy.doctor.system import System
from midgehost.deploy.doctor.usb import bootloader, cable, driver, two_ports

__all__ = ["BOARD_CHECKS", "CHECKS", "FIX", "NOTE", "OK", "Facts", "Finding", "System", "examine", "facts_of"]

CHECKS: tuple[Callable[[System], list[Finding]], ...] = (
    cable,
    driver,
    brltty,
    bootloader,
    two_ports,
    permission,
    held,
    modem_manager,
    macos_names,
)
BOARD_CHECKS: tuple[Callable[[Facts], list[Finding]], ...] = (answers, firmware, abi, space, heap, clock)


def examine(system: System, boards: Iterable[Facts]) -> list[Finding]:
    """All findings: the computer's, then each board's."""
    found = [finding for check in CHECKS for finding in check(system)]
    return found + [finding for facts in boards for check in BOARD_CHECKS for finding in check(facts)]
