"""Transformers: a callback that keeps the best of a ``Trainer``.

>>> trainer = Trainer(model, args, callbacks=[KeepBest("runs/a", monitor="eval_accuracy")], ...)  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

import keepbest
from keepbest._options import check_goes_on, keeper_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KeepBest"]


class KeepBest(TrainerCallback):
    """Keeps the best model after each evaluation. Metrics are those of the ``Trainer``: ``eval_loss``, ``eval_accuracy`` ...

    Args:
        run: The run directory. One that exists is gone on with, by a trainer that does so too (``resume_from_checkpoint``).
        monitor: As of :class:`keepbest.Keeper`; so are the further options.
        load_best: Whether the model is the best when training ends, as ``load_best_model_at_end`` has it.
    """

    def __init__(
        self, run: str | os.PathLike[str], monitor: str | Sequence[str], *, load_best: bool = False, **options: Any
    ) -> None:
        self.run = os.path.abspath(run)
        self._monitor, self._options, self._load_best = monitor, options, load_best
        self.keeper: keepbest.Keeper | None = None
        self.summary: keepbest.Summary | None = None
        # Of the evaluations at a step: that none had what is monitored, and the latest step at which one had.
        self._missing: keepbest.errors.MetricMissing | None = None
        self._found = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins the run, or goes on with it."""
        self._missing = None
        self.keeper = keeper_of(self.run, self._monitor, **self._options)
        try:
            # A further train() of the same trainer goes on with the model as it is.
            if self.summary is None:
                check_goes_on(self.keeper, state.global_step, "train(resume_from_checkpoint=...), or a model and optimizer loaded from it")
        except keepbest.errors.RunExists:
            self.keeper.interrupt()
            self.keeper = None
            raise

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Offers what was evaluated."""
        if self.keeper is None:
            return
        metrics: dict[str, Any] = kwargs["metrics"]
        try:
            self.keeper.offer(
                kwargs["model"],
                {name: value for name, value in metrics.items() if isinstance(value, int | float)},
                epoch=int(state.epoch or 0),
                step=max(state.global_step, self.keeper.step),
                optimizer=kwargs.get("optimizer"),
                scheduler=kwargs.get("lr_scheduler"),
                trainer={name: value for name, value in dataclasses.asdict(state).items() if name != "stateful_callbacks"},
            )
        except keepbest.errors.MetricMissing as error:
            # Of several evaluation sets, each is told of alone, and one has the metric.
            self._missing = error if self._found != state.global_step else None
            return
        self._missing, self._found = None, state.global_step
        if self.keeper.should_stop:
            control.should_training_stop = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raises what no evaluation of the step before had."""
        if self._missing is not None:
            raise self._missing

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Waits for what is being saved."""
        if self.keeper is None:
            return
        if self._missing is not None:
            self.keeper.interrupt()
            self.keeper = None
            raise self._missing
        if self._load_best:
            self.keeper.load_best(kwargs["model"])
        self.summary = self.keeper.close()
        self.keeper = None
