"""Functions with parameters: convolutions and norms."""

from __future__ import annotations

import math
from typing import Any

from keepbest.torch._functions import but, pair, says, short
from keepbest.torch._record import Call, CannotSay, Parameter
from keepbest.torch._views import View, whole

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
