"""The models a node file names: where their files lie, and what a stage must know of them (shapes, labels)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from midgehost.errors import NodeFileError
from midgehost.nodes.reading import nearest

_SUFFIXES = (".tflite", ".midge")

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
    """The model `name`: a .tflite, a bundle, or a folder of one, beside the node file or in its `models/`.

    Raises NodeFileError, and ModelError if the file is no usable model.
    """
    if not name.strip("./"):
        raise NodeFileError(where, f"{name!r} names no model", "Write the name of a .tflite or .midge file.")
    empty = None
    for place in (name, *(f"{name}{suffix}" for suffix in _SUFFIXES)):
        for below in (place, f"models/{place}"):
            path = _model_file(where, folder / below)
            if path is not None:
                return _read(where, path)
            if _is(Path.is_dir, folder / below):
                empty = below
    if empty:
        raise NodeFileError(where, f"{empty} is a folder without a model", "Put a .tflite or .midge file into it.")
    places = [*folder.glob("*"), *folder.glob("models/*")]
    known = sorted({place.stem for place in places if _is_model(place) or _models_in(place)})
    raise NodeFileError(where, f"there is no model {name!r} in {folder}", nearest(name, known, "models"))


def _model_file(where: str, place: Path) -> Path | None:
    if _is(Path.is_file, place):
        return place
    files = _models_in(place)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise NodeFileError(where, f"{place} holds several models: {names}", "Name one of them.")
    return files[0] if files else None


def _models_in(place: Path) -> list[Path]:
    return sorted(filter(_is_model, place.glob("*"))) if _is(Path.is_dir, place) else []


def _is_model(path: Path) -> bool:
    return path.suffix in _SUFFIXES and path.is_file()


def _is(kind: Callable[[Path], bool], place: Path) -> bool:
    """`kind(place)`; no name that a file system refuses names anything."""
    try:
        return kind(place)
    except OSError:
        return False


def _read(where: str, path: Path) -> ModelSource:
    inputs, output_shape, labels = _read_bundle(path) if path.suffix == ".midge" else _read_tflite(path)
    if len(inputs) != 1:
        raise NodeFileError(where, f"{path.name} has {len(inputs)} inputs", "Use a model with one input.")
    if len(set(labels)) < len(labels) or not all(0 < len(label) <= 64 and label.isprintable() for label in labels):
        what = f"the labels of {path.name} are not distinct texts of 1 to 64 printable characters"
        raise NodeFileError(where, what, "Correct `labels` in its model.toml.")
    source = ModelSource(path.stem, path, inputs[0], output_shape, labels)
    if labels and len(labels) != source.output_size:
        what = f"{path.name} has {source.output_size} outputs, its card names {len(labels)} labels"
        raise NodeFileError(where, what, "Correct `labels` in its model.toml.")
    return source


_Shape = tuple[int, ...]


def _read_tflite(path: Path) -> tuple[list[_Shape], _Shape, tuple[str, ...]]:
    from midgehost.models.card import read_card
    from midgehost.models.reader import read_file

    graph = read_file(path)
    labels = read_card(path.with_name("model.toml")).labels
    return [graph.tensors[i].shape for i in graph.inputs], graph.tensors[graph.outputs[0]].shape, labels


def _read_bundle(path: Path) -> tuple[list[_Shape], _Shape, tuple[str, ...]]:
    from midgehost.models.bundle import Bundle

    bundle = Bundle.decode(path.read_bytes())
    return [tensor.shape for tensor in bundle.inputs], bundle.outputs[0].shape, bundle.outputs[0].labels
