"""What keepbest raises and warns of. The facts of an error are its attributes."""

from __future__ import annotations

from typing import Any


class KeepbestError(Exception):
    """The base of all of them. Raising one has lost nothing: what was best before still is."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)


class InvalidOption(KeepbestError):
    """A keyword argument of the keeper is none, or has a value that it cannot have."""


class InvalidObjective(InvalidOption):
    """``monitor``, ``mode``, ``tie_break`` or a constraint does not say what best means."""


class MetricMissing(KeepbestError):
    """A metric that the objective needs was not measured. Best stays what it is."""

    metric: str
    """Its name."""
    existing: list[str]
    """The names of those that were."""


class InvalidMetric(KeepbestError):
    """A value among the metrics is not one number."""

    metric: str
    """Its name."""


class OutOfOrder(KeepbestError):
    """An evaluation of an earlier step came after one of a later step."""

    step: int
    previous: int


class CannotStore(KeepbestError):
    """Something in the model or in the state beside it cannot be put into a file without code."""

    where: str
    """Its path: ``optimizer.state.0.exp_avg``."""
    type: str
    """Its type."""


class ShapesChanged(KeepbestError):
    """A model has other tensors than the one offered before it in this run."""

    where: str
    """The first tensor that differs."""


class RunExists(KeepbestError):
    """The directory is there already: ``Keeper.resume`` goes on with a run."""

    path: str


class RunMissing(KeepbestError):
    """There is no run at the path."""

    path: str


class RunLocked(KeepbestError):
    """Another process writes to the run."""

    path: str
    owner: str | None
    """Which, where it is known."""


class RunDamaged(KeepbestError):
    """A file of the run cannot be read. Nothing was mended."""


class RunOfAnotherLoop(KeepbestError):
    """The run was begun by another program, whose settings this one does not know."""


class RunEnded(KeepbestError):
    """The keeper was closed."""


class ObjectiveDiffers(KeepbestError):
    """The run keeps the best by another objective."""

    stored: str
    given: str


class Forked(KeepbestError):
    """The keeper is used in a process that was forked from its own."""

    process: int
    """The process that it belongs to."""


class CannotWrite(KeepbestError):
    """The run directory cannot be written to, or the file system lacks what a run needs."""


class CannotRead(KeepbestError):
    """A file cannot be read."""

    path: str


class ModelMissing(KeepbestError):
    """There is no such model file, or the run has none yet."""

    path: str


class ModelDamaged(KeepbestError):
    """A model file is not what was written: the message names the tensor, or what else is wrong."""

    path: str


class BestNotSaved(KeepbestError):
    """The run is over, and the best that was measured is not on disk. ``summary`` says what is."""

    summary: Any


class OtherRankFailed(KeepbestError):
    """The rank that keeps could not take an evaluation; its own exception says why."""


class SaveFailed(UserWarning):
    """A save failed. What was best still is; a best is tried again at the next evaluation and at the end."""


class Skipped(UserWarning):
    """Something that cannot be stored was left out, as ``strict=False`` allows."""


class Repaired(UserWarning):
    """What an interruption had left behind was mended when the run was resumed."""
