"""The oracle: a model's outputs from TensorFlow Lite Micro's reference kernels (the pinned tflite-micro wheel)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


class Oracle:
    """A model in TFLM's interpreter. Raises RuntimeError when TFLM refuses the model."""

    def __init__(self, model: bytes, arena_bytes: int = 1 << 20) -> None:
        runtime = pytest.importorskip(
            "tflite_micro.python.tflite_micro.runtime", reason="the tflite-micro wheel exists for Linux x86-64 only"
        )
        # Every tensor keeps its own memory, so that `tensor` is never a later operator's data.
        config = runtime.InterpreterConfig.kPreserveAllTensors
        self._interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_bytes, intrepreter_config=config)

    def run(self, inputs: Sequence[NDArray[Any]], outputs: int = 1) -> list[NDArray[Any]]:
        """The first `outputs` outputs for these inputs."""
        for i, value in enumerate(inputs):
            self._interpreter.set_input(np.ascontiguousarray(value), i)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(i)) for i in range(outputs)]

    def tensor(self, index: int) -> NDArray[Any]:
        """Any tensor's value after `run`."""
        return np.array(self._interpreter.GetTensor(index, 0))
