"""Transformers: a callback that keeps the best of a ``Trainer``.

>>> trainer = Trainer(model, args, callbacks=[KeepBest("runs/a", monitor="eval_accuracy")], ...)  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

import keepbest
from keepbest._options import of_session

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KeepBest"]


class KeepBest(TrainerCallback):
    """Keeps the best model after each evaluation. Metrics are those of the ``Trainer``: ``eval_loss``, ``eval_accuracy`` ...

    Args:
        run: The run directory. One that exists is gone on with.
        monitor: As of :class:`keepbest.Keeper`; so are the further options.
        load_best: Whether the model is the best when training ends, as ``load_best_model_at_end`` has it.
    """

    def __init__(
        self, run: str | os.PathLike[str], monitor: str | Sequence[str], *, load_best: bool = False, **options: Any
    ) -> None:
        self.run = os.fspath(run)
        self._monitor, self._options, self._load_best = monitor, options, load_best
        self.keeper: keepbest.Keeper | None = None
        self.summary: keepbest.Summary | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins the run, or goes on with it."""
        if keepbest.Keeper.is_run(self.run):
            self.keeper = keepbest.Keeper.resume(self.run, **of_session(self._options))
        else:
            self.keeper = keepbest.Keeper(self.run, self._monitor, **self._options)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Offers what was evaluated."""
        if self.keeper is None:
            return
        metrics: dict[str, Any] = kwargs["metrics"]
        self.keeper.offer(
            kwargs["model"],
            {name: value for name, value in metrics.items() if isinstance(value, int | float)},
            epoch=int(state.epoch or 0),
            step=max(state.global_step, self.keeper.step),
            optimizer=kwargs.get("optimizer"),
            scheduler=kwargs.get("lr_scheduler"),
            trainer={name: value for name, value in dataclasses.asdict(state).items() if name != "stateful_callbacks"},
        )
        if self.keeper.should_stop:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Waits for what is being saved."""
        if self.keeper is None:
            return
        if self._load_best:
            self.keeper.load_best(kwargs["model"])
        self.summary = self.keeper.close()
        self.keeper = None
