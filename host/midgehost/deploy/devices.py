"""What is plugged in: each port's board, firmware, node and state, found in parallel and within a deadline.

A running node is asked for its status over its own line and goes on; a board at its prompt has nothing to lose and is
asked there; whatever else runs is left alone unless `interrupt` says otherwise, and then started again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from midgehost import boards, ports
from midgehost.deploy.connection import Lines
from midgehost.deploy.holders import holder_of
from midgehost.deploy.line import Line, open_line
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import Ambiguous, Busy, MidgeError, NotFound

RUNNING, HELD, STOPPED, NO_NODE, OTHER = "running", "held", "stopped", "no node", "another program"
SILENT, BUSY, FORBIDDEN, GONE = "not answering", "busy", "not permitted", "gone"
SOMEBODY = "another program"  # that we may not look at

_DEADLINE = 2.0  # s a port
_INTERRUPT_DEADLINE = 8.0  # s a port, where what runs may be interrupted
_LISTEN = 1.5  # s, for a node to answer
_ASK_EVERY = 0.5  # s
_QUESTION = b'\r\n{"cmd":"status","id":"devices"}\r\n'
_PROMPT = ">>> "
# At the prompt: what the board is, and whose node it has.
_LOOK = """
import sys,json,os
i=sys.implementation
try:
 with open('/midge/active') as f:s=f.read().strip()
 with open('/midge/%s/node.json'%s) as f:n=json.load(f)['name']
except (OSError,ValueError,KeyError):n=''
try:
 with open('/midge/fallback') as f:u=json.load(f)
except (OSError,ValueError):u=None
v='.'.join(map(str,i.version[:3]))
print(json.dumps([sys.platform,getattr(i,'_machine',''),v,n,'_midge_held' in globals(),u]))
"""


@dataclass(frozen=True)
class Found:
    """One port. `board` is a board file's name, or empty: then `maybe` are those whose USB numbers fit."""

    port: ports.Port
    state: str
    detail: str = ""  # the program that holds it, the reason why it does not answer
    board: str = ""
    maybe: tuple[str, ...] = ()
    chip: str = ""
    firmware: str = ""  # 1.26.1
    node: str = ""

    @property
    def idle(self) -> bool:
        """Whether it is at its prompt, where asking disturbs nothing."""
        return self.state in (HELD, STOPPED, NO_NODE)

    @property
    def reachable(self) -> bool:
        """Whether its port can be opened."""
        return self.state not in (BUSY, FORBIDDEN, GONE)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        rest = {key: value for key, value in asdict(self).items() if key != "port"}
        port = self.port
        return {"port": port.path, "serial_number": port.serial_number, "usb": port.usb_id, **rest}


def find_devices(listed: Iterable[ports.Port], *, probe: bool = True, interrupt: bool = False) -> list[Found]:
    """Looks at every port that may be a board, all at once; those that do not answer in time say so."""
    wanted = [port for port in listed if port.is_board]
    if not probe:
        return [_described(port, "") for port in wanted]
    found = {port: _described(port, SILENT) for port in wanted}
    looks = [
        threading.Thread(target=_note, args=(found, port, interrupt), daemon=True, name=f"look at {port.path}")
        for port in wanted
    ]
    for thread in looks:
        thread.start()
    slowest = max((port.time_scale for port in wanted), default=1.0)
    end = time.monotonic() + (_INTERRUPT_DEADLINE if interrupt else _DEADLINE) * slowest + 1
    for thread in looks:
        thread.join(max(0.0, end - time.monotonic()))
    return list(found.values())


def find_node(name: str, listed: Iterable[ports.Port]) -> Found:
    """The port on which the node of that name is. Raises NotFound, Ambiguous."""
    devices = find_devices(listed)
    found = [device for device in devices if device.node == name]
    if len(found) > 1:
        raise Ambiguous(name, [device.port.path for device in found])
    if not found:
        nodes = ", ".join(f"{d.node} at {d.port.path}" for d in devices if d.node) or "none"
        rest = ", ".join(f"{d.port.path} ({d.state})" for d in devices if not d.node)
        raise NotFound(f"No node {name!r} answers.", f"Nodes: {nodes}." + (f" Other ports: {rest}." if rest else ""))
    return found[0]


def register() -> None:
    """Makes the ports `node:<name>` and a bare name known."""
    ports.register("node", _open_node)


def _open_node(name: str, _: dict[str, Any]) -> ports.Device:
    port = find_node(name, ports.plugged_in()).port
    return ports.Device(name, port.path, time_scale=port.time_scale)


# --- one port -------------------------------------------------------------------------------------------------------


def _note(found: dict[ports.Port, Found], port: ports.Port, interrupt: bool) -> None:
    found[port] = look_at(port, interrupt=interrupt)


def look_at(port: ports.Port, *, interrupt: bool = False) -> Found:
    """What is on a port now. Never raises."""
    try:
        line = open_line(port.path, port.path, port.time_scale)
    except Busy:
        return _described(port, BUSY, holder_of(port.path) or SOMEBODY)
    except NotFound as error:
        return _described(port, FORBIDDEN if "may not" in error.what else GONE, error.do)
    try:
        answer, heard = _ask(line, port.time_scale)
    except MidgeError as error:
        return _described(port, SILENT, error.what)
    finally:
        line.close()
    if answer:
        return _of_node(port, answer)
    if heard.rstrip(" ").endswith(_PROMPT.rstrip()) or interrupt:
        return _at_prompt(port, restart=not heard.endswith(_PROMPT))
    return _described(port, OTHER, _last_words(heard)) if heard else _described(port, SILENT)


def _ask(line: Line, time_scale: float) -> tuple[dict[str, Any], str]:
    """The node's status, or nothing and the end of what was heard instead."""
    lines, heard, asked = Lines(), b"", 0.0
    end = time.monotonic() + _LISTEN * time_scale
    while (now := time.monotonic()) < end:
        if now - asked >= _ASK_EVERY * time_scale:
            asked = now
            line.begin("asking for the node", _ASK_EVERY)
            line.write(_QUESTION)
        data = line.read_available(min(0.1, end - now))
        heard = (heard + data)[-300:]
        for text in lines.feed(data):
            reply = _json_object(text)
            if reply.get("re") == "devices" and isinstance(reply.get("value"), dict):
                return reply["value"], ""
        if heard.endswith(_PROMPT.encode()):
            break
    return {}, heard.decode(errors="replace")


def _of_node(port: ports.Port, status: dict[str, Any]) -> Found:
    found = replace(
        _described(port, RUNNING if status.get("running", True) else STOPPED),
        firmware=str(status.get("firmware", "")),
        node=str(status.get("node", "")),
        detail=_update(status.get("update") or {}),
    )
    return _with_board(found, str(status.get("platform", "")), str(status.get("machine", "")))


def _at_prompt(port: ports.Port, restart: bool) -> Found:
    patience = _INTERRUPT_DEADLINE - 2 if restart else 1.0
    try:
        with SerialTransport(port.path, port.path, port.time_scale, enter_timeout=patience) as line:
            platform, machine, firmware, node, held, failed = json.loads(line.exec(_LOOK, timeout=1.0))
            if restart:
                line.reset()
    except MidgeError as error:
        return _described(port, SILENT, error.what)
    except ValueError:
        return _described(port, OTHER, "it prints beside what it is asked")
    state = NO_NODE if not node else RUNNING if restart else HELD if held else STOPPED
    detail = _update({"state": "fell_back", "failed": failed["version"], "why": failed["why"]}) if failed else ""
    return _with_board(replace(_described(port, state, detail), firmware=firmware, node=node), platform, machine)


def _update(update: dict[str, Any]) -> str:
    """What is worth a word of an update: it is on trial, or it failed and why."""
    if update.get("state") == "trial":
        return f"update {update['version']} is on trial"
    if update.get("state") != "fell_back":
        return ""
    why = update["why"]
    return f"update {update['failed']} failed: {why['what']} [{why['code']}]"


def _described(port: ports.Port, state: str, detail: str = "") -> Found:
    """What the port's USB numbers tell."""
    if port.virtual:
        return Found(port, state, detail, board=port.virtual, chip="virtual")
    fitting = [board for board in boards.all_boards().values() if port.usb_id and port.usb_id in board.usb.running]
    chips = {board.chip for board in fitting}
    chip = chips.pop() if len(chips) == 1 else ""
    if len(fitting) == 1:
        return Found(port, state, detail, fitting[0].name, chip=chip)
    return Found(port, state, detail, maybe=tuple(board.name for board in fitting), chip=chip)


def _with_board(found: Found, platform: str, machine: str) -> Found:
    board = boards.identify(platform, machine)
    return replace(found, board=board.name, maybe=(), chip=board.chip) if board else found


def _last_words(heard: str) -> str:
    """The last whole line of what a program says."""
    lines = [line.strip() for line in heard.splitlines()[:-1] if line.strip()]
    return f"it says {lines[-1][:60]!r}" if lines else ""


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text.startswith("{") else {}
    except ValueError:
        return {}
    return cast(dict[str, Any], found)
