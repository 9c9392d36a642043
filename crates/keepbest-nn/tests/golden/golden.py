"""What the golden-file scripts of this folder share: exact inputs, a tensor sink, and the files.

Values come from splitmix64 as a counter-based generator, so that they do not depend on the version of
any library: element i of a tensor is `unit(seed + i)`, seed being the FNV-1a hash of the tensor's name.
All of them are multiples of 2^-23 in [-1, 1), so float32 holds them exactly.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save

U64 = np.uint64
GAMMA = U64(0x9E3779B97F4A7C15)


def splitmix64(x):
    """One step of splitmix64 from each state in the uint64 array `x` (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        z = x + GAMMA
        z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
        return z ^ (z >> U64(31))


def unit(seed, count):
    """`count` float32 values in [-1, 1): 2u - 1 with u = (splitmix64(seed + i) >> 40) * 2^-24. Exact."""
    with np.errstate(over="ignore"):
        state = U64(seed) + np.arange(count, dtype=U64)
    u = (splitmix64(state) >> U64(40)).astype(np.float32) * np.float32(2.0**-24)
    return np.float32(2) * u - np.float32(1)


def fnv1a(text):
    """64-bit FNV-1a of the UTF-8 bytes of `text`."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def values(name, shape, scale=1.0, offset=0.0):
    """A float64 tensor whose values float32 holds exactly: unit values * scale + offset, rounded to float32."""
    flat = unit(fnv1a(name), int(np.prod(shape, dtype=np.int64)))
    flat = flat * np.float32(scale) + np.float32(offset)
    return torch.from_numpy(flat.astype(np.float64)).reshape(tuple(shape))


def labels(name, count, classes):
    """`count` int64 class numbers."""
    with np.errstate(over="ignore"):
        state = U64(fnv1a(name)) + np.arange(count, dtype=U64)
    return torch.from_numpy((splitmix64(state) >> U64(33)).astype(np.int64) % classes)


class Sink:
    """Collects the tensors of all cases: what goes in as float32, what comes out as float64."""

    def __init__(self):
        self.tensors = {}

    def put(self, case, name, tensor, exact):
        """Adds `tensor` as `case/name`. `exact`: an input, stored as float32 (checked lossless)."""
        tensor = tensor.detach().contiguous()
        if tensor.dtype == torch.float64 and exact:
            narrow = tensor.to(torch.float32)
            assert torch.equal(narrow.to(torch.float64), tensor), f"{case}/{name} is not exact in float32"
            tensor = narrow
        key = f"{case}/{name}"
        assert key not in self.tensors, f"{key} twice"
        self.tensors[key] = tensor.clone()


def out_dir(doc):
    """The folder to write to: the script's own, or `--out DIR`."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    torch.set_num_threads(1)
    return parser.parse_args().out


def write_json(path, value):
    """Writes `value` as JSON, one case or series a line where lists are long, ending in a newline."""
    path.write_text(_pretty(value, 0) + "\n")


def _pretty(value, depth):
    flat = json.dumps(value)
    if len(flat) <= 110 or not isinstance(value, (dict, list)):
        return flat
    pad, end = " " * (depth + 1), " " * depth
    if isinstance(value, dict):
        items = (f"{json.dumps(k)}: {_pretty(v, depth + 1)}" for k, v in value.items())
        return "{\n" + ",\n".join(pad + item for item in items) + "\n" + end + "}"
    if all(isinstance(v, (int, float, str)) for v in value):
        return flat
    return "[\n" + ",\n".join(pad + _pretty(v, depth + 1) for v in value) + "\n" + end + "]"


def write_tensors(path, sink):
    """Writes the collected tensors as one safetensors file."""
    path.write_bytes(save(sink.tensors))
