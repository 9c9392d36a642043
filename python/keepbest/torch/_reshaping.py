"""Functions that compute nothing: they show a map in another shape, join maps, or pick parts of one."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from keepbest.torch._functions import but, says, short
from keepbest.torch._record import Call, CannotSay, Parameter
from keepbest.torch._views import Side, View, whole

@says("contiguous", "clone", "data", "detach", "float", "to", "type", "type_as", "requires_grad", "alias", "positive", "identity")
def _nothing(call: Call) -> Any:
    known = call.recorder.known(call.get(0, "input"))
    if known is None or not isinstance(call.result, Tensor):
        raise CannotSay("its input is not computed of the image")
    return known


@says("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> Any:
    known = call.recorder.known(call.get(0, "input"))
    if isinstance(known, View):
        # What it is computed with has the sides that are repeated.
        missing = call.result.dim() - len(known.sides)
        for _ in range(missing):
            known = known.unsqueeze(0)
    return known


@says("flatten")
def _flatten(call: Call) -> Any:
    return _reshaped(call, list(call.result.shape))


@says("view", "reshape", "unflatten", "view_as", "reshape_as")
def _reshape(call: Call) -> Any:
    return _reshaped(call, list(call.result.shape))


def _reshaped(call: Call, shape: list[int]) -> Any:
    known = call.recorder.known(call.get(0, "input"))
    if isinstance(known, Parameter):
        return known
    return call.view().reshape(shape)


@says("squeeze")
def _squeeze(call: Call) -> Any:
    view, dims = call.view(), call.get(1, "dim")
    dims = list(range(len(view.sides))) if dims is None else [dims] if isinstance(dims, int) else list(dims)
    return view.squeeze([dim % len(view.sides) for dim in dims])


@says("unsqueeze")
def _unsqueeze(call: Call) -> Any:
    known = call.recorder.known(call.get(0, "input"))
    if isinstance(known, Parameter):
        return known
    view, dim = call.view(), call.get(1, "dim")
    return view.unsqueeze(dim % (len(view.sides) + 1))


@says("permute")
def _permute(call: Call) -> Any:
    order = call.get(1, "dims")
    order = list(call.args[1:]) if isinstance(order, int) else list(order)
    view = call.view()
    return view.permute([dim % len(view.sides) for dim in order])


@says("transpose", "swapaxes", "swapdims", "mT")
def _transpose(call: Call) -> Any:
    view = call.view()
    order = list(range(len(view.sides)))
    if call.key == "mT":
        return view.permute([*order[:-2], order[-1], order[-2]])
    a, b = call.get(1, "dim0") % len(order), call.get(2, "dim1") % len(order)
    order[a], order[b] = order[b], order[a]
    return view.permute(order)


@says("cat", "concat", "concatenate")
def _concat(call: Call) -> Any:
    views = [call.recorder.known(value) for value in call.get(0, "tensors")]
    if not all(isinstance(view, View) for view in views):
        raise CannotSay("what is joined is not all computed of the image")
    found = [view for view in views if isinstance(view, View)]
    dim = call.get(1, "dim", 0) % len(found[0].sides)
    first = found[0]
    for view in found:
        rest = [side for at, side in enumerate(view.sides) if at != dim]
        if view.axes(dim) - {"c"} or rest != [side for at, side in enumerate(first.sides) if at != dim]:
            raise CannotSay("it joins another side than the channels")
    nodes = [call.recorder.in_order(view, dim) for view in found]
    if len(nodes) == 1:
        return first
    channels = sum(node.shape[0] for node in nodes)
    node = call.recorder.node("concat", nodes, (channels, *nodes[0].shape[1:]))
    return View(node, (*first.sides[:dim], whole("c", channels), *first.sides[dim + 1 :]))


@says("stack")
def _stack(call: Call) -> Any:
    views = [call.recorder.known(value) for value in call.get(0, "tensors")]
    found = [view for view in views if isinstance(view, View)]
    first, dim = found[0], call.get(1, "dim", 0)
    if len(found) != len(views) or any(view.sides != first.sides for view in found):
        raise CannotSay("what is stacked is not alike")
    dim = dim % (len(first.sides) + 1)
    at = next((at for at, side in enumerate(first.sides) if view_is_channels(first, at)), None)
    if at is None:
        raise CannotSay("its channels are not one side")
    channels = first.node.shape[0]
    node = call.recorder.node("concat", [view.node for view in found], (channels * len(found), *first.node.shape[1:]))
    sides = first.unsqueeze(dim).sides
    return View(node, (*sides[:dim], (whole("c", len(found))[0]._replace(stride=channels),), *sides[dim + 1 :]))


def view_is_channels(view: View, dim: int) -> bool:
    """Whether a side is all channels."""
    return view.node.shape[0] > 1 and view.is_whole(dim, "c")


@says("chunk", "split", "split_with_sizes", "tensor_split", "unbind")
def _split(call: Call) -> Any:
    view = call.view()
    position = 1 if call.key == "unbind" else 2
    dim = call.get(position, "dim", 0) % len(view.sides)
    if call.key == "unbind":
        return [_indexed(call, view, dim, at) for at in range(len(call.result))]
    found, start = [], 0
    for piece in call.result:
        length = piece.shape[dim]
        found.append(_narrowed(call, view, dim, start, start + length))
        start += length
    return found


@says("narrow")
def _narrow(call: Call) -> Any:
    view = call.view()
    dim, start = call.get(1, "dim") % len(view.sides), int(call.get(2, "start"))
    return _narrowed(call, view, dim, start, start + call.get(3, "length"))


@says("select")
def _select(call: Call) -> Any:
    view = call.view()
    return _indexed(call, view, call.get(1, "dim") % len(view.sides), call.get(2, "index"))


@says("getitem")
def _getitem(call: Call) -> Any:
    view, items = call.view(), call.get(1, "indices")
    items = items if isinstance(items, tuple) else (items,)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        missing = len(view.sides) - sum(item is not None for item in items) + 1
        items = (*items[:at], *[slice(None)] * missing, *items[at + 1 :])
    dim = 0
    steps = {}
    for item in items:
        if item is None:
            view = view.unsqueeze(dim)
        elif isinstance(item, int):
            view = _indexed(call, view, dim, item)
            continue
        elif not isinstance(item, slice):
            raise CannotSay("it picks by a tensor")
        else:
            length = _length(view, dim)
            start, end, step = item.indices(length)
            if step != 1:
                steps[dim] = step
                if start or end != length:
                    raise CannotSay("it picks every other value of a part")
            elif (start, end) != (0, length):
                view = _narrowed(call, view, dim, start, end)
        dim += 1
    return _every(call, view, steps) if steps else view


def _every(call: Call, view: View, steps: dict[int, int]) -> View:
    """Every second row and column, or the like: the maximum of windows of one pixel."""
    if set(steps) - {2, 3}:
        raise CannotSay("it picks every other channel")
    stride = [steps.get(2, 1), steps.get(3, 1)]
    return call.map_of("max_pool2d", [call.recorder.as_map(view)], {"kernel": 1, "stride": short(stride)})


def _length(view: View, dim: int) -> int:
    return math.prod(atom.size for atom in view.sides[dim])


def _narrowed(call: Call, view: View, dim: int, start: int, end: int) -> View:
    """A part of a side."""
    length = _length(view, dim)
    if (start, end) == (0, length):
        return view
    node = view.node
    if view.axes(dim) == {"c"}:
        side = view.sides[dim]
        if len(side) == 1 and side[0].stride > 1 and side[0].stride * side[0].size == node.shape[0]:
            stride = side[0].stride
            part = call.recorder.slice(node, start * stride, end * stride)
            new: Side = (side[0]._replace(size=end - start),) if end - start > 1 else ()
        else:
            source = call.recorder.in_order(view, dim)
            part = call.recorder.slice(source, start, end)
            new = whole("c", end - start)
        return View(part, (*view.sides[:dim], new, *view.sides[dim + 1 :]))
    axis = next(iter(view.axes(dim)), "n")
    if axis == "n" or not view.is_whole(dim, axis):
        raise CannotSay("it picks images, or a part of an axis that was divided")
    channels, height, width = node.shape
    if axis == "h":
        shape, settings = (channels, end - start, width), but({"top": start, "bottom": height - end}, top=0, bottom=0)
    else:
        shape, settings = (channels, height, end - start), but({"left": start, "right": width - end}, left=0, right=0)
    part = call.recorder.node("crop", [node], shape, settings)
    return View(part, (*view.sides[:dim], whole(axis, end - start), *view.sides[dim + 1 :]))


def _indexed(call: Call, view: View, dim: int, index: int) -> View:
    """One index of a side, which is gone then."""
    if not view.sides[dim]:
        return view.squeeze([dim])
    index = index % _length(view, dim)
    return _narrowed(call, view, dim, index, index + 1).squeeze([dim])
