"""What goes into a file: a model, and the state beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from keepbest import _native, _rng, _tensors, _tree, errors
from keepbest._about import Layout, layout_of

STATE = "optimizer."
"""What the names of tensors beside the model begin with in a file."""

RESERVED = ("python", "rng")
"""Names of state that are keepbest's own: the structure, and the random number generators."""

VERSION = 2
"""Of the structure: 2 has the versions of modules, tied tensors, and the epoch where it is another than the file's."""

BESIDE = "model/"
"""What the names of a model's tensors begin with that are none of its spec's network: they lie with the state beside it."""

Entries = list[tuple[str, str, list[int], int]]


class Contents:
    """The tensors of a model and of the state beside it, gathered and not copied yet; ``state=None`` for the weights alone."""

    def __init__(
        self,
        model: Any,
        state: dict[str, Any] | None,
        strict: bool,
        layout: Layout | None = None,
        *,
        rng: dict[str, Any] | None = None,
        epoch: int | None = None,
    ) -> None:
        self.weights, self._beside = _tree.Encoder(strict), _tree.Encoder(strict)
        self.tree = self.weights.encode(state_of(model), "")
        self._check()
        if layout is not None:
            layout.check({name: (it.dtype, it.shape) for name, it in self.weights.pieces.items()})
            for name in [name for name in self.weights.pieces if name not in layout]:
                self._beside.pieces[BESIDE + name] = self.weights.pieces.pop(name)
        if state is not None:
            for name in RESERVED:
                if state.get(name) is not None:
                    raise errors.InvalidOption(f"{name}= is a name of keepbest's own state: call it otherwise")
            values = {name: state_of(value) for name, value in [*state.items(), ("rng", rng)] if value is not None}
            trees = {name: self._beside.encode(value, name) for name, value in values.items()}
            self._add_json({"version": VERSION, "model": self.tree, "state": trees, "epoch": epoch})
        self.pieces = [*self.weights.pieces.values(), *self._beside.pieces.values()]

    def _check(self) -> None:
        if not self.weights.pieces:
            raise errors.CannotStore("the model holds no tensors", where="model", type="model")
        for name in self.weights.pieces:
            if name.startswith(STATE):
                raise errors.CannotStore(
                    f"{name} cannot be stored: names that begin with {STATE!r} are those of the state beside a model",
                    where=name,
                    type="tensor",
                )

    def check_weights_alone(self) -> None:
        """Raises what a file of weights alone would lose: it has names, element types and shapes, and no structure beside them."""
        for name, it in self.weights.pieces.items():
            if it.pair is not None:
                why = f"elements of type {it.pair} are stored in pairs, which a file of weights alone cannot say"
                raise errors.CannotStore(f"{name} cannot be stored with save_weights_only: {why}", where=name, type=it.pair)
        tree = self.tree.get(_tree.STATE_DICT, self.tree) if isinstance(self.tree, dict) else {}
        for name, leaf in tree.items():
            if not isinstance(leaf, dict) or leaf.get(_tree.TENSOR) != name:
                raise errors.CannotStore(
                    f"{name} cannot be stored with save_weights_only: a file of weights alone holds tensors by name, and no values or containers",
                    where=str(name),
                    type="value",
                )

    def _add_json(self, trees: dict[str, Any]) -> None:
        """Puts the structure of everything beside the tensors: as bytes, so that every number comes back as it was."""
        import numpy

        raw = numpy.frombuffer(to_json(trees, "the state").encode(), dtype=numpy.uint8)
        self._beside.pieces["python"] = _tensors.piece(raw, "python")

    def place(self) -> int:
        """Bytes that the copy takes."""
        return _tensors.place(self.pieces)

    def copy(self, arena: _native.Arena) -> tuple[Entries, Entries]:
        """Copies all tensors to their places, and says where they are: those of the model, those beside it."""
        _tensors.copy(self.pieces, arena)
        return _entries(self.weights), _entries(self._beside)


def _entries(encoder: _tree.Encoder) -> Entries:
    return [(name, it.dtype, it.shape, it.offset) for name, it in encoder.pieces.items()]


def state_of(value: Any) -> Any:
    """The state dict of an object that has one, else the value itself."""
    state_dict = getattr(value, "state_dict", None)
    return state_dict() if callable(state_dict) else value


def to_json(value: Any, what: str) -> str:
    """JSON of plain values."""

    def refuse(item: Any) -> Any:
        if isinstance(item, Mapping):
            return dict(item)
        raise errors.InvalidOption(f"{what} hold a {type(item).__qualname__}, which is no plain value")

    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if item is not None}
    try:
        return json.dumps(value, default=refuse, allow_nan=False)
    except ValueError as error:
        raise errors.InvalidOption(f"{what} cannot be written as JSON: {error}") from error


def save(
    path: str | os.PathLike[str],
    model: Any,
    *,
    epoch: int = 0,
    step: int = 0,
    strict: bool = True,
    rng: bool = False,
    spec: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    preprocessing: Mapping[str, Any] | None = None,
    **state: Any,
) -> None:
    """Writes one model file, outside of any run, as safely as in one: staged beside it, synced, read back, renamed. An older file of that name is
    replaced, and is whole until then.

    Args:
        path: The file.
        model: As of :meth:`Keeper.offer`.
        epoch: The epoch that it is of.
        step: Steps of the optimizer behind it.
        strict: Whether what cannot be stored is an error; else it is left out, with a warning.
        rng: Whether the states of the random number generators are saved with the rest.
        spec: The network as data: the file is a full model, as of :class:`Keeper`.
        classes: Class names, by label.
        preprocessing: How inputs are made, as data.
        state: What is needed to go on, as of :meth:`Keeper.offer`.

    Raises:
        CannotStore: Something has no place in a file; ``where`` names it.
        CannotWrite: The file cannot be written. What was there is untouched.
    """
    layout = layout_of(spec, classes, preprocessing)
    contents = Contents(model, state, strict, layout, rng=_rng.state() if rng else None)
    about = {"model": layout and layout.spec, "classes": list(classes), "preprocessing": preprocessing}
    arena = _native.Arena(contents.place())
    _native.save(os.path.abspath(path), arena, *contents.copy(arena), step, epoch, to_json(about, "what is said of the model"))
