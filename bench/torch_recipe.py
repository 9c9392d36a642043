#!/usr/bin/env python3
"""Trains keepbest's networks `fast` and `default` by its recipes, in PyTorch, on Fashion-MNIST, and prints one JSON line.

usage: torch_recipe.py --recipe quick|strong --epochs N --data DIR --threads N [--layout eager|channels_last] [--seed N]

The same network, split sizes, augmentation, optimizer, schedule, loss and moving average; the best by val accuracy of weights and average,
measured after every epoch, is written to disk. Images are in memory as one tensor, and a batch is augmented at once, so that PyTorch
does not wait for its loader.
"""

import argparse
import copy
import gzip
import json
import os
import pathlib
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn


def convolution(inputs, outputs):
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Compact(nn.Sequential):
    """`keepbest models show fast` and `default`, for 1x28x28."""

    def __init__(self, *stages):
        layers, inputs = [], 1
        for channels, convolutions in stages:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers.append(convolution(inputs, channels))
                inputs = channels
        super().__init__(*layers, nn.Flatten(), nn.Linear(inputs * 7 * 7, 128), nn.ReLU(inplace=True), nn.Linear(128, 10))


# Network, shift in pixels, probability of erasing.
RECIPES = {
    "quick": (lambda: Compact((24, 1), (48, 1), (64, 1)), 1, 0.0),
    "strong": (lambda: Compact((32, 2), (64, 2), (128, 1)), 2, 0.25),
}
BATCH, RATE, DECAY = 64, 0.05, 0.999


def idx(path):
    data = gzip.open(path).read()
    dims = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return torch.frombuffer(bytearray(data[4 + 4 * len(dims) :]), dtype=torch.uint8).reshape(dims)


def augment(x, shift, erase):
    """Flip, shift and erase, of each image by itself, all images at once."""
    n, _, height, width = x.shape
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.5, x.flip(3), x)
    # What moves in from outside is black before normalisation.
    padded = F.pad(x, [shift] * 4, value=float(augment.black))
    rows = torch.randint(2 * shift + 1, (n, 1)) + torch.arange(height)
    columns = torch.randint(2 * shift + 1, (n, 1)) + torch.arange(width)
    x = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]
    if erase:
        # torchvision's RandomErasing: 2 to 33 % of the area, of ratio 0.3 to 3.3. Boxes that do not fit are cut off.
        area = height * width * torch.empty(n).uniform_(0.02, 0.33)
        ratio = torch.empty(n).uniform_(torch.log(torch.tensor(0.3)).item(), torch.log(torch.tensor(3.3)).item()).exp()
        h = (area * ratio).sqrt().round().clamp(1, height - 1)
        w = (area / ratio).sqrt().round().clamp(1, width - 1)
        top, left = torch.rand(n) * (height - h), torch.rand(n) * (width - w)
        y, z = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
        at = lambda v: v.floor()[:, None, None]  # noqa: E731
        box = (y >= at(top)) & (y < at(top) + h[:, None, None]) & (z >= at(left)) & (z < at(left) + w[:, None, None])
        box &= (torch.rand(n) < erase)[:, None, None]
        x = x.masked_fill(box[:, None], 0.0)
    return x


@torch.inference_mode()
def accuracy(net, images, labels, layout):
    net.eval()
    right = sum(
        (net(x.contiguous(memory_format=layout)).argmax(1) == y).sum().item() for x, y in zip(images.split(64), labels.split(64))
    )
    return right / len(labels)


@torch.no_grad()
def follow(average, net, step):
    share = max(1 - DECAY, 9 / (10 + step))
    for a, b in zip(average.state_dict().values(), net.state_dict().values()):
        if a.is_floating_point():
            a.lerp_(b, share)
        else:
            a.copy_(b)


def save(state, path):
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=list(RECIPES), required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--layout", choices=["eager", "channels_last"], default="channels_last")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="stop after so many steps, to measure the speed")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    layout = torch.channels_last if a.layout == "channels_last" else torch.contiguous_format
    begun = time.perf_counter()

    train, labels = idx(a.data / "train-images-idx3-ubyte.gz"), idx(a.data / "train-labels-idx1-ubyte.gz").long()
    test, test_labels = idx(a.data / "t10k-images-idx3-ubyte.gz"), idx(a.data / "t10k-labels-idx1-ubyte.gz").long()
    mean, std = (train / 255).mean(), (train / 255).std()
    normalise = lambda images: ((images / 255 - mean) / std)[:, None]  # noqa: E731
    order = torch.randperm(len(train))
    val, train_at = order[:6000], order[6000:]
    val_images, val_labels = normalise(train[val]), labels[val]
    images, labels = normalise(train[train_at]), labels[train_at]
    test_images = normalise(test)
    augment.black = -mean / std

    build, shift, erase = RECIPES[a.recipe]
    net = build().to(memory_format=layout)
    average = copy.deepcopy(net)
    # What cannot lose weight by being small: batch norm and biases decay too, as keepbest's SGD and torch's default do.
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=a.epochs * batches, pct_start=0.25, cycle_momentum=False
    )
    folder = pathlib.Path(tempfile.mkdtemp())
    best, step, first = -1.0, 0, None
    for epoch in range(a.epochs):
        net.train()
        for at in torch.randperm(len(images)).split(BATCH):
            x = augment(images[at], shift, erase).contiguous(memory_format=layout)
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(net(x), labels[at], label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            follow(average, net, step)
            if step == 3:
                first = time.perf_counter()
            if step == a.steps:
                rate = BATCH * (step - 3) / (time.perf_counter() - first)
                print(json.dumps({"images_per_second": rate}))
                return
        for candidate in (net, average):
            found = accuracy(candidate, val_images, val_labels, layout)
            if found > best:
                best = found
                save({"net": candidate.state_dict(), "optimizer": optimizer.state_dict()}, folder / "best.pt")
    net.load_state_dict(torch.load(folder / "best.pt")["net"])
    tested = accuracy(net, test_images, test_labels, layout)
    print(json.dumps({"seconds": time.perf_counter() - begun, "val": best, "test": tested, "epochs": a.epochs}))


if __name__ == "__main__":
    main()
