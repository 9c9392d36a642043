"""Modules that are taken as a whole, by the names of their classes: what they do in training alone, or in many small steps, is one layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from keepbest.torch import _layers
from keepbest.torch._functions import but
from keepbest.torch._record import Call, CannotSay, Parameter
from keepbest.torch._views import View

Leaf = Callable[[Call, Any], Any]


def _own(call: Call, tensor: Any) -> Parameter:
    """A parameter of the module itself, taken for its layer."""
    found = call.recorder.known(tensor)
    if not isinstance(found, Parameter):
        raise CannotSay("its parameter is computed while it runs")
    call.recorder.own(found)
    return found


def _stochastic_depth(call: Call, module: Any) -> Any:
    """torchvision's, timm's and ours."""
    view = call.view()
    p = float(getattr(module, "p", getattr(module, "drop_prob", 0.0)) or 0.0)
    if getattr(module, "mode", "row") != "row" or not getattr(module, "scale_by_keep", True):
        raise CannotSay("it zeroes whole batches, or does not scale what is kept: that of a spec zeroes images, and scales")
    return call.same(view, "stochastic_depth", {"p": p}) if p > 0 else view


def _blur_pool(call: Call, module: Any) -> Any:
    """timm's and ours."""
    kernel = getattr(module, "filt_size", None) or module.filter.shape[-1]
    mode = getattr(module, "pad_mode", None) or module.mode
    mode = {"replicate": "edge"}.get(mode, mode)
    settings = but({"kernel": kernel, "stride": module.stride, "mode": mode}, kernel=3, stride=2, mode="reflect")
    return call.map_of("blur_pool2d", [call.map()], settings)


def _global_response_norm(call: Call, module: Any) -> Any:
    """timm's and ours."""
    view = call.view()
    weight = _own(call, module.weight)
    _own(call, module.bias)
    return call.same(view, "global_response_norm", {"eps": module.eps}, weight.of_module("weight"))


def _rms_norm(call: Call, module: _layers.RmsNorm2d) -> Any:
    view = View.of_map(call.map(), call.recorder.batch)
    if module.weight is None:
        return call.same(view, "rms_norm2d", {"eps": module.eps, "affine": False})
    return call.same(view, "rms_norm2d", {"eps": module.eps}, _own(call, module.weight).of_module("weight"))


def _standardized_conv(call: Call, module: _layers.StandardizedConv2d) -> Any:
    x = call.map()
    weight = _own(call, module.weight)
    for tensor in (module.bias, module.gain):
        if tensor is not None:
            _own(call, tensor)
    settings = {
        "out": module.out_channels,
        "kernel": list(module.kernel_size),
        "stride": list(module.stride),
        "padding": list(module.padding),
        "dilation": list(module.dilation),
        "groups": module.groups,
        "bias": module.bias is not None,
        "standardize": {"eps": module.eps, "gain": module.gain is not None, "scale": module.scale},
    }
    return call.map_of("conv2d", [x], settings, weight.of_module("weight"))


def _channel_conv1d(call: Call, module: _layers.ChannelConv1d) -> Any:
    view = View.of_map(call.map(), call.recorder.batch)
    weight = _own(call, module.weight)
    if module.bias is not None:
        _own(call, module.bias)
    settings = {"kernel": module.weight.shape[2], "bias": module.bias is not None, "circular": module.mode == "circular"}
    return call.same(view, "channel_conv1d", but(settings, bias=False, circular=False), weight.of_module("weight"))


def _avg_pool_of_pixels(call: Call, module: _layers.AvgPoolOfPixels) -> Any:
    padding = "same" if module.padding.same else module.padding.sides
    settings = {"kernel": module.kernel, "stride": module.stride, "padding": padding, "ceil_mode": module.ceil_mode}
    return call.map_of("avg_pool2d", [call.map()], but({**settings, "count_include_pad": False}, ceil_mode=False))


_OURS: dict[type[nn.Module], Leaf] = {
    _layers.AvgPoolOfPixels: _avg_pool_of_pixels,
    _layers.BlurPool2d: _blur_pool,
    _layers.ChannelConv1d: _channel_conv1d,
    _layers.GlobalResponseNorm: _global_response_norm,
    _layers.RmsNorm2d: _rms_norm,
    _layers.StandardizedConv2d: _standardized_conv,
    _layers.StochasticDepth: _stochastic_depth,
}
_OTHERS: dict[str, Leaf] = {
    "StochasticDepth": _stochastic_depth,
    "DropPath": _stochastic_depth,
    "BlurPool2d": _blur_pool,
    "GlobalResponseNorm": _global_response_norm,
}


def leaf_of(module: nn.Module) -> Leaf | None:
    """How a module is taken as a whole, if it is."""
    return _OURS.get(type(module)) or _OTHERS.get(type(module).__name__)
