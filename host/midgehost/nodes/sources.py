"""The models a node file names: where their files lie, and what a stage must know of them (shapes, labels)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from midgehost.errors import NodeFileError
from midgehost.nodes.reading import nearest

Says = Literal["class", "score", "value"]


@dataclass(frozen=True)
class ModelSource:
    """A model's file and what goes in and comes out (the first input and output)."""

    name: str
    path: Path
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    labels: tuple[str, ...]

    @property
    def input_size(self) -> int:
        return prod(self.input_shape)

    @property
    def output_size(self) -> int:
        return prod(self.output_shape)

    @property
    def says(self) -> Says:
        """What the output means: a class, a reconstruction (its error is the score), or one number."""
        if self.labels:
            return "class"
        if self.output_size == self.input_size:
            return "score"
        return "value" if self.output_size == 1 else "class"


def find_model(where: str, name: str, folder: Path) -> ModelSource:
    """The model `name`: a .tflite or a folder, beside the node file or in its `models/`.

    Raises NodeFileError, and ModelError if the file is no usable model.
    """
    for place in (name, f"{name}.tflite", f"models/{name}", f"models/{name}.tflite"):
        path = _model_file(where, folder / place)
        if path is not None:
            return _read(where, path)
    near = [p.stem for p in [*folder.glob("*.tflite"), *folder.glob("models/*")] if p.suffix in ("", ".tflite")]
    raise NodeFileError(where, f"there is no model {name!r} in {folder}", nearest(name, sorted(near), "models"))


def _model_file(where: str, place: Path) -> Path | None:
    if place.is_file():
        return place
    files = sorted(place.glob("*.tflite")) if place.is_dir() else []
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise NodeFileError(where, f"{place} holds several models: {names}", "Name one of them.")
    return files[0] if files else None


def _read(where: str, path: Path) -> ModelSource:
    from midgehost.models.reader import read_file

    graph = read_file(path)
    inputs, outputs = [graph.tensors[i] for i in graph.inputs], [graph.tensors[i] for i in graph.outputs]
    if len(inputs) != 1:
        raise NodeFileError(where, f"{path.name} has {len(inputs)} inputs", "Use a model with one input.")
    source = ModelSource(path.stem, path, inputs[0].shape, outputs[0].shape, _labels(path))
    if source.labels and len(source.labels) != source.output_size:
        raise NodeFileError(
            where,
            f"{path.name} has {source.output_size} outputs, its card names {len(source.labels)} labels",
            "Correct `labels` in its model.toml.",
        )
    return source


def _labels(path: Path) -> tuple[str, ...]:
    """Class names from the model's card: `model.toml` in its folder, or `<name>.toml` beside it."""
    for card in (path.with_suffix(".toml"), path.parent / "model.toml"):
        if card.is_file():
            labels = tomllib.loads(card.read_text(encoding="utf-8")).get("labels", ())
            return tuple(str(label) for label in labels)
    return ()
