"""The operations that a module was found to do: a graph of maps, before it is written as a spec."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, int, int]
"""Channels, rows and columns of a map; a vector has one row and one column."""


@dataclass(eq=False)
class Node:
    """A value, and the layer that makes it."""

    op: str
    inputs: list[Node]
    shape: Shape
    settings: dict[str, Any] = field(default_factory=dict)
    """As they stand in the spec."""
    name: str | None = None
    """The module whose parameters the layer has."""

    def layer(self) -> dict[str, Any]:
        """The layer, as it stands in the spec."""
        named = {} if self.name is None else {"name": self.name}
        return {"op": self.op, **named, **self.settings}

    def is_pixel(self) -> bool:
        """Whether it is one pixel."""
        return self.shape[1:] == (1, 1)


def ancestors(output: Node) -> list[Node]:
    """All nodes that ``output`` is computed of, and itself: each behind its inputs."""
    order: list[Node] = []
    seen: set[int] = set()
    pending: list[tuple[Node, bool]] = [(output, False)]
    while pending:
        node, done = pending.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            pending.append((node, True))
            pending.extend((each, False) for each in reversed(node.inputs))
    return order


def readers(nodes: list[Node]) -> dict[int, list[Node]]:
    """By node, those that read it."""
    found: dict[int, list[Node]] = {id(node): [] for node in nodes}
    for node in nodes:
        for each in node.inputs:
            found[id(each)].append(node)
    return found
