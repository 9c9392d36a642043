"""What the sides of a tensor are, in terms of the channels, rows and columns of the map that it shows.

A program reshapes and permutes maps freely: tokens, channels last, groups of channels. None of that computes anything, so a spec does not say it. A
:class:`View` follows it: every side of a tensor is a list of *atoms*, each a part of one axis of the map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from keepbest.torch._nodes import Node


class Atom(NamedTuple):
    """The part ``(index // stride) % size`` of the index along an axis: ``n``, ``c``, ``h`` or ``w``."""

    axis: str
    stride: int
    size: int


Side = tuple[Atom, ...]


class Mixed(Exception):
    """Sides cannot be told apart any more."""


@dataclass(frozen=True)
class View:
    """A tensor that shows the values of a node."""

    node: Node
    sides: tuple[Side, ...]

    @classmethod
    def of_map(cls, node: Node, batch: int) -> View:
        """``[n, c, h, w]``."""
        channels, height, width = node.shape
        return cls(node, (whole("n", batch), whole("c", channels), whole("h", height), whole("w", width)))

    @classmethod
    def of_vector(cls, node: Node, batch: int) -> View:
        """``[n, c]``."""
        return cls(node, (whole("n", batch), whole("c", node.shape[0])))

    def axes(self, dim: int) -> set[str]:
        """The axes that a side has parts of."""
        return {atom.axis for atom in self.sides[dim]}

    def is_whole(self, dim: int, axis: str) -> bool:
        """Whether a side is one whole axis."""
        return self.sides[dim] == whole(axis, self.size(axis))

    def size(self, axis: str) -> int:
        """The length of an axis of the map."""
        if axis == "n":
            return math.prod(atom.size for side in self.sides for atom in side if atom.axis == "n")
        return dict(zip("chw", self.node.shape, strict=True))[axis]

    def of(self, node: Node) -> View:
        """The same sides of another node, whose axes may have other lengths; whole ones alone may change."""
        sides = []
        for side in self.sides:
            new: list[Atom] = []
            for atom in side:
                before = self.size(atom.axis)
                after = before if atom.axis == "n" else dict(zip("chw", node.shape, strict=True))[atom.axis]
                if before == after:
                    new.append(atom)
                elif atom.size == before:
                    new.extend(whole(atom.axis, after))
                else:
                    raise Mixed
            sides.append(tuple(new))
        return View(node, tuple(sides))

    def is_map(self) -> bool:
        """Whether it is ``[n, c, h, w]``, but for the order of channels."""
        return (
            len(self.sides) == 4
            and self.axes(0) <= {"n"}
            and self.axes(1) <= {"c"}
            and self.is_whole(2, "h")
            and self.is_whole(3, "w")
            and self.is_whole(0, "n")
        )

    def permute(self, order: list[int]) -> View:
        """The sides in another order."""
        return replace(self, sides=tuple(self.sides[dim] for dim in order))

    def reshape(self, shape: list[int]) -> View:
        """Sides of other lengths over the same values.

        Raises:
            Mixed: A side would have a part of an axis that does not divide it.
        """
        atoms = [atom for side in self.sides for atom in side]
        sides: list[Side] = []
        for length in shape:
            side: list[Atom] = []
            left = length
            while left > 1:
                if not atoms:
                    raise Mixed
                atom = atoms.pop(0)
                if left % atom.size == 0:
                    side.append(atom)
                    left //= atom.size
                elif atom.size % left == 0:
                    inner = atom.size // left
                    side.append(Atom(atom.axis, atom.stride * inner, left))
                    atoms.insert(0, Atom(atom.axis, atom.stride, inner))
                    left = 1
                else:
                    raise Mixed
            sides.append(merged(side))
        if atoms:
            raise Mixed
        return replace(self, sides=tuple(sides))

    def squeeze(self, dims: list[int]) -> View:
        """Without these sides, where they have a length of 1."""
        return replace(self, sides=tuple(side for dim, side in enumerate(self.sides) if dim not in dims or side))

    def unsqueeze(self, dim: int) -> View:
        """With one more side, of a length of 1."""
        return replace(self, sides=(*self.sides[:dim], (), *self.sides[dim:]))


def whole(axis: str, size: int) -> Side:
    """A whole axis; of a length of 1, nothing."""
    return (Atom(axis, 1, size),) if size > 1 else ()


def merged(side: list[Atom]) -> Side:
    """Parts of an axis that follow each other as one."""
    found: list[Atom] = []
    for atom in side:
        last = found[-1] if found else None
        if last is not None and last.axis == atom.axis and last.stride == atom.stride * atom.size:
            found[-1] = Atom(atom.axis, atom.stride, last.size * atom.size)
        else:
            found.append(atom)
    return tuple(found)


def broadcast(a: View, b: View) -> tuple[Side, ...]:
    """The sides of what is computed of two tensors, value by value.

    Raises:
        Mixed: A side of the one is another axis than that of the other.
    """
    length = max(len(a.sides), len(b.sides))
    both = zip(*((((),) * (length - len(view.sides)) + view.sides) for view in (a, b)), strict=True)
    sides: list[Side] = []
    for one, other in both:
        if one and other and one != other:
            raise Mixed
        sides.append(one or other)
    axes = [atom for side in sides for atom in side]
    if len(set(axes)) != len(axes):
        raise Mixed
    return tuple(sides)
