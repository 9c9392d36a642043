#!/usr/bin/env python3
"""Writes layers.json and layers.safetensors: what PyTorch computes for every layer, forward and backward.

Inputs, parameters and upstream gradients are float32 values. PyTorch computes in float64 and the results
are stored as float64, so a float32 engine is judged against the truth and not against another rounding.

layers.json: {"cases": [{"name", "layer", "inputs", "results"}...]}. `layer` describes the module as data;
`inputs` and `results` name the tensors in layers.safetensors, each stored as `<case name>/<tensor name>`.
Layouts are PyTorch's: activations NCHW (or N,C), convolution weights OIHW, linear weights (out, in).

Tensor names: `input` (and `residual`), parameters by their name in the module (`weight`, `conv1.weight`),
`grad_output` (upstream); results `output`, `grad_input`, `grad_residual`, `grad.<parameter>`, and
`after.<buffer>` for the running statistics once the training step is done.
"""

import torch
import torch.nn.functional as F
from torch import nn

from golden import Sink, labels, out_dir, values, write_json, write_tensors

# A float32 engine may put a value on the other side of a kink when it lies closer than this to it.
KINK = 1e-4


class BatchNormAddRelu(nn.Module):
    """relu(batch_norm(input) + residual), the tail of a residual block with both sides given."""

    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x, residual):
        return self.relu(self.bn(x) + residual)


class Add(nn.Module):
    """input + residual, with a ReLU after it if asked."""

    def __init__(self, relu):
        super().__init__()
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x, residual):
        return self.relu(x + residual)


class LayerScale(nn.Module):
    """A trained factor a channel, as ConvNeXt's blocks have it."""

    def __init__(self, channels):
        super().__init__()
        self.layer_scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return self.layer_scale * x


class PerPixel(nn.Module):
    """nn.Linear on the channels of each pixel."""

    def __init__(self, channels, out):
        super().__init__()
        self.layer = nn.Linear(channels, out)

    def forward(self, x):
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Branches(nn.Module):
    """The input, a convolution of it and another, channels one after the other."""

    def __init__(self, channels, a, b):
        super().__init__()
        self.a = nn.Conv2d(channels, a, 3, padding=1)
        self.b = nn.Conv2d(channels, b, 1, bias=False)

    def forward(self, x):
        return torch.cat([x, F.silu(self.a(x)), self.b(x)], 1)


# Modules whose parameters are factors of around 1, and a bias.
AROUND_ONE = [nn.LayerNorm, nn.GroupNorm]
class Padded(nn.Module):
    """A module behind a padding of its own on each side, as [top, bottom, left, right]."""

    def __init__(self, layer, padding, value=0.0):
        super().__init__()
        self.layer = layer
        self.padding, self.value = padding, value

    def forward(self, x):
        top, bottom, left, right = self.padding
        return self.layer(F.pad(x, (left, right, top, bottom), value=self.value))


class Meeting(nn.Module):
    """Values that several layers read, and all that joins values: sums, gates, broadcasts, concatenations."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(6, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 8, 1)
        self.g = nn.Conv2d(8, 8, 1)
        self.s = nn.Conv2d(8, 1, 1)
        self.relu, self.again = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        a = self.a(x)
        n = self.bn(a)
        r = self.relu(n)
        b = self.b(r)
        d = n + b + a - r
        gate = torch.sigmoid(self.g(d.mean((2, 3), keepdim=True)))
        gated = gate * d
        attention = torch.sigmoid(self.s(gated))
        q = attention * gated / gate
        low = torch.minimum(torch.maximum(q, a), b)
        first = torch.cat([low, attention], 1)
        second = torch.cat([low, attention, self.again(low - gate)], 1)
        return torch.cat([first, second * second], 1)

    SPEC = [
        {"layer": {"op": "conv2d", "name": "a", "out": 8, "kernel": 3, "padding": 1}},
        {"layer": {"op": "batch_norm2d", "name": "bn"}},
        {"id": "r", "layer": {"op": "relu"}},
        {"layer": {"op": "conv2d", "name": "b", "out": 8, "kernel": 1}},
        {"id": "sum", "from": ["bn", "b", "a"], "layer": {"op": "add"}},
        {"id": "d", "from": ["sum", "r"], "layer": {"op": "sub"}},
        {"layer": {"op": "global_avg_pool2d"}},
        {"layer": {"op": "conv2d", "name": "g", "out": 8, "kernel": 1}},
        {"id": "gate", "layer": {"op": "sigmoid"}},
        {"id": "gated", "from": ["gate", "d"], "layer": {"op": "mul"}},
        {"layer": {"op": "conv2d", "name": "s", "out": 1, "kernel": 1}},
        {"id": "attention", "layer": {"op": "sigmoid"}},
        {"id": "attended", "from": ["attention", "gated"], "layer": {"op": "mul"}},
        {"id": "q", "from": ["attended", "gate"], "layer": {"op": "div"}},
        {"id": "high", "from": ["q", "a"], "layer": {"op": "maximum"}},
        {"id": "low", "from": ["high", "b"], "layer": {"op": "minimum"}},
        {"id": "same", "layer": {"op": "identity"}},
        {"id": "first", "from": ["same", "attention"], "layer": {"op": "concat"}},
        {"id": "less", "from": ["low", "gate"], "layer": {"op": "sub"}},
        {"id": "again", "layer": {"op": "relu"}},
        {"id": "second", "from": ["low", "attention", "again"], "layer": {"op": "concat"}},
        {"id": "square", "from": ["second", "second"], "layer": {"op": "mul"}},
        {"from": ["first", "square"], "layer": {"op": "concat"}},
    ]


class FlatMeeting(nn.Module):
    """Vectors of maps of several shapes, joined."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5 * 3 * 4, 7)

    def forward(self, x):
        v = x.flatten(1)
        z = self.fc(v)
        means = x.mean((2, 3))
        return torch.cat([v + v * means[:, :1], z, means], 1)

    SPEC = [
        {"id": "v", "layer": {"op": "flatten"}},
        {"id": "z", "layer": {"op": "linear", "name": "fc", "out": 7}},
        {"id": "means", "from": ["input"], "layer": {"op": "global_avg_pool2d"}},
        {"id": "one", "layer": {"op": "channel_slice", "end": 1}},
        {"id": "number", "layer": {"op": "flatten"}},
        {"id": "flat_means", "from": ["means"], "layer": {"op": "flatten"}},
        {"id": "scaled", "from": ["v", "number"], "layer": {"op": "mul"}},
        {"id": "sum", "from": ["v", "scaled"], "layer": {"op": "add"}},
        {"from": ["sum", "z", "flat_means"], "layer": {"op": "concat"}},
    ]


# Where the slope of a function jumps.
KINKS = {nn.ReLU: [0.0], nn.ReLU6: [0.0, 6.0], nn.Hardsigmoid: [-3.0, 3.0], nn.Hardswish: [-3.0, 3.0]}


def check_kinks(case, module, margin):
    """Registers checks that no function sees a value nearer to a kink than `margin`, but for zeros in a ReLU."""

    def hook(module, args):
        for kink in KINKS[type(module)]:
            x = (args[0].detach() - kink).abs()
            x = x[x > 0]
            assert x.min() > margin, f"{case}: an input {x.min():.2e} from the kink; choose other shapes"

    return [m.register_forward_pre_hook(hook) for m in module.modules() if type(m) in KINKS]


class Cases:
    def __init__(self):
        self.sink = Sink()
        self.index = []

    def parameters(self, name, module):
        """Fills the module with exact values: weights over +-1.5/sqrt(fan in), batch norm away from its defaults."""
        for sub_name, sub in module.named_modules():
            for local, tensor in [*sub.named_parameters(recurse=False), *sub.named_buffers(recurse=False)]:
                key = f"{name}/{sub_name}.{local}"
                if isinstance(sub, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    if local == "num_batches_tracked":
                        tensor.fill_(3)
                        continue
                    scale, offset = {
                        "weight": (0.5, 1.0),
                        "bias": (0.5, 0.0),
                        "running_mean": (0.5, 0.0),
                        "running_var": (0.75, 1.0),
                    }[local]
                elif isinstance(sub, tuple(AROUND_ONE)) or local == "layer_scale":
                    scale, offset = 0.5, 0.0 if local == "bias" else 1.0
                else:
                    fan_in = sub.weight[0].numel()
                    scale, offset = 1.5 / fan_in**0.5, 0.0
                tensor.data.copy_(values(key, tensor.shape, scale, offset))

    def add(self, name, layer, module, shape, residual=None, train=True, x=None, **input_range):
        """Runs one case; `shape` is the input's, `residual` the second input's shape if there is one."""
        module = module.double().train(train)
        self.parameters(name, module)
        if x is None:
            x = values(f"{name}/input", shape, **input_range)
        inputs = {"input": x.requires_grad_()}
        if residual:
            inputs["residual"] = values(f"{name}/residual", residual).requires_grad_()
        for key, tensor in inputs.items():
            self.sink.put(name, key, tensor, exact=True)
        state = {k: v.clone() for k, v in module.state_dict().items()}
        for key, tensor in state.items():
            self.sink.put(name, key, tensor, exact=True)

        hooks = check_kinks(name, module, KINK)
        output = module(*inputs.values())
        for hook in hooks:
            hook.remove()
        results = {"output": output}
        given = [*inputs, *state]
        if train:
            upstream = values(f"{name}/grad_output", output.shape)
            self.sink.put(name, "grad_output", upstream, exact=True)
            given.append("grad_output")
            output.backward(upstream)
            results |= {f"grad_{k}": t.grad for k, t in inputs.items()}
            results |= {f"grad.{k}": p.grad for k, p in module.named_parameters()}
            results |= {f"after.{k}": b for k, b in module.named_buffers()}
        for key, tensor in results.items():
            self.sink.put(name, key, tensor, exact=False)
        self.index.append({"name": name, "layer": layer, "inputs": given, "results": list(results)})

    def conv(self, name, n, c, h, w, out, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, bias=True):
        module = nn.Conv2d(c, out, kernel, stride, padding, dilation, groups, bias)
        layer = {
            "type": "conv2d",
            "in_channels": c,
            "out_channels": out,
            "kernel": list(kernel),
            "stride": list(stride),
            "padding": list(padding),
            "dilation": list(dilation),
            "groups": groups,
            "bias": bias,
        }
        self.add(f"conv2d/{name}", layer, module, (n, c, h, w))

    def pool(self, kind, name, shape, kernel, stride, padding, x=None, **more):
        module = (nn.MaxPool2d if kind == "max_pool2d" else nn.AvgPool2d)(kernel, stride, padding, **more)
        layer = {"type": kind, "kernel": list(kernel), "stride": list(stride), "padding": list(padding), **more}
        self.add(f"{kind}/{name}", layer, module, shape, x=x)

    def batch_norm(self, name, shape, train=True, eps=1e-5, momentum=0.1, **input_range):
        module = nn.BatchNorm2d(shape[1], eps, momentum)
        layer = {"type": "batch_norm2d", "channels": shape[1], "eps": eps, "momentum": momentum, "training": train}
        self.add(f"batch_norm2d/{name}", layer, module, shape, train=train, **input_range)

    def cross_entropy(self, name, n, classes, smoothing=0.0, weighted=False, scale=4.0, mixed=False):
        """With `mixed`, each image has another label with the rest of the share: PyTorch's loss of class probabilities;
        and with class weights, which PyTorch then leaves out of the mean, the shares of the two labels' weighted losses
        over the shares of their weights, so that a share of 1 is PyTorch's loss of one label.
        """
        name = f"cross_entropy/{name}"
        logits = values(f"{name}/input", (n, classes), scale).requires_grad_()
        target = labels(f"{name}/labels", n, classes)
        weight = values(f"{name}/class_weights", (classes,), 0.75, 1.0) if weighted else None
        inputs = {"input": logits, "labels": target} | ({"class_weights": weight} if weighted else {})
        if mixed:
            others, shares = labels(f"{name}/others", n, classes), values(f"{name}/shares", (n,), 0.5, 0.5)
            inputs |= {"others": others, "shares": shares}
        if mixed and weighted:
            both = ((target, shares), (others, 1 - shares))
            each = {"weight": weight, "label_smoothing": smoothing, "reduction": "none"}
            loss = sum((F.cross_entropy(logits, label, **each) * share).sum() for label, share in both)
            loss = loss / sum((weight[label] * share).sum() for label, share in both)
        elif mixed:
            probabilities = F.one_hot(target, classes) * shares[:, None] + F.one_hot(others, classes) * (1 - shares)[:, None]
            loss = F.cross_entropy(logits, probabilities, label_smoothing=smoothing)
        else:
            loss = F.cross_entropy(logits, target, weight, label_smoothing=smoothing)
        loss.backward()
        given = list(inputs)
        for key, tensor in inputs.items():
            self.sink.put(name, key, tensor, exact=True)
        self.sink.put(name, "loss", loss, exact=False)
        self.sink.put(name, "grad_input", logits.grad, exact=False)
        layer = {
            "type": "cross_entropy",
            "classes": classes,
            "label_smoothing": smoothing,
            "class_weights": weighted,
            "reduction": "mean",
        } | ({"mixed": True} if mixed else {})
        self.index.append({"name": name, "layer": layer, "inputs": given, "results": ["loss", "grad_input"]})


def residual_block(kind, c, out, stride, width=None):
    """torchvision's BasicBlock or Bottleneck with its parameter names, and its description."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    planes = out if kind == "basic_block" else out // 4
    down = None
    if stride != 1 or c != out:
        down = nn.Sequential(nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    module = (BasicBlock if kind == "basic_block" else Bottleneck)(c, planes, stride, down)
    layer = {
        "type": kind,
        "in_channels": c,
        "planes": planes,
        "out_channels": out,
        "stride": stride,
        "downsample": down is not None,
    }
    return layer, module


def convolutions(cases):
    one, two = (1, 1), (2, 2)
    cases.conv("3x3-pad1", 2, 3, 8, 9, 8, (3, 3), padding=one)
    cases.conv("3x3-pad1-one-channel", 3, 1, 7, 7, 32, (3, 3), padding=one)
    cases.conv("3x3-pad1-no-bias", 2, 16, 6, 6, 16, (3, 3), padding=one, bias=False)
    cases.conv("3x3-valid", 2, 8, 7, 6, 5, (3, 3))
    cases.conv("3x3-stride2-pad1", 2, 8, 9, 8, 16, (3, 3), stride=two, padding=one, bias=False)
    cases.conv("3x3-stride2-pad1-even", 2, 8, 8, 8, 16, (3, 3), stride=two, padding=one)
    cases.conv("3x3-odd-channels", 2, 13, 5, 7, 17, (3, 3), padding=one)
    cases.conv("3x3-wide", 1, 20, 4, 4, 40, (3, 3), padding=one, bias=False)
    cases.conv("3x3-one-pixel", 2, 32, 1, 1, 33, (3, 3), padding=one)
    cases.conv("3x3-pad2", 2, 4, 5, 5, 6, (3, 3), padding=two)
    cases.conv("1x1", 3, 12, 5, 6, 20, one)
    cases.conv("1x1-stride2-no-bias", 2, 16, 7, 8, 24, one, stride=two, bias=False)
    cases.conv("1x1-odd-channels", 2, 7, 3, 3, 9, one)
    cases.conv("5x5-pad2", 2, 1, 9, 9, 6, (5, 5), padding=two)
    cases.conv("5x5-valid", 2, 6, 7, 7, 16, (5, 5))
    cases.conv("7x7-stride2-pad3", 1, 3, 17, 16, 16, (7, 7), stride=two, padding=(3, 3), bias=False)
    cases.conv("1x3-pad", 2, 5, 6, 7, 8, (1, 3), padding=(0, 1))
    cases.conv("3x1-pad", 2, 5, 6, 7, 8, (3, 1), padding=(1, 0))
    cases.conv("2x4-stride-2-1", 2, 4, 8, 9, 6, (2, 4), stride=(2, 1), padding=(1, 2))
    cases.conv("2x2-stride2", 2, 8, 6, 7, 8, (2, 2), stride=two)
    cases.conv("3x3-stride3", 1, 8, 11, 10, 8, (3, 3), stride=(3, 3), padding=one)
    cases.conv("3x3-dilation2", 2, 6, 9, 8, 10, (3, 3), padding=two, dilation=two)
    cases.conv("3x2-dilation-1-3-stride2", 1, 6, 9, 11, 7, (3, 2), stride=two, padding=(1, 1), dilation=(1, 3))
    cases.conv("kernel-is-input", 3, 10, 4, 5, 12, (4, 5))
    cases.conv("3x3-groups2", 2, 12, 6, 6, 20, (3, 3), padding=one, groups=2)
    cases.conv("3x3-groups4-stride2", 2, 16, 7, 7, 16, (3, 3), stride=two, padding=one, groups=4, bias=False)
    cases.conv("1x1-groups3", 2, 9, 4, 4, 15, one, groups=3)
    cases.conv("depthwise-3x3", 2, 24, 6, 7, 24, (3, 3), padding=one, groups=24, bias=False)
    cases.conv("depthwise-3x3-stride2", 2, 19, 7, 7, 19, (3, 3), stride=two, padding=one, groups=19)
    cases.conv("depthwise-5x5-dilation2", 1, 8, 9, 9, 8, (5, 5), padding=(4, 4), dilation=two, groups=8)
    cases.conv("depthwise-multiplier2", 2, 6, 5, 5, 12, (3, 3), padding=one, groups=6)


def norms(cases):
    cases.batch_norm("train", (3, 8, 5, 4))
    cases.batch_norm("train-one-channel", (2, 1, 6, 6))
    cases.batch_norm("train-odd-channels", (2, 19, 3, 5))
    cases.batch_norm("train-wide", (2, 70, 3, 3))
    cases.batch_norm("train-offset", (4, 6, 4, 4), offset=10.0)
    cases.batch_norm("train-eps-momentum", (2, 5, 4, 4), eps=1e-3, momentum=0.3)
    cases.batch_norm("train-one-pixel", (6, 8, 1, 1))
    cases.batch_norm("eval", (3, 8, 5, 4), train=False)
    cases.batch_norm("eval-one-image", (1, 19, 3, 3), train=False)
    for name, shape in {"train": (2, 16, 5, 5), "odd-channels": (3, 11, 4, 3)}.items():
        module = nn.Sequential()
        module.add_module("bn", nn.BatchNorm2d(shape[1]))
        module.add_module("relu", nn.ReLU())
        layer = {"type": "batch_norm2d_relu", "channels": shape[1], "eps": 1e-5, "momentum": 0.1, "training": True}
        cases.add(f"batch_norm2d_relu/{name}", layer, module, shape)
        layer = layer | {"type": "batch_norm2d_add_relu"}
        cases.add(f"batch_norm2d_add_relu/{name}", layer, BatchNormAddRelu(shape[1]), shape, residual=shape)


def activations(cases):
    x = values("relu/input", (2, 7, 5, 6))
    x.view(-1)[::11] = 0.0  # PyTorch's gradient at 0 is 0
    cases.add("relu/maps", {"type": "relu"}, nn.ReLU(), None, x=x)
    cases.add("relu/vectors", {"type": "relu"}, nn.ReLU(), (3, 37))
    cases.add("add/maps", {"type": "add", "relu": False}, Add(False), (2, 9, 4, 5), residual=(2, 9, 4, 5))
    cases.add("add/relu", {"type": "add", "relu": True}, Add(True), (2, 16, 4, 5), residual=(2, 16, 4, 5))
    cases.add("dropout/eval", {"type": "dropout", "p": 0.5, "training": False}, nn.Dropout(0.5), (4, 10), train=False)


def pools(cases):
    maps = (2, 5, 8, 9)
    cases.pool("max_pool2d", "2x2", maps, (2, 2), (2, 2), (0, 0))
    cases.pool("max_pool2d", "2x2-wide", (2, 33, 6, 6), (2, 2), (2, 2), (0, 0))
    cases.pool("max_pool2d", "3x3-stride2-pad1", maps, (3, 3), (2, 2), (1, 1))
    cases.pool("max_pool2d", "3x3-stride1-pad1-overlapping", maps, (3, 3), (1, 1), (1, 1))
    cases.pool("max_pool2d", "2x2-stride3", maps, (2, 2), (3, 3), (0, 0))
    cases.pool("max_pool2d", "2x3-stride-1-2-pad-1-0", maps, (2, 3), (1, 2), (1, 0))
    # Ties, as a ReLU before the pool makes them everywhere: the gradient goes to the first of the equal values.
    ties = (values("max_pool2d/ties", (2, 6, 7, 7)) * 3).round().clamp(min=0)
    cases.pool("max_pool2d", "ties", None, (3, 3), (2, 2), (1, 1), x=ties)
    cases.pool("avg_pool2d", "2x2", maps, (2, 2), (2, 2), (0, 0), count_include_pad=True)
    cases.pool("avg_pool2d", "3x3-stride2-pad1", maps, (3, 3), (2, 2), (1, 1), count_include_pad=True)
    cases.pool("avg_pool2d", "3x3-stride2-pad1-exclude-pad", maps, (3, 3), (2, 2), (1, 1), count_include_pad=False)
    cases.pool("avg_pool2d", "2x3-stride-1-2-pad-1-0", maps, (2, 3), (1, 2), (1, 0), count_include_pad=False)
    layer = {"type": "global_avg_pool2d"}
    cases.add("global_avg_pool2d/maps", layer, nn.AdaptiveAvgPool2d(1), (3, 21, 4, 5))
    cases.add("global_avg_pool2d/one-pixel", layer, nn.AdaptiveAvgPool2d(1), (2, 8, 1, 1))


def modern(cases):
    """Layers of the networks after ResNet."""
    from functools import partial

    from torchvision.models.convnext import CNBlock, LayerNorm2d
    from torchvision.ops import SqueezeExcitation, StochasticDepth

    functions = {
        "relu6": nn.ReLU6(),
        "sigmoid": nn.Sigmoid(),
        "silu": nn.SiLU(),
        "hardsigmoid": nn.Hardsigmoid(),
        "hardswish": nn.Hardswish(),
        "gelu": nn.GELU(),
    }
    for op, module in functions.items():
        cases.add(f"{op}/maps", {"type": op}, module, (2, 7, 5, 6), scale=8.0)
        cases.add(f"{op}/vectors", {"type": op}, module, (3, 37), scale=8.0)
    for name, shape, eps in [("odd-channels", (2, 19, 4, 3), 1e-6), ("wide", (2, 80, 3, 3), 1e-5), ("one", (3, 8, 1, 1), 1e-6)]:
        layer = {"type": "layer_norm2d", "eps": eps}
        cases.add(f"layer_norm2d/{name}", layer, LayerNorm2d(shape[1], eps), shape)
    for name, shape, groups in [("four", (2, 24, 5, 4), 4), ("one", (3, 10, 3, 3), 1), ("each", (2, 18, 4, 4), 18)]:
        layer = {"type": "group_norm", "groups": groups, "eps": 1e-5}
        cases.add(f"group_norm/{name}", layer, nn.GroupNorm(groups, shape[1]), shape, offset=2.0)
    cases.add("layer_scale/maps", {"type": "layer_scale"}, LayerScale(21), (2, 21, 4, 5))
    for name, (h, w), size in [("even", (8, 6), (4, 3)), ("overlapping", (7, 5), (3, 4)), ("larger", (2, 3), (7, 7))]:
        layer = {"type": "adaptive_avg_pool2d", "size": list(size)}
        cases.add(f"adaptive_avg_pool2d/{name}", layer, nn.AdaptiveAvgPool2d(size), (2, 9, h, w))
    layer = {"type": "per_pixel", "out_features": 11}
    cases.add("per_pixel/maps", layer, PerPixel(18, 11), (2, 18, 4, 3))
    for op in ["silu", "hardswish"]:
        gate = SqueezeExcitation(20, 6, nn.SiLU if op == "silu" else nn.ReLU)
        if op == "hardswish":
            gate.scale_activation = nn.Hardsigmoid()
        layer = {"type": "squeeze_excite", "squeeze": 6, "hard": op == "hardswish"}
        cases.add(f"squeeze_excite/{op}", layer, gate, (3, 20, 5, 4))
    layer = {"type": "branches", "a": 6, "b": 17}
    cases.add("branches/three", layer, Branches(10, 6, 17), (2, 10, 4, 5))
    layer = {"type": "stochastic_depth", "p": 0.4, "training": False}
    cases.add("stochastic_depth/eval", layer, StochasticDepth(0.4, "row"), (4, 3, 2, 2), train=False)
    layer = {"type": "convnext_block", "channels": 12, "eps": 1e-6}
    block = CNBlock(12, 1e-6, 0.0, partial(nn.LayerNorm, eps=1e-6))
    cases.add("convnext_block/train", layer, block, (2, 12, 9, 8))


def structure(cases):
    """Graphs, and windows over uneven padding; each case has its spec."""

    def add(name, layers, module, shape, **more):
        cases.add(name, {"type": "spec", "prefix": "", "layers": layers}, module, shape, **more)

    def conv(name, shape, out, padding, sides=None, **settings):
        kernel = settings["kernel_size"]
        spec = {"op": "conv2d", "name": "layer", "out": out, "kernel": kernel, "padding": padding}
        spec |= {key: value for key, value in settings.items() if key != "kernel_size"}
        module = Padded(nn.Conv2d(shape[1], out, **settings), sides or padding)
        add(f"conv2d/{name}", [spec], module, shape)

    add("graph/meeting", [{"op": "graph", "name": "", "nodes": Meeting.SPEC}], Meeting(), (2, 6, 5, 4))
    conv("same-stride2", (2, 5, 8, 9), 7, "same", [0, 1, 1, 1], kernel_size=[3, 3], stride=[2, 2])
    conv("same-even-kernel", (2, 5, 6, 7), 4, "same", [0, 1, 1, 2], kernel_size=[2, 4])
    conv("same-dilated", (2, 4, 10, 9), 6, "same", [1, 2, 2, 2], kernel_size=[3, 3], stride=[2, 1], dilation=[2, 2])
    conv("uneven-wide", (2, 32, 13, 12), 32, [0, 2, 2, 0], kernel_size=[3, 3], bias=False)
    conv("uneven-depthwise", (2, 9, 7, 8), 9, [0, 2, 1, 0], kernel_size=[3, 3], stride=[2, 2], groups=9)
    conv("uneven-groups", (2, 8, 6, 6), 12, [3, 0, 0, 1], kernel_size=[3, 3], groups=4)
    conv("uneven-one-pixel", (2, 8, 1, 1), 6, [0, 1, 0, 1], kernel_size=[1, 1], stride=[2, 2])

    low = float("-inf")
    for name, shape, settings in [
        ("ceil", (2, 5, 8, 9), {"kernel": [3, 3], "stride": [2, 2]}),
        ("ceil-pad", (2, 17, 7, 6), {"kernel": [3, 2], "stride": [3, 2], "padding": [1, 0]}),
        ("ceil-2x2", (2, 3, 7, 5), {"kernel": [2, 2]}),
        ("ceil-begins-behind", (2, 3, 3, 4), {"kernel": [2, 2], "padding": [1, 1]}),
    ]:
        given = {"kernel_size": settings["kernel"], "stride": settings.get("stride"), "padding": settings.get("padding", 0)}
        spec = settings | {"ceil_mode": True}
        add(f"max_pool2d/{name}", [{"op": "max_pool2d"} | spec], nn.MaxPool2d(**given, ceil_mode=True), shape)
        for include in [True, False]:
            module = nn.AvgPool2d(**given, ceil_mode=True, count_include_pad=include)
            layer = {"op": "avg_pool2d", "count_include_pad": include} | spec
            add(f"avg_pool2d/{name}-{'include' if include else 'exclude'}-pad", [layer], module, shape)
    spec = {"op": "max_pool2d", "kernel": [3, 2], "stride": [2, 1], "dilation": [2, 3], "padding": [1, 1]}
    module = nn.MaxPool2d((3, 2), (2, 1), (1, 1), (2, 3))
    add("max_pool2d/dilated", [spec], module, (2, 5, 9, 8))
    spec = {"op": "max_pool2d", "kernel": [3, 3], "stride": [2, 2], "padding": [0, 2, 2, 1]}
    add("max_pool2d/uneven", [spec], Padded(nn.MaxPool2d(3, 2), [0, 2, 2, 1], low), (2, 5, 8, 8))
    spec = {"op": "max_pool2d", "kernel": [3, 3], "stride": [2, 2], "padding": "same"}
    add("max_pool2d/same", [spec], Padded(nn.MaxPool2d(3, 2), [0, 1, 1, 1], low), (2, 5, 8, 9))
    spec = {"op": "avg_pool2d", "kernel": [3, 3], "stride": [2, 2], "padding": [0, 2, 1, 0]}
    add("avg_pool2d/uneven", [spec], Padded(nn.AvgPool2d(3, 2), [0, 2, 1, 0]), (2, 5, 8, 8))


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def rearranged(cases):
    """Maps with other rows, columns and channels, and transposed convolutions; each case has its spec."""

    def add(name, layer, module, shape):
        cases.add(name, {"type": "spec", "prefix": "", "layers": [layer]}, module, shape)

    def transposed(name, shape, out, **settings):
        module = nn.Sequential()
        module.add_module("layer", nn.ConvTranspose2d(shape[1], out, **settings))
        spec = {key: value for key, value in settings.items() if key != "kernel_size"}
        layer = {"op": "conv_transpose2d", "name": "layer", "out": out, "kernel": settings["kernel_size"]}
        add(f"conv_transpose2d/{name}", layer | spec, module, shape)

    maps = (2, 6, 5, 7)
    add("graph/vectors", {"op": "graph", "name": "", "nodes": FlatMeeting.SPEC}, FlatMeeting(), (3, 5, 3, 4))
    add("channel_slice/middle", {"op": "channel_slice", "start": 1, "end": 4}, Calls(lambda x: x[:, 1:4]), maps)
    add("channel_shuffle/three", {"op": "channel_shuffle", "groups": 3}, nn.ChannelShuffle(3), maps)
    crop = {"op": "crop", "top": 1, "left": 2, "right": 1}
    add("crop/three-sides", crop, Calls(lambda x: x[:, :, 1:, 2:-1]), maps)
    sides = {"op": "pad2d", "top": 1, "bottom": 2, "left": 3, "right": 4}
    pads = [3, 4, 1, 2]
    add("pad2d/constant", sides | {"value": 0.5}, nn.ConstantPad2d(pads, 0.5), maps)
    add("pad2d/reflect", sides | {"mode": "reflect"}, nn.ReflectionPad2d(pads), maps)
    add("pad2d/edge", sides | {"mode": "edge"}, nn.ReplicationPad2d(pads), maps)
    for name, settings, given in [
        ("nearest-2", {"scale": 2}, {"scale_factor": 2}),
        ("nearest-each", {"scale": [1.7, 0.6]}, {"scale_factor": (1.7, 0.6)}),
        ("nearest-size", {"size": [9, 3]}, {"size": (9, 3)}),
        ("bilinear-2", {"scale": 2}, {"scale_factor": 2, "mode": "bilinear"}),
        ("bilinear-each", {"scale": [1.7, 0.6]}, {"scale_factor": (1.7, 0.6), "mode": "bilinear"}),
        ("bilinear-size", {"size": [9, 3]}, {"size": (9, 3), "mode": "bilinear"}),
        ("bilinear-aligned", {"size": [8, 1]}, {"size": (8, 1), "mode": "bilinear", "align_corners": True}),
    ]:
        more = {key: given[key] for key in ("mode", "align_corners") if key in given}
        add(f"upsample/{name}", {"op": "upsample"} | settings | more, nn.Upsample(**given), maps)
    flat = {"op": "sequential", "name": "", "layers": [{"op": "flatten"}, {"op": "unflatten", "size": [7, 6, 5]}]}
    add("unflatten/other-shape", flat, Calls(lambda x: x.flatten(1).unflatten(1, (7, 6, 5))), maps)
    transposed("2x2-stride2", (2, 6, 4, 5), 9, kernel_size=[2, 2], stride=[2, 2])
    transposed("3x3-wide", (2, 32, 7, 8), 20, kernel_size=[3, 3], padding=[1, 1], bias=False)
    transposed("4x3-output-padding", (2, 5, 4, 3), 7, kernel_size=[4, 3], stride=[3, 2], padding=[1, 1], output_padding=[2, 1])
    transposed("groups-dilation", (2, 6, 5, 4), 9, kernel_size=[3, 2], stride=[1, 2], dilation=[2, 3], groups=3)
    transposed("depthwise", (2, 9, 5, 4), 9, kernel_size=[3, 3], stride=[2, 2], padding=[1, 0], groups=9)
    transposed("from-one-pixel", (3, 17, 1, 1), 6, kernel_size=[4, 4])


def linears(cases):
    for name, n, i, o, bias in [
        ("plain", 5, 12, 7, True),
        ("no-bias", 4, 33, 10, False),
        ("one-row", 1, 40, 10, True),
        ("wide", 3, 96, 65, True),
        ("one-output", 6, 9, 1, True),
    ]:
        layer = {"type": "linear", "in_features": i, "out_features": o, "bias": bias}
        cases.add(f"linear/{name}", layer, nn.Linear(i, o, bias), (n, i))
    for name, (n, c, h, w), o in [("maps", (3, 6, 4, 5), 11), ("odd-channels", (2, 5, 3, 3), 10)]:
        module = nn.Sequential()
        module.add_module("flatten", nn.Flatten())
        module.add_module("fc", nn.Linear(c * h * w, o))
        layer = {"type": "flatten_linear", "channels": c, "height": h, "width": w, "out_features": o, "bias": True}
        cases.add(f"flatten_linear/{name}", layer, module, (n, c, h, w))


def blocks(cases):
    for name, kind, c, out, stride in [
        ("identity", "basic_block", 8, 8, 1),
        ("downsample", "basic_block", 8, 12, 2),
        ("identity", "bottleneck", 16, 16, 1),
        ("downsample", "bottleneck", 12, 16, 2),
    ]:
        layer, module = residual_block(kind, c, out, stride)
        cases.add(f"{kind}/{name}", layer | {"training": True}, module, (2, c, 5, 5))
    layer, module = residual_block("basic_block", 8, 12, 2)
    cases.add("basic_block/eval", layer | {"training": False}, module, (2, 8, 6, 6), train=False)


def losses(cases):
    cases.cross_entropy("plain", 8, 10)
    cases.cross_entropy("smoothing", 8, 10, smoothing=0.1)
    cases.cross_entropy("weights", 8, 10, weighted=True)
    cases.cross_entropy("smoothing-weights", 8, 10, smoothing=0.15, weighted=True)
    cases.cross_entropy("two-classes", 5, 2)
    cases.cross_entropy("one-row", 1, 7, smoothing=0.1, weighted=True)
    cases.cross_entropy("many-classes", 4, 101, smoothing=0.05)
    cases.cross_entropy("large-logits", 6, 10, scale=120.0)
    cases.cross_entropy("mixed", 8, 10, mixed=True)
    cases.cross_entropy("mixed-smoothing", 9, 5, smoothing=0.1, mixed=True)
    cases.cross_entropy("mixed-weights", 7, 4, weighted=True, mixed=True)
    cases.cross_entropy("mixed-smoothing-weights", 6, 10, smoothing=0.2, weighted=True, mixed=True)


def main():
    out = out_dir(__doc__)
    cases = Cases()
    for group in (convolutions, norms, activations, pools, linears, blocks, losses, modern, structure, rearranged):
        group(cases)
    write_json(out / "layers.json", {"about": "PyTorch's results by layer; see make_layers.py", "cases": cases.index})
    write_tensors(out / "layers.safetensors", cases.sink)
    print(f"{len(cases.index)} cases, {len(cases.sink.tensors)} tensors")


if __name__ == "__main__":
    main()
