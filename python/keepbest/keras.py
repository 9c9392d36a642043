"""Keras 3, on any backend: a callback that keeps the best of a ``fit``.

>>> model.fit(x, y, validation_data=..., callbacks=[KeepBest("runs/a", monitor="val_accuracy")])  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import keras

import keepbest
from keepbest import errors
from keepbest._options import keeper_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KeepBest"]


class KeepBest(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the best model after each epoch. Metrics are those of the ``fit``: ``loss``, ``val_accuracy`` ...

    A run that exists is gone on with: model and optimizer are put into the state of its resume point, and ``initial_epoch`` of the next fit is
    :attr:`next_epoch`.

    Args:
        run: The run directory.
        monitor: As of :class:`keepbest.Keeper`; so are the further options.
        load_best: Whether the model is the best when the fit ends, as ``restore_best_weights`` has it.
    """

    def __init__(
        self, run: str | os.PathLike[str], monitor: str | Sequence[str], *, load_best: bool = False, **options: Any
    ) -> None:
        super().__init__()
        self.run = os.path.abspath(run)
        self._monitor, self._options, self._load_best = monitor, options, load_best
        self.summary: keepbest.Summary | None = None
        self.keeper: keepbest.Keeper | None = keeper_of(self.run, monitor, **options)
        self._resumed, self._next_epoch = self.keeper.state, self.keeper.next_epoch

    @property
    def next_epoch(self) -> int:
        """The epoch to go on with: ``fit(..., initial_epoch=callback.next_epoch)``."""
        return self.keeper.next_epoch if self.keeper is not None else self._next_epoch

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Puts model and optimizer into the state of the resume point, if there is one. A further ``fit`` goes on with the model as it is."""
        if self.keeper is None:
            self.keeper = keeper_of(self.run, self._monitor, **self._options)
        if self._resumed:
            _assign(self.model.variables, self._resumed["model"], "model")
            optimizer = self._resumed.get("optimizer")
            if optimizer is not None:
                self.model.optimizer.build(self.model.trainable_variables)
                _assign(self.model.optimizer.variables, optimizer, "optimizer")
            self._resumed = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Offers what was measured."""
        if self.keeper is None:
            return
        self.keeper.offer(
            _Variables(self.model), dict(logs or {}), epoch=epoch, optimizer=_Variables(self.model.optimizer)
        )
        if self.keeper.should_stop:
            self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Waits for what is being saved."""
        if self.keeper is None:
            return
        if self._load_best:
            _assign(self.model.variables, self.keeper.load_best().state_dict("numpy"), "model")
        self._next_epoch = self.keeper.next_epoch
        self.summary = self.keeper.close()
        self.keeper = None


class _Variables:
    """The variables of a model or an optimizer by their paths, read only when they are saved."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def state_dict(self) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for variable in self._owner.variables:
            name, again = variable.path, 2
            while name in named:
                name, again = f"{variable.path}~{again}", again + 1
            named[name] = variable.value
        return named


def _assign(variables: Sequence[Any], values: Mapping[str, Any], what: str) -> None:
    named: dict[str, Any] = {}
    for variable in variables:
        name, again = variable.path, 2
        while name in named:
            name, again = f"{variable.path}~{again}", again + 1
        named[name] = variable
    if set(named) != set(values):
        raise errors.KeepbestError(_another(what, named, values))
    for name, variable in named.items():
        value = values[name]
        if hasattr(value, "detach"):
            # numpy has no bfloat16, and float32 has all its numbers.
            value = value.detach().float() if str(value.dtype) == "torch.bfloat16" else value.detach()
            value = value.numpy()
        variable.assign(value)


def _another(what: str, named: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    missing, extra = sorted(set(named) - set(values)), sorted(set(values) - set(named))
    told = f"the {what} is another: the file lacks {missing[:3]}, and has besides {extra[:3]}"
    if [tuple(variable.shape) for variable in named.values()] != [tuple(value.shape) for value in values.values()]:
        return told
    return (
        f"{told}; shapes and order are the same, so it is the names alone, which Keras numbers through in a process: give the layers names "
        "(name=...), or call keras.utils.clear_session() before the model is built again. Into a model as it is: "
        "for variable, value in zip(model.variables, keepbest.load(run).state_dict('numpy').values()): variable.assign(value)"
    )
