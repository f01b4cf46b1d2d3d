"""The model card: what of it does not read is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from midgehost.errors import BadCard
from midgehost.models.convert import convert


@pytest.mark.parametrize("text", ["labels = 3", "labels = [", "version = 1", "\udcff", "x = " + "[" * 4000])
def test_a_card_that_does_not_read_is_named(models_dir: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(models_dir / "hello_world_int8.tflite", tmp_path)
    (tmp_path / "model.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadCard, match=r"model\.toml does not read: ") as refused:
        convert(tmp_path / "hello_world_int8.tflite")
    assert len(str(refused.value)) < 400
