"""A running node on the other end of a transport: its records, its log, and commands to it, one JSON text a line.

What comes is a stream that may start in the middle of a line and carry a user's prints and line noise between
the node's lines (`midge/links/serial.py`); all that is no line of the node is stepped over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from typing import Any, cast

from midgehost.deploy.transport import Transport
from midgehost.errors import LinkError, Timeout
from midgehost.records import Record, parse_pack

_LONGEST_LINE = 65_536  # bytes; what has no end by then is noise
_ASK_EVERY = 1.0  # s, between two requests for a status


class CommandError(LinkError):
    """The node refused a command; `remote_code` is the device's own code."""

    code = "link.command"

    def __init__(self, command: str, remote_code: str, what: str) -> None:
        self.command, self.remote_code = command, remote_code
        super().__init__(f"The node refused {command!r}: {what} [{remote_code}].", "Correct the command.")


class Lines:
    """Cuts a stream of bytes into lines; an endless one is dropped."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.dropped = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, without their ends."""
        self._held += data
        *lines, rest = self._held.split(b"\n")
        self._held = bytearray(rest)
        if len(self._held) > _LONGEST_LINE:
            self._held.clear()
            self.dropped += 1
        return [line.decode(errors="replace").rstrip("\r") for line in lines]

    @property
    def partial(self) -> str:
        """What has come of the next line."""
        return self._held.decode(errors="replace")


class NodeConnection:
    """Records and commands of the node that runs on a board. Raises LineDropped when the board goes away."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lines = Lines()
        self._waiting: list[str] = []
        self._last_id = 0
        self.last_words = ""  # why it did not greet: an exception, an error that it logged, or else its last line
        self._in_traceback = False
        self.garbage = 0  # lines while records were read that the node did not write, or that came damaged

    def lines(self, timeout: float | None = None) -> Generator[str]:
        """Whole lines as they come; ends after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            while self._waiting:
                yield self._waiting.pop(0)
            left = 1.0 if end is None else end - time.monotonic()
            if left <= 0:
                return
            self._waiting += self._lines.feed(self._transport.read(min(left, 1.0)))

    def records(self, timeout: float | None = None) -> Generator[Record]:
        """Records as they come, for `timeout` seconds or for ever."""
        for line in self.lines(timeout):
            found = parse_pack(line)
            if not found and line and not _object(line):
                self.garbage += 1
            yield from found

    def command(self, command: str, timeout: float = 5.0, **fields: Any) -> Any:
        """Sends a command and returns the reply's value. Records that come meanwhile are lost.

        Raises Timeout, CommandError.
        """
        number = self._ask(command, fields)
        for line in self.lines(timeout * self._transport.time_scale):
            reply = _object(line)
            if reply.get("re") != number:
                continue
            if "error" in reply:
                raise CommandError(command, reply["error"].get("code", "?"), reply["error"].get("what", "?"))
            return reply.get("value")
        raise Timeout(self._transport.name, f"answering {command!r}", timeout)

    def greet(self, timeout: float) -> str:
        """The node's first record or reply, as its line; "" when none comes before `timeout`, or it falls over."""
        scale = self._transport.time_scale
        end = time.monotonic() + timeout * scale
        while time.monotonic() < end:
            self._ask("status", {})
            for line in self.lines(min(_ASK_EVERY * scale, max(0.0, end - time.monotonic()))):
                if parse_pack(line) or _object(line).get("ok") is True:
                    return line
                self._overhear(line)
            if self.at_prompt:
                break  # at the prompt: main.py has ended
        return ""

    @property
    def at_prompt(self) -> bool:
        """Whether the last that came is the REPL's prompt: no node runs."""
        return self._lines.partial.endswith(">>> ")

    def _overhear(self, line: str) -> None:
        """Keeps what a person would quote; an exception outlives the prompt's banner below it."""
        error = _object(line).get("error")
        if isinstance(error, dict):
            self.last_words = str(cast(dict[str, Any], error).get("what", line))
        elif line.startswith("Traceback "):
            self._in_traceback, self.last_words = True, ""
        elif not line.strip() or (self._in_traceback and (self.last_words or line.startswith(" "))):
            return
        else:
            self.last_words = line.strip()

    def _ask(self, name: str, fields: dict[str, Any]) -> int:
        self._last_id += 1
        line = json.dumps({"cmd": name, **fields, "id": self._last_id}, separators=(",", ":"))
        self._transport.write(line.encode() + b"\n")
        return self._last_id


def _object(line: str) -> dict[str, Any]:
    """The JSON object of a line; empty for anything else."""
    if not line.startswith("{"):
        return {}
    try:
        return cast(dict[str, Any], json.loads(line))
    except ValueError:
        return {}
