"""A model's card: `model.toml` beside the model file, for what the file itself cannot say."""

from __future__ import annotations

from pathlib import Path

import msgspec

from midgehost.errors import BadCard


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What midge reads of a card; its other keys are for people."""

    version: str = "0"
    labels: tuple[str, ...] = ()  # names of output 0's classes, in order


def read_card(path: Path) -> Card:
    """The card at `path`, or an empty one if there is none. Raises BadCard if it does not read."""
    if not path.is_file():
        return Card()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Card)
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
        raise BadCard(str(path), str(error)) from error
