"""The module of each layer of a spec, with the values that its tensors start with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from keepbest.torch import _layers
from keepbest.torch._start import Start, bias, constant, weights

Layer = Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """A module on the meta device."""

    module: nn.Module
    starts: dict[str, Start] = field(default_factory=dict)
    """The values that its tensors start with, by name."""
    last: bool | None = False
    """Whether it takes channels as the last side; ``None`` where it takes them anywhere."""
    before: nn.Module | None = None
    """A padding of its input."""


Make = Callable[[Layer, Tensor, int], Made]
"""Of a layer, a sample of its input and the channels of that."""


def pair(value: Any) -> tuple[int, int]:
    """Rows and columns."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padding(layer: Layer, stride: tuple[int, int], value: float = 0.0) -> tuple[tuple[int, int], nn.Module | None]:
    """The padding of a window: PyTorch's own, or a module before it."""
    given = layer.get("padding", 0)
    window = [*pair(layer["kernel"]), *stride, *pair(layer.get("dilation", 1))]
    if given == "same":
        return (0, 0), _layers.Padding(None, window, value=value)
    if isinstance(given, int) or len(given) == 2:
        return pair(given), None
    return (0, 0), _layers.Padding(list(given), window, value=value)


def _conv2d(layer: Layer, _sample: Tensor, channels: int) -> Made:
    out, groups, kernel = layer["out"], layer.get("groups", 1), pair(layer["kernel"])
    padding, before = _padding(layer, pair(layer.get("stride", 1)))
    options: dict[str, Any] = {
        "stride": pair(layer.get("stride", 1)),
        "padding": padding,
        "dilation": pair(layer.get("dilation", 1)),
        "groups": groups,
        "bias": layer.get("bias", True),
        "device": "meta",
    }
    taps = kernel[0] * kernel[1]
    fan_in = channels // groups * taps
    starts = {"weight": weights(layer.get("init"), fan_in, out * taps)}
    if options["bias"]:
        starts["bias"] = bias(layer.get("zero_bias", False), fan_in)
    standardize = layer.get("standardize")
    if standardize is None:
        return Made(nn.Conv2d(channels, out, kernel, **options), starts, before=before)
    gain = standardize.get("gain", False)
    if gain:
        starts["gain"] = constant(1.0)
    eps, scale = standardize.get("eps", 1e-6), standardize.get("scale", 1.0)
    made = _layers.StandardizedConv2d(channels, out, kernel, eps=eps, gain=gain, scale=scale, **options)
    return Made(made, starts, before=before)


def _conv_transpose2d(layer: Layer, _sample: Tensor, channels: int) -> Made:
    out, groups, kernel = layer["out"], layer.get("groups", 1), pair(layer["kernel"])
    made = nn.ConvTranspose2d(
        channels,
        out,
        kernel,
        stride=pair(layer.get("stride", 1)),
        padding=pair(layer.get("padding", 0)),
        output_padding=pair(layer.get("output_padding", 0)),
        groups=groups,
        bias=layer.get("bias", True),
        dilation=pair(layer.get("dilation", 1)),
        device="meta",
    )
    taps = kernel[0] * kernel[1]
    fan_in = out // groups * taps
    starts = {"weight": weights(layer.get("init"), fan_in, channels * taps)}
    if made.bias is not None:
        starts["bias"] = bias(layer.get("zero_bias", False), fan_in)
    return Made(made, starts)


def _linear(layer: Layer, sample: Tensor, channels: int) -> Made:
    out, with_bias = layer["out"], layer.get("bias", True)
    starts = {"weight": weights(layer.get("init"), channels, out)}
    if with_bias:
        starts["bias"] = bias(layer.get("zero_bias", False), channels)
    made = nn.Linear(channels, out, bias=with_bias, device="meta")
    return Made(made, starts, last=True if sample.dim() == 4 else None)


def _batch_norm2d(layer: Layer, sample: Tensor, channels: int) -> Made:
    affine = layer.get("affine", True)
    kind = nn.BatchNorm2d if sample.dim() == 4 else nn.BatchNorm1d
    made = kind(channels, layer.get("eps", 1e-5), layer.get("momentum", 0.1), affine=affine, device="meta")
    statistics = {"running_mean": constant(0.0), "running_var": constant(1.0), "num_batches_tracked": constant(0.0)}
    return Made(made, {**_affine(affine), **statistics})


def _affine(affine: bool) -> dict[str, Start]:
    return {"weight": constant(1.0), "bias": constant(0.0)} if affine else {}


def _layer_norm(layer: Layer, sample: Tensor, channels: int) -> Made:
    affine = layer.get("affine", True)
    made = nn.LayerNorm(channels, layer.get("eps", 1e-5), elementwise_affine=affine, device="meta")
    return Made(made, _affine(affine), last=True if sample.dim() == 4 else None)


def _group_norm(layer: Layer, _sample: Tensor, channels: int) -> Made:
    affine = layer.get("affine", True)
    return Made(nn.GroupNorm(layer["groups"], channels, layer.get("eps", 1e-5), affine, device="meta"), _affine(affine))


def _instance_norm2d(layer: Layer, _sample: Tensor, channels: int) -> Made:
    affine = layer.get("affine", False)
    return Made(nn.InstanceNorm2d(channels, layer.get("eps", 1e-5), affine=affine, device="meta"), _affine(affine))


def _rms_norm2d(layer: Layer, _sample: Tensor, channels: int) -> Made:
    affine = layer.get("affine", True)
    made = _layers.RmsNorm2d(channels, layer.get("eps", 1e-6), affine, "meta")
    return Made(made, {"weight": constant(1.0)} if affine else {})


def _local_response_norm(layer: Layer, _sample: Tensor, _channels: int) -> Made:
    values = (layer.get(key, usual) for key, usual in (("alpha", 1e-4), ("beta", 0.75), ("k", 1.0)))
    return Made(nn.LocalResponseNorm(layer["size"], *values))


def _global_response_norm(layer: Layer, _sample: Tensor, channels: int) -> Made:
    made = _layers.GlobalResponseNorm(channels, layer.get("eps", 1e-6), "meta")
    return Made(made, {"weight": constant(0.0), "bias": constant(0.0)})


def _scale2d(layer: Layer, sample: Tensor, channels: int) -> Made:
    weight, bias_ = layer.get("weight", True), layer.get("bias", True)
    made = _layers.Scale2d(channels, weight, bias_, "meta")
    starts = {"weight": constant(1.0)} if weight else {}
    return Made(made, {**starts, **({"bias": constant(0.0)} if bias_ else {})})


def _scalar_affine(layer: Layer, _sample: Tensor, _channels: int) -> Made:
    scale, bias_ = layer.get("scale", True), layer.get("bias", True)
    starts = {"scale": constant(layer.get("scale_init", 1.0))} if scale else {}
    if bias_:
        starts["bias"] = constant(layer.get("bias_init", 0.0))
    return Made(_layers.ScalarAffine(scale, bias_, "meta"), starts, last=None)


def _prelu(layer: Layer, _sample: Tensor, channels: int) -> Made:
    return Made(nn.PReLU(1 if layer.get("channels", 1) == 1 else channels, device="meta"), {"weight": constant(0.25)})


def _channel_conv1d(layer: Layer, _sample: Tensor, _channels: int) -> Made:
    start = weights(None, layer["kernel"], 1)
    made = _layers.ChannelConv1d(layer["kernel"], layer.get("bias", False), layer.get("circular", False), "meta")
    return Made(made, {"weight": start, "bias": start} if layer.get("bias", False) else {"weight": start})


def _blur_pool2d(layer: Layer, _sample: Tensor, channels: int) -> Made:
    made = _layers.BlurPool2d(channels, layer.get("kernel", 3), layer.get("stride", 2), _mode(layer, "reflect"), "meta")
    return Made(made, {"filter": _layers.binomial})


def _max_pool2d(layer: Layer, _sample: Tensor, _channels: int) -> Made:
    kernel = pair(layer["kernel"])
    stride = pair(layer.get("stride", kernel))
    padding, before = _padding(layer, stride, value=float("-inf"))
    dilation, ceil_mode = pair(layer.get("dilation", 1)), layer.get("ceil_mode", False)
    return Made(nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode), before=before)


def _avg_pool2d(layer: Layer, _sample: Tensor, _channels: int) -> Made:
    kernel = pair(layer["kernel"])
    stride = pair(layer.get("stride", kernel))
    padding, before = _padding(layer, stride)
    ceil_mode, count = layer.get("ceil_mode", False), layer.get("count_include_pad", True)
    if isinstance(before, _layers.Padding) and not count:
        return Made(_layers.AvgPoolOfPixels(before, list(kernel), list(stride), ceil_mode))
    return Made(nn.AvgPool2d(kernel, stride, padding, ceil_mode, count), before=before)


def _of_map(make: Callable[[Layer], nn.Module]) -> Make:
    """A layer without tensors that takes channels as the second side."""
    return lambda layer, _sample, _channels: Made(make(layer))


def _of_values(make: Callable[[Layer], nn.Module]) -> Make:
    """A function of each value alone."""
    return lambda layer, _sample, _channels: Made(make(layer), last=None)


def _upsample(layer: Layer) -> nn.Module:
    mode = layer.get("mode", "nearest")
    corners = layer.get("align_corners", False) if mode == "bilinear" else None
    if "size" in layer:
        return nn.Upsample(size=pair(layer["size"]), mode=mode, align_corners=corners)
    scale = layer["scale"]
    scale = tuple(scale) if isinstance(scale, list | tuple) else (scale, scale)
    return nn.Upsample(scale_factor=tuple(float(value) for value in scale), mode=mode, align_corners=corners)


def _pad2d(layer: Layer) -> nn.Module:
    sides = [layer.get(side, 0) for side in ("top", "bottom", "left", "right")]
    return _layers.Padding(sides, [1] * 6, _mode(layer, "constant"), layer.get("value", 0.0))


def _mode(layer: Layer, usual: str) -> str:
    """What stands outside of a map, as PyTorch calls it."""
    mode = str(layer.get("mode", usual))
    return "replicate" if mode == "edge" else mode


WITH_TENSORS: dict[str, Make] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "batch_norm2d": _batch_norm2d,
    "layer_norm2d": _layer_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm2d": _instance_norm2d,
    "rms_norm2d": _rms_norm2d,
    "global_response_norm": _global_response_norm,
    "scale2d": _scale2d,
    "scalar_affine": _scalar_affine,
    "prelu": _prelu,
    "channel_conv1d": _channel_conv1d,
    "blur_pool2d": _blur_pool2d,
}
"""Layers that have parameters or buffers."""

MODULES: dict[str, Make] = {
    **WITH_TENSORS,
    "relu": _of_values(lambda _: nn.ReLU()),
    "relu6": _of_values(lambda _: nn.ReLU6()),
    "leaky_relu": _of_values(lambda layer: nn.LeakyReLU(layer.get("slope", 0.01))),
    "elu": _of_values(lambda layer: nn.ELU(layer.get("alpha", 1.0))),
    "celu": _of_values(lambda layer: nn.CELU(layer.get("alpha", 1.0))),
    "selu": _of_values(lambda _: nn.SELU()),
    "sigmoid": _of_values(lambda _: nn.Sigmoid()),
    "silu": _of_values(lambda _: nn.SiLU()),
    "hardsigmoid": _of_values(lambda _: nn.Hardsigmoid()),
    "hardswish": _of_values(lambda _: nn.Hardswish()),
    "gelu": _of_values(lambda layer: nn.GELU(layer.get("approximate", "none"))),
    "quick_gelu": _of_values(lambda _: _layers.QuickGelu()),
    "tanh": _of_values(lambda _: nn.Tanh()),
    "softplus": _of_values(lambda layer: nn.Softplus(layer.get("beta", 1.0))),
    "mish": _of_values(lambda _: nn.Mish()),
    "clip": _of_values(lambda layer: _layers.Clip(layer.get("min"), layer.get("max"))),
    "affine": _of_values(lambda layer: _layers.Affine(layer.get("scale", 1.0), layer.get("shift", 0.0))),
    "pow": _of_values(lambda layer: _layers.Power(layer["exponent"])),
    "softmax": _of_map(lambda _: nn.Softmax(1)),
    "log_softmax": _of_map(lambda _: nn.LogSoftmax(1)),
    "dropout": _of_values(lambda layer: nn.Dropout(layer["p"])),
    "stochastic_depth": _of_values(lambda layer: _layers.StochasticDepth(layer["p"])),
    "local_response_norm": _local_response_norm,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool2d": _of_map(lambda _: nn.AdaptiveAvgPool2d(1)),
    "global_max_pool2d": _of_map(lambda _: nn.AdaptiveMaxPool2d(1)),
    "adaptive_avg_pool2d": _of_map(lambda layer: nn.AdaptiveAvgPool2d(pair(layer["size"]))),
    "channel_mean": _of_map(lambda _: _layers.ChannelMean()),
    "channel_max": _of_map(lambda _: _layers.ChannelMax()),
    "channel_shuffle": _of_map(lambda layer: nn.ChannelShuffle(layer["groups"])),
    "upsample": _of_map(_upsample),
    "pad2d": _of_map(_pad2d),
}

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "abs": torch.abs,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "exp": torch.exp,
    "log": torch.log,
    "erf": torch.erf,
}
"""Functions of each value alone that ``torch.nn`` has no module of."""

OF_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
