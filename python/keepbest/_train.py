"""keepbest's own trainer: from images to the best model."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keepbest import _native, errors
from keepbest._curve import Curve
from keepbest._data import as_source
from keepbest._keeper import Best
from keepbest._model import Model, as_number, load

if TYPE_CHECKING:
    from typing import Literal

log = logging.getLogger("keepbest")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, judged: what ``on_evaluation`` is called with."""

    step: int
    """Optimizer steps taken."""
    epoch: int
    """The epoch, from 1."""
    epochs: int
    """Epochs planned."""
    metrics: dict[str, float]
    """What was measured: ``train/loss``, ``val/accuracy`` ..."""
    value: float
    """What is monitored."""
    improved: bool
    """Whether it is the new best."""
    reason: str
    """Why, or why not, in words."""
    images_per_second: float | None
    """Training images a second since the evaluation before."""


@dataclass(frozen=True)
class TrainResult:
    """A run of :func:`train` that came to its end."""

    run: str
    """The run directory."""
    best: Best | None
    """The best model on disk: ``path``, ``score``, ``epoch``, ``metrics``, ``digest``. ``None`` when no evaluation could be it."""
    others: list[Best]
    """The bests by what else was monitored."""
    test: dict[str, float] | None
    """Metrics of the best, read back from disk, on images that nothing was chosen by: ``test/accuracy`` ... ``None`` without such images."""
    test_intervals: dict[str, tuple[float, float]]
    """95 % intervals of those that have one."""
    epoch: int
    """The last epoch."""
    stopped: str | None
    """Why it ended before all epochs were done, if so."""
    history: list[dict[str, Any]]
    """All evaluations of the run: ``step``, ``epoch``, ``metrics``, ``verdict`` ..."""
    monitor: str
    """What is monitored."""

    def load(self) -> Model:
        """The best, verified.

        Raises:
            ModelMissing: There is none.
        """
        return load(self.run)

    def __repr__(self) -> str:
        if self.best is None:
            return f"<keepbest.TrainResult {self.run!r}, no best>"
        tested = self.test and self.test.get("test/accuracy")
        test = f", test/accuracy {tested:.4f}" if tested is not None else ""
        return f"<keepbest.TrainResult {self.run!r}, {self.monitor} {self.best.score:.4f} (epoch {self.best.epoch}){test}>"

    def _repr_html_(self) -> str:
        curve = Curve(self.run, self.monitor)
        curve.add_history(self.history)
        return curve.html(repr(self)[1:-1].removeprefix("keepbest.TrainResult "))


def train(
    data: Any = None,
    model: str | os.PathLike[str] | None = None,
    *,
    resume: str | os.PathLike[str] | None = None,
    on_evaluation: Callable[[Evaluation], object] | None = None,
    progress: Literal["auto", "lines", "html"] | bool = "auto",
    **settings: Any,
) -> TrainResult:
    """Trains a network with keepbest's own engine on the CPU, or with PyTorch on another ``device``, and keeps the best of it, as ``keepbest train``
    does.

    Args:
        data: What to train on: a path (a folder of images by class, IDX or CIFAR files, a ``.csv``, an ``.npz``), the name of a set that
            ``keepbest data`` lists, ``(images, labels)``, or ``{"train": (images, labels), "val": ..., "test": ..., "classes": [...]}``.
            Images are ``uint8[n, height, width]`` or ``uint8[n, height, width, 1 or 3]``, labels whole numbers ``[n]`` or names. What is
            not given of val and test is set aside of train. By default the set within the package, ``fashion-mnist-mini``.
        model: A network that ``keepbest models`` lists, or a model file.
        resume: A run to go on with, to the same bits as if it had not been interrupted. Of its settings, only those change that may:
            ``epochs``, ``threads``, ``data`` (where the same images lie now), ``max_minutes``. A run that was trained on arrays needs
            them again as ``data``: they are nowhere else.
        on_evaluation: Called with each evaluation, while training waits. What it raises ends training, which is saved, and is raised
            then.
        progress: How to watch: ``"lines"`` on stderr, ``"html"`` as a live curve in a notebook, ``"auto"`` whichever it is,
            ``False`` not at all.
        settings: Flags of ``keepbest train`` with underscores: ``epochs=24``, ``lr=0.05``, ``patience=5``, ``monitor="val/f1_macro"``,
            ``runs_dir="runs"``, ``name="a"`` ... (``from_`` for ``--from``). A flag that may be given again takes a list. :func:`settings`
            says what there is.

    Returns:
        The best, its metrics on unseen images, and all evaluations.

    Raises:
        InvalidSetting: A keyword is no setting, or has a value that it cannot have; ``nearest`` is what is meant, maybe.
        InvalidObjective: ``monitor`` does not say what best means.
        InvalidData: The images cannot be read, or are not those of the run that is resumed.
        RunExists: A run of that name is there; RunMissing: none to resume is.
        RunOfAnotherLoop: The run to resume is of :class:`Keeper`: it goes on in the program that trained it.
        Interrupted: A ``KeyboardInterrupt``: Ctrl-C. What the run had come to is saved, and :attr:`Interrupted.run` is to be resumed.
        TrainingStopped: It could not go on. What it had come to is saved.
        Diverged: Loss or gradients are no numbers any more. The best is kept.
        BestNotSaved: The best that was measured is not on disk, as where that is full.
        RecheckFailed: The best, read back from disk, is not what was measured.

    The GIL is released, and taken for events alone. Results do not depend on the number of threads.
    """
    given = [(name, _texts(name, value)) for name, value in settings.items()]
    if model is not None:
        given.append(("model", [os.fspath(model)]))
    watch = _Watch(on_evaluation, _how(progress))
    with as_source(data) as source:
        if source is not None:
            given.append(("data", [source]))
        run = os.fspath(resume) if resume is not None else None
        ended, raised = _native.train(given, run, watch.tell, watch.how == "lines", watch.how == "html")
    outcome = json.loads(ended)
    if raised is not None:
        raise _ended_by(raised, outcome) from None
    return _result(outcome, watch.monitor)


def settings() -> dict[str, str]:
    """Every setting that :func:`train` takes as a keyword, and what it is."""
    return {name: f"{value}: {help}" for name, value, help in _native.settings()}


class _Watch:
    """What is made of the events of a run."""

    def __init__(self, on_evaluation: Callable[[Evaluation], object] | None, how: str) -> None:
        self._on_evaluation, self.how = on_evaluation, how
        self.monitor = ""
        self._curve: Curve | None = None
        self._display: Any = None

    def tell(self, kind: str, told: str) -> None:
        event = json.loads(told)
        if kind == "ready":
            self._ready(event)
        elif kind == "evaluation":
            self._evaluated(event)
        elif kind == "step":
            self._show(f"epoch {event['epoch']}/{event['epochs']}, step {event['step']}/{event['steps']}")
        elif kind == "failure":
            warnings.warn(event, errors.SaveFailed, stacklevel=4)
        elif kind == "mended":
            warnings.warn(event, errors.Repaired, stacklevel=4)
        else:
            log.info(event)

    def _ready(self, event: dict[str, Any]) -> None:
        self.monitor = event["monitor"]
        if self.how != "html":
            return
        from IPython.display import display

        self._curve = Curve(event["run"], self.monitor, event["steps"])
        if event["resumed_from_step"]:
            self._curve.add_history(_history(event["run"]))
        self._display = display(self._curve, display_id=True)

    def _evaluated(self, event: dict[str, Any]) -> None:
        event["metrics"], event["value"] = _metrics(event["metrics"]), as_number(event["value"])
        evaluation = Evaluation(**event)
        if self._curve is not None:
            self._curve.add(
                evaluation.step, evaluation.epoch, evaluation.metrics, evaluation.value, evaluation.improved
            )
            self._show(f"epoch {evaluation.epoch}/{evaluation.epochs}: {evaluation.reason}")
        if self._on_evaluation is not None:
            self._on_evaluation(evaluation)

    def _show(self, state: str) -> None:
        if self._curve is not None and self._display is not None:
            self._curve.state = state
            self._display.update(self._curve)


def _how(progress: str | bool) -> str:
    if progress is False:
        return "none"
    if progress in ("lines", "html"):
        return str(progress)
    if progress not in (True, "auto"):
        raise errors.InvalidOption(f"progress is {progress!r}: it is 'auto', 'lines', 'html' or False")
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return "html" if getattr(shell, "kernel", None) is not None else "lines"


def _texts(name: str, value: Any) -> list[str]:
    """A value as flags have it."""
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(name, item)]
    if value is None:
        return ["none"]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (str, os.PathLike)):
        return [os.fspath(value)]
    if isinstance(value, (int, float)):
        return [repr(value)]
    raise errors.InvalidSetting(
        f"{name} is a {type(value).__qualname__}: settings are numbers, texts, True, False, None, or lists of them",
        setting=name,
        nearest=None,
    )


def _metrics(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: as_number(value) for name, value in metrics.items()}


def _history(run: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(_native.run_summary(run)[1])
    for record in records:
        record["metrics"], record["value"] = _metrics(record["metrics"]), as_number(record["value"])
    return records


def _best(best: dict[str, Any]) -> Best:
    return Best(**{**best, "metrics": _metrics(best["metrics"])})


def _result(outcome: dict[str, Any], monitor: str) -> TrainResult:
    result = TrainResult(
        run=outcome["run"],
        best=_best(outcome["best"]) if outcome["best"] is not None else None,
        others=[_best(best) for best in outcome["others"]],
        test=_metrics(outcome["test"]) if outcome["test"] is not None else None,
        test_intervals={name: (it["low"], it["high"]) for name, it in (outcome["test_intervals"] or {}).items()},
        epoch=outcome["epoch"],
        stopped=outcome["stopped"],
        history=_history(outcome["run"]),
        monitor=monitor,
    )
    for warning in outcome["warnings"]:
        warnings.warn(warning, errors.Caution, stacklevel=3)
    why = "; ".join(outcome["unresolved"] or outcome["failures"][-1:]) or "no save succeeded"
    if not outcome["best_is_saved"]:
        raise errors.BestNotSaved(f"the best that was measured is not on disk: {why}", summary=result)
    if outcome["difference"] is not None:
        raise errors.RecheckFailed(f"the best read back and measured again: {outcome['difference']}", result=result)
    if outcome["unresolved"] or not outcome["also_is_saved"]:
        raise errors.CannotWrite(f"the best is saved; what else was to be saved is not all there: {why}", result=result)
    if outcome["end_error"] is not None:
        message = f"the best is saved; the run did not end in order: {outcome['end_error']}"
        raise errors.CannotWrite(message, result=result)
    if result.best is None:
        warnings.warn(f"{result.run} has no best: no evaluation could be one", errors.Caution, stacklevel=3)
    return result


def _ended_by(raised: BaseException, outcome: dict[str, Any]) -> BaseException:
    """What ended a run, with how to go on."""
    ended = outcome["ended"]
    if ended == "interrupted":
        run, step, epoch = outcome["run"], outcome["step"], outcome["epoch"]
        unsaved = "".join(f"; {failure}" for failure in outcome["failures"])
        told = f"interrupted in epoch {epoch} after {step} steps, saved{unsaved}; keepbest.train(resume={run!r}) goes on"
        if isinstance(raised, KeyboardInterrupt):
            return errors.Interrupted(told, run, step, epoch)
    elif ended == "finished":
        told = f"the run {outcome['run']} had come to its end by then"
    else:
        told = "interrupted before the first step: nothing was trained"
    if isinstance(raised, KeyboardInterrupt):
        return KeyboardInterrupt(told)
    if hasattr(raised, "add_note"):
        raised.add_note(told)
    return raised
