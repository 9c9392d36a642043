#!/usr/bin/env python3
"""Writes one_input.json and one_input.safetensors: what PyTorch computes for the layers of one input that make_layers.py has not.

Files and tensors are as make_layers.py says. Here `layer` is {"type": "spec", "layers": [...]}: the layers as a model spec
has them; our names of parameters begin with the `prefix`, and go on as the module's.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

import make_layers
from golden import out_dir, values, write_json, write_tensors
from make_layers import Cases

MAPS, WIDE, VECTORS = (2, 7, 4, 5), (2, 35, 3, 2), (3, 19)

make_layers.KINKS |= {
    nn.LeakyReLU: [0.0],
    nn.PReLU: [0.0],
    nn.ELU: [0.0],
    nn.CELU: [0.0],
    nn.SELU: [0.0],
    nn.Hardtanh: [-1.0, 2.5],
}


class Function(nn.Module):
    """A function without parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Scale(nn.Module):
    """x * weight + bias, each of which may be missing; parameters of any name and shape."""

    def __init__(self, **shapes):
        super().__init__()
        self.names = list(shapes)
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.ones(shape)))

    def forward(self, x):
        for name in self.names:
            values = getattr(self, name)
            if x.dim() == 4 and values.dim() == 1:
                values = values[:, None, None]
            x = x + values if name == "bias" else x * values
        return x


class ChannelConv(nn.Module):
    """Conv1d over the channels of each pixel, as timm's EcaModule and CecaModule do for one pixel."""

    def __init__(self, kernel, bias, circular):
        super().__init__()
        mode = "circular" if circular else "zeros"
        conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=bias, padding_mode=mode)
        self.weight, self.bias, self.conv = conv.weight, conv.bias, [conv]

    def forward(self, x):
        n, c, h, w = x.shape
        flat = x.permute(0, 2, 3, 1).reshape(n * h * w, 1, c)
        mode = "circular" if self.conv[0].padding_mode == "circular" else "constant"
        side = self.weight.shape[2] // 2
        y = F.conv1d(F.pad(flat, (side, side), mode=mode), self.weight, self.bias)
        return y.reshape(n, h, w, c).permute(0, 3, 1, 2)


class BlurPool(nn.Module):
    """timm's BlurPool2d."""

    def __init__(self, kernel, stride, mode):
        super().__init__()
        taps = torch.tensor([float(math.comb(kernel - 1, k)) for k in range(kernel)], dtype=torch.float64)
        taps = taps / taps.sum()
        self.filter, self.stride, self.mode = taps[:, None] * taps, stride, mode
        self.padding = (stride - 1 + kernel - 1) // 2

    def forward(self, x):
        c = x.shape[1]
        x = F.pad(x, [self.padding] * 4, mode=self.mode)
        return F.conv2d(x, self.filter.expand(c, 1, *self.filter.shape), stride=self.stride, groups=c)


class OnChannels(nn.Module):
    """A norm of the last axis, on the channels of each pixel."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.weight = [norm], norm.weight

    def forward(self, x):
        return self.norm[0](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """timm's GlobalResponseNorm."""

    def __init__(self, channels, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        relative = norm / (norm.mean(dim=1, keepdim=True) + self.eps)
        return x + self.bias.view(1, -1, 1, 1) + self.weight.view(1, -1, 1, 1) * (x * relative)


class StdConv(nn.Conv2d):
    """timm's StdConv2d, and with a gain its ScaledStdConv2d, whose `scale` is said here."""

    def __init__(self, *args, eps=1e-6, gain=False, scale=1.0, **more):
        super().__init__(*args, **more)
        self.eps, self.scale = eps, scale
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1)) if gain else None

    def forward(self, x):
        factors = torch.full((self.out_channels,), self.scale, dtype=x.dtype)
        if self.gain is not None:
            factors = (self.gain * self.scale).view(-1)
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = F.batch_norm(rows, None, None, weight=factors, training=True, momentum=0.0, eps=self.eps)
        return self._conv_forward(x, rows.reshape_as(self.weight), self.bias)


make_layers.AROUND_ONE += [nn.PReLU, nn.InstanceNorm2d, Scale, OnChannels, GlobalResponseNorm]


class OneInput(Cases):
    def layer(self, name, settings, module, shape, **more):
        """One case of one layer; a name of its own where it has parameters."""
        named = {"name": "layer"} if module.state_dict() else {}
        layer = {"type": "spec", "prefix": "layer.", "layers": [settings | named]}
        if more.get("train") is False:
            layer["training"] = False
        self.add(f"{settings['op']}/{name}", layer, module, shape, **more)


def activations(cases):
    for settings, module in [
        ({"op": "leaky_relu", "slope": 0.2}, nn.LeakyReLU(0.2)),
        ({"op": "elu", "alpha": 1.5}, nn.ELU(1.5)),
        ({"op": "celu", "alpha": 0.75}, nn.CELU(0.75)),
        ({"op": "selu"}, nn.SELU()),
        ({"op": "tanh"}, nn.Tanh()),
        ({"op": "softplus"}, nn.Softplus()),
        ({"op": "mish"}, nn.Mish()),
        ({"op": "gelu", "approximate": "tanh"}, nn.GELU(approximate="tanh")),
        ({"op": "quick_gelu"}, Function(lambda x: x * torch.sigmoid(1.702 * x))),
        ({"op": "clip", "min": -1.0, "max": 2.5}, nn.Hardtanh(-1.0, 2.5)),
        ({"op": "abs"}, Function(torch.abs)),
        ({"op": "square"}, Function(torch.square)),
        ({"op": "exp"}, Function(torch.exp)),
        ({"op": "erf"}, Function(torch.erf)),
        ({"op": "affine", "scale": 1.5, "shift": -0.25}, Function(lambda x: 1.5 * x - 0.25)),
    ]:
        cases.layer("maps", settings, module, MAPS, scale=6.0)
    cases.layer("vectors", {"op": "mish"}, nn.Mish(), VECTORS, scale=6.0)
    cases.layer("beta", {"op": "softplus", "beta": 2.5}, nn.Softplus(2.5), VECTORS, scale=6.0)
    cases.layer("least", {"op": "clip", "min": 0.5}, Function(lambda x: x.clamp(min=0.5)), VECTORS, scale=2.0)
    # Of positive numbers alone.
    positive = {"scale": 2.0, "offset": 2.25}
    cases.layer("maps", {"op": "sqrt"}, Function(torch.sqrt), MAPS, **positive)
    cases.layer("maps", {"op": "log"}, Function(torch.log), MAPS, **positive)
    cases.layer("roots", {"op": "pow", "exponent": -0.75}, Function(lambda x: x**-0.75), MAPS, **positive)
    cases.layer("cubes", {"op": "pow", "exponent": 3.0}, Function(lambda x: x**3), MAPS, scale=2.0)


def scales(cases):
    cases.layer("one", {"op": "prelu"}, nn.PReLU(), MAPS)
    cases.layer("each", {"op": "prelu", "channels": 35}, nn.PReLU(35), WIDE)
    cases.layer("vectors", {"op": "prelu", "channels": 19}, nn.PReLU(19), VECTORS)
    cases.layer("both", {"op": "scale2d"}, Scale(weight=(7,), bias=(7,)), MAPS)
    cases.layer("weight", {"op": "scale2d", "bias": False}, Scale(weight=(35,)), WIDE)
    cases.layer("bias", {"op": "scale2d", "weight": False}, Scale(bias=(19,)), VECTORS)
    cases.layer("both", {"op": "scalar_affine"}, Scale(scale=(1,), bias=(1,)), MAPS)
    cases.layer("vectors", {"op": "scalar_affine", "scale": False}, Scale(bias=(1,)), VECTORS)
    for name, settings, shape in [("flat", {"flat": True}, (7,)), ("scalar", {"scalar": True}, ())]:
        layer = {"type": "spec", "layers": [{"op": "layer_scale", "name": "layer", "init": 1.0} | settings]}
        cases.add(f"layer_scale/{name}", layer, Scale(layer=shape), MAPS)


def channels(cases):
    cases.layer("maps", {"op": "softmax"}, nn.Softmax(1), MAPS, scale=5.0)
    cases.layer("vectors", {"op": "softmax"}, nn.Softmax(1), VECTORS, scale=90.0)
    cases.layer("maps", {"op": "log_softmax"}, nn.LogSoftmax(1), WIDE, scale=5.0)
    cases.layer("vectors", {"op": "log_softmax"}, nn.LogSoftmax(1), VECTORS, scale=90.0)
    conv = {"op": "channel_conv1d", "kernel": 3}
    cases.layer("one-pixel", conv, ChannelConv(3, False, False), (3, 11, 1, 1))
    cases.layer("maps-bias", conv | {"kernel": 5, "bias": True}, ChannelConv(5, True, False), MAPS)
    cases.layer("circular", conv | {"kernel": 7, "circular": True}, ChannelConv(7, False, True), MAPS)
    cases.layer("maps", {"op": "channel_mean"}, Function(lambda x: x.mean(1, keepdim=True)), MAPS)
    cases.layer("maps", {"op": "channel_max"}, Function(lambda x: x.max(1, keepdim=True)[0]), MAPS)


def windows(cases):
    cases.layer("maps", {"op": "global_max_pool2d"}, nn.AdaptiveMaxPool2d(1), (2, 70, 3, 4))
    # Ties, as a ReLU before the pool makes them: the gradient goes to the first of the equal values.
    ties = values("global_max_pool2d/ties", MAPS).round()
    cases.layer("ties", {"op": "global_max_pool2d"}, nn.AdaptiveMaxPool2d(1), None, x=ties)
    for name, shape, settings, mode in [
        ("timm", (2, 5, 8, 7), {}, "reflect"),
        ("five", (1, 6, 7, 9), {"kernel": 5}, "reflect"),
        ("two", (2, 3, 6, 5), {"kernel": 2}, "reflect"),
        ("stride1", (1, 5, 4, 6), {"kernel": 4, "stride": 1}, "reflect"),
        ("constant", (2, 5, 5, 6), {"mode": "constant"}, "constant"),
        ("edge", (1, 5, 2, 6), {"kernel": 7, "stride": 3, "mode": "edge"}, "replicate"),
    ]:
        module = BlurPool(settings.get("kernel", 3), settings.get("stride", 2), mode)
        cases.layer(name, {"op": "blur_pool2d"} | settings, module, shape)


def norms(cases):
    from torchvision.models.convnext import LayerNorm2d

    plain = {"affine": False}
    cases.layer("plain", {"op": "batch_norm2d"} | plain, nn.BatchNorm2d(7, affine=False), MAPS)
    cases.layer("plain-eval", {"op": "batch_norm2d"} | plain, nn.BatchNorm2d(7, affine=False), MAPS, train=False)
    cases.layer("vectors", {"op": "batch_norm2d"}, nn.BatchNorm1d(19), (5, 19))
    cases.layer("plain", {"op": "group_norm", "groups": 5} | plain, nn.GroupNorm(5, 35, affine=False), WIDE, offset=2.0)
    cases.layer("plain", {"op": "layer_norm2d"} | plain, LayerNorm2d(35, 1e-5, elementwise_affine=False), WIDE)
    cases.layer("plain", {"op": "instance_norm2d"}, nn.InstanceNorm2d(7), MAPS, offset=2.0)
    cases.layer("affine", {"op": "instance_norm2d", "eps": 1e-3, "affine": True}, nn.InstanceNorm2d(35, 1e-3, affine=True), WIDE)
    cases.layer("vectors", {"op": "layer_norm"}, nn.LayerNorm(19), VECTORS)
    # In the order of PyTorch's vector, [channel][row][column].
    for op, module in [("layer_norm", nn.LayerNorm(42)), ("batch_norm2d", nn.BatchNorm1d(42)), ("scale2d", Scale(weight=(42,)))]:
        flattened = nn.Sequential()
        flattened.add_module("flatten", nn.Flatten())
        flattened.add_module("layer", module)
        settings = {"op": op, "name": "layer"} | ({"bias": False} if op == "scale2d" else {})
        layers = [{"op": "flatten"}, settings]
        cases.add(f"{op}/flattened", {"type": "spec", "layers": layers}, flattened, (4, 7, 3, 2))
    cases.layer("plain", {"op": "layer_norm", "eps": 1e-3} | plain, nn.LayerNorm(40, 1e-3, False), (3, 40))
    cases.layer("maps", {"op": "rms_norm2d", "eps": 1e-4}, OnChannels(nn.RMSNorm(35, 1e-4)), WIDE)
    cases.layer("vectors", {"op": "rms_norm2d"}, nn.RMSNorm(19, 1e-5), VECTORS)
    cases.layer("plain", {"op": "rms_norm2d"} | plain, nn.RMSNorm(19, 1e-5, elementwise_affine=False), VECTORS)
    lrn = {"op": "local_response_norm", "size": 5}
    cases.layer("alexnet", lrn | {"alpha": 1e-4, "k": 2.0}, nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0), WIDE, scale=30.0)
    cases.layer("steep", lrn | {"alpha": 0.5, "beta": 1.2}, nn.LocalResponseNorm(5, 0.5, 1.2), MAPS, scale=3.0)
    cases.layer("even", lrn | {"size": 4, "alpha": 0.9}, nn.LocalResponseNorm(4, 0.9), MAPS, scale=3.0)
    cases.layer("wider", lrn | {"size": 21, "alpha": 0.9}, nn.LocalResponseNorm(21, 0.9), MAPS, scale=3.0)
    cases.layer("maps", {"op": "global_response_norm"}, GlobalResponseNorm(35), WIDE)
    cases.layer("eps", {"op": "global_response_norm", "eps": 0.5}, GlobalResponseNorm(70, 0.5), (2, 70, 2, 2))


def standardised(cases):
    for name, settings, conv in [
        ("std", {}, {"bias": False}),
        ("eps-scale", {"eps": 1e-2, "scale": 0.7}, {"stride": 2, "padding": 1}),
        ("gain", {"gain": True, "scale": 0.3}, {"groups": 2, "padding": 1}),
    ]:
        module = StdConv(6, 8, 3, **conv, **settings)
        layer = {"op": "conv2d", "out": 8, "kernel": 3, "standardize": settings} | conv
        cases.layer(f"standardize-{name}", layer, module, (2, 6, 7, 6))


def main():
    out = out_dir(__doc__)
    cases = OneInput()
    for group in (activations, scales, channels, windows, norms, standardised):
        group(cases)
    write_json(out / "one_input.json", {"about": "PyTorch's results by layer; see make_one_input.py", "cases": cases.index})
    write_tensors(out / "one_input.safetensors", cases.sink)
    print(f"{len(cases.index)} cases, {len(cases.sink.tensors)} tensors")


if __name__ == "__main__":
    main()
