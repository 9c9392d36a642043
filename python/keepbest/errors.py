"""What keepbest raises and warns of. The facts of an error are its attributes."""

from __future__ import annotations

import os
from typing import Any


class KeepbestError(Exception):
    """The base of all of them. Raising one has lost nothing: what was best before still is."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update({name: os.fspath(fact) if isinstance(fact, os.PathLike) else fact for name, fact in facts.items()})


class InvalidOption(KeepbestError):
    """A keyword argument of the keeper is none, or has a value that it cannot have."""


class InvalidObjective(InvalidOption):
    """``monitor``, ``mode``, ``tie_break`` or a constraint does not say what best means."""


class InvalidSetting(InvalidOption):
    """A keyword argument of ``keepbest.train`` is no setting, has a value that it cannot have, or does not go with another."""

    setting: str | None
    """Its name, where it is one setting's fault."""
    nearest: str | None
    """The setting that is meant, maybe."""


class InvalidSpec(KeepbestError):
    """There is no such network, or a spec is none, or its layers do not fit each other."""


class InvalidPreprocessing(KeepbestError):
    """What is said to make a network's input of images does not."""


class InvalidData(KeepbestError):
    """Images or labels cannot be read, do not fit each other, or are not those that a run or model is of."""


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


class NoNetwork(KeepbestError):
    """A file holds weights alone: there is no network to answer or to be measured with."""

    path: str


class CannotPredict(KeepbestError):
    """A model cannot be run, or has no answer for an image."""

    image: str
    """The image, where it is that."""


class Diverged(KeepbestError):
    """Training went out of the range of numbers. The best until then is kept."""

    epoch: int
    best: str | None
    """Its file."""


class TrainingStopped(KeepbestError):
    """Training could not go on, as where an image cannot be read any more. What it had come to is saved: ``keepbest.train(resume=run)``."""

    run: str
    step: int
    epoch: int


class TrainingFailed(KeepbestError):
    """Training could not begin, for a reason that has no exception of its own."""


class Interrupted(KeyboardInterrupt):
    """``keepbest.train`` was interrupted by Ctrl-C. What it had come to is saved: ``keepbest.train(resume=run)`` goes on, to the same bits."""

    def __init__(self, message: str, run: str, step: int, epoch: int) -> None:
        super().__init__(message)
        self.run, self.step, self.epoch = run, step, epoch

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.run, self.step, self.epoch)


class RecheckFailed(KeepbestError):
    """The best, read back from disk and measured again, is not what was recorded. ``result`` says all."""

    result: Any


class BestNotSaved(KeepbestError):
    """The run is over, and the best that was measured is not on disk. ``summary`` says what is (a ``TrainResult`` of ``keepbest.train``)."""

    summary: Any


class RankLost(KeepbestError):
    """Another process of the same training cannot be reached any more: it ended, or says nothing."""


class OtherRankFailed(KeepbestError):
    """The rank that keeps could not take an evaluation; its own exception says why."""


class SaveFailed(UserWarning):
    """A save failed. What was best still is; a best is tried again at the next evaluation and at the end."""


class Caution(UserWarning):
    """A figure or an answer is to be taken with caution: images were converted by no recorded rule, a score flatters the best."""


class Skipped(UserWarning):
    """Something that cannot be stored was left out, as ``strict=False`` allows."""


class Repaired(UserWarning):
    """What an interruption had left behind was mended when the run was resumed."""
