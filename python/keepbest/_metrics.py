"""Metrics as numbers, and the direction that follows from their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepbest import errors

# What torch, Lightning, Keras and scikit-learn call their metrics, where keepbest's own name does not say which way is better.
_LESS = ("loss", "error", "err", "mse", "mae", "rmse", "nll", "perplexity", "ppl", "wer", "cer", "fid")
_MORE = ("acc", "accuracy", "f1", "auc", "auroc", "precision", "recall", "iou", "map", "score", "r2", "psnr", "ssim", "bleu")

# What turns the direction of a name round.
_TURNED = ("neg", "negative", "inv", "inverse", "free")


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as they are compared. Raises ``InvalidMetric``."""
    if not isinstance(metrics, Mapping):
        raise errors.InvalidMetric(f"metrics are a {type(metrics).__qualname__}, not a mapping of names to numbers", metric="")
    values = {}
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise errors.InvalidMetric(f"the name of a metric is {name!r}, not a text", metric=repr(name))
        try:
            values[name] = _number(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise errors.InvalidMetric(f"{name} is not one number: {error}", metric=name) from error
    return values


def _number(value: Any) -> float:
    if getattr(value, "requires_grad", False):
        value = value.detach()
    item = getattr(value, "item", None)
    # A tensor or array of one element, whatever its sides.
    if callable(item):
        value = item()
    if isinstance(value, str | bytes):
        raise TypeError("it is a text")
    number = float(value)
    if isinstance(value, int) and number != value:
        raise ValueError(f"{value} has more digits than metrics keep (53 bits)")
    return number


def direction(monitor: str, mode: str) -> str | None:
    """``"max"`` or ``"min"``; ``None`` where keepbest's own rules say it, or ask."""
    if mode in ("max", "min"):
        return mode
    if mode != "auto":
        raise errors.InvalidObjective(f"mode is {mode!r}, not 'auto', 'max' or 'min'")
    return _usual_direction(monitor)


def _usual_direction(monitor: str) -> str | None:
    """By the last word that is known of a metric's name, as other programs name theirs. ``None`` leaves it to keepbest's own rules."""
    if not monitor.replace("/", "").replace("_", "").replace(".", "").isalnum():
        return None
    words = monitor.lower().replace("/", "_").replace(".", "_").split("_")
    known = next((word for word in reversed(words) if word in _LESS or word in _MORE), None)
    if known is None:
        return None
    if not any(word in _TURNED for word in words):
        return "min" if known in _LESS else "max"
    if known in _MORE:
        raise errors.InvalidObjective(f"the name {monitor} does not say which way is better: give mode='max' or mode='min'")
    # As scikit-learn's neg_mean_squared_error.
    return "max"


def with_direction(monitor: str) -> str:
    """A monitor with its direction before it, where its name says one."""
    usual = None if monitor.startswith(("max:", "min:")) else _usual_direction(monitor)
    return f"{usual}:{monitor}" if usual is not None else monitor
