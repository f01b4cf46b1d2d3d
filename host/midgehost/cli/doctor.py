"""`midge doctor`: why a board is not seen, not opened, not answering or not fit, and what to do."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from midgehost import ports
from midgehost.deploy import devices
from midgehost.deploy.devices import Found, find_devices
from midgehost.errors import MidgeError

if TYPE_CHECKING:
    from midgehost.deploy.doctor import Facts, Finding, System

_MARKS = {"ok": "[green]ok  [/]", "note": "[yellow]note[/]", "fix": "[bold red]fix [/]"}


def command(
    port: Annotated[str, typer.Option(envvar="MIDGE_PORT", help="Look at this port only; default: at all.")] = "",
    probe: Annotated[bool, typer.Option("--probe", help="Interrupt what runs to look, and start it again.")] = False,
    set_clock: Annotated[bool, typer.Option("--set-clock", help="Give boards this computer's time, in UTC.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of findings.")] = False,
) -> int:
    """Look for what keeps a board from working: cable, driver, permissions, other programs, firmware, room, clock.

    Exit 1 when something needs doing.
    """
    from midgehost.deploy.doctor import FIX, System, examine

    system = System.here(port)
    with _wanted(port, system) as listed:
        system = replace(system, ports=[*system.ports, *(p for p in listed if p.virtual and p not in system.ports)])
        findings = examine(system, [_facts(found, probe, set_clock) for found in find_devices(listed)])
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    return 1 if any(finding.level == FIX for finding in findings) else 0


@contextmanager
def _wanted(port: str, system: System) -> Generator[list[ports.Port]]:
    """The ports to look at: all, or the one that was asked for. Raises NotFound, Ambiguous."""
    if not port:
        yield system.ports
        return
    devices.register()
    with ports.open_port(port) as device:
        yield [ports.find(device.path, system.ports) or ports.Port(device.path, virtual=device.name)]


def _facts(found: Found, interrupt: bool, set_clock: bool) -> Facts:
    from midgehost.deploy.doctor import Facts, facts_of

    if found.idle or (interrupt and found.reachable):
        try:
            return facts_of(found, set_clock=set_clock)
        except MidgeError as error:
            return Facts(replace(found, detail=error.what))
    return Facts(found)


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(f"{_MARKS[finding.level]} [bold]{finding.check}[/]: {escape(finding.what)}")
        for line in finding.do.splitlines():
            console.print(f"     {escape(line)}")
