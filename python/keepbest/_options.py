"""How a framework's callback begins a run, or goes on with one."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import Any

from keepbest import errors
from keepbest._keeper import Keeper, top_k
from keepbest._metrics import direction, with_direction

_OF_SESSION = ("strict", "rng", "copies", "every_n_epochs")

# Keepers of callbacks by the run, as long as somebody holds them: a cell of a notebook that is run again makes a new callback while the traceback
# of its interruption still holds the old one.
_open: weakref.WeakValueDictionary[str, Keeper] = weakref.WeakValueDictionary()


def of_session(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that :meth:`keepbest.Keeper.resume` takes."""
    return {name: options[name] for name in _OF_SESSION if name in options}


def keeper_of(run: str | os.PathLike[str], monitor: str | Sequence[str], mode: str = "auto", **options: Any) -> Keeper:
    """The keeper of a run for a callback: begins it, or goes on with it where it exists. An earlier callback's that was not ended is.

    Raises:
        ObjectiveDiffers: The run keeps the best by another objective than ``monitor``.
        InvalidOption: It was begun with another value of an option.
    """
    path = os.path.abspath(run)
    before = _open.pop(path, None)
    if before is not None:
        before.interrupt()
    if Keeper.is_run(path):
        keeper = Keeper.resume(path, **of_session(options))
        try:
            _check(keeper, monitor, options.pop("mode", mode), options)
        except errors.KeepbestError:
            keeper.interrupt()
            raise
    else:
        keeper = Keeper(path, monitor, options.pop("mode", mode), **options)
    _open[path] = keeper
    return keeper


def _check(keeper: Keeper, monitor: str | Sequence[str], mode: Any, options: dict[str, Any]) -> None:
    stored = keeper.options
    monitors = [monitor] if isinstance(monitor, str) else list(monitor)
    given: dict[str, Any] = {"monitor": monitors[0], "also_monitor": [with_direction(name) for name in monitors[1:]]}
    way = direction(monitors[0], mode)
    if way is not None:
        given["mode"] = way
    for name, value in given.items():
        had = stored.get(name, [] if name == "also_monitor" else None)
        if had != value and not (name == "mode" and had is None):
            raise errors.ObjectiveDiffers(
                f"{keeper.path} keeps the best by {name} {had!r}, not {value!r}: give another directory, or the objective of the run",
                stored=str(had),
                given=str(value),
            )
    policies: dict[str, Any] = {name: options[name] for name in ("patience", "stop_at", "also", "tie_break") if name in options}
    if policies.get("tie_break"):
        policies["tie_break"] = with_direction(policies["tie_break"])
    if "save_top_k" in options or "keep" in options:
        policies["keep"] = [*top_k(options.get("save_top_k", 1)), *options.get("keep", ())]
    for name, empty in (("constraints", []), ("save_weights_only", False), ("save_last", True)):
        if name in options:
            policies[name] = list(options[name]) if isinstance(empty, list) else options[name]
    for name, value in policies.items():
        had = stored.get(name, [] if name in ("keep", "constraints") else None)
        if had != value:
            raise errors.InvalidOption(f"{keeper.path} was begun with {name}={had!r}, not {value!r}: give another directory, or the run's own value")


def check_goes_on(keeper: Keeper, step: int, how: str) -> None:
    """Refuses a training that begins anew in a run that does not: its evaluations would be compared with another model's.

    Raises:
        RunExists: The run has steps, and the trainer none.
    """
    if step == 0 and keeper.step > 0:
        raise errors.RunExists(
            f"{keeper.path} is at step {keeper.step}, and this training begins at step 0: give another directory, or go on with {how}",
            path=keeper.path,
        )
