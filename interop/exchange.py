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
from live import LeNet5  # noqa: E402
from make_training import SimpleCnn, cifar_resnet18  # noqa: E402

# Largest difference of two log probabilities: both sides compute in float32 with their own order of summation.
LOG_PROBABILITY = 1e-4
# Largest difference of two losses, over ten steps.
LOSS = 1e-3
NETWORKS = [
    "simple-cnn",
    "lenet5",
    "resnet18",
    "resnet18-imagenet",
    "resnet34-imagenet",
    "resnet50-imagenet",
    "vgg11_bn",
    "vgg16_bn",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
    "convnext_tiny",
]
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
    if name == "lenet5":
        return LeNet5(), 28, 1
    base, _, stem = name.partition("-")
    if name == "resnet18":
        return cifar_resnet18(), 32, 3
    net = getattr(torchvision.models, base)(num_classes=10)
    return net, 96 if stem == "imagenet" else 64, 3


def same(one, other):
    """Two state dicts have the same names, types, shapes and bits."""
    raw = lambda t: t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()  # noqa: E731
    alike = lambda a, b: a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)  # noqa: E731
    return list(one) == list(other) and all(alike(one[k], other[k]) for k in one)


def round_trip(program, name):
    """PyTorch -> keepbest -> PyTorch, and ONNX and scores of what came in."""
    net, side, channels = pytorch_net(name)
    generator = torch.Generator().manual_seed(3)
    # As the images below: statistics of other ones would not normalise them.
    noise = lambda n: torch.rand(n, channels, side, side, generator=generator) * 4 - 1.6  # noqa: E731
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches: as after a long training
    with torch.no_grad():
        for _ in range(2):
            net(noise(8))
    net.eval()
    with torch.no_grad():
        # Random weights may give scores whose probabilities underflow.
        largest = net(noise(4)).abs().max()
        last = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
        last.weight.mul_(10 / largest.clamp(min=10))
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
    # Deep networks with random weights have large scores, which float32 rounds in proportion.
    bound = LOG_PROBABILITY * max(1.0, np.abs(theirs).max())
    check(f"{name}: best.pth, strict, in PyTorch", difference <= bound, f"within {difference:.1e}")

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
        check(f"{name}: ONNX, {form}, in onnxruntime", difference <= bound, f"within {difference:.1e}")
    # A VGG takes half a gigabyte in each form.
    for file in [*work.glob(f"{name}-*"), *work.glob(f"{name}.*")]:
        file.unlink()


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


def write_images(folder, side, channels):
    """A data set of five classes: noise around a level. One batch is all of the training images, so their order does not matter."""
    random = np.random.RandomState(7)
    for split, images in [("train", 8), ("val", 2), ("test", 2)]:
        for label in range(5):
            place = folder / split / str(label)
            place.mkdir(parents=True)
            for i in range(images):
                noise = random.randint(0, 156, (side, side, channels))
                pixels = (noise + 20 * label).astype(np.uint8)
                Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(place / f"{i}.png")


def training_batch(folder, preprocessing):
    images, labels = [], []
    for path in sorted(folder.glob("train/*/*.png")):
        pixels = np.asarray(Image.open(path), dtype=np.float32)
        images.append(pixels.reshape(*pixels.shape[:2], -1))
        labels.append(int(path.parent.name))
    mean, std = (np.float32(preprocessing[key]) for key in ["mean", "std"])
    images = (np.stack(images) / np.float32(preprocessing["divide_by"]) - mean) / std
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)), torch.tensor(labels)


def resume(program, name, optimizer_name, rate):
    """PyTorch goes on from best.pt: its next ten losses are those of keepbest, which goes on from the run."""
    side, channels = (28, 1) if name == "simple-cnn" else (16, 3)
    data = program.work / f"images-{side}-{channels}"
    if not data.exists():
        write_images(data, side, channels)
    run = f"{name}-{optimizer_name}"
    program.ok(
        "train", "--data", data, "--runs-dir", "runs", "--name", run, "--model", name, "--epochs", 3, "--batch-size", 40,
        "--optimizer", optimizer_name, "--lr", rate, "--schedule", "constant", "--warmup", 0, "--label-smoothing", 0,
        "--augment", "none", "--also", "pth", "--quiet",
    )  # fmt: skip
    program.ok("export", f"{run}@last", "--runs-dir", "runs", "--to", f"{run}.pt")
    program.ok("train", "--resume", run, "--runs-dir", "runs", "--epochs", 13, "--quiet")
    shown = json.loads(program.ok("show", run, "--runs-dir", "runs", "--json"))
    ours = [evaluation["metrics"]["train/loss"] for evaluation in shown["history"]][3:]

    best = torch.load(program.work / f"{run}.pt", weights_only=True, mmap=True)
    net = SimpleCnn() if name == "simple-cnn" else cifar_resnet18()
    last = "fc2" if name == "simple-cnn" else "fc"
    setattr(net, last, torch.nn.Linear(getattr(net, last).in_features, 5))
    kept = torch.load(program.work / "runs" / run / "best.pth", weights_only=True, mmap=True)
    net.load_state_dict(kept, strict=True)
    own = load_file(program.work / "runs" / run / "best.safetensors")
    check(f"{run}: best.pth follows best", all(torch.equal(own[name], tensor) for name, tensor in kept.items()))
    net.load_state_dict(best["state_dict"], strict=True)
    # All settings come from the file: this learning rate is not used.
    optimizer = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer_name](net.parameters(), lr=123.0)
    optimizer.load_state_dict(best["optimizer"])
    images, labels = training_batch(data, best["preprocessing"])
    net.train()
    theirs = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    fallen = f"{theirs[0]:.4f} to {theirs[-1]:.4f}, within {worst:.1e}"
    check(f"{run}: PyTorch's next ten losses from best.pt", worst <= LOSS and theirs[-1] < theirs[0], fallen)

    torch.save({k: best[k] for k in best if k != "keepbest"}, program.work / "plain.pt")
    program.ok("import", f"{run}.pt", "--to", "back.safetensors", "--force")
    program.ok("import", "plain.pt", "--model", name, "--to", "plain.safetensors", "--force")
    weights = {k: v for k, v in load_file(program.work / "back.safetensors").items() if not k.startswith("optimizer.")}
    check(f"{run}: best.pt comes back", same(load_file(program.work / "plain.safetensors"), weights))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keepbest", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    program = Program(arguments.keepbest.resolve(), arguments.work.resolve())
    for name in NETWORKS:
        round_trip(program, name)
    widths(program)
    hostile(program)
    # At a rate of 0.05 rounding alone parts two runs of PyTorch after some 15 steps (make_training.py), resnet18's sooner.
    resume(program, "simple-cnn", "sgd", 0.02)
    resume(program, "simple-cnn", "adamw", 0.001)
    resume(program, "resnet18", "sgd", 0.001)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
