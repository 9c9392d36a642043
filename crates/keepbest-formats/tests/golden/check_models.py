#!/usr/bin/env python3
"""Opens model files that keepbest wrote with the `safetensors` Python library and compares them with what
`examples/golden_models.rs` put in, and all of their digests with docs/format.md. Exit code 1 if anything differs.

check_models.py FILE...      (files as written by `--example golden_models`)

Needs: pip install blake3 numpy safetensors torch
"""

import json
import pathlib
import struct
import sys

import torch
from blake3 import blake3
from safetensors import safe_open


def ramp(shape, start):
    count = 1
    for side in shape:
        count *= side
    return (start + 0.125 * torch.arange(count, dtype=torch.float32)).reshape(shape)


WEIGHTS = {
    "conv.weight": ramp([2, 1, 3, 3], -1.0),
    "bn.running_mean": ramp([2], 0.0),
    "bn.num_batches_tracked": torch.tensor(1200),
    "mask": torch.tensor([True, False, True]),
    "half": torch.tensor([1.0, -2.0], dtype=torch.float16),
    "empty": torch.empty(0, 4),
    "fc.weight": ramp([3, 2], 4.0),
    "模型.偏置": ramp([3], 8.0),
}
TRAINING = {
    "optimizer.step": torch.tensor(1200),
    "optimizer.conv.weight.momentum": ramp([2, 1, 3, 3], 0.5),
    "optimizer.fc.weight.momentum": ramp([3, 2], -0.25),
}

THRESHOLDS = {"values": [0.25, 0.5, 0.25], "metric": "f1_macro", "split": "val", "before": 0.75, "after": 0.875}


def check_digests(path):
    """Every digest, computed from the bytes by the words of docs/format.md."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    assert (8 + length) % 64 == 0
    header, data = content[8 : 8 + length], content[8 + length :]
    start = b'{"__metadata__":{"keepbest_header_digest":"'
    assert header.startswith(start) and len(start) == 43
    blanked = header[:43] + b"0" * 64 + header[107:]
    assert content[51:115].decode() == blake3(blanked).hexdigest(), "header digest"
    entries = json.loads(header)
    about = json.loads(entries.pop("__metadata__")["keepbest"])
    digests = {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        digests[name] = blake3(data[begin:end])
    assert about["tensors"] == {name: digest.hexdigest() for name, digest in digests.items()}, "tensor digests"
    names = sorted((name for name in entries if not name.startswith("optimizer.")), key=lambda name: name.encode())
    form = b"keepbest weights 1\n" + struct.pack("<Q", len(names))
    for name in names:
        entry, raw = entries[name], name.encode()
        form += struct.pack("<Q", len(raw)) + raw
        form += struct.pack("<Q", len(entry["dtype"])) + entry["dtype"].encode()
        form += struct.pack(f"<{1 + len(entry['shape'])}Q", len(entry["shape"]), *entry["shape"])
        form += digests[name].digest()
    assert about["weights_digest"] == blake3(form).hexdigest(), "weights digest"
    return about


def check(path):
    _, schema, kind = pathlib.Path(path).stem.split("-")
    expected = WEIGHTS | TRAINING if kind == "full" else WEIGHTS
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["keepbest"])
        assert about["kind"] == kind and about["schema"] == int(schema) and about["step"] == 1200, about
        assert about.get("thresholds") == (THRESHOLDS if schema == "2" else None), about
        assert set(file.keys()) == set(expected), set(file.keys()) ^ set(expected)
        for name, tensor in expected.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype and found.shape == tensor.shape, (name, found.dtype, found.shape)
            assert torch.equal(found, tensor), name
    assert check_digests(path) == about
    print(f"{path}: {len(expected)} tensors equal, all digests right")


if __name__ == "__main__":
    assert len(sys.argv) > 1, __doc__
    for path in sys.argv[1:]:
        check(path)
