#!/usr/bin/env python3
"""Writes one_input.json and one_input.safetensors: what PyTorch computes for the layers of one input that make_layers.py has not.

Files and tensors are as make_layers.py says. Here `layer` is {"type": "spec", "layers": [...]}: the layers as a model spec
has them, whose parameters are called `layer.` and the module's name.
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


make_layers.AROUND_ONE += [nn.PReLU, Scale]


class OneInput(Cases):
    def layer(self, name, settings, module, shape, **more):
        """One case of one layer; a name of its own where it has parameters."""
        named = {"name": "layer"} if any(True for _ in module.parameters()) else {}
        layer = {"type": "spec", "layers": [settings | named]}
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


def main():
    out = out_dir(__doc__)
    cases = OneInput()
    for group in (activations, scales, channels, windows):
        group(cases)
    write_json(out / "one_input.json", {"about": "PyTorch's results by layer; see make_one_input.py", "cases": cases.index})
    write_tensors(out / "one_input.safetensors", cases.sink)
    print(f"{len(cases.index)} cases, {len(cases.sink.tensors)} tensors")


if __name__ == "__main__":
    main()
