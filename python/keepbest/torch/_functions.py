"""The functions of PyTorch that a spec can say, and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from keepbest.torch._nodes import Node
from keepbest.torch._record import Call, CannotSay, Handler, Parameter
from keepbest.torch._views import Side, View, broadcast, whole

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


# Layers with parameters.


@says("conv2d")
def _conv2d(call: Call) -> Any:
    weight, bias = call.parameter(1, "weight"), call.parameter(2, "bias")
    x = call.map()
    if weight is None:
        raise CannotSay("it has no weight")
    name = weight.of_module("weight")
    if bias is not None and bias.of_module("bias") != name:
        raise CannotSay(f"weight and bias are of two modules: {weight.name} and {bias.name}")
    out, _, *kernel = weight.shape
    stride, dilation = pair(call.get(3, "stride", 1)), pair(call.get(5, "dilation", 1))
    padding = call.get(4, "padding", 0)
    if padding == "same":
        total = [step * (side - 1) for side, step in zip(kernel, dilation, strict=True)]
        padding = [total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2]
    elif padding == "valid":
        padding = 0
    else:
        padding = short(padding)
    settings = {
        "out": out,
        "kernel": short(kernel),
        "stride": short(stride),
        "padding": padding,
        "dilation": short(dilation),
        "groups": call.get(6, "groups", 1),
        "bias": bias is not None,
    }
    settings = but(settings, stride=1, padding=0, dilation=1, groups=1, bias=True)
    if weight.eps is not None:
        if weight.gain is not None and weight.gain.of_module("gain") != name:
            raise CannotSay(f"weight and gain are of two modules: {weight.name} and {weight.gain.name}")
        factor = weight.factor if weight.gain is None else weight.gain.factor
        standardize = {"eps": weight.eps, "gain": weight.gain is not None, "scale": factor}
        settings["standardize"] = but(standardize, gain=False, scale=1.0)
    elif not weight.is_plain():
        raise CannotSay("its weight is computed while it runs")
    call.recorder.own(weight, bias, weight.gain)
    return call.map_of("conv2d", [x], settings, name)


@says("conv_transpose2d")
def _conv_transpose2d(call: Call) -> Any:
    weight, bias = call.parameter(1, "weight"), call.parameter(2, "bias")
    x = call.map()
    if weight is None or not weight.is_plain():
        raise CannotSay("its weight is computed while it runs")
    groups = call.get(6, "groups", 1)
    settings = {
        "out": weight.shape[1] * groups,
        "kernel": short(weight.shape[2:]),
        "stride": short(call.get(3, "stride", 1)),
        "padding": short(call.get(4, "padding", 0)),
        "output_padding": short(call.get(5, "output_padding", 0)),
        "groups": groups,
        "dilation": short(call.get(7, "dilation", 1)),
        "bias": bias is not None,
    }
    call.recorder.own(weight, bias)
    settings = but(settings, stride=1, padding=0, output_padding=0, groups=1, dilation=1, bias=True)
    return call.map_of("conv_transpose2d", [x], settings, weight.of_module("weight"))


@says("conv1d")
def _conv1d(call: Call) -> Any:
    view, weight = call.view(), call.parameter(1, "weight")
    bias = call.parameter(2, "bias")
    is_eca = len(view.sides) == 3 and not view.sides[1] and view.is_whole(2, "c") and view.node.is_pixel()
    if not is_eca or weight is None or weight.shape[:2] != (1, 1):
        raise CannotSay("the one convolution of one side that there is goes over the channels of one pixel")
    kernel = weight.shape[2]
    padding = call.get(4, "padding", 0)
    padding = padding[0] if isinstance(padding, tuple | list) else padding
    if padding != (kernel - 1) // 2 or kernel % 2 == 0:
        raise CannotSay(f"a window of {kernel} with a padding of {padding} does not keep the number of channels")
    call.recorder.own(weight, bias)
    settings = but({"kernel": kernel, "bias": bias is not None}, bias=False)
    return call.same(view, "channel_conv1d", settings, weight.of_module("weight"))


@says("linear")
def _linear(call: Call) -> Any:
    weight, bias = call.parameter(1, "weight"), call.parameter(2, "bias")
    view = call.view()
    if weight is None or not weight.is_plain():
        raise CannotSay("its weight is computed while it runs")
    name = weight.of_module("weight")
    if bias is not None and bias.of_module("bias") != name:
        raise CannotSay(f"weight and bias are of two modules: {weight.name} and {bias.name}")
    if len(view.sides) == 2 and view.axes(1) - {"c"}:
        view = _flattened(call, view)
    last = len(view.sides) - 1
    if view.axes(last) - {"c"} or any("c" in view.axes(dim) for dim in range(last)):
        raise CannotSay("it goes over another side than channels")
    source = call.recorder.in_order(view, last)
    call.recorder.own(weight, bias)
    settings = but({"out": weight.shape[0], "bias": bias is not None, "per_pixel": True}, bias=True)
    node = call.recorder.node("linear", [source], (weight.shape[0], *source.shape[1:]), settings, name)
    return View(node, (*view.sides[:-1], whole("c", weight.shape[0])))


def _flattened(call: Call, view: View) -> View:
    """A vector of all values of a map, in PyTorch's order."""
    node = view.node
    axes = [axis for axis in "chw" if view.size(axis) > 1]
    if [atom.axis for atom in view.sides[1]] != axes or any(atom.stride != 1 for atom in view.sides[1]):
        raise CannotSay("its input is a map whose values are in another order than channels, rows, columns")
    features = math.prod(node.shape)
    flat = call.recorder.node("flatten", [node], (features, 1, 1))
    return View.of_vector(flat, call.recorder.batch)


def _norm(call: Call, view: View, op: str, weight: Parameter | None, bias: Parameter | None, settings: dict[str, Any]) -> Any:
    """A norm with both parameters, or none; one of them stands behind a norm with none."""
    one = weight or bias
    if one is not None and (weight is None or bias is None):
        if not one.is_plain() or one.shape != (view.node.shape[0],):
            raise CannotSay(f"{one.name} is not one number for each channel")
        call.recorder.own(one)
        found = call.same(view, op, {**settings, "affine": False})
        part, other = ("weight", "bias") if weight is not None else ("bias", "weight")
        return call.same(found, "scale2d", {other: False}, one.of_module(part))
    name: str | None = None
    if weight is not None and bias is not None:
        name = weight.of_module("weight")
        if bias.of_module("bias") != name or not weight.is_plain() or not bias.is_plain():
            raise CannotSay(f"weight and bias are not those of a module: {weight.name} and {bias.name}")
        call.recorder.own(weight, bias)
    else:
        settings["affine"] = False
    return call.same(view, op, settings, name)


@says("batch_norm")
def _batch_norm(call: Call) -> Any:
    weight, bias = call.parameter(3, "weight"), call.parameter(4, "bias")
    source = call.recorder.known(call.get(0, "input"))
    if isinstance(source, Parameter):
        return _standardized(call, source, weight, bias)
    view = call.view()
    mean, variance = call.parameter(1, "running_mean"), call.parameter(2, "running_var")
    if mean is None or variance is None:
        raise CannotSay("it keeps no running statistics")
    if len(view.sides) < 2 or not view.is_whole(1, "c") or any("c" in view.axes(dim) for dim in range(2, len(view.sides))):
        view = View.of_map(call.map(), call.recorder.batch)
    name = mean.of_module("running_mean")
    call.recorder.own(mean, variance)
    call.recorder.used.add(f"{name}.num_batches_tracked")
    settings = but({"eps": call.get(7, "eps", 1e-5), "momentum": call.get(6, "momentum", 0.1)}, eps=1e-5, momentum=0.1)
    found = _norm(call, view, "batch_norm2d", weight, bias, settings)
    found.node.name = name
    return found


def _standardized(call: Call, weight: Parameter, gain: Parameter | None, bias: Parameter | None) -> Any:
    """The weights of a convolution with mean 0 and variance 1: timm's way to compute them."""
    if not call.get(5, "training", False) or bias is not None or not weight.is_plain():
        raise CannotSay("it is no norm of an image")
    return Parameter(weight.name, weight.shape, weight.factor, call.get(7, "eps", 1e-5), gain)


@says("layer_norm")
def _layer_norm(call: Call) -> Any:
    view, shape = call.view(), list(call.get(1, "normalized_shape"))
    weight, bias = call.parameter(2, "weight"), call.parameter(3, "bias")
    if len(shape) != 1 or not view.is_whole(len(view.sides) - 1, "c"):
        raise CannotSay(f"it goes over the last sides {shape}, which are not the channels alone")
    settings = but({"eps": call.get(4, "eps", 1e-5)}, eps=1e-5)
    return _norm(call, view, "layer_norm2d", weight, bias, settings)


@says("group_norm")
def _group_norm(call: Call) -> Any:
    x, weight, bias = call.map(), call.parameter(2, "weight"), call.parameter(3, "bias")
    settings = {"groups": call.get(1, "num_groups"), **but({"eps": call.get(4, "eps", 1e-5)}, eps=1e-5)}
    return _norm(call, View.of_map(x, call.recorder.batch), "group_norm", weight, bias, settings)


@says("instance_norm")
def _instance_norm(call: Call) -> Any:
    x, weight, bias = call.map(), call.parameter(3, "weight"), call.parameter(4, "bias")
    if call.get(1, "running_mean") is not None:
        raise CannotSay("it keeps running statistics")
    settings = but({"eps": call.get(7, "eps", 1e-5)}, eps=1e-5)
    return _norm(call, View.of_map(x, call.recorder.batch), "instance_norm2d", weight, bias, {"affine": True, **settings})


@says("rms_norm")
def _rms_norm(call: Call) -> Any:
    view, weight = call.view(), call.parameter(2, "weight")
    if not view.is_whole(len(view.sides) - 1, "c"):
        raise CannotSay("it goes over other sides than the channels")
    eps = call.get(3, "eps")
    call.recorder.own(weight)
    settings = {"eps": 1.1920928955078125e-07 if eps is None else eps, **({} if weight is not None else {"affine": False})}
    return call.same(view, "rms_norm2d", settings, weight.of_module("weight") if weight is not None else None)


@says("local_response_norm")
def _local_response_norm(call: Call) -> Any:
    settings = {key: call.get(at, key, usual) for at, key, usual in ((1, "size", 5), (2, "alpha", 1e-4), (3, "beta", 0.75), (4, "k", 1.0))}
    return call.map_of("local_response_norm", [call.map()], settings)


@says("prelu")
def _prelu(call: Call) -> Any:
    weight = call.parameter(1, "weight")
    if weight is None:
        raise CannotSay("it has no weight")
    call.recorder.own(weight)
    settings = {} if weight.shape == (1,) else {"channels": weight.shape[0]}
    return call.same(View.of_map(call.map(), call.recorder.batch), "prelu", settings, weight.of_module("weight"))


# Functions of each value alone.

for _key in ("relu", "relu6", "sigmoid", "silu", "hardsigmoid", "hardswish", "selu", "tanh", "mish", "abs", "sqrt", "square", "exp", "log", "erf"):
    HANDLERS[_key] = lambda call: call.same(call.view(), call.key)


def _with(op: str, *settings: tuple[int, str, str, Any]) -> Handler:
    def handler(call: Call) -> Any:
        return call.same(call.view(), op, {own: call.get(at, name, usual) for at, name, own, usual in settings})

    return handler


HANDLERS["leaky_relu"] = _with("leaky_relu", (1, "negative_slope", "slope", 0.01))
HANDLERS["elu"] = _with("elu", (1, "alpha", "alpha", 1.0))
HANDLERS["celu"] = _with("celu", (1, "alpha", "alpha", 1.0))


@says("gelu")
def _gelu(call: Call) -> Any:
    return call.same(call.view(), "gelu", but({"approximate": call.get(1, "approximate", "none")}, approximate="none"))


@says("softplus")
def _softplus(call: Call) -> Any:
    return call.same(call.view(), "softplus", but({"beta": float(call.get(1, "beta", 1.0))}, beta=1.0))


@says("hardtanh", "clamp", "clip")
def _clip(call: Call) -> Any:
    names, usual = (("min_val", "max_val"), (-1.0, 1.0)) if call.key == "hardtanh" else (("min", "max"), (None, None))
    low, high = (call.get(at + 1, name, value) for at, (name, value) in enumerate(zip(names, usual, strict=True)))
    if (low, high) == (0, 6):
        return call.same(call.view(), "relu6")
    if low == 0 and high is None:
        return call.same(call.view(), "relu")
    if not isinstance(low, int | float | None) or not isinstance(high, int | float | None):
        raise CannotSay("its limits are tensors; a spec has numbers")
    return call.same(call.view(), "clip", {key: float(value) for key, value in (("min", low), ("max", high)) if value is not None})


@says("softmax", "log_softmax")
def _softmax(call: Call) -> Any:
    view, dim = call.view(), call.get(1, "dim")
    dim = dim % len(view.sides)
    if view.is_whole(dim, "c"):
        return call.same(view, call.key)
    parts = _parts(view, dim) if call.key == "softmax" else None
    if parts is None or len(parts) != 2:
        raise CannotSay("it goes over another side than the channels")
    # Of two values it is a sigmoid of their difference.
    recorder, (a, b) = call.recorder, (recorder_slice(call, view.node, part) for part in parts)
    halves = []
    for one, other in ((a, b), (b, a)):
        difference = recorder.node("sub", [one, other], one.shape)
        halves.append(recorder.node("sigmoid", [difference], one.shape))
    return View(recorder.node("concat", halves, view.node.shape), view.sides)


def recorder_slice(call: Call, node: Node, part: tuple[int, int]) -> Node:
    """Some channels of a node."""
    return call.recorder.slice(node, *part)


def _parts(view: View, dim: int) -> list[tuple[int, int]] | None:
    """The channels behind each index of a side that is the outermost part of them."""
    side, channels = view.sides[dim], view.node.shape[0]
    if len(side) != 1 or side[0].axis != "c" or side[0].stride * side[0].size != channels or side[0].stride == 1:
        return None
    stride = side[0].stride
    return [(at * stride, (at + 1) * stride) for at in range(side[0].size)]


@says("dropout")
def _dropout(call: Call) -> Any:
    p = float(call.get(1, "p", 0.5))
    return call.same(call.view(), "dropout", {"p": p}) if p > 0 else call.view()


# Pooling.


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
    if len(dims) == 1 and (parts := _parts(view, dims[0])) is not None and call.key in ("sum", "mean"):
        slices = [recorder_slice(call, node, part) for part in parts]
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


# Sizes.


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
    settings = but({"top": top, "bottom": bottom, "left": left, "right": right}, top=0, bottom=0, left=0, right=0)
    settings.update(but({"mode": mode, "value": float(value)}, mode="constant", value=0.0))
    return call.map_of("pad2d", [call.map()], settings)


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


# What computes nothing.


@says("contiguous", "clone", "detach", "float", "to", "type", "type_as", "requires_grad", "alias", "positive", "identity")
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


@says("transpose", "swapaxes", "swapdims")
def _transpose(call: Call) -> Any:
    view = call.view()
    order = list(range(len(view.sides)))
    a, b = call.get(1, "dim0") % len(order), call.get(2, "dim1") % len(order)
    order[a], order[b] = order[b], order[a]
    return view.permute(order)


# Several values.


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


# Arithmetic.


@says("add", "iadd", "radd", "sub", "isub", "rsub", "mul", "imul", "rmul", "multiply", "div", "truediv", "itruediv", "true_divide", "divide", "maximum", "minimum", "subtract", "pow", "rtruediv", "rdiv")
def _arithmetic(call: Call) -> Any:
    a, b = call.get(0, "input"), call.get(1, "other", call.kwargs.get("exponent"))
    op = {"multiply": "mul", "true_divide": "div", "divide": "div", "truediv": "div", "itruediv": "div", "subtract": "sub"}.get(call.key, call.key)
    op = op.removeprefix("i") if op in ("iadd", "isub", "imul") else op
    if op in ("rsub", "radd", "rmul", "rtruediv", "rdiv"):
        op, a, b = {"rtruediv": "div", "rdiv": "div"}.get(op, op[1:]), b, a
    alpha = call.kwargs.get("alpha", 1)
    known_a, known_b = call.recorder.known(a), call.recorder.known(b)
    if isinstance(known_a, Parameter) and isinstance(known_b, Parameter):
        raise CannotSay("it is computed of two parameters")
    if isinstance(known_a, View) and isinstance(known_b, View):
        return _of_two(call, op, known_a, known_b, alpha)
    if isinstance(known_a, Parameter) or isinstance(known_b, Parameter):
        return _with_parameter(call, op, known_a, known_b, a, b)
    number_a, number_b = _number(a), _number(b)
    if isinstance(known_a, View) and number_b is not None:
        return _with_number(call, op, known_a, number_b * alpha)
    if isinstance(known_b, View) and number_a is not None:
        return _number_with(call, op, number_a, known_b)
    raise CannotSay("it is computed with a tensor that is no parameter, nor of the image")


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.item())
    return None


def _of_two(call: Call, op: str, a: View, b: View, alpha: Any) -> View:
    sides = broadcast(a, b)
    if alpha != 1:
        b = View(call.recorder.node("affine", [b.node], b.node.shape, {"scale": float(alpha), "shift": 0.0}), b.sides)
    if op not in ("add", "sub", "mul", "div", "maximum", "minimum"):
        raise CannotSay("it is computed of two values")
    if a.node is b.node:
        if op == "mul":
            return View(call.recorder.node("square", [a.node], a.node.shape), sides)
        if op == "add":
            return View(call.recorder.node("affine", [a.node], a.node.shape, {"scale": 2.0, "shift": 0.0}), sides)
    shape = tuple(max(one, other) for one, other in zip(a.node.shape, b.node.shape, strict=True))
    return View(call.recorder.node(op, [a.node, b.node], (shape[0], shape[1], shape[2])), sides)


def _with_number(call: Call, op: str, view: View, number: float) -> View:
    """A map and a number."""
    if op == "pow":
        if number == 2:
            return call.same(view, "square")
        if number == 0.5:
            return call.same(view, "sqrt")
        return call.same(view, "pow", {"exponent": number})
    scale, shift = {"add": (1.0, number), "sub": (1.0, -number), "mul": (number, 0.0)}.get(op, (None, 0.0))
    if op == "div":
        scale = 1.0 / number
    if scale is None:
        return call.same(view, "clip", {"min" if op == "maximum" else "max": number})
    if (scale, shift) == (1.0, 0.0):
        return view
    return call.same(view, "affine", {"scale": scale, "shift": shift})


def _number_with(call: Call, op: str, number: float, view: View) -> View:
    """A number and a map."""
    if op == "sub":
        return call.same(view, "affine", {"scale": -1.0, "shift": number})
    if op == "div":
        inverse = call.same(view, "pow", {"exponent": -1.0})
        return inverse if number == 1 else call.same(inverse, "affine", {"scale": number, "shift": 0.0})
    if op == "pow":
        raise CannotSay("it is a number to the power of a map")
    return _with_number(call, op, view, number)


@says("neg", "negative")
def _neg(call: Call) -> Any:
    return call.same(call.view(), "affine", {"scale": -1.0, "shift": 0.0})


@says("rsqrt")
def _rsqrt(call: Call) -> Any:
    return call.same(call.view(), "pow", {"exponent": -0.5})


@says("reciprocal")
def _reciprocal(call: Call) -> Any:
    return call.same(call.view(), "pow", {"exponent": -1.0})


def _with_parameter(call: Call, op: str, known_a: Any, known_b: Any, a: Any, b: Any) -> Any:
    """A trained factor or summand."""
    parameter, other, tensor = (known_a, known_b, a) if isinstance(known_a, Parameter) else (known_b, known_a, b)
    number = _number(b if parameter is known_a else a)
    if other is None:
        if op == "mul" and number is not None and parameter.eps is None:
            return Parameter(parameter.name, parameter.shape, parameter.factor * number)
        raise CannotSay(f"something is computed of {parameter.name} alone")
    if not parameter.is_plain():
        raise CannotSay(f"something is computed of {parameter.name} while it runs")
    if op not in ("add", "mul"):
        raise CannotSay(f"{parameter.name} is neither a factor nor a summand")
    if math.prod(parameter.shape) == 1 and other.node.shape[0] != 1:
        start = float(tensor.flatten()[0])
        if op == "mul" and parameter.shape == ():
            call.recorder.own(parameter)
            return call.same(other, "layer_scale", {"init": start, "scalar": True}, parameter.name)
        if parameter.shape != (1,):
            raise CannotSay(f"{parameter.name} has the shape {list(parameter.shape)}; a trained number has [1]")
        name = parameter.of_module("scale" if op == "mul" else "bias")
        call.recorder.own(parameter)
        settings = {"bias": False, "scale_init": start} if op == "mul" else {"scale": False, "bias_init": start}
        return call.same(other, "scalar_affine", but(settings, scale_init=1.0, bias_init=0.0), name)
    return _for_each_channel(call, op, parameter, other, tensor)


def _for_each_channel(call: Call, op: str, parameter: Parameter, view: View, tensor: Tensor) -> View:
    """A trained factor or summand for each channel."""
    channels = view.node.shape[0]
    sides = [at for at, side in enumerate(tensor.shape) if side != 1]
    dim = sides[0] - tensor.dim() + len(view.sides) if len(sides) == 1 else -1
    if dim < 0 or not view.is_whole(dim, "c"):
        raise CannotSay(f"{parameter.name} {list(parameter.shape)} is not one number for each channel")
    if op == "mul" and parameter.shape in ((channels,), (channels, 1, 1)):
        call.recorder.own(parameter)
        settings = {"init": float(tensor.flatten()[0]), **({"flat": True} if parameter.shape == (channels,) else {})}
        return call.same(view, "layer_scale", settings, parameter.name)
    if parameter.shape != (channels,):
        raise CannotSay(f"{parameter.name} has the shape {list(parameter.shape)}; a parameter for each channel has [{channels}]")
    name = parameter.of_module("weight" if op == "mul" else "bias")
    call.recorder.own(parameter)
    return call.same(view, "scale2d", {"bias": False} if op == "mul" else {"weight": False}, name)
