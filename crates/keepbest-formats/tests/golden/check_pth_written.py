#!/usr/bin/env python3
"""Checks the PyTorch files that keepbest writes, in PyTorch: files saved by PyTorch are read and written anew by
keepbest, then opened with torch.load(weights_only=True, mmap=True). Exit code 1 if anything differs.

check_pth_written.py REWRITE_PTH WORK_DIR      (REWRITE_PTH: the example of that name, built)

State dicts: every dtype, shape and name comes back bit for bit. Checkpoints: model and optimizer load, and their next
steps are bit for bit those of the model and optimizer that were saved. torchvision's resnet18 loads with strict=True.

Needs: torch, torchvision
"""

import pathlib
import subprocess
import sys
import zipfile

import torch
import torchvision
from torch import nn

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e4m3fnuz,
    torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool, torch.complex32, torch.complex64,
    torch.complex128,
]  # fmt: skip
BATCHES = 12
checks = 0


def check(holds, what):
    global checks
    checks += 1
    if not holds:
        raise SystemExit(f"FAILED: {what}")


def bits(tensor):
    return tensor.detach().contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor


def same(found, expected, what):
    """Tensors and containers of them are equal in type, order and every bit."""
    if isinstance(expected, torch.Tensor):
        check(isinstance(found, torch.Tensor), f"{what} is a {type(found)}")
        check((found.dtype, found.shape, found.stride()) == (expected.dtype, expected.shape, expected.stride()), what)
        check(torch.equal(bits(found), bits(expected)), f"bits of {what}")
    elif isinstance(expected, dict):
        check(list(found) == list(expected), f"keys of {what}: {list(found)}, expected {list(expected)}")
        for key in expected:
            same(found[key], expected[key], f"{what}.{key}")
    elif isinstance(expected, (list, tuple)):
        check(type(found) is type(expected) and len(found) == len(expected), what)
        for at, (one, other) in enumerate(zip(found, expected)):
            same(one, other, f"{what}[{at}]")
    else:
        check(found == expected or (found != found and expected != expected), f"{what} is {found}, was {expected}")


def small_model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 5)
    )


def train(model, optimizer, batches):
    model.train()
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-7),
}


class Files:
    def __init__(self, tool, work):
        self.tool, self.work = tool, work
        work.mkdir(parents=True, exist_ok=True)

    def rewritten(self, form, name, value):
        """`value`, saved by PyTorch, rewritten by keepbest and loaded; and the path of keepbest's file."""
        source, out = self.work / f"{name}.source.pt", self.work / f"{name}.pt"
        torch.save(value, source)
        subprocess.run([self.tool, form, source, out], check=True)
        again = self.work / f"{name}.again.pt"
        subprocess.run([self.tool, form, out, again], check=True)
        check(again.read_bytes() == out.read_bytes(), f"{name}: the same content gives the same bytes")
        with zipfile.ZipFile(out) as archive:
            check(archive.testzip() is None, f"{name}: CRC-32 of every record")
            with open(out, "rb") as file:
                for info in archive.infolist():
                    check(info.compress_type == zipfile.ZIP_STORED, f"{name}: {info.filename} is stored")
                    file.seek(info.header_offset + 26)
                    lengths = file.read(4)
                    at = info.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
                    check(at % 64 == 0, f"{name}: {info.filename} is aligned")
        read = torch.load(out, weights_only=True, mmap=False)
        same(torch.load(out, weights_only=True, mmap=True), read, f"{name} mapped and read")
        return torch.load(out, weights_only=True, mmap=True), out


def check_state_dicts(files):
    torch.manual_seed(1)
    state = {}
    for dtype in DTYPES:
        size = torch.empty((), dtype=dtype).element_size()
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (6 * size,), dtype=torch.uint8)
        state[f"{dtype}"] = raw.view(dtype).reshape(2, 3)
    state |= {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "modèle.偏置": torch.arange(5.0),
        "transposed": torch.arange(6.0).reshape(2, 3).t(),
        "nan": torch.tensor([float("nan"), float("-inf"), -0.0]),
    }
    found, _ = files.rewritten("state-dict", "state-dict", state)
    same(found, {name: tensor.contiguous() for name, tensor in state.items()}, "state dict")

    torch.manual_seed(2)
    resnet = torchvision.models.resnet18(weights=None).eval()
    found, path = files.rewritten("state-dict", "resnet18", resnet.state_dict())
    same(found, resnet.state_dict(), "resnet18")
    other = torchvision.models.resnet18(weights=None).eval()
    other.load_state_dict(found, strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        check(torch.equal(other(images), resnet(images)), "logits of resnet18")
    print(f"state dicts: {len(state)} tensors of {len(DTYPES)} dtypes, resnet18 ({path.stat().st_size} bytes)")


def check_checkpoints(files):
    torch.manual_seed(3)
    batches = [(torch.randn(4, 3, 8, 8), torch.randint(0, 5, (4,))) for _ in range(BATCHES)]
    for name, make in OPTIMIZERS.items():
        for steps in (0, 2):
            model = small_model(4)
            optimizer = make(model.named_parameters())
            train(model, optimizer, batches[:steps])
            saved = {
                "state_dict": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": 7,
                "step": steps,
                "metrics": {"val/accuracy": 0.875, "val/loss": float("nan")},
                "classes": ["cat", "dog", "été", "x", "y"],
                "preprocessing": {"mean": [0.5, 0.25, 0.125], "std": [1.0, 1.0, 1.0], "divide_by": 255.0},
                "keepbest": {"seed": 2**64 - 1, "nested": [{"a": None}, True, -3, 1e300]},
            }
            found, _ = files.rewritten("checkpoint", f"{name}-{steps}", saved)
            for key in saved.keys() - {"optimizer", "metrics"}:
                same(found[key], saved[key], key)
            check(sorted(found["metrics"]) == sorted(saved["metrics"]), "metrics")
            same(found["optimizer"]["state"], saved["optimizer"]["state"], f"{name} state")
            same(found["optimizer"]["param_groups"], saved["optimizer"]["param_groups"], f"{name} groups")
            resumed = small_model(5)
            resumed.load_state_dict(found["state_dict"], strict=True)
            other = make(resumed.parameters())
            other.load_state_dict(found["optimizer"])
            rest = batches[steps:]
            check(train(resumed, other, rest) == train(model, optimizer, rest), f"{name}: next losses")
            same(resumed.state_dict(), model.state_dict(), f"{name}: weights after the next steps")
    print(f"checkpoints: {len(OPTIMIZERS)} optimizers before and after their first step, next steps equal")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: check_pth_written.py REWRITE_PTH WORK_DIR")
    files = Files(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]))
    check_state_dicts(files)
    check_checkpoints(files)
    print(f"torch {torch.__version__}: {checks} checks passed")
