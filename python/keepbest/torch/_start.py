"""The values that parameters start with: the distributions of our spec, drawn from PyTorch's generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Start = Callable[[Tensor], Any]


def constant(value: float) -> Start:
    """Every element the same."""
    return lambda tensor: nn.init.constant_(tensor, value)


def uniform(bound: float) -> Start:
    """Between minus and plus ``bound``."""
    return lambda tensor: nn.init.uniform_(tensor, -bound, bound)


def weights(init: Any, fan_in: int, fan_out: int) -> Start:
    """By the ``init`` of a layer; PyTorch's own without one."""
    if init == "kaiming_normal_fan_out":
        return _normal(math.sqrt(2.0 / max(fan_out, 1)))
    if init == "kaiming_normal_fan_in":
        return _normal(math.sqrt(2.0 / max(fan_in, 1)))
    if isinstance(init, dict) and "normal" in init:
        return _normal(init["normal"])
    if isinstance(init, dict) and "uniform" in init:
        return uniform(init["uniform"])
    return uniform(1.0 / math.sqrt(max(fan_in, 1)))


def bias(zero: bool, fan_in: int) -> Start:
    """PyTorch's own, or zeros."""
    return constant(0.0) if zero else uniform(1.0 / math.sqrt(max(fan_in, 1)))


def _normal(deviation: float) -> Start:
    return lambda tensor: nn.init.normal_(tensor, 0.0, deviation)
