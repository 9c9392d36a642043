"""Ignite: a save handler for its ``Checkpoint``.

>>> best = Checkpoint(to_save, KeepBest("runs/a", "accuracy"), score_name="accuracy", score_function=...)  # doctest: +SKIP
>>> evaluator.add_event_handler(Events.COMPLETED, best)  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ignite.handlers.checkpoint import BaseSaveHandler

import keepbest
from keepbest import errors
from keepbest._options import keeper_of

__all__ = ["KeepBest"]


class KeepBest(BaseSaveHandler):
    """Keeps what ``Checkpoint`` hands it, and the best of it: whole whatever happens, never replaced by a NaN.

    More is better, as with every score of Ignite. ``Checkpoint`` compares by itself before it saves, so give it ``n_saved=None`` to leave the choice
    to keepbest.

    Args:
        run: The run directory. One that exists is gone on with.
        score_name: What the score is called.
        model: Which of ``to_save`` is the model; the first by default.
        options: As of :class:`keepbest.Keeper`.
    """

    def __init__(
        self, run: str | os.PathLike[str], score_name: str, *, model: str | None = None, **options: Any
    ) -> None:
        self._model, self._score = model, score_name
        self.keeper: keepbest.Keeper = keeper_of(run, score_name, "max", **options)

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Offers a checkpoint with its priority as the score."""
        if metadata is None or metadata.get("score_name") is None:
            raise errors.MetricMissing(
                "Checkpoint has no score: give it score_function and score_name", metric=self._score, existing=[]
            )
        parts = dict(checkpoint)
        name = self._model or next(iter(parts))
        if name not in parts:
            raise errors.InvalidOption(f"to_save has no {name}, only: {', '.join(parts)}")
        self.keeper.offer(parts.pop(name), {self._score: metadata["priority"]}, **parts)

    def remove(self, filename: str) -> None:
        """Does nothing: what stays is decided by the keeper's own rules."""

    def close(self) -> keepbest.Summary:
        """Waits for what is being saved, and ends the run."""
        return self.keeper.close()
