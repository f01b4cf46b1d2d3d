"""What becomes of an update on trial: it confirms itself, or the board goes back to the node before it and says why."""

from __future__ import annotations

import json
import time
from typing import Any

from midgehost.deploy.connection import CommandError, NodeConnection
from midgehost.deploy.plan import Payload
from midgehost.deploy.slots import Slots
from midgehost.deploy.transport import Transport
from midgehost.errors import LineDropped, Rejected, Timeout

_POLL = 0.1  # s between two questions
_STATUS_TIMEOUT = 5.0
_MARGIN = 60.0  # s, for a watchdog of 30 s to bite and the old node to start


class FellBack(Rejected):
    """The update ran and did not prove itself; `why` is the board's own {"code", "what"}."""

    code = "deploy.fell_back"

    def __init__(self, version: int, why: dict[str, Any], node_runs: bool) -> None:
        self.version, self.reason, self.node_runs = version, why, node_runs
        now = "The node before it runs again." if node_runs else "No node runs on the board now."
        super().__init__(f"it ran and failed: {why.get('what', '')} [{why.get('code', '')}]", now)


class Unconfirmed(Timeout):
    """The update has neither confirmed itself nor failed yet; the board will decide without us."""

    code = "deploy.unconfirmed"

    def __init__(self, port: str, version: int, seconds: float) -> None:
        super().__init__(port, "proving its update", seconds)
        self.version = version
        self.do = "The board decides by itself: it keeps the update or goes back. Ask with: midge devices"
        self.args = (f"{self.what} {self.do}",)


class NotStarted(Rejected):
    """The update said nothing that a node says; `last_words` is what came instead."""

    def __init__(self, last_words: str, node_runs: bool) -> None:
        now = "The old node runs again." if node_runs else "No node runs on the board now."
        super().__init__(f"it did not start and said {last_words or 'nothing'!r}", now)


def terms(payload: Payload) -> tuple[float, int]:
    """Seconds that the node takes to confirm itself, and the starts that it has for it."""
    update = json.loads(payload.node_json).get("update", {})
    return update.get("confirm_ms", 10_000) / 1000, update.get("boots", 3)


def await_verdict(
    transport: Transport, version: int, *, greet_s: float, confirm_s: float, confirm: bool = True
) -> dict[str, Any]:
    """The status of the update once it is confirmed; without `confirm`, once it runs.

    Raises FellBack, NotStarted (nothing of it is left on trial), Unconfirmed.
    """
    patience = greet_s + confirm_s + _MARGIN
    end = time.monotonic() + patience * transport.time_scale
    connection = NodeConnection(transport)
    while (left := end - time.monotonic()) > 0:
        try:
            if not connection.greet(left / transport.time_scale):
                break
            status = connection.command("status", min(_STATUS_TIMEOUT, left / transport.time_scale))
        except LineDropped:  # a board that fell back has reset itself
            transport.come_back()
            connection = NodeConnection(transport)
            continue
        except (Timeout, CommandError):
            continue
        update = status.get("update") or {}
        if update.get("state") == "fell_back":
            raise FellBack(version, update["why"], node_runs=True)
        if update.get("version") == version and (update["state"] == "confirmed" or not confirm):
            return status
        time.sleep(_POLL)
    if connection.at_prompt:
        _no_node(transport, version, connection.last_words)
    raise Unconfirmed(transport.name, version, patience)


def _no_node(transport: Transport, version: int, last_words: str) -> None:
    """The board is at its prompt. Raises FellBack if it went back by itself; else the trial ends here: NotStarted."""
    slots = Slots(transport)
    failed = slots.fallback()
    if failed:
        raise FellBack(version, failed["why"], node_runs=False)
    slots.hold()
    slots.disarm()
    active = slots.active()
    slots.release()
    raise NotStarted(last_words, node_runs=active is not None)
