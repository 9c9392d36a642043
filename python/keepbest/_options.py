"""Options of the keeper that belong to a session and not to the run."""

from __future__ import annotations

from typing import Any

_OF_SESSION = ("strict", "rng", "copies", "every_n_epochs")


def of_session(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that :meth:`keepbest.Keeper.resume` takes."""
    return {name: options[name] for name in _OF_SESSION if name in options}
