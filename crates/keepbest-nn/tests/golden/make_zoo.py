#!/usr/bin/env python3
"""Writes zoo.json: what torchvision computes with every network that keepbest's zoo shares with it.

Weights and images come from golden.py's counter-based values, so none are committed: a tensor's values depend on its
name alone. PyTorch computes in float64. Images are 64 x 64; networks whose name ends in `-cifar` have a 3x3 stem.

Of each network: `tensors`, the FNV-1a hash of the state dict's "name shape" lines in order, and their number;
`logits` of two images in evaluation; and for one training step on four images the `loss` and, for every parameter in
order, the 2-norm of its gradient and its product with a fixed vector. The step is without dropout and stochastic depth,
and with SiLU for every ReLU and ReLU6: at the kink the last bit of an activation decides about a whole gradient, so that
PyTorch's own float32 and float64 differ by 2 % on resnet50.
"""

from unittest import mock

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from golden import fnv1a, labels, out_dir, values, write_json

CLASSES = 10
SIDE = 64
NETWORKS = [
    "resnet18-imagenet",
    "resnet34-cifar",
    "resnet34-imagenet",
    "resnet50-cifar",
    "resnet50-imagenet",
    "vgg11_bn",
    "vgg16_bn",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
    "convnext_tiny",
]


def network(name):
    """torchvision's network of the zoo's name."""
    base, _, stem = name.partition("-")
    net = getattr(torchvision.models, base)(num_classes=CLASSES)
    if stem == "cifar":
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    return net


def fill(net):
    """Values that let signals pass through every layer, and statistics away from their defaults."""
    for name, tensor in net.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.dim() in (2, 4):
            scale, offset = (6 / tensor[0].numel()) ** 0.5, 0.0
        elif name.endswith("bias") or name.endswith("running_mean"):
            scale, offset = 0.1, 0.0
        elif name.endswith("layer_scale"):
            scale, offset = 0.25, 0.5
        else:
            scale, offset = 0.25, 1.0
        tensor.copy_(values(name, tensor.shape, scale, offset))


def short(value):
    return float(f"{float(value.detach()):.9g}")


def measure(name):
    net = network(name)
    for module in net.modules():
        if isinstance(module, (nn.Dropout, StochasticDepth)):
            module.p = 0.0
    listing = "".join(f"{key} {list(t.shape)}\n" for key, t in net.state_dict().items())
    net.double()
    fill(net)
    net.eval()
    with torch.no_grad():
        logits = net(values("images/evaluate", (2, 3, SIDE, SIDE)))
    net.train()
    silu = lambda x, *_, **__: F.silu(x)  # noqa: E731
    # torch.nn.ReLU6 is a hardtanh.
    with mock.patch("torch.nn.functional.relu", silu), mock.patch("torch.nn.functional.hardtanh", silu):
        scores = net(values("images/train", (4, 3, SIDE, SIDE)))
    loss = F.cross_entropy(scores, labels("labels/train", 4, CLASSES))
    loss.backward()
    # What a batch norm makes zero is rounding alone, which is nobody's truth.
    total = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
    gradients = []
    for key, p in net.named_parameters():
        gradient = p.grad if p.grad.norm() > 1e-9 * total else torch.zeros_like(p)
        gradients.append([short(gradient.norm()), short((gradient * values(f"{key}/probe", p.shape)).sum())])
    return {
        "name": name,
        "tensors": {"count": len(net.state_dict()), "fnv1a": f"{fnv1a(listing):016x}"},
        "logits": [[short(v) for v in row] for row in logits],
        "loss": short(loss),
        "gradients": gradients,
    }


def main():
    out = out_dir(__doc__)
    networks = []
    for name in NETWORKS:
        networks.append(measure(name))
        print(f"{name}: {networks[-1]['tensors']['count']} tensors, loss {networks[-1]['loss']}", flush=True)
    about = "torchvision's results by network; see make_zoo.py"
    tolerance = {"logits": 1e-7, "loss": 1e-7, "gradients": 1e-6}
    write_json(out / "zoo.json", {"about": about, "tolerance": tolerance, "networks": networks})


if __name__ == "__main__":
    main()
