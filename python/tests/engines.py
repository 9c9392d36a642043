"""Engines by hand, for the tests of PyTorch's and for benchmarks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from keepbest import _native


def arena(array: np.ndarray) -> _native.Arena:
    """Memory with the values of an array."""
    array = np.ascontiguousarray(array)
    memory = _native.Arena(array.nbytes)
    memory.copy([(0, array.ctypes.data, array.nbytes)])
    return memory


class Batches:
    """Batches of images that can be learnt: each class has a pattern of its own, with noise."""

    def __init__(self, size: tuple[int, int, int], classes: int, n: int, seed: int = 0) -> None:
        self._random, self.n, self._classes = np.random.RandomState(seed), n, classes
        channels, height, width = size
        self._shape = (height, width, channels)
        self._patterns = self._random.standard_normal((classes, *self._shape)).astype(np.float32)

    def next(self) -> tuple[_native.Arena, list[int]]:
        """Images ``[n, height, width, channels]``, and labels."""
        labels = self._random.randint(0, self._classes, self.n)
        noise = self._random.standard_normal((self.n, *self._shape)).astype(np.float32)
        return arena(0.5 * self._patterns[labels] + 0.5 * noise), labels.tolist()


def engine(device: str, network: str | dict[str, Any], size: tuple[int, int, int], classes: int, **settings: Any) -> _native.Engine:
    """The engine of a device for a network of the zoo or a spec."""
    asked = (network, (*size, classes)) if isinstance(network, str) else (json.dumps(network), None)
    return _native.Engine(device, asked, json.dumps(settings))


def still(spec: dict[str, Any]) -> dict[str, Any]:
    """The same network with nothing random in it: two engines draw otherwise."""
    found: dict[str, Any] = json.loads(json.dumps(spec), object_hook=_still)
    return found


def _still(layer: dict[str, Any]) -> dict[str, Any]:
    return {**layer, "p": 0.0} if layer.get("op") in ("dropout", "stochastic_depth") else layer


def tensors(viewed: list[tuple[str, str, list[int], Any]]) -> dict[str, np.ndarray]:
    """Tensors by name, as arrays that keep their memory."""
    types = {"F32": np.float32, "I64": np.int64}
    return {name: np.asarray(view).view(types[dtype]).reshape(shape) for name, dtype, shape, view in viewed}
