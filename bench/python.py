#!/usr/bin/env python3
"""Measures what keeping the best costs a training loop in Python, beside the savers of torch, Lightning and Keras.

usage: PYTHON bench/python.py [--rounds N] [--state resnet50|1gb|frameworks|once]... [--dir DIR] [--json FILE]

PYTHON is one that `interop/environment python` prints, with the wheel of ci/python installed or on PYTHONPATH. DIR (a new folder under the
current one by default) decides which disk is used.

Every round does each thing once, in another order every round, and waits until nothing is written any more before the next; ratios are taken
within a round and told as their median with the smallest and largest.

- resnet50: its weights and buffers with AdamW's state, 307 MB. 1gb: 64 tensors of 16 MiB.
    - stall: how long `Keeper.offer` takes for a new best, to one memcpy of the same bytes into memory that is there, and to the call of
      `torch.distributed.checkpoint.async_save`, which copies too, and `torch.save`, which writes at once.
    - durable: offer and wait, until the best before it is deleted too, to the same bytes written from first to last by a plain program, synced
      once and renamed over those written before.
    - not saved: `Keeper.offer` of an evaluation that is no better, with save_last=False.
    - memory: the most that the process takes beyond what it had, while a best is saved twice, to the bytes saved; in processes of their own.
- frameworks: the same resnet50 in a fit of Lightning and of Keras (torch), each with its own ModelCheckpoint beside keepbest's callback: how long
  each callback takes at the end of a validation with a new best.
- once: `import keepbest` in a fresh process, beyond an empty one; numpy's import is part of it.

Exits 1 when a median misses what is to be reached.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

# Most of each that is to be reached.
REACH = {
    "stall / memcpy": 1.2,
    "stall / dcp async_save": 0.25,
    "stall / Lightning ModelCheckpoint": 0.1,
    "stall / Keras ModelCheckpoint": 0.1,
    "durable / raw write": 1.10,
    # One copy, and some MB that the thread which saves works with.
    "memory / bytes saved": 1.03,
    "not saved, ms": 0.2,
    "import keepbest, ms": 30,
}


def resnet50():
    import torch
    import torchvision

    net = torchvision.models.resnet50()
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.zeros(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return net, optimizer


def one_gb():
    import torch

    return {f"layer{i}.weight": torch.rand(2048, 2048) for i in range(64)}, None


def tensors(model, optimizer):
    """All that is saved, as flat arrays of bytes."""
    import torch

    weights = model if isinstance(model, dict) else model.state_dict()
    found = list(weights.values())
    for state in (optimizer.state_dict()["state"] if optimizer else {}).values():
        found += [value for value in state.values() if isinstance(value, torch.Tensor)]
    return [tensor.contiguous().view(-1).view(torch.uint8).numpy() if tensor.dim() else None for tensor in found if tensor.dim()]


class Clock:
    """Seconds by name and round."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, name):
        start = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)


def in_turn(things, rounds):
    """Does each thing once a round, in another order every round."""
    names = list(things)
    for turn in range(rounds):
        for name in names[turn % len(names):] + names[: turn % len(names)]:
            things[name](turn)
            # What the system still writes is not to be the next one's burden.
            os.sync()


def savers(make, folder, rounds):
    """Seconds of each way to keep one state."""
    import numpy
    import torch
    import torch.distributed.checkpoint as dcp

    import keepbest

    model, optimizer = make()
    weights = model if isinstance(model, dict) else model.state_dict()
    arrays = tensors(model, optimizer)
    size = sum(array.nbytes for array in arrays)
    copies = [numpy.empty_like(array) for array in arrays]
    for source, target in zip(arrays, copies, strict=True):
        numpy.copyto(target, source)
    whole = {"model": weights, "optimizer": optimizer.state_dict() if optimizer else {}}
    state = {"optimizer": optimizer} if optimizer else {}
    clock = Clock()
    keeper = keepbest.Keeper(folder / "run", "val/accuracy")
    quiet = keepbest.Keeper(folder / "quiet", "val/accuracy", save_last=False)
    quiet.offer({"w": torch.zeros(1)} if isinstance(model, dict) else model, {"val/accuracy": 1.0})
    quiet.wait()
    score = iter(range(1, 1_000_000))

    def memcpy(_):
        with clock("memcpy"):
            for source, target in zip(arrays, copies, strict=True):
                numpy.copyto(target, source)

    def ours(_):
        with clock("durable"):
            with clock("stall"):
                assert keeper.offer(model, {"val/accuracy": next(score)}, **state)
            keeper.wait()

    def not_saved(_):
        # Many, since each is short.
        shape = {"w": torch.zeros(1)} if isinstance(model, dict) else model
        with clock("not saved, 100 times"):
            for _ in range(100):
                assert not quiet.offer(shape, {"val/accuracy": 0.5}, **state)

    def raw(_):
        new = folder / "raw.new"
        with clock("raw write"):
            with open(new, "wb", buffering=0) as file:
                for array in arrays:
                    file.write(array)
                os.fsync(file.fileno())
            new.rename(folder / "raw")

    def torch_save(_):
        path = folder / "torch.pt"
        with clock("torch.save"):
            torch.save(whole, path)
        path.unlink()

    def dcp_async(turn):
        path = folder / f"dcp{turn}"
        with clock("dcp async_save"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            future = dcp.async_save(whole, checkpoint_id=path, no_dist=True)
        future.result()
        shutil.rmtree(path)

    things = {f.__name__: f for f in (memcpy, ours, raw, torch_save, dcp_async, not_saved)}
    for thing in things.values():
        thing(-1)
    first = {"first stall, into new memory": clock.seconds["stall"]}
    clock.seconds.clear()
    in_turn(things, rounds)
    best = keeper.close().best
    assert best is not None
    quiet.close()
    keepbest.load(best.path)
    return size, clock.seconds | first


# Prints the bytes saved and the most beyond the start, in bytes; argv: the state, the saver, a folder.
MEMORY = """
import pathlib, re, sys
sys.path.insert(0, {here!r})
import python as bench
import torch, torch.distributed.checkpoint as dcp
import keepbest

def status(key):
    return int(re.search(key + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

state, saver, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
model, optimizer = bench.STATES[state]()
weights = model if isinstance(model, dict) else model.state_dict()
whole = {{"model": weights, "optimizer": optimizer.state_dict() if optimizer else {{}}}}
size = sum(array.nbytes for array in bench.tensors(model, optimizer))
beside = {{"optimizer": optimizer}} if optimizer else {{}}
# What code takes is there before.
keepbest.Keeper, keepbest.load
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
if saver == "keepbest":
    with keepbest.Keeper(folder / "run", "val/accuracy") as keeper:
        for score in range(2):
            assert keeper.offer(model, {{"val/accuracy": score}}, **beside)
else:
    for score in range(2):
        dcp.async_save(whole, checkpoint_id=folder / str(score), no_dist=True).result()
print(size, status("VmHWM") - before)
"""


def memory(state, saver, folder):
    script = MEMORY.format(here=str(pathlib.Path(__file__).resolve().parent))
    command = [sys.executable, "-W", "ignore", "-c", script, state, saver, str(folder)]
    size, peak = map(int, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
    return peak / size


def timed(callback, method, clock, name):
    """Times one hook of a callback; what it writes in the background is waited for."""
    inner = getattr(callback, method)

    def around(*args, **kwargs):
        with clock(name):
            inner(*args, **kwargs)
        keeper = getattr(callback, "keeper", None)
        if keeper is not None:
            keeper.wait()
        os.sync()

    setattr(callback, method, around)
    return callback


def with_lightning(folder, rounds):
    import lightning
    import torch
    import torchvision
    from lightning.pytorch.callbacks import ModelCheckpoint

    from keepbest.lightning import KeepBest

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torchvision.models.resnet50()

        def training_step(self, batch, _):
            return self.net(batch[0]).sum()

        def validation_step(self, batch, _):
            self.log("val/accuracy", float(self.current_epoch))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    clock = Clock()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(2, 3, 64, 64)), batch_size=2)
    # At the end of the validation, as ours, so that one hook is what is timed.
    theirs = ModelCheckpoint(
        folder / "lightning", monitor="val/accuracy", mode="max", save_top_k=1, save_on_train_epoch_end=False
    )
    callbacks = [
        timed(theirs, "on_validation_end", clock, "Lightning ModelCheckpoint"),
        timed(KeepBest(folder / "lightning-keepbest", "val/accuracy"), "on_validation_end", clock, "stall"),
    ]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(max_epochs=rounds + 1, accelerator="cpu", callbacks=callbacks, **quiet)
    trainer.fit(Net(), data, data)
    # The first save allocates.
    return {name: seconds[1:] for name, seconds in clock.seconds.items()}


def with_keras(folder, rounds):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import numpy

    from keepbest.keras import KeepBest

    class Better(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_accuracy"] = float(epoch)

    clock = Clock()
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    model.compile(optimizer=keras.optimizers.AdamW(), loss="sparse_categorical_crossentropy")
    path = folder / "keras.keras"
    theirs = keras.callbacks.ModelCheckpoint(path, monitor="val_accuracy", mode="max", save_best_only=True)
    callbacks = [
        Better(),
        timed(theirs, "on_epoch_end", clock, "Keras ModelCheckpoint"),
        timed(KeepBest(folder / "keras-keepbest", "val_accuracy"), "on_epoch_end", clock, "stall"),
    ]
    images, labels = numpy.zeros((2, 64, 64, 3), "float32"), numpy.zeros(2, "int64")
    model.fit(images, labels, epochs=rounds + 1, verbose=0, callbacks=callbacks)
    return {name: seconds[1:] for name, seconds in clock.seconds.items()}


def starts(rounds):
    """Seconds of `import keepbest` beyond an empty program."""
    clock = Clock()

    def run(name, program):
        def start(_):
            with clock(name):
                subprocess.run([sys.executable, "-c", program], check=True)

        return start

    in_turn({"empty": run("empty", ""), "import": run("import", "import keepbest")}, rounds)
    return [(there - empty) for there, empty in zip(clock.seconds["import"], clock.seconds["empty"], strict=True)]


STATES = {"resnet50": resnet50, "1gb": one_gb}


class Told:
    """Prints figures, and remembers which were missed."""

    def __init__(self):
        self.figures, self.missed = {}, False

    def times(self, seconds, size=None):
        for name, values in seconds.items():
            rate = f", {size / statistics.median(values) / 1e9:.2f} GB/s" if size else ""
            spread = f"({1000 * min(values):,.1f} to {1000 * max(values):,.1f})"
            print(f"  {name:28} {1000 * statistics.median(values):9,.1f} ms {spread}{rate}")

    def ratio(self, what, name, values):
        median = statistics.median(values)
        self.figures[f"{what}: {name}"] = {"median": median, "all": values}
        reach = REACH.get(name)
        told = ""
        if reach is not None:
            self.missed |= median > reach
            told = f", to reach {reach}: {'reached' if median <= reach else 'MISSED'}"
        print(f"  {name:34} {median:.3f} ({min(values):.3f} to {max(values):.3f}){told}", flush=True)


def ratios(seconds, over, under):
    return [a / b for a, b in zip(seconds[over], seconds[under], strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--state", action="append", choices=[*STATES, "frameworks", "once"])
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path.cwd())
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to a file")
    a = parser.parse_args()
    packages = ("torch", "lightning", "keras", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(f"Python {platform.python_version()}, {versions}; {os.cpu_count()} processors", flush=True)
    told = Told()
    wanted = a.state or [*STATES, "frameworks", "once"]
    with tempfile.TemporaryDirectory(dir=a.dir) as made:
        folder = pathlib.Path(made)
        for state in [state for state in STATES if state in wanted]:
            there = folder / state
            there.mkdir()
            size, seconds = savers(STATES[state], there, a.rounds)
            print(f"{state}: {size / 1e6:,.0f} MB")
            told.times(seconds)
            for peer in ("memcpy", "dcp async_save", "torch.save"):
                told.ratio(state, f"stall / {peer}", ratios(seconds, "stall", peer))
            told.ratio(state, "durable / raw write", ratios(seconds, "durable", "raw write"))
            told.ratio(state, "not saved, ms", [10 * each for each in seconds["not saved, 100 times"]])
            told.ratio(state, "memory / bytes saved", [memory(state, "keepbest", there / f"m{i}") for i in range(2)])
            told.ratio(state, "memory of dcp / bytes saved", [memory(state, "dcp", there / f"d{i}") for i in range(2)])
            shutil.rmtree(there)
        if "frameworks" in wanted:
            for name, fit in (("Lightning", with_lightning), ("Keras", with_keras)):
                seconds = fit(folder, a.rounds)
                print(name)
                told.times(seconds)
                told.ratio(name, f"stall / {name} ModelCheckpoint", ratios(seconds, "stall", f"{name} ModelCheckpoint"))
        if "once" in wanted:
            print("once")
            told.ratio("once", "import keepbest, ms", [1000 * each for each in starts(3 * a.rounds)])
    if a.json:
        a.json.write_text(json.dumps(told.figures, indent=1) + "\n")
    sys.exit(told.missed)


if __name__ == "__main__":
    main()
