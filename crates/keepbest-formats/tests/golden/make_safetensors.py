#!/usr/bin/env python3
"""Writes safetensors files with the `safetensors` Python library (through PyTorch and NumPy), and
`expected.json` with what is in them. Run: make_safetensors.py --out DIR

Needs: pip install numpy safetensors torch
"""

import argparse
import json
import os

import numpy
import safetensors
import safetensors.numpy
import safetensors.torch
import torch


def dtypes():
    """One tensor of every element type that PyTorch can save, in odd sizes."""
    raw = torch.arange(3 * 16, dtype=torch.int64).to(torch.uint8) * 5 + 1
    types = [
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz,
        torch.float8_e8m0fnu,
        torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint64, torch.uint32, torch.uint16, torch.uint8,
        torch.complex64,
    ]
    tensors = {}
    for at, dtype in enumerate(types):
        size = torch.empty(0, dtype=dtype).element_size()
        tensors[f"t{at}.{str(dtype).removeprefix('torch.')}"] = raw[: 3 * size].view(dtype).clone()
    tensors["flags"] = torch.tensor([True, False, True])
    return tensors


def shapes():
    """Scalars, empty tensors, many sides, and values that are not numbers."""
    return {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0),
        "empty.sides": torch.empty(3, 0, 2, dtype=torch.float64),
        "one": torch.ones(1, 1, 1, 1, 1, 1),
        "special": torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0, 1e-45]),
    }


def names():
    """Names that JSON must escape, and names beyond ASCII."""
    keys = ["plain", "with space", 'quo"te', "back\\slash", "new\nline", "été", "模型", "☀🦀", "", "a/b.c-d_e"]
    return {key: torch.tensor([at], dtype=torch.int32) for at, key in enumerate(keys)}


def network():
    """The state dict of a small convolutional network."""
    torch.manual_seed(5)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    )
    return model.state_dict()


def raw(tensor):
    tensor = tensor.contiguous()
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    expected = {"written_by": f"safetensors {safetensors.__version__}", "files": {}}

    def note(name, tensors, metadata):
        expected["files"][name] = {"metadata": metadata, "tensors": tensors}

    for name, tensors, metadata in [
        ("python-dtypes.safetensors", dtypes(), {}),
        ("python-shapes.safetensors", shapes(), {"format": "pt", "note": "été \"quoted\"\n"}),
        ("python-names.safetensors", names(), {"": "empty key"}),
        ("python-network.safetensors", network(), {"format": "pt"}),
    ]:
        safetensors.torch.save_file(tensors, os.path.join(out, name), metadata=metadata or None)
        note(
            name,
            {key: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch."), "hex": raw(t).hex()}
             for key, t in tensors.items()},
            metadata,
        )

    arrays = {
        "matrix": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
        "scalar": numpy.array(7, dtype=numpy.int64),
        "bytes": numpy.array([1, 2, 3], dtype=numpy.uint8),
        "flags": numpy.array([True, False]),
    }
    safetensors.numpy.save_file(arrays, os.path.join(out, "python-numpy.safetensors"))
    note(
        "python-numpy.safetensors",
        {key: {"shape": list(a.shape), "dtype": str(a.dtype), "hex": a.tobytes().hex()} for key, a in arrays.items()},
        {},
    )
    safetensors.torch.save_file({}, os.path.join(out, "python-nothing.safetensors"))
    note("python-nothing.safetensors", {}, {})

    with open(os.path.join(out, "python-expected.json"), "w", encoding="utf-8") as file:
        json.dump(expected, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
