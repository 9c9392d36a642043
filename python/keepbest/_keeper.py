"""The keeper: judges an evaluation, copies what will be saved, saves in the background."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from keepbest import _native, _rng, _tree, errors
from keepbest._about import Layout, layout_of
from keepbest._contents import Contents, to_json
from keepbest._metrics import direction, numbers, with_direction
from keepbest._model import Model, load, load_into, optimizer_state
from keepbest._ranks import Ranks

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Self

log = logging.getLogger("keepbest")

_FAILURES = {"save failed", "also failed", "prune failed"}


@dataclass(frozen=True)
class Verdict:
    """The answer for one evaluation. True when it is the new best."""

    kind: Literal["improved", "not improved", "rejected", "skipped"]
    reason: str
    """In words: ``val/accuracy 0.8912, was 0.8875``."""

    def __bool__(self) -> bool:
        return self.kind == "improved"

    @property
    def improved(self) -> bool:
        """Whether it is the new best."""
        return self.kind == "improved"


@dataclass(frozen=True)
class Best:
    """The best model on disk by one objective."""

    reference: str
    """The name it goes by: ``best``, or ``best:val/loss``."""
    path: str
    step: int
    epoch: int
    score: float
    """The value that is compared."""
    metrics: dict[str, float]
    """What was measured on exactly these weights."""
    digest: str
    """The identity of the weights."""


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    best: Best | None
    last: str | None
    """The file to resume from."""
    best_is_saved: bool
    """Whether the best that was measured is the best on disk."""
    evaluations: int
    failures: list[str] = field(default_factory=list)
    """Every save that failed, also where a later one made good for it."""
    unresolved: list[str] = field(default_factory=list)
    """Those of them that nothing made good for."""


class Keeper:
    """Keeps the best model of a run, and the point to resume it from.

    An offer judges at once and copies what will be saved, if anything, in one pass; encoding, writing, syncing, reading back, moving
    ``best`` and deleting what is not kept happen on a thread of Rust. Training in place afterwards changes nothing of what is saved.

    Args:
        run: The run directory. It must not exist; :meth:`resume` goes on with one that does.
        monitor: What best means: a metric (``"val/accuracy"``) or an expression (``"0.5*precision + 0.5*recall"``). Of several in
            a list, each gets a best of its own; early stopping goes by the first.
        mode: ``"max"``, ``"min"``, or ``"auto"``: by the metric's name, an error where that says nothing.
        save_top_k: How many of the best checkpoints stay: 1 is ``best`` alone, -1 all.
        save_last: Whether every offer saves the resume point.
        save_weights_only: Whether ``best`` holds the weights alone.
        every_n_epochs: Only every n-th epoch is judged; other offers are skipped.
        min_delta: The least improvement that counts: ``0.001`` or ``"0.1%"``.
        tie_break: What decides between equal values: ``"val/loss"``, ``"min:my/metric"``.
        constraints: Conditions that the best has to meet: ``"val/recall >= 0.9"``.
        patience: ``should_stop`` after so many offers in a row without improvement.
        stop_at: ``should_stop`` when the monitored value is this good.
        keep: Further policies: ``"epochs:10"``, ``"bytes:2GiB"``, ``"pareto:val/accuracy,latency_ms"``.
        also: ``"pth"`` keeps best as ``best.pth`` as well, for ``torch.load(weights_only=True)``.
        strict: Whether what cannot be stored is an error; else it is left out, with a warning.
        rng: Whether the states of the random number generators are saved with the rest.
        spec: The network as data, such as :func:`keepbest.torch.spec_of` makes it of a module: what is saved are full models, which open
            without this program: in :func:`keepbest.torch.load` and with ``keepbest predict``.
        classes: Class names, by label.
        preprocessing: How inputs are made, as data. With a spec it is that of our own runs, such as :func:`keepbest.torch.preprocessing` makes it.
        provenance: Where the model comes from, as data.
        config: Settings of the training, for the record.
        copies: How many copies of a model may lie in memory at most. With 1, an offer that is to be saved waits for the save before it.

    Raises:
        RunExists: The directory is there already.
        InvalidObjective: ``monitor`` does not say what best means.
        CannotWrite: The directory cannot be written to.

    Under ``torchrun``, every rank makes a keeper and calls its methods; rank 0 judges and writes, all get the same verdict.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        monitor: str | Sequence[str],
        mode: Literal["auto", "max", "min"] = "auto",
        *,
        save_top_k: int = 1,
        save_last: bool = True,
        save_weights_only: bool = False,
        every_n_epochs: int = 1,
        min_delta: float | str = 0.0,
        tie_break: str | None = None,
        constraints: Sequence[str] = (),
        patience: int | None = None,
        stop_at: float | None = None,
        keep: Sequence[str] = (),
        also: Literal["pth"] | None = None,
        strict: bool = True,
        rng: bool = True,
        spec: Mapping[str, Any] | None = None,
        classes: Sequence[str] = (),
        preprocessing: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        copies: int = 1,
    ) -> None:
        monitors = [monitor] if isinstance(monitor, str) else list(monitor)
        if not monitors:
            raise errors.InvalidObjective("monitor is an empty list: there is nothing to be best by")
        for name, given in {"constraints": constraints, "keep": keep, "classes": classes}.items():
            if isinstance(given, str):
                raise errors.InvalidOption(f"{name} is the text {given!r}: it is to be a list, [{given!r}]")
        if spec is not None and save_weights_only:
            raise errors.InvalidOption("save_weights_only leaves the network out: spec is for full models")
        layout = layout_of(spec, classes, preprocessing)
        options = {
            "monitor": monitors[0],
            "mode": direction(monitors[0], mode),
            "also_monitor": [with_direction(name) for name in monitors[1:]],
            "min_delta": min_delta,
            "tie_break": tie_break and with_direction(tie_break),
            "constraints": list(constraints),
            "patience": patience,
            "stop_at": stop_at,
            "keep": [*top_k(save_top_k), *keep],
            "save_weights_only": save_weights_only,
            "save_last": save_last,
            "also": also,
            "spec": layout and layout.spec,
            "classes": list(classes),
            "preprocessing": preprocessing,
            "provenance": provenance,
            "config": config,
        }
        self._begin(strict, rng, copies, every_n_epochs, options, layout)
        # Absolute, since a program may change its directory.
        path = os.path.abspath(run)
        self._native: _native.Keeper | None = self._ranks.first(
            "Keeper()", lambda: _native.Keeper.create(path, to_json(options, "the options"), _session())
        )
        self._opened(path)

    def _begin(
        self, strict: bool, rng: bool, copies: int, every_n_epochs: int, options: dict[str, Any], layout: Layout | None
    ) -> None:
        if every_n_epochs < 1 or copies < 1:
            raise errors.InvalidOption("every_n_epochs and copies are at least 1")
        self._strict, self._rng, self._copies, self._every = strict, rng, copies, every_n_epochs
        self._layout = layout
        self._ranks = Ranks.of_this_process()
        self._arenas: list[_native.Arena] = []
        self._shapes: dict[str, tuple[str, list[int]]] | None = None
        self._stop: str | None = None
        self._summary: Summary | None = None
        self._history = "[]"
        self._bests: tuple[dict[str, Any] | None, list[dict[str, Any]]] = (None, [])
        self._offering: set[int] = set()
        self.epoch = -1
        """The epoch of the latest offer, or that it was resumed from; -1 before any."""
        self.step = 0
        """The step of the latest offer, or that it was resumed from."""
        self.options = options
        """What the run was begun with."""
        self.state: dict[str, Any] = {}
        """What lay beside the model where the run was resumed from."""

    def _opened(self, path: str) -> None:
        self.path = path
        """The run directory, absolute."""
        if self._native is not None:
            _close_locks_in_children(self.path)

    @classmethod
    def resume(
        cls,
        run: str | os.PathLike[str],
        model: Any = None,
        *,
        strict: bool = True,
        rng: bool = True,
        copies: int = 1,
        every_n_epochs: int = 1,
        **objects: Any,
    ) -> Self:
        """Goes on with a run after an interruption of any kind.

        What was left half done is mended, with a warning. The model and the further objects (``optimizer=``, ``scheduler=`` ...: whatever
        has ``load_state_dict``, by the names they were offered with) are put into the state of the resume point, and so are the random number
        generators. What is no such object is in :attr:`state`.

        Args:
            run: The run directory.
            model: What to load the weights into: a module, or ``None`` to find them in ``state["model"]``.

        Raises:
            RunMissing: There is no run.
            RunLocked: Another process writes to it.
            ModelDamaged: The resume point cannot be read.
        """
        keeper = cls.__new__(cls)
        keeper._begin(strict, rng, copies, every_n_epochs, {}, None)
        path = os.path.abspath(run)
        opened = keeper._ranks.first("Keeper.resume()", lambda: _native.Keeper.resume(path, _session()))
        keeper._native = opened[0] if opened is not None else None
        found = opened[1:] if opened is not None else ("{}", None, [])
        del opened
        text, point, repairs = keeper._ranks.share("Keeper.resume()", found)
        keeper.options = json.loads(text)
        keeper._layout = layout_of(keeper.options.get("spec"), (), None)
        keeper._opened(path)
        for repair in repairs:
            warnings.warn(repair, errors.Repaired, stacklevel=2)
        try:
            if point is not None:
                file, keeper.step, keeper.epoch = point
                keeper._load(load(file), model, objects)
            keeper._share("Keeper.resume()")
        except BaseException:
            # A traceback that is kept, as in a notebook, would keep the run locked.
            keeper._leave()
            raise
        return keeper

    @staticmethod
    def is_run(path: str | os.PathLike[str]) -> bool:
        """Whether there is a run to :meth:`resume` at a path."""
        return os.path.exists(os.path.join(path, "run.toml"))

    def _load(self, at: Model, model: Any, objects: dict[str, Any]) -> None:
        state = at.state()
        self.epoch = at.resume_epoch()
        self.state = {"model": at.state_dict(), **state}
        if model is not None:
            load_into(model, at)
        for name, value in objects.items():
            if value is None:
                continue
            if name not in state:
                have = ", ".join(sorted(state)) or "nothing"
                raise errors.KeepbestError(f"{at.path} holds no state of {name}, only of: {have}")
            if not hasattr(value, "load_state_dict"):
                raise errors.InvalidOption(f"{name} has no load_state_dict: find its state in keeper.state[{name!r}]")
            value.load_state_dict(optimizer_state(value, state[name]))
        if self._rng and "rng" in state:
            mine = _rng.of_rank(state["rng"], self._ranks.place, self._ranks.number)
            if mine is not None:
                _rng.restore(mine)
            else:
                warnings.warn(
                    f"no states of random generators were saved for rank {self._ranks.place}: its own go on", errors.Caution, stacklevel=4
                )

    @property
    def next_epoch(self) -> int:
        """The epoch to go on with."""
        return self.epoch + 1

    def offer(
        self,
        model: Any,
        metrics: Mapping[str, Any],
        *,
        epoch: int | None = None,
        step: int | None = None,
        reduce: Literal["mean"] | None = None,
        **state: Any,
    ) -> Verdict:
        """Judges an evaluation of ``model``, and has it saved if it is to be.

        Args:
            model: A module with ``state_dict()``, a state dict, or any nested mapping of tensors: torch, numpy, JAX, TensorFlow, MLX, or
                anything with DLPack, ``__array__`` or the buffer protocol.
            metrics: What was measured on it: numbers, or tensors of one element.
            epoch: The epoch that it was measured after; the one after the latest by default.
            step: Steps of the optimizer behind it; one more than at the latest offer by default.
            reduce: ``"mean"`` averages the metrics over the ranks; by default those of rank 0 count.
            state: What is needed to go on: ``optimizer=``, ``scheduler=``, ``scaler=`` ...: objects with ``state_dict()``, or plain values.

        Raises:
            MetricMissing: The objective needs a metric that is not there. Best stays what it is.
            CannotStore: Something has no place in a file; ``where`` names it.
            ShapesChanged: The model has other tensors than before.

        An exception changes nothing: training can go on, and the next offer is judged as if this one had not been.
        """
        epoch = self.epoch + 1 if epoch is None else int(epoch)
        step = self.step + 1 if step is None else int(step)
        if epoch < 0 or step < 0:
            raise errors.InvalidOption(f"epoch {epoch} and step {step} cannot be negative")
        if (epoch + 1) % self._every != 0:
            self.epoch, self.step = epoch, step
            return Verdict("skipped", f"only every {self._every} epochs are judged")
        measured = self._ranks.all("offer()", lambda: numbers(metrics))
        values = list(_reduced(measured, reduce).items())

        def judge(copy: Callable[[str], Any]) -> tuple[tuple[Any, str], tuple[Any, ...]]:
            verdict = self._checked().offer(step, epoch, values, copy)
            return verdict, self._news()

        with self._alone("offer()"):
            verdict, news = self._ranks.offer("offer()", judge, lambda wanted: self._prepare(wanted, model, state), self._copy)
        self.epoch, self.step = epoch, step
        self._take(news)
        return Verdict(*verdict)

    def save_last(self, model: Any, *, epoch: int | None = None, step: int | None = None, **state: Any) -> None:
        """Saves the resume point without an evaluation, as when training is interrupted in the middle of an epoch. ``epoch`` is the one
        that is over."""
        over = self.epoch if epoch is None else int(epoch)
        step = self.step if step is None else int(step)

        def judge(copy: Callable[[str], Any]) -> tuple[Any, ...]:
            self._checked().save_last(step, max(over, 0), copy)
            return self._news()

        with self._alone("save_last()"):
            news = self._ranks.offer("save_last()", judge, lambda wanted: self._prepare(wanted, model, state, over), self._copy)
        self._take(news)

    @contextlib.contextmanager
    def _alone(self, call: str) -> Iterator[None]:
        """Marks that this thread is inside of an offer, whose native part is locked: what it calls, such as a signal's handler or a hook of a
        model, cannot use the keeper."""
        self._not_within(call)
        self._offering.add(threading.get_ident())
        try:
            yield
        finally:
            self._offering.discard(threading.get_ident())

    def _not_within(self, call: str) -> None:
        if threading.get_ident() in self._offering:
            raise errors.KeepbestError(
                f"{call} is called inside of an offer of the same keeper, as by a signal's handler or a hook of the model: nothing was done. Set a flag "
                "there, and look at it after the offer"
            )

    def _prepare(self, wanted: str, model: Any, state: dict[str, Any], epoch: int | None = None) -> Contents | None:
        """What is to be copied, once it is known to be saved: whole on the first rank."""
        if wanted == "nothing":
            return None
        everything = wanted == "everything"
        rng = _rng.of_ranks(self._ranks.all("the random states", _rng.state)) if self._rng and everything else None
        built: list[Contents] = []

        def build() -> None:
            contents = Contents(model, state if everything else None, self._strict, self._layout, rng=rng, epoch=epoch)
            if self.options.get("save_weights_only"):
                contents.check_weights_alone()
            self._check_shapes(contents.weights)
            built.append(contents)

        self._ranks.all("the copy", build)
        self._ranks.gather(built[0].pieces)
        return built[0]

    def _copy(self, contents: Contents | None) -> tuple[_native.Arena, list[Any], list[Any]] | None:
        if contents is None:
            return None
        arena = self._arena(contents.place())
        return (arena, *contents.copy(arena))

    def _check_shapes(self, weights: _tree.Encoder) -> None:
        shapes = {name: (it.dtype, it.shape) for name, it in weights.pieces.items()}
        if self._shapes is not None and self._shapes != shapes:
            where = next(n for n in [*self._shapes, *shapes] if self._shapes.get(n) != shapes.get(n))
            was, now = (_in_words(of.get(where)) for of in (self._shapes, shapes))
            raise errors.ShapesChanged(f"{where} was {was} in this run, and now is {now}", where=where)
        self._shapes = shapes

    def _arena(self, size: int) -> _native.Arena:
        """Memory for a copy. Waits for the save that still reads the last one allowed."""
        for attempt in range(2):
            for arena in self._arenas:
                if arena.is_free and len(arena) >= size:
                    return arena
            self._arenas = [arena for arena in self._arenas if not arena.is_free]
            if len(self._arenas) < self._copies or attempt:
                break
            self._saves.wait()
        # Beyond what is allowed only while a best that could not be saved is held, to be tried again.
        self._arenas.append(_native.Arena(size))
        return self._arenas[-1]

    def _checked(self) -> _native.Keeper:
        if self._native is None:
            raise errors.KeepbestError("this rank does not keep")
        # Asked for before an offer locks the keeper.
        self._saves = self._native.saves()
        return self._native

    def _news(self) -> tuple[Any, ...]:
        """Tells what happened in the background; why training should stop, and for the other ranks the bests."""
        native = self._native
        if native is None:
            return ()
        _tell(native.events())
        bests = (native.best(), native.others()) if self._ranks.number > 1 else (None, [])
        return native.should_stop(), bests

    def _take(self, news: tuple[Any, ...]) -> None:
        self._stop, self._bests = news

    def _share(self, call: str) -> None:
        """The news, and the history, for all ranks."""
        native = self._native
        news = self._news()
        history = native.history() if native is not None and self._ranks.number > 1 else "[]"
        news, self._history = self._ranks.share(call, (news, history))
        self._take(news)

    @property
    def should_stop(self) -> bool:
        """Whether training should stop: ``patience`` is used up, or ``stop_at`` reached."""
        return self._stop is not None

    @property
    def stop_reason(self) -> str | None:
        """Why training should stop, in words."""
        return self._stop

    @property
    def best(self) -> Best | None:
        """The best on disk by the first objective. A save may still be under way: :meth:`wait` waits for it. On ranks other than the first, as it
        was at the latest call."""
        self._not_within("best")
        if self._summary is not None:
            return self._summary.best
        return _best(self._native.best() if self._native is not None else self._bests[0])

    @property
    def others(self) -> list[Best]:
        """The bests on disk by the further objectives; as :attr:`best`."""
        self._not_within("others")
        others = self._native.others() if self._native is not None and self._summary is None else self._bests[1]
        return [found for best in others if (found := _best(best))]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluations so far, each with its metrics, verdict and reason. On ranks other than the first, as it was at the latest :meth:`wait`,
        :meth:`load_best` or :meth:`close`."""
        self._not_within("history")
        live = self._native is not None and self._summary is None
        records: list[dict[str, Any]] = json.loads(self._native.history() if live and self._native is not None else self._history)
        return records

    def wait(self) -> None:
        """Waits until everything offered is on disk, or has failed. Ctrl-C ends the wait, not the save."""
        self._not_within("wait()")
        if self._summary is not None:
            return
        if self._native is not None:
            self._checked()
            self._saves.wait()
        self._share("wait()")

    def load_best(self, model: Any = None) -> Model:
        """The best, verified byte by byte, loaded into ``model`` if there is one.

        Raises:
            ModelMissing: There is no best yet.
        """
        self.wait()
        if self._summary is None:
            if self._native is not None:
                self._native.settle()
            self._share("load_best()")
        best = load(self.path)
        if model is not None:
            load_into(model, best)
        return best

    def close(self) -> Summary:
        """Waits for the saves under way, and journals the end of the run.

        Raises:
            BestNotSaved: The best that was measured is not on disk.
            CannotWrite: The end cannot be journalled, as on a full disk.
        """
        return self._end("finish")

    def interrupt(self) -> Summary:
        """As :meth:`close`, for a run that was stopped and is to be resumed."""
        return self._end("interrupt")

    def _end(self, how: str, alone: bool = False) -> Summary:
        """Ends the run; ``alone`` without the other ranks, as after an error of this one's, of which they know nothing."""
        self._not_within(f"{'close' if how == 'finish' else how}()")
        if self._summary is not None:
            return self._summary
        raw = self._end_native(how) if alone else self._ranks.first(f"{how}()", lambda: self._end_native(how))
        if not alone:
            raw, self._history, self._bests = self._ranks.share(f"{how}()", (raw, self._history, self._bests))
        if raw is None:
            raw = {"best": self._bests[0], "last": None, "best_is_saved": True, "evaluations": 0, "failures": [], "unresolved": []}
        self._summary = Summary(
            best=_best(raw["best"]),
            last=os.fspath(raw["last"]) if raw["last"] is not None else None,
            best_is_saved=raw["best_is_saved"],
            evaluations=raw["evaluations"],
            failures=raw["failures"],
            unresolved=raw["unresolved"],
        )
        self._arenas = []
        if not self._summary.best_is_saved:
            why = "; ".join(self._summary.unresolved) or "no save succeeded"
            raise errors.BestNotSaved(f"the best that was measured is not on disk: {why}", summary=self._summary)
        return self._summary

    def _end_native(self, how: str) -> dict[str, Any] | None:
        native = self._native
        if native is None:
            return None
        self._checked()
        self._saves.wait()
        self._history, self._bests = native.history(), (native.best(), native.others())
        stopped = json.dumps({"stopped": self._stop or "planned end"})
        raw = native.finish(stopped) if how == "finish" else native.interrupt()
        _tell(raw.pop("events"))
        return raw

    def _leave(self) -> None:
        """Gives the run back after an error, which is not to be hidden by another."""
        try:
            self._end("interrupt", alone=True)
        except Exception as second:
            warnings.warn(str(second), errors.SaveFailed, stacklevel=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            # The exception that ends the loop goes on, and the other ranks may be anywhere.
            self._leave()

    def __repr__(self) -> str:
        return f"<keepbest.Keeper of {self.path!r}, epoch {self.epoch}>"


def _reduced(measured: list[dict[str, float]], how: str | None) -> dict[str, float]:
    """The metrics that count of those of all ranks."""
    if how is None:
        return measured[0]
    if how != "mean":
        raise errors.InvalidOption(f"reduce is {how!r}, not None or 'mean'")
    names = list(measured[0])
    if any(list(other) != names for other in measured):
        raise errors.InvalidMetric(f"the ranks measured different metrics: {measured}", metric="")
    return {name: sum(of[name] for of in measured) / len(measured) for name in names}


def _best(raw: dict[str, Any] | None) -> Best | None:
    return None if raw is None else Best(**{**raw, "path": os.fspath(raw["path"])})


def top_k(k: int) -> list[str]:
    """``save_top_k`` as policies."""
    if k == 0 or k < -1:
        raise errors.InvalidOption(f"save_top_k is {k}: 1 keeps the best alone, more keep so many, -1 keeps all")
    return [] if k == 1 else ["every:1"] if k == -1 else [f"best:{k}"]


def _session() -> str:
    versions = {name: getattr(module, "__version__", None) for name in ("torch", "numpy") if (module := sys.modules.get(name))}
    return json.dumps({"program": "python", "python": sys.version.split()[0], **versions, "argv": sys.argv})


def _in_words(shape: tuple[str, list[int]] | None) -> str:
    return "not there" if shape is None else f"{shape[0]} {shape[1]}"


def _tell(events: list[tuple[str, str]]) -> None:
    for kind, text in events:
        if kind in _FAILURES:
            warnings.warn(text, errors.SaveFailed, stacklevel=4)
        else:
            log.info(text)


def _close_locks_in_children(run: str) -> None:
    """A forked child, such as a worker of a DataLoader, must not keep the run locked once this process is gone."""
    parent = os.getpid()

    def close() -> None:
        if os.getppid() != parent:
            return
        # As /proc has them, without links.
        real = os.path.realpath(run)
        wanted = {real, os.path.join(real, "lock")}
        try:
            descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
        except OSError:
            return
        for descriptor in descriptors:
            try:
                if os.readlink(f"/proc/self/fd/{descriptor}") in wanted:
                    os.close(descriptor)
            except OSError:
                continue

    os.register_at_fork(after_in_child=close)


