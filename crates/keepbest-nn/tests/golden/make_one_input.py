#!/usr/bin/env python3
"""Writes one_input.json and one_input.safetensors: what PyTorch computes for the layers of one input that make_layers.py has not.

Files and tensors are as make_layers.py says. Here `layer` is {"type": "spec", "layers": [...]}: the layers as a model spec
has them, whose parameters are called `layer.` and the module's name.
"""

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


def main():
    out = out_dir(__doc__)
    cases = OneInput()
    for group in (activations,):
        group(cases)
    write_json(out / "one_input.json", {"about": "PyTorch's results by layer; see make_one_input.py", "cases": cases.index})
    write_tensors(out / "one_input.safetensors", cases.sink)
    print(f"{len(cases.index)} cases, {len(cases.sink.tensors)} tensors")


if __name__ == "__main__":
    main()
