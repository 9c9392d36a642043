"""PyTorch's engine against the CPU's: the same weights and batches give the same losses, gradients, averages and answers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
import torch

from engines import Batches, arena, engine, still, tensors
from keepbest import _native, errors

DEVICES = ("cpu", "torch:cpu")
SMALL = (1, 28, 28)
SGD = {"type": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
NORMED = {
    "version": 2,
    "name": "normed",
    "classes": 4,
    "input": {"channels": 3, "height": 8, "width": 8},
    "layers": [
        {"op": "conv2d", "name": "conv", "out": 8, "kernel": 3, "padding": 1, "bias": False},
        {"op": "batch_norm2d", "name": "bn"},
        {"op": "relu"},
        {"op": "global_avg_pool2d"},
        {"op": "flatten"},
        {"op": "linear", "name": "fc", "out": 4},
    ],
}


def both(network: str | dict[str, Any], size: tuple[int, int, int] = SMALL, classes: int = 10, **settings: Any) -> list[_native.Engine]:
    """The engines of both devices, without anything random."""
    settings = {"batch_size": 16, "threads": 1, **settings}
    probe = engine("cpu", network, size, classes, **settings)
    spec = still(json.loads(probe.spec()))
    return [engine(device, spec, size, classes, **settings) for device in DEVICES]


def weights(of: _native.Engine, averaged: bool = False) -> dict[str, np.ndarray]:
    return tensors(of.snapshot(averaged)[1])


def training(of: _native.Engine, averaged: bool = False) -> dict[str, np.ndarray]:
    return tensors(of.snapshot(averaged)[2])


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        scale = max(float(np.abs(values).max()), 1.0)
        assert np.abs(found[name] - values).max() <= tolerance * scale, name


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("lenet5", {"optimizer": SGD}),
        ("simple-cnn", {"optimizer": {"type": "adamw"}, "loss": {"label_smoothing": 0.1}, "clip_grad_norm": 1.0}),
        ("fast", {"optimizer": {"type": "adam", "weight_decay": 1e-3}, "ema": 0.99, "body_rate": 0.5}),
    ],
)
def test_losses_of_50_steps_are_those_of_the_cpu_engine(network: str, settings: dict[str, Any]) -> None:
    engines = both(network, **settings)
    batches = Batches(SMALL, 10, 16)
    rate = 1e-3 if settings["optimizer"]["type"] != "sgd" else 0.01
    for step in range(50):
        images, labels = batches.next()
        own, theirs = (each.step(images, labels, rate) for each in engines)
        assert theirs[0] == pytest.approx(own[0], abs=1e-3), f"step {step}"
        if own[2] is not None:
            assert theirs[2] == pytest.approx(own[2], rel=1e-2), f"norm at step {step}"
    if settings["optimizer"]["type"] == "sgd":
        # Adam makes whole steps of the noise that is the gradient of a bias before batch norm.
        close(weights(engines[1]), weights(engines[0]), 1e-3)
        close(training(engines[1]), training(engines[0]), 1e-3)
    images, _ = batches.next()
    for averaged in [False, "ema" in settings]:
        answers = [np.array(each.logits(images, averaged)) for each in engines]
        assert np.abs(answers[1] - answers[0]).max() < 1e-3 * max(1.0, np.abs(answers[0]).max())


@pytest.mark.parametrize("network", ["lenet5", "simple-cnn", "fast", "mobilenet_v3_small"])
def test_gradients_and_predictions_are_those_of_the_cpu_engine(network: str) -> None:
    engines = both(network, size=(3, 32, 32), optimizer={"type": "sgd"}, batch_size=8)
    batches = Batches((3, 32, 32), 10, 8)
    images, labels = batches.next()
    answers = [np.array(each.logits(images, False)) for each in engines]
    assert np.abs(answers[1] - answers[0]).max() < 1e-4
    before = weights(engines[0])
    close(weights(engines[1]), before, 0.0)
    for each in engines:
        each.step(images, labels, 1.0)
    after = [weights(each) for each in engines]
    gradients = [{name: before[name] - values for name, values in each.items()} for each in after]
    close(gradients[1], gradients[0], 1e-4)


@pytest.mark.parametrize("kind", ["class weights", "mixed", "mixed with class weights"])
def test_the_criterion_is_that_of_the_cpu_engine(kind: str) -> None:
    given = {"class_weights": [0.5, 2.0, 0.0, 1.5]} if "class weights" in kind else {}
    loss = {"label_smoothing": 0.1, **given}
    engines = both(NORMED, optimizer={"type": "sgd"}, loss=loss)
    random = np.random.RandomState(1)
    images = arena(random.standard_normal((6, 8, 8, 3)).astype(np.float32))
    labels, others = [0, 1, 2, 3, 0, 1], [1, 1, 3, 0, 2, 2]
    mixed = (others, [0.9, 0.2, 0.5, 1.0, 0.0, 0.7]) if "mixed" in kind else None
    own, theirs = (each.step(images, labels, 1.0, mixed) for each in engines)
    assert theirs[0] == pytest.approx(own[0], abs=1e-5) and theirs[1] == own[1]
    close(weights(engines[1]), weights(engines[0]), 1e-4)


def test_what_is_frozen_stays() -> None:
    engines = both(NORMED, optimizer=SGD, freeze=["conv.*", "bn.*"], body_rate=0.0 or 0.5)
    start = weights(engines[1])
    batches = Batches((3, 8, 8), 4, 8)
    for _ in range(3):
        images, labels = batches.next()
        own, theirs = (each.step(images, labels, 0.1) for each in engines)
        assert theirs[0] == pytest.approx(own[0], abs=1e-5)
    end = weights(engines[1])
    assert {name for name, values in end.items() if np.array_equal(values, start[name])} == set(end) - {"fc.weight", "fc.bias"}
    close(training(engines[1]), training(engines[0]), 1e-5)
    engines = both(NORMED, optimizer=SGD, freeze_statistics=True)
    images, labels = batches.next()
    for each in engines:
        each.step(images, labels, 0.1)
    close(weights(engines[1]), weights(engines[0]), 1e-5)


def test_swa_and_statistics_measured_anew_are_those_of_the_cpu_engine() -> None:
    engines = both(NORMED, optimizer=SGD, swa=True)
    batches = Batches((3, 8, 8), 4, 8)
    for taken in range(3):
        images, labels = batches.next()
        for each in engines:
            each.step(images, labels, 0.1)
            each.average_weights(taken)
    for seen in range(2):
        images, _ = batches.next()
        for each in engines:
            each.measure_statistics(True, images, seen)
    close(weights(engines[1], True), weights(engines[0], True), 1e-5)
    close(weights(engines[1]), weights(engines[0]), 1e-5)
    close(training(engines[1], True), training(engines[0], True), 1e-5)


@pytest.mark.parametrize("optimizer", [SGD, {"type": "adam"}, {"type": "adamw"}])
@pytest.mark.parametrize("averaged", [False, True])
def test_either_engine_goes_on_where_the_other_was(optimizer: dict[str, Any], averaged: bool) -> None:
    batches = Batches((3, 8, 8), 4, 8)
    settings: dict[str, Any] = {"optimizer": optimizer, "ema": 0.9}
    # Each goes on alone, and each where the other was: all four are at the same place in the end.
    engines, others = both(NORMED, **settings), both(NORMED, seed=7, **settings)
    for step in range(6):
        if step == 3:
            for other, own in zip(others, reversed(engines), strict=True):
                other.restore_from(own, averaged)
        images, labels = batches.next()
        for each in [*engines, *(others if step >= 3 else [])]:
            each.step(images, labels, 0.01)
    for other in [engines[1], *others]:
        close(weights(other), weights(engines[0]), 1e-5)
        close(training(other), training(engines[0]), 1e-5)


def test_it_holds_the_contract_of_an_engine() -> None:
    dropping = json.loads(json.dumps(NORMED))
    dropping["layers"].insert(4, {"op": "dropout", "p": 0.5})
    made = [engine("torch:cpu", dropping, (3, 8, 8), 4, batch_size=8, seed=seed, optimizer=SGD) for seed in (1, 1)]
    batches = Batches((3, 8, 8), 4, 8)
    images, labels = batches.next()
    made[0].step(images, labels, 0.1)
    kept = made[0].snapshot(False)
    before = {name: values.copy() for name, values in tensors(kept[1]).items()}
    made[1].restore_from(made[0], False)
    # With dropout, too, whatever PyTorch has drawn in between.
    second = made[0].step(images, labels, 0.1)
    torch.rand(3)
    assert made[1].step(images, labels, 0.1) == second
    close(weights(made[1]), weights(made[0]), 0.0)
    # A snapshot never changes, and its memory is not used again before it is let go.
    for _ in range(3):
        made[0].step(images, labels, 0.1)
        made[0].snapshot(False)
    close(tensors(kept[1]), before, 0.0)
    assert kept[0] == 1
    # What is wrong is named, and changes nothing.
    now = {name: values.copy() for name, values in weights(made[0]).items()}
    with pytest.raises(errors.TrainingFailed, match="label 7 of image 0"):
        made[0].step(images, [7] * 8, 0.1)
    with pytest.raises(errors.TrainingFailed, match="loss became"):
        made[0].step(arena(np.full((8, 8, 8, 3), np.nan, np.float32)), labels, 0.1)
    close(weights(made[0]), now, 0.0)
    assert made[0].about()[0] == "torch:cpu" and made[0].about()[3] == "same machine"


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_half_precision_learns_and_goes_on(precision: str) -> None:
    settings: dict[str, Any] = {"precision": precision, "optimizer": SGD, "clip_grad_norm": 5.0}
    own = engine("torch:cpu", NORMED, (3, 8, 8), 4, batch_size=8, **settings)
    batches = Batches((3, 8, 8), 4, 8)
    losses = [own.step(*batches.next(), 0.1)[0] for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5]), losses
    other = engine("torch:cpu", NORMED, (3, 8, 8), 4, batch_size=8, seed=5, **settings)
    other.restore_from(own, False)
    images, labels = batches.next()
    assert other.step(images, labels, 0.1) == own.step(images, labels, 0.1)
    assert ("scaler.scale" in training(own)) == (precision == "f16")


def test_a_scale_that_is_too_large_costs_a_step_and_no_more() -> None:
    flat = {**NORMED, "layers": [{"op": "flatten"}, {"op": "linear", "name": "fc", "out": 4}]}
    own = engine("torch:cpu", flat, (3, 8, 8), 4, batch_size=8, precision="f16", optimizer=SGD)
    images, labels = Batches((3, 8, 8), 4, 8).next()
    huge = arena(np.random.RandomState(0).uniform(500.0, 1000.0, (8, 8, 8, 3)).astype(np.float32))
    before = weights(own)["fc.weight"].copy()
    # 2^16 times a gradient of some hundreds is beyond 65,504.
    own.step(huge, labels, 1e-6)
    state = training(own)
    assert state["scaler.counts"].tolist() == [0, 1] and state["scaler.scale"].tolist() == [2.0**15]
    assert np.array_equal(weights(own)["fc.weight"], before)
    own.step(images, labels, 0.1)
    assert training(own)["scaler.counts"].tolist() == [1, 1]
    assert not np.array_equal(weights(own)["fc.weight"], before)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:77", "nothing computes on cuda:77 here: "),
        ("mps", "nothing computes on mps here: "),
        ("gpu", "no engine of this build computes on gpu"),
    ],
)
def test_a_device_that_is_not_there_is_named(device: str, words: str) -> None:
    with pytest.raises(errors.InvalidOption, match=words):
        engine(device, "lenet5", SMALL, 10)


def engine_on(device: str, optimizer: dict[str, Any], **config: Any) -> Any:
    """The Python half of an engine, on a device of PyTorch's that keepbest does not offer."""
    from keepbest.torch._build import build_checked
    from keepbest.torch._engine import Engine

    spec = json.loads(engine("cpu", NORMED, (3, 8, 8), 4).spec())
    names = list(build_checked(spec).state_dict())
    places = [[name, 0] for name in names]
    told = {
        "device": "torch:cpu",
        "layout": {"bytes": 8, "weights": places, "slots": [], "averages": [], "scaler": []},
        "rates": [1.0] * len(names),
        "batch_size": 4,
        "threads": None,
        "precision": "f32",
        "seed": 0,
        "optimizer": optimizer,
        "loss": {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 1.0, 0.5]},
        "clip_grad_norm": None,
        "averaging": None,
        "compile": False,
        "deterministic": True,
        "ranks": 1,
        **config,
    }
    return Engine(json.dumps(spec), json.dumps(told), torch.device(device))


@pytest.mark.parametrize(
    ("optimizer", "config"),
    [
        ({"type": "sgd", "momentum": 0.9, "dampening": 0.0, "nesterov": True, "weight_decay": 1e-4}, {"averaging": {"ema": 0.9}}),
        ({"type": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}, {"clip_grad_norm": 1.0}),
        ({"type": "sgd", "momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}, {"precision": "f16"}),
    ],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_step_never_comes_back_from_the_device_but_to_tell_its_loss(
    optimizer: dict[str, Any], config: dict[str, Any], mixed: bool
) -> None:
    # A tensor of the meta device has no values: whatever reads one, by item(), cpu() or a condition, raises.
    own = engine_on("meta", optimizer, **config)
    images = np.zeros((4, 8, 8, 3), np.float32)
    labels, shares = np.arange(4, dtype=np.uint32), np.full(4, 0.5)
    at = labels.ctypes.data
    batch = (images.ctypes.data, 4, at, (at, shares.ctypes.data) if mixed else None)
    read = []

    def told(values: torch.Tensor) -> list[float]:
        assert values.device.type == "meta"
        read.append(values)
        return [0.5, 1.0, 4.0, 1.0][: len(values)]

    own._read = told
    own._autocast = contextlib.nullcontext  # which knows no meta device
    for _ in range(3):
        assert own.step(batch, 0.1, 0.5, None)[4]
    assert len(read) == 3
    # The check itself: a criterion that looks at a value is found.
    criterion = own._criterion
    own._criterion = lambda logits, taken: (logits.max().item(), criterion(logits, taken))[1]
    with pytest.raises((RuntimeError, NotImplementedError)):
        own.step(batch, 0.1, 0.5, None)
