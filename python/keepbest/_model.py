"""A model file, opened: of keepbest's own and of any other safetensors writer."""

from __future__ import annotations

import json
import os
from typing import Any

from keepbest import _native, _tensors, _tree, errors

class Model:
    """A model as it is on disk. Made by :func:`load`."""

    def __init__(self, file: _native.ModelFile) -> None:
        self._file = file
        raw = file.metadata()
        self._metadata: dict[str, Any] = json.loads(raw) if raw is not None else {}
        self._trees_: dict[str, Any] | None = None

    @property
    def path(self) -> str:
        """The file."""
        return os.fspath(self._file.path)

    @property
    def step(self) -> int | None:
        """Steps of the optimizer behind it."""
        return self._metadata.get("step")

    @property
    def epoch(self) -> int | None:
        """The epoch that it was measured after."""
        return self._metadata.get("epoch")

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured on exactly these weights."""
        evaluation = self._metadata.get("evaluation") or {}
        return {name: _number(value) for name, value in evaluation.get("metrics", {}).items()}

    @property
    def classes(self) -> list[str]:
        """Class names, by label."""
        return list(self._metadata.get("classes") or [])

    @property
    def preprocessing(self) -> Any:
        """How inputs are made, as data."""
        return self._metadata.get("preprocessing")

    @property
    def provenance(self) -> Any:
        """Where the model comes from, as data."""
        return self._metadata.get("provenance")

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluations of the run up to it."""
        return list(self._metadata.get("history") or [])

    @property
    def digest(self) -> str:
        """The identity of the weights: BLAKE3 over names, element types, shapes and bytes."""
        return self._file.digest()

    def state_dict(self, framework: str | None = None) -> dict[str, Any]:
        """Parameters and buffers by name. ``framework`` is ``"torch"`` or ``"numpy"``; by default what they were saved from, else torch
        if the program has imported it."""
        tree = self._trees().get("model")
        if tree is None:
            chosen = framework or ("torch" if _tensors.loaded("torch") else "numpy")
            return {
                name: _tensors.restore(view, dtype, shape, chosen) for name, dtype, shape, view in self._file.weights()
            }
        decoded = _tree.decode(tree, _Tensors(self._file.weights(), framework))
        return dict(decoded)

    def state(self) -> dict[str, Any]:
        """What was offered beside the model: ``{"optimizer": {...}, "rng": {...}}``. Empty in a file of weights alone."""
        tree = self._trees().get("state", {})
        tensors = _Tensors(self._file.training_state(), None)
        return {name: _tree.decode(value, tensors) for name, value in tree.items()}

    def _trees(self) -> dict[str, Any]:
        if self._trees_ is None:
            self._trees_ = {}
            for name, dtype, shape, view in self._file.training_state():
                if name == "python":
                    self._trees_ = json.loads(bytes(_tensors.restore(view, dtype, shape, "numpy")))
        return self._trees_

    def verify(self) -> None:
        """Reads every byte again and compares it with the digests in the file.

        Raises:
            ModelDamaged: It is not what was written.
        """
        _native.ModelFile.open(self.path, True)

    def __repr__(self) -> str:
        return f"<keepbest.Model {self.path!r}, epoch {self.epoch}, digest {self.digest[:16]}>"


class _Tensors:
    """The tensors of a file, by the leaves of a tree. Names that shared memory share it again."""

    def __init__(self, viewed: list[tuple[str, str, list[int], _native.View]], framework: str | None) -> None:
        self._viewed = {name: (dtype, shape, view) for name, dtype, shape, view in viewed}
        self._framework = framework

    def __call__(self, leaf: dict[str, Any]) -> Any:
        dtype, shape, view = self._viewed[leaf[_tree.TENSOR]]
        framework = self._framework or leaf["as"]
        value = _tensors.restore(view, dtype, shape, framework, leaf.get("pair"))
        strides = leaf.get("strides")
        if strides is not None and framework == "torch":
            import torch

            value = torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)
        return value


def load(reference: str | os.PathLike[str], *, verify: bool = True) -> Model:
    """Opens a model: a file, a run (its best), or ``run@best``, ``run@last``, ``run@epoch:7``, ``run@step:1200``.

    Args:
        reference: Which.
        verify: Whether every byte is compared with the digests in the file.

    Raises:
        ModelMissing: There is no such file, or the run has none.
        ModelDamaged: It is not what was written.
    """
    return Model(_native.ModelFile.open(_native.resolve(os.fspath(reference)), verify))


def load_into(model: Any, source: Model) -> None:
    """Loads the weights into a module, or anything else with ``load_state_dict``."""
    if not hasattr(model, "load_state_dict"):
        raise errors.InvalidOption(
            f"a {type(model).__qualname__} has no load_state_dict: take the tensors from keepbest.load(...).state_dict()"
        )
    model.load_state_dict(source.state_dict())


def _number(value: Any) -> float:
    # JSON has no NaN or infinity: they are stored as text.
    return float(value) if value is not None else float("nan")
