"""Pooling, sums over sides, and changes of size."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from keepbest.torch._functions import but, pair, parts_of, says, short, slice_of
from keepbest.torch._nodes import Node
from keepbest.torch._record import Call, CannotSay
from keepbest.torch._views import View

@says("max_pool2d", "max_pool2d_with_indices")
def _max_pool2d(call: Call) -> Any:
    if call.key.endswith("indices"):
        raise CannotSay("it gives the places of the maxima, too")
    kernel = pair(call.get(1, "kernel_size"))
    stride = call.get(2, "stride")
    settings = {
        "kernel": short(kernel),
        "stride": short(stride if stride not in (None, [], ()) else kernel),
        "padding": short(call.get(3, "padding", 0)),
        "dilation": short(call.get(4, "dilation", 1)),
        "ceil_mode": bool(call.get(5, "ceil_mode", False)),
    }
    settings = but(settings, stride=settings["kernel"], padding=0, dilation=1, ceil_mode=False)
    return call.map_of("max_pool2d", [call.map()], settings)


@says("avg_pool2d")
def _avg_pool2d(call: Call) -> Any:
    kernel = pair(call.get(1, "kernel_size"))
    stride = call.get(2, "stride")
    if call.get(6, "divisor_override") is not None:
        raise CannotSay("it divides by another number than that of its window")
    settings = {
        "kernel": short(kernel),
        "stride": short(stride if stride not in (None, [], ()) else kernel),
        "padding": short(call.get(3, "padding", 0)),
        "ceil_mode": bool(call.get(4, "ceil_mode", False)),
        "count_include_pad": bool(call.get(5, "count_include_pad", True)),
    }
    if settings["padding"] == 0 and not settings["ceil_mode"]:
        settings["count_include_pad"] = True
    settings = but(settings, stride=settings["kernel"], padding=0, ceil_mode=False, count_include_pad=True)
    return call.map_of("avg_pool2d", [call.map()], settings)


@says("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(call: Call) -> Any:
    x, size = call.map(), list(call.result.shape[2:])
    if size == [1, 1]:
        return call.map_of("global_avg_pool2d", [x])
    return call.map_of("adaptive_avg_pool2d", [x], {"size": short(size)})


@says("adaptive_max_pool2d")
def _adaptive_max_pool2d(call: Call) -> Any:
    if not isinstance(call.result, Tensor) or list(call.result.shape[2:]) != [1, 1]:
        raise CannotSay("it pools to more than one pixel")
    return call.map_of("global_max_pool2d", [call.map()])


@says("mean", "sum", "amax", "max")
def _reduce(call: Call) -> Any:
    view, dims = call.view(), call.get(1, "dim")
    if dims is None or not isinstance(call.result, Tensor):
        raise CannotSay("it goes over all values, or says where they are")
    dims = [dim % len(view.sides) for dim in ([dims] if isinstance(dims, int) else dims)]
    keep = call.get(2, "keepdim", False)
    sides = tuple(() if dim in dims else side for dim, side in enumerate(view.sides) if keep or dim not in dims)
    reduced = {axis for dim in dims for axis in view.axes(dim)}
    node = view.node
    if len(dims) == 1 and (parts := parts_of(view, dims[0])) is not None and call.key in ("sum", "mean"):
        slices = [slice_of(call, node, part) for part in parts]
        result = call.recorder.node("add", slices, slices[0].shape)
        if call.key == "mean":
            result = call.recorder.node("affine", [result], result.shape, {"scale": 1.0 / len(parts), "shift": 0.0})
        return View(result, sides)
    left = {axis for dim, side in enumerate(view.sides) if dim not in dims for axis in view.axes(dim)}
    if reduced & left or "n" in reduced:
        raise CannotSay("it goes over a part of an axis, or over images")
    count = math.prod(view.size(axis) for axis in reduced)
    result = node
    if reduced & {"h", "w"}:
        result = _reduce_pixels(call, result, reduced)
    if "c" in reduced:
        op = "channel_max" if call.key in ("amax", "max") else "channel_mean"
        result = call.recorder.node(op, [result], (1, *result.shape[1:]))
    if call.key == "sum" and count > 1:
        result = call.recorder.node("affine", [result], result.shape, {"scale": float(count), "shift": 0.0})
    return View(result, sides)


def _reduce_pixels(call: Call, node: Node, reduced: set[str]) -> Node:
    """The mean or maximum of rows, of columns, or of both."""
    is_max = call.key in ("amax", "max")
    channels, height, width = node.shape
    rows, columns = height if "h" in reduced else 1, width if "w" in reduced else 1
    if (rows, columns) == (height, width):
        return call.recorder.node("global_max_pool2d" if is_max else "global_avg_pool2d", [node], (channels, 1, 1))
    shape = (channels, height // rows, width // columns)
    return call.recorder.node("max_pool2d" if is_max else "avg_pool2d", [node], shape, {"kernel": short([rows, columns])})


@says("interpolate", "upsample")
def _upsample(call: Call) -> Any:
    mode = call.get(3, "mode", "nearest")
    if mode not in ("nearest", "bilinear") or call.get(6, "antialias", False):
        raise CannotSay(f"its mode is {mode}{' with antialias' if call.get(6, 'antialias', False) else ''}, not nearest or bilinear")
    x = call.map()
    if call.result.shape[1:] == x.shape:
        return call.view()
    settings: dict[str, Any] = {"size": short(call.result.shape[2:])}
    factor = call.get(2, "scale_factor")
    if factor is not None:
        rows, columns = (factor, factor) if isinstance(factor, int | float) else factor
        if rows == int(rows) and columns == int(columns):
            settings = {"scale": short([int(rows), int(columns)])}
    settings.update(but({"mode": mode, "align_corners": bool(call.get(4, "align_corners", False))}, mode="nearest", align_corners=False))
    return call.map_of("upsample", [x], settings)


@says("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(call: Call) -> Any:
    return call.map_of("channel_shuffle", [call.map()], {"groups": call.get(1, "groups")})


@says("pad")
def _pad(call: Call) -> Any:
    amounts, mode = list(call.get(1, "pad")), call.get(2, "mode", "constant")
    value = call.get(3, "value") or 0.0
    if not any(amounts):
        return call.view()
    mode = {"replicate": "edge"}.get(mode, mode)
    if mode not in ("constant", "reflect", "edge"):
        raise CannotSay(f"its mode is {mode}, not constant, reflect or replicate")
    if any(amounts[4:]):
        view = call.view()
        if mode != "constant" or value or any(amounts[:4]) or len(amounts) != 6:
            raise CannotSay("it adds channels, and not of zeros alone")
        return _pad_channels(call, call.recorder.as_map(view), amounts[4], amounts[5])
    left, right, top, bottom = [*amounts, 0, 0][:4] if len(amounts) == 2 else amounts[:4]
    sides = {"top": top, "bottom": bottom, "left": left, "right": right}
    x = call.map()
    if min(sides.values()) < 0:
        # What is less than none is cut off.
        away = {side: max(-amount, 0) for side, amount in sides.items()}
        sides = {side: max(amount, 0) for side, amount in sides.items()}
        channels, height, width = x.shape
        shape = (channels, height - away["top"] - away["bottom"], width - away["left"] - away["right"])
        x = call.recorder.node("crop", [x], shape, but(away, top=0, bottom=0, left=0, right=0))
        if not any(sides.values()):
            return View.of_map(x, call.recorder.batch)
    settings = but(sides, top=0, bottom=0, left=0, right=0)
    return call.map_of("pad2d", [x], {**settings, **but({"mode": mode, "value": float(value)}, mode="constant", value=0.0)})


def _pad_channels(call: Call, node: Node, before: int, after: int) -> Any:
    """Zeros before and behind the channels."""
    zeros: list[list[Node]] = []
    for count in (before, after):
        pieces = []
        while count:
            piece = call.recorder.slice(node, 0, min(count, node.shape[0]))
            count -= piece.shape[0]
            pieces.append(call.recorder.node("affine", [piece], piece.shape, {"scale": 0.0, "shift": 0.0}))
        zeros.append(pieces)
    return call.map_of("concat", [*zeros[0], node, *zeros[1]])
