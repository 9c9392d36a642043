"""Accelerate: a keeper that unwraps what the accelerator has prepared, and stores its optimizers, schedulers and scaler.

>>> with KeepBest(accelerator, "runs/a", monitor="val/accuracy") as keeper:  # doctest: +SKIP
...     keeper.offer(model, {"val/accuracy": accuracy}, epoch=epoch)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keepbest
from keepbest import errors
from keepbest._model import load_into, optimizer_state

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KeepBest"]


class KeepBest(keepbest.Keeper):
    """The keeper of a loop that runs under an ``Accelerator``: every process calls it, the main process writes.

    Args:
        accelerator: The accelerator.
        run: The run directory.
        monitor: As of :class:`keepbest.Keeper`; so are the further options.
    """

    def __init__(self, accelerator: Any, run: str | os.PathLike[str], monitor: str | Sequence[str], **options: Any) -> None:
        super().__init__(run, monitor, **options)
        self._accelerator = accelerator

    @classmethod
    def resume(  # type: ignore[override]
        cls, accelerator: Any, run: str | os.PathLike[str], model: Any = None, **options: Any
    ) -> Self:
        """As of :class:`keepbest.Keeper`, with everything that was prepared put into its state: to be called after ``accelerator.prepare``."""
        keeper = super().resume(run, None, **options)
        keeper._accelerator = accelerator
        try:
            keeper._restore(model)
        except BaseException:
            keeper._leave()
            raise
        return keeper

    def _restore(self, model: Any) -> None:
        accelerator, state = self._accelerator, self.state
        if not state:
            return
        if model is not None:
            load_into(accelerator.unwrap_model(model), keepbest.load(f"{self.path}@last"))
        prepared = {
            "optimizer": [each.optimizer for each in accelerator._optimizers],
            "scheduler": [each.scheduler for each in accelerator._schedulers],
        }
        for name, objects in prepared.items():
            states = state.get(name, [])
            if len(states) != len(objects):
                raise errors.KeepbestError(f"{self.path} holds the state of {len(states)} {name}s, and {len(objects)} are prepared")
            for each, saved in zip(objects, states, strict=True):
                each.load_state_dict(optimizer_state(each, saved))
        if accelerator.scaler is not None and "scaler" in state:
            accelerator.scaler.load_state_dict(state["scaler"])

    def offer(self, model: Any, metrics: Mapping[str, Any], **kwargs: Any) -> keepbest.Verdict:
        """As of :class:`keepbest.Keeper`, with everything that was prepared as the state beside the model."""
        accelerator = self._accelerator
        if hasattr(model, "state_dict"):
            model = accelerator.unwrap_model(model)
        prepared = {
            "optimizer": [each.optimizer.state_dict for each in accelerator._optimizers],
            "scheduler": [each.scheduler.state_dict for each in accelerator._schedulers],
        }
        for name, getters in prepared.items():
            if getters:
                kwargs.setdefault(name, _Each(getters))
        if accelerator.scaler is not None:
            kwargs.setdefault("scaler", accelerator.scaler)
        return super().offer(model, metrics, **kwargs)


class _Each:
    """The states of several objects, asked for only when they are saved."""

    def __init__(self, getters: Sequence[Any]) -> None:
        self._getters = getters

    def state_dict(self) -> list[Any]:
        return [get() for get in self._getters]
