#!/usr/bin/env python3
"""Writes training.json: PyTorch's loss curve over training steps of `simple-cnn` and of `resnet18`.

Both sides start from weights that a formula gives exactly and see the same batches, so no weights are stored.

Initial weights. Walk the state dict in order. A batch norm gets weight 1, bias 0, running_mean 0,
running_var 1, num_batches_tracked 0. Every other tensor is the weight or the bias of a convolution or a
linear layer and is filled in row-major order (OIHW, or out x in) from one counter i that starts at 0 and
runs on through all of these tensors (batch norms do not advance it):

    z = splitmix64(1234 + i)                       one step from that state; all in wrapping u64:
          z = state + 0x9E3779B97F4A7C15
          z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
          z = (z ^ (z >> 27)) * 0x94D049BB133111EB
          z = z ^ (z >> 31)
    u = (z >> 40) as f32 * 2^-24                   exact: 24 bits, 0 <= u < 1
    v = 2 * u - 1                                  exact: a multiple of 2^-23, -1 <= v < 1
    b = (1 / sqrt(fan_in as f64)) as f32           f64 square root and division, then rounded once to f32
    w = v * b                                      one f32 multiplication

fan_in is the layer's number of inputs to one output (I * KH * KW, or `in`), for its weight and its bias alike.

Batches: step s (from 0) takes images s*B .. s*B+B-1 of the embedded Fashion-MNIST training set in file order.
A pixel x becomes (x / 255 - 0.2860) / 0.3530 (float32 in the float32 run). For `resnet18` the 28x28 result is
then zero-padded by 2 on each side to 32x32 and repeated in 3 channels.

Loss: mean cross entropy, recorded before the step's update. Optimizer: SGD as stated; batch norm in training mode.

Each curve is given in float64 (`loss_f64`, the truth) and in float32 (`loss_f32`); `difference` is their largest relative
difference: what rounding alone does. Training is chaotic: at a learning rate of 0.05 the two runs of PyTorch part after
some 15 steps, at 0.02 they are 9 % apart after 50 (resnet18: 93 %). So the long curves have a learning rate at which
rounding alone stays well below 1e-3, and short ones have a higher rate. `norms_f64` are the 2-norms of some tensors after
the last step, `filled_elements` is where the counter ended.
"""

import gzip
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from golden import out_dir, unit, write_json

EMBEDDED = pathlib.Path(__file__).resolve().parents[3] / "keepbest-data" / "embedded"
SEED = 1234
MEAN, STD = 0.2860, 0.3530


class SimpleCnn(nn.Module):
    """The zoo's `simple-cnn` for 28x28 images of one channel."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(64)
        self.fc1 = nn.Linear(3136, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def cifar_resnet18():
    """torchvision's resnet18 with the CIFAR stem: a 3x3 convolution of stride 1 and no max pool."""
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def fill(model):
    """Sets the initial weights, as the text at the top says."""
    counter = 0
    for module in model.modules():  # this order is the state dict's
        for name, tensor in module.named_parameters(recurse=False):
            if isinstance(module, nn.BatchNorm2d):
                tensor.data.fill_(1.0 if name == "weight" else 0.0)
                continue
            bound = np.float32(1.0 / np.sqrt(np.float64(module.weight[0].numel())))
            flat = unit(SEED + counter, tensor.numel()) * bound
            counter += tensor.numel()
            tensor.data.copy_(torch.from_numpy(flat).reshape(tensor.shape))
    return counter


def idx(name, header):
    """The bytes of a gzip IDX file after its header."""
    return np.frombuffer(gzip.decompress((EMBEDDED / name).read_bytes())[header:], dtype=np.uint8)


def images(dtype, count):
    raw = torch.from_numpy(idx("train-images-idx3-ubyte.gz", 16)[: count * 784].copy())
    return ((raw.to(dtype) / 255 - MEAN) / STD).reshape(count, 1, 28, 28)


def run(build, dtype, steps, batch, lr, momentum, weight_decay, padded):
    """The losses of all steps, the trained model, and how many elements the formula filled."""
    model = build()
    filled = fill(model)
    model.to(dtype).train()
    x = images(dtype, steps * batch)
    if padded:
        x = F.pad(x, (2, 2, 2, 2)).repeat(1, 3, 1, 1)
    y = torch.from_numpy(idx("train-labels-idx1-ubyte.gz", 8)[: steps * batch].astype(np.int64))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    losses = []
    for s in range(0, steps * batch, batch):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[s : s + batch]), y[s : s + batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model, filled


def difference(a, b):
    """The largest relative difference of two curves, rounded: it documents a size."""
    return float(f"{max(abs(x - y) / abs(x) for x, y in zip(a, b)):.1e}")


def curve(name, build, norms, **settings):
    loss_f64, model, filled = run(build, torch.float64, **settings)
    loss_f32, _, _ = run(build, torch.float32, **settings)
    state = model.state_dict()
    print(f"{name}, lr {settings['lr']}, {settings['steps']} steps: float32 within {difference(loss_f64, loss_f32)}")
    return {
        "model": name,
        **settings,
        "filled_elements": filled,
        "state_dict": {k: list(v.shape) for k, v in state.items()},
        "loss_f64": loss_f64,
        "loss_f32": loss_f32,
        "difference": difference(loss_f64, loss_f32),
        "norms_f64": {k: state[k].norm().item() for k in norms},
        # For whoever regenerates this: how far another machine's rounding may take these fields.
        "tolerance": {"loss_f32": 1e-3, "difference": 0.99},
    }


def main():
    out = out_dir(__doc__)
    sgd = {"momentum": 0.9, "weight_decay": 5e-4}
    simple = ["conv1.weight", "bn1.running_var", "conv2.weight", "fc1.weight", "fc2.bias"]
    resnet = ["conv1.weight", "bn1.running_mean", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight", "fc.weight"]
    curves = [
        curve("simple-cnn", SimpleCnn, simple, steps=50, batch=32, lr=0.001, **sgd, padded=False),
        curve("simple-cnn", SimpleCnn, simple, steps=10, batch=32, lr=0.05, **sgd, padded=False),
        curve("resnet18", cifar_resnet18, resnet, steps=50, batch=16, lr=5e-6, **sgd, padded=True),
        curve("resnet18", cifar_resnet18, resnet, steps=10, batch=16, lr=1e-4, **sgd, padded=True),
    ]
    about = "PyTorch's loss over training steps from weights given by a formula; see make_training.py"
    write_json(out / "training.json", {"about": about, "seed": SEED, "mean": MEAN, "std": STD, "curves": curves})


if __name__ == "__main__":
    main()
