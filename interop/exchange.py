#!/usr/bin/env python3
"""Checks `keepbest import` and `keepbest export` against PyTorch, torchvision, onnx and onnxruntime.

usage: exchange.py --keepbest BINARY --work DIR

Prints one line a check; exits 1 if any failed.
"""

import argparse
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "crates/keepbest-nn/tests/golden"))
from make_training import SimpleCnn, cifar_resnet18  # noqa: E402

# Largest difference of two log probabilities: both sides compute in float32 with their own order of summation.
LOG_PROBABILITY = 1e-4
failed = 0


def check(what, holds, detail=""):
    global failed
    failed += not holds
    print(f"  {'ok' if holds else 'FAILED':6} {what}{': ' if detail else ''}{detail}", flush=True)


class Program:
    def __init__(self, binary, work):
        self.binary, self.work = binary, work

    def run(self, *arguments):
        command = [str(self.binary), *map(str, arguments)]
        return subprocess.run(command, cwd=self.work, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def ok(self, *arguments):
        done = self.run(*arguments)
        if done.returncode != 0:
            raise SystemExit(f"keepbest {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout


def pytorch_net(name):
    """A network of PyTorch with the zoo's names, and the side and channels of its images."""
    torch.manual_seed(11)
    if name == "simple-cnn":
        return SimpleCnn(), 28, 1
    if name == "resnet18":
        return cifar_resnet18(), 32, 3
    return torchvision.models.resnet18(num_classes=10), 96, 3


def same(one, other):
    """Two state dicts have the same names, types, shapes and bits."""
    raw = lambda t: t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()  # noqa: E731
    alike = lambda a, b: a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)  # noqa: E731
    return list(one) == list(other) and all(alike(one[k], other[k]) for k in one)


def round_trip(program, name):
    """PyTorch -> keepbest -> PyTorch, and ONNX and scores of what came in."""
    net, side, channels = pytorch_net(name)
    generator = torch.Generator().manual_seed(3)
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(8, channels, side, side, generator=generator))
    net.eval()
    state = net.state_dict()
    work = program.work
    torch.save(state, work / f"{name}.pth")
    how = f"size={side},mean=0.4,std=0.25,resize=exact"
    imported = f"{name}-in.safetensors"
    program.ok("import", f"{name}.pth", "--model", name, "--preprocess", how, "--to", imported)
    program.ok("export", imported, "--to", f"{name}-out.pth")
    back = torch.load(work / f"{name}-out.pth", weights_only=True, mmap=True)
    check(f"{name}: PyTorch -> keepbest -> PyTorch", same(state, back), f"{len(state)} tensors, bit for bit")
    fresh, _, _ = pytorch_net(name)
    fresh.load_state_dict(back, strict=True)
    fresh.eval()

    pixels = np.random.RandomState(5).randint(0, 256, (4, side, side, channels)).astype(np.uint8)
    files = []
    for i, image in enumerate(pixels):
        files.append(work / f"{name}-{i}.png")
        Image.fromarray(image if channels == 3 else image[..., 0]).save(files[-1])
    answers = program.ok("predict", imported, *files, "--json", "--top-k", 10).splitlines()
    ours = np.zeros((4, 10))
    for row, answer in zip(ours, answers):
        for guess in json.loads(answer)["top"]:
            row[guess["class"]] = np.log(guess["probability"])
    normalised = ((pixels / np.float32(255) - np.float32(0.4)) / np.float32(0.25)).transpose(0, 3, 1, 2)
    normalised = np.ascontiguousarray(normalised, np.float32)
    with torch.inference_mode():
        theirs = torch.log_softmax(fresh(torch.from_numpy(normalised)).double(), 1).numpy()
    difference = np.abs(ours - theirs).max()
    check(f"{name}: best.pth, strict, in PyTorch", difference <= LOG_PROBABILITY, f"within {difference:.1e}")

    for form, flags in [
        ("plain", []),
        ("folded, pixels in", ["--preprocess-in-graph", "--fold-batch-norm"]),
    ]:
        program.ok("export", imported, "--to", f"{name}.onnx", "--force", *flags)
        path = str(work / f"{name}.onnx")
        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        given = pixels if flags else normalised
        logits = session.run(None, {session.get_inputs()[0].name: given})[0].astype(np.float64)
        found = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        found -= logits.max(1, keepdims=True)
        difference = np.abs(found - ours).max()
        check(f"{name}: ONNX, {form}, in onnxruntime", difference <= LOG_PROBABILITY, f"within {difference:.1e}")


def widths(program):
    """f16, bf16 and f64 become f32 as PyTorch's float() makes them."""
    state = SimpleCnn().state_dict()
    for dtype in [torch.float16, torch.bfloat16, torch.float64]:
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        torch.save(cast, program.work / "width.pth")
        program.ok("import", "width.pth", "--model", "simple-cnn", "--to", "width.safetensors", "--force")
        found = load_file(program.work / "width.safetensors")
        expected = {k: v.float() if v.is_floating_point() else v for k, v in cast.items()}
        exact = found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)
        check(f"simple-cnn in {str(dtype).removeprefix('torch.')}", exact, "f32 exactly as PyTorch's float()")


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def hostile(program):
    """A file that does run when PyTorch is told to trust it, and does not here."""
    trace = program.work / "trace"
    evil = program.work / "evil.pth"
    torch.save({"state_dict": SimpleCnn().state_dict(), "x": Touch(trace)}, evil, pickle_module=pickle)
    torch.load(evil, weights_only=False)
    check("hostile file runs in torch.load(weights_only=False)", trace.exists())
    trace.unlink()
    for verb in [
        ["inspect", evil],
        ["import", evil, "--model", "simple-cnn", "--to", "evil.safetensors"],
        ["evaluate", evil, "--model", "simple-cnn", "--data", "fashion-mnist-mini"],
        ["train", "--from", evil, "--epochs", 1],
    ]:
        done = program.run(*verb)
        check(f"hostile file leaves no trace: {verb[0]}", done.returncode == 3 and not trace.exists(), "exit 3")


def resume(program):
    """PyTorch takes the optimizer's state of best.pt as its own."""
    program.ok(
        "train", "--runs-dir", "runs", "--name", "pt", "--epochs", 1, "--optimizer", "sgd", "--lr", 0.001,
        "--schedule", "constant", "--warmup", 0, "--label-smoothing", 0, "--quiet",
    )  # fmt: skip
    program.ok("export", "pt", "--runs-dir", "runs", "--to", "best.pt")
    best = torch.load(program.work / "best.pt", weights_only=True, mmap=True)
    net = SimpleCnn()
    net.load_state_dict(best["state_dict"], strict=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9)
    optimizer.load_state_dict(best["optimizer"])
    group = optimizer.param_groups[0]
    states = [optimizer.state[p] for p in net.parameters()]
    whole = all(s["momentum_buffer"].shape == p.shape for s, p in zip(states, net.parameters()))
    check("best.pt: optimizer.load_state_dict", whole and abs(group["lr"] - 0.001) < 1e-12, f"lr {group['lr']}")
    torch.save({k: best[k] for k in best if k != "keepbest"}, program.work / "plain.pt")
    program.ok("import", "best.pt", "--to", "back.safetensors")
    program.ok("import", "plain.pt", "--model", "simple-cnn", "--to", "plain.safetensors")
    check("best.pt comes back", same(load_file(program.work / "plain.safetensors"), {
        k: v for k, v in load_file(program.work / "back.safetensors").items() if not k.startswith("optimizer.")
    }))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keepbest", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    program = Program(arguments.keepbest.resolve(), arguments.work.resolve())
    for name in ["simple-cnn", "resnet18", "resnet18-imagenet"]:
        round_trip(program, name)
    widths(program)
    hostile(program)
    resume(program)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
