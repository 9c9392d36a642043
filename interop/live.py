#!/usr/bin/env python3
"""Live checks between keepbest and PyTorch, torchvision, scikit-learn and safetensors, in both directions.

usage: live.py --keepbest BINARY --work DIR

keepbest -> PyTorch: trains on the embedded images and on folders of colour images, opens the best model with the
safetensors library, loads it into the same network with `load_state_dict(strict=True)`, and compares probabilities,
accuracy and confusion matrix on the test images. PyTorch -> keepbest: the same with weights that PyTorch trained and
saved. In both, every metric that `keepbest evaluate` prints is recomputed by scikit-learn from the probabilities that
`keepbest predict` prints.

Prints one line a check; exits 1 if any failed.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import metrics

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "crates/keepbest-nn/tests/golden"))
from make_training import SimpleCnn, cifar_resnet18, idx  # noqa: E402

# Largest difference of two log probabilities: both sides compute in float32 with their own order of summation.
LOG_PROBABILITY = 1e-4
EMBEDDED = "fashion-mnist-mini"


class Checks:
    """Counts checks and prints each."""

    def __init__(self):
        self.done = 0
        self.failed = 0

    def check(self, what, holds, detail):
        self.done += 1
        self.failed += not holds
        print(f"  {'ok' if holds else 'FAILED':6} {what}: {detail}", flush=True)


class Keepbest:
    """The binary under test, run in the work folder."""

    def __init__(self, binary, work):
        self.binary = binary
        self.work = work

    def run(self, *arguments):
        """Standard output of `keepbest arguments...`; a non-zero exit ends everything."""
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def train(self, name, *arguments):
        """Trains a run and gives the path of its best model."""
        # Without label smoothing, `loss` is plain cross entropy.
        self.run("train", "--runs-dir", "runs", "--name", name, "--seed", 7, "--label-smoothing", 0, *arguments)
        return self.work / "runs" / name / "best.safetensors"

    def evaluate(self, model, data, *arguments):
        return json.loads(self.run("evaluate", model, "--data", data, "--split", "test", "--json", *arguments))

    def probabilities(self, model, images, classes, *arguments):
        """[image, class] probabilities of the files, in their order."""
        out = self.run("predict", model, *images, "--json", "--top-k", classes, *arguments)
        answers = [json.loads(line) for line in out.splitlines()]
        assert [pathlib.Path(a["input"]) for a in answers] == list(images), "predict answers in another order"
        table = np.full((len(images), classes), np.nan)
        for row, answer in zip(table, answers):
            for guess in answer["top"]:
                row[guess["class"]] = guess["probability"]
        return table


class LeNet5(nn.Module):
    """The zoo's `lenet5`."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


def cifar_resnet(classes):
    model = cifar_resnet18()
    model.fc = nn.Linear(512, classes)
    return model


class TestSet:
    """Test images as files in label order, the same as uint8 NCHW, and their labels."""

    def __init__(self, data, files, pixels, labels, classes):
        self.data = data
        self.files = files
        self.pixels = torch.from_numpy(pixels)
        self.labels = labels
        self.classes = classes

    def input(self, mean, std):
        """float32 network input: (pixel / 255 - mean) / std by channel, as torchvision normalises."""
        scaled = self.pixels.to(torch.float32) / 255
        return torchvision.transforms.functional.normalize(scaled, mean, std)


def fashion(part, count):
    images = idx(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:count]
    return images.copy(), idx(f"{part}-labels-idx1-ubyte.gz", 8)[:count].astype(np.int64)


def embedded_test_set(folder):
    """The embedded test images, written as PNG files for `predict`."""
    images, labels = fashion("t10k", 1000)
    folder.mkdir(parents=True)
    files = []
    for i, image in enumerate(images):
        files.append(folder / f"{i:04}.png")
        Image.fromarray(image).save(files[-1])
    return TestSet(EMBEDDED, files, images[:, None], labels, 10)


def colour_folders(folder, height, width, classes, counts):
    """A data set of folders split/class/*.png: Fashion-MNIST clothes, each channel another view, on a canvas."""
    images, labels = fashion("train", 6000)
    names = ["a", "b", "c", "d", "e", "f"][:classes]
    taken = {c: iter(images[labels == c]) for c in range(classes)}
    files, pixels, targets = [], [], []
    for split, count in counts.items():
        for c, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                grey = next(taken[c])
                colour = np.stack([grey, np.roll(grey, 3, axis=1) // 2, 255 - grey.T], axis=-1)
                image = np.zeros((height, width, 3), np.uint8)
                image[: height - height % 28, : width - width % 28] = np.tile(colour, (height // 28, width // 28, 1))
                image[-1, :, 0] = 200
                path = folder / split / name / f"{i:03}.png"
                Image.fromarray(image).save(path)
                if split == "test":
                    files.append(path)
                    pixels.append(image.transpose(2, 0, 1))
                    targets.append(c)
    return TestSet(str(folder), files, np.stack(pixels), np.array(targets), classes)


def compare(checks, keepbest, what, model, net, test, mean, std, *arguments):
    """Both sides on the same test images, then every metric of `evaluate` against scikit-learn."""
    net.eval()
    with torch.inference_mode():
        logits = torch.cat([net(batch) for batch in test.input(mean, std).split(100)])
    theirs = F.log_softmax(logits.double(), dim=1).numpy()
    ours = keepbest.probabilities(model, test.files, test.classes, *arguments)
    difference = np.abs(np.log(ours) - theirs).max()
    checks.check(
        f"{what}: probabilities",
        difference <= LOG_PROBABILITY,
        f"{ours.shape[0]} images x {ours.shape[1]} classes, log probabilities within {difference:.1e}",
    )

    told = keepbest.evaluate(model, test.data, *arguments)
    guesses = logits.argmax(dim=1).numpy()
    accuracy = float((guesses == test.labels).mean())
    checks.check(f"{what}: accuracy", told["metrics"]["test/accuracy"] == accuracy, f"{accuracy} by PyTorch")
    confusion = metrics.confusion(test.labels, guesses, test.classes)
    checks.check(f"{what}: confusion matrix", told["confusion"] == confusion, f"{sum(map(sum, confusion))} images")
    for name, value, reference in metrics.compare(told["metrics"], test.labels, ours):
        checks.check(f"{what}: {name}", metrics.same(value, reference), f"{value!r}, scikit-learn {reference!r}")
    loss = F.cross_entropy(logits.double(), torch.from_numpy(test.labels)).item()
    found = told["metrics"]["test/loss"]
    checks.check(f"{what}: loss", abs(found - loss) <= 1e-5 * max(1, loss), f"{found:.6f}, PyTorch {loss:.6f}")


def ours_in_pytorch(checks, keepbest, what, best, net, test, *arguments):
    """A best model of ours, opened by the safetensors library and loaded strictly into PyTorch's network."""
    with safe_open(best, framework="pt") as file:
        about = json.loads(file.metadata()["keepbest"])
    tensors = load_file(best)
    weights = {name: t for name, t in tensors.items() if not name.startswith("optimizer.")}
    result = net.load_state_dict(weights, strict=True)
    checks.check(
        f"{what}: load_state_dict(strict=True)",
        not result.missing_keys and not result.unexpected_keys,
        f"{len(weights)} tensors and {len(tensors) - len(weights)} of the optimizer, kind {about['kind']}",
    )
    preprocessing = about["preprocessing"]
    compare(checks, keepbest, what, best, net, test, preprocessing["mean"], preprocessing["std"], *arguments)


def theirs_in_keepbest(checks, keepbest, network, net, test, steps, lr, folder):
    """Weights that PyTorch trained for a few steps on pixels / 255, evaluated by us."""
    torch.manual_seed(5)
    mean, std = [0.0] * test.pixels.shape[1], [1.0] * test.pixels.shape[1]
    x, y = test.input(mean, std), torch.from_numpy(test.labels)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    for step in range(steps):
        picked = torch.arange(step * 32, step * 32 + 32) * 7 % len(x)
        optimizer.zero_grad()
        F.cross_entropy(net(x[picked]), y[picked]).backward()
        optimizer.step()
    path = folder / f"pytorch-{network}-{test.classes}.safetensors"
    save_file(net.state_dict(), path)
    compare(checks, keepbest, f"PyTorch's {network}", path, net, test, mean, std, "--model", network)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keepbest", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    keepbest = Keepbest(arguments.keepbest.resolve(), work)
    checks = Checks()

    grey = embedded_test_set(work / "embedded-test")
    small = colour_folders(work / "small", 28, 36, 4, {"train": 24, "val": 8, "test": 16})
    large = colour_folders(work / "large", 84, 70, 6, {"train": 8, "val": 4, "test": 5})

    square = colour_folders(work / "square", 32, 32, 5, {"train": 8, "val": 4, "test": 20})

    print("keepbest -> PyTorch")
    best = keepbest.train("simple", "--epochs", 1)
    ours_in_pytorch(checks, keepbest, "simple-cnn", best, SimpleCnn(), grey)
    params = keepbest.train("params", "--epochs", 1, "--save", "params", "--optimizer", "adamw")
    ours_in_pytorch(checks, keepbest, "simple-cnn, params only", params, SimpleCnn(), grey, "--model", "simple-cnn")
    best = keepbest.train("lenet", "--epochs", 1, "--model", "lenet5")
    ours_in_pytorch(checks, keepbest, "lenet5", best, LeNet5(), grey)
    brief = ["--epochs", 1, "--batch-size", 16, "--model", "resnet18"]
    best = keepbest.train("resnet-small", "--data", small.data, *brief)
    ours_in_pytorch(checks, keepbest, "resnet18, CIFAR stem", best, cifar_resnet(small.classes), small)
    best = keepbest.train("resnet-large", "--data", large.data, *brief)
    net = torchvision.models.resnet18(num_classes=large.classes)
    ours_in_pytorch(checks, keepbest, "resnet18, ImageNet stem", best, net, large)

    print("PyTorch -> keepbest")
    theirs_in_keepbest(checks, keepbest, "simple-cnn", SimpleCnn(), grey, 30, 0.02, work)
    theirs_in_keepbest(checks, keepbest, "lenet5", LeNet5(), grey, 60, 0.02, work)

    theirs_in_keepbest(checks, keepbest, "resnet18", cifar_resnet(square.classes), square, 6, 0.01, work)

    print(f"live checks: {checks.done - checks.failed} passed, {checks.failed} failed")
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    main()
