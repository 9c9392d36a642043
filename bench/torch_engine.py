#!/usr/bin/env python3
"""PyTorch as keepbest's engine: against keepbest's own on the CPU, and against the same loop written plainly in PyTorch, in one run.

usage: bench/torch_engine.py [--device torch:cpu] [--what agree,speed,save] [--networks a,b] [--size 32] [--batch 16] [--steps 50]
                             [--compile] [--precision f32|bf16|f16] [--threads N]

Prints one table a question. `agree`: the largest difference of the losses of `--steps` steps, of the gradients of one step and of the answers, between
the device and the CPU engine, of the same weights and batches, with nothing random in the network. `speed`: milliseconds of a step, the median of
rounds that alternate with the plain loop's. `save`: what a snapshot of all weights and the optimizer's state costs the step after which it is taken.
Batch norm over a handful of values is a matter of the last bits: `agree` wants images and batches large enough that the last maps have some.
Needs the Python package with PyTorch. Do not run it while something else uses the machine.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python/tests"))

from engines import Batches, engine, still, tensors  # noqa: E402

from keepbest.torch._build import build_checked  # noqa: E402
from keepbest.torch._device import device_of, placed, processor, software  # noqa: E402

NETWORKS = (
    "lenet5 simple-cnn fast default resnet18-cifar resnet34-cifar resnet50-cifar resnet18-imagenet vgg11_bn vgg16_bn "
    "mobilenet_v2 mobilenet_v3_small efficientnet_b0 densenet121 convnext_tiny"
).split()
CLASSES = 10
SGD = {"type": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


def spec_of(network: str, size: tuple[int, int, int]) -> dict[str, Any]:
    """The network with nothing random in it."""
    return still(json.loads(engine("cpu", network, size, CLASSES).spec()))


def apart(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest difference of two sets of tensors, relative to the largest value of each tensor where that is above 1."""
    differences = [np.abs(found[name] - expected[name]).max() / max(np.abs(expected[name]).max(), 1.0) for name in expected]
    return float(max(differences))


def agree(arguments: argparse.Namespace, network: str, size: tuple[int, int, int]) -> str:
    """One row: losses, gradients, answers."""
    spec, n = spec_of(network, size), arguments.batch
    shared: dict[str, Any] = {"batch_size": n, "threads": arguments.threads}
    devices = ("cpu", arguments.device)
    batches = Batches(size, CLASSES, n)
    images, labels = batches.next()
    one = [engine(device, spec, size, CLASSES, optimizer={"type": "sgd"}, **shared) for device in devices]
    answers = [np.array(each.logits(images, False)) for each in one]
    before = tensors(one[0].snapshot(False)[1])
    for each in one:
        each.step(images, labels, 1.0)
    after = [tensors(each.snapshot(False)[1]) for each in one]
    gradients = [{name: before[name] - values for name, values in each.items()} for each in after]
    both = [engine(device, spec, size, CLASSES, optimizer=SGD, clip_grad_norm=1.0, **shared) for device in devices]
    worst = 0.0
    for _ in range(arguments.steps):
        images, labels = batches.next()
        own, theirs = (each.step(images, labels, arguments.rate)[0] for each in both)
        worst = max(worst, abs(own - theirs))
    predictions = float(np.abs(answers[0] - answers[1]).max() / max(np.abs(answers[0]).max(), 1.0))
    found = apart(gradients[1], gradients[0])
    holds = worst <= 1e-3 and found <= 1e-4 and predictions <= 1e-4
    return f"{network:<20} {worst:10.2e} {found:10.2e} {predictions:10.2e}   {'holds' if holds else 'DIFFERS'}"


class Plain:
    """The loop that a user of PyTorch writes."""

    def __init__(self, arguments: argparse.Namespace, spec: dict[str, Any]) -> None:
        self._device = device_of(arguments.device)
        self._dtype = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}[arguments.precision]
        self._model = placed(build_checked(spec), self._device).train()
        self._forward = torch.compile(self._model) if arguments.compile else self._model
        self._optimizer = torch.optim.SGD(self._model.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=arguments.precision == "f16")

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        images = images.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        labels = labels.to(self._device, non_blocking=True)
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            loss = F.cross_entropy(self._forward(images), labels)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.item()


def speed(arguments: argparse.Namespace, network: str, size: tuple[int, int, int]) -> str:
    """One row: milliseconds of a step of both, and their quotient."""
    spec, n = spec_of(network, size), arguments.batch
    settings = {"precision": arguments.precision, "compile": arguments.compile, "threads": arguments.threads}
    own = engine(arguments.device, spec, size, CLASSES, batch_size=n, optimizer=SGD, **settings)
    plain = Plain(arguments, spec)
    batches = Batches(size, CLASSES, n)
    made = [batches.next() for _ in range(4)]
    pinned = device_of(arguments.device).type == "cuda"
    given = []
    for images, labels in made:
        pixels = torch.frombuffer(bytearray(_bytes(images)), dtype=torch.float32).view(n, size[1], size[2], size[0])
        given.append((pixels.pin_memory() if pinned else pixels, torch.tensor(labels)))
    times: dict[str, list[float]] = {"own": [], "plain": []}
    per_round = 8
    for turn in range(arguments.rounds + 1):
        for who in ("own", "plain") if turn % 2 else ("plain", "own"):
            begun = time.perf_counter()
            for step in range(per_round):
                if who == "own":
                    own.step(*made[step % 4], 0.01, ahead=made[(step + 1) % 4])
                else:
                    plain.step(*given[step % 4])
            # The first round warms up.
            if turn > 0:
                times[who].append((time.perf_counter() - begun) / per_round)
    median = {who: statistics.median(found) for who, found in times.items()}
    quotient = statistics.median(a / b for a, b in zip(times["own"], times["plain"], strict=True))
    rate = n / median["own"]
    return f"{network:<20} {1e3 * median['own']:10.2f} {1e3 * median['plain']:10.2f} {quotient:8.3f} {rate:12.0f}"


def _bytes(arena: Any) -> bytes:
    import ctypes

    return ctypes.string_at(arena.address, len(arena))


def save(arguments: argparse.Namespace, network: str, size: tuple[int, int, int]) -> str:
    """One row: milliseconds of a step, and of a step with a snapshot of everything before it that is still on its way."""
    spec, n = spec_of(network, size), arguments.batch
    own = engine(
        arguments.device, spec, size, CLASSES, batch_size=n, optimizer=SGD, threads=arguments.threads, precision=arguments.precision
    )
    images, labels = Batches(size, CLASSES, n).next()
    times: dict[bool, list[float]] = {False: [], True: []}
    held = None
    for turn in range(4 + 2 * arguments.rounds):
        with_snapshot = turn % 2 == 1
        begun = time.perf_counter()
        if with_snapshot:
            held = own.hold()
        own.step(images, labels, 0.01)
        if turn >= 4:
            times[with_snapshot].append(time.perf_counter() - begun)
        del held
        held = None
    step, saving = (1e3 * statistics.median(times[each]) for each in (False, True))
    return f"{network:<20} {step:10.2f} {saving:10.2f} {saving - step:10.2f}"


HEADS = {
    "agree": f"{'network':<20} {'losses':>10} {'gradients':>10} {'answers':>10}   goal 1e-3, 1e-4, 1e-4",
    "speed": f"{'network':<20} {'ms':>10} {'plain ms':>10} {'quotient':>8} {'images/s':>12}",
    "save": f"{'network':<20} {'ms':>10} {'saving ms':>10} {'stall ms':>10}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="torch:cpu")
    parser.add_argument("--what", default="agree,speed,save")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device = device_of(arguments.device)
    print(f"{software(device)} on {arguments.device} ({processor(device)}), {arguments.precision}{', compiled' if arguments.compile else ''}")
    print(f"batches of {arguments.batch}, images of {arguments.channels}x{arguments.size}x{arguments.size}")
    size = (arguments.channels, arguments.size, arguments.size)
    for what in arguments.what.split(","):
        print(f"\n{what}\n{HEADS[what]}", flush=True)
        for network in arguments.networks.split(","):
            print({"agree": agree, "speed": speed, "save": save}[what](arguments, network, size), flush=True)


if __name__ == "__main__":
    main()
