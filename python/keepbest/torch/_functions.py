"""Which function of PyTorch is followed by what: the table that the modules beside this one fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keepbest.torch._nodes import Node
from keepbest.torch._record import Call, Handler
from keepbest.torch._views import View

HANDLERS: dict[str, Handler] = {}


def says(*keys: str) -> Callable[[Handler], Handler]:
    """Has a handler take the functions of these names, without underscores at their ends."""

    def add(handler: Handler) -> Handler:
        HANDLERS.update({key: handler for key in keys})
        return handler

    return add


def pair(value: Any) -> list[int]:
    """Rows and columns."""
    if isinstance(value, int):
        return [value, value]
    sides = [int(side) for side in value]
    return sides * 2 if len(sides) == 1 else sides


def short(value: Any) -> Any:
    """Rows and columns as a spec writes them."""
    rows, columns = pair(value)
    return rows if rows == columns else [rows, columns]


def but(settings: dict[str, Any], **usual: Any) -> dict[str, Any]:
    """Settings without those that have the usual value."""
    return {key: value for key, value in settings.items() if key not in usual or usual[key] != value}


def slice_of(call: Call, node: Node, part: tuple[int, int]) -> Node:
    """Some channels of a node."""
    return call.recorder.slice(node, *part)


def parts_of(view: View, dim: int) -> list[tuple[int, int]] | None:
    """The channels behind each index of a side that is the outermost part of them."""
    side, channels = view.sides[dim], view.node.shape[0]
    if len(side) != 1 or side[0].axis != "c" or side[0].stride * side[0].size != channels or side[0].stride == 1:
        return None
    stride = side[0].stride
    return [(at * stride, (at + 1) * stride) for at in range(side[0].size)]
