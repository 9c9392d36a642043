"""The states of the random number generators that the program has imported."""

from __future__ import annotations

import random
from typing import Any

from keepbest._tensors import loaded


def state() -> dict[str, Any]:
    """The states of Python's, numpy's global, and torch's generators, CUDA's included once it is in use."""
    states: dict[str, Any] = {"python": random.getstate()}
    numpy = loaded("numpy")
    if numpy is not None and "numpy.random" in __import__("sys").modules:
        states["numpy"] = numpy.random.get_state(legacy=False)
    torch = loaded("torch")
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def of_ranks(states: list[dict[str, Any]]) -> dict[str, Any]:
    """The states of all ranks, of which each gets its own back."""
    return states[0] if len(states) == 1 else {"ranks": states}


def of_rank(states: dict[str, Any], place: int, number: int) -> dict[str, Any] | None:
    """Those of one rank of ``number``; ``None`` where there were fewer."""
    ranks = states.get("ranks")
    if ranks is None:
        return states if place == 0 else None
    return ranks[place] if place < min(len(ranks), number) else None


def restore(states: dict[str, Any]) -> None:
    """Sets the generators to ``states``, as far as they are there."""
    if "python" in states:
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))
    if "numpy" in states:
        import numpy

        numpy.random.set_state(states["numpy"])
    if "torch" in states:
        import torch

        torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
