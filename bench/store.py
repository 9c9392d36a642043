#!/usr/bin/env python3
"""Measures how long it takes to keep a resnet18 with its momentum (90 MB) safe, and to get it back, beside the peers.

usage: PYTHON bench/store.py [--rounds N] [--only-raw] [--dir DIR] [--json FILE]

PYTHON needs what interop/requirements.txt names, and lightning, orbax-checkpoint and jax, each left out where it is not
installed. DIR (a new folder under the current one by default) decides which disk is measured.

Every round does each thing once, in another order every round; ratios are taken within a round and told as their median
with the smallest and largest. Figures of different runs must not be mixed: disks drift. With --only-raw there are no peers but the
raw write, and any Python will do: many rounds of these two in turn tell what the scatter of a virtual disk hides.

- durable: until the file is safe under its name. The peers get what they lack: fsync, rename, fsync of the directory (orbax, which
  writes many files, an fsync of each). keepbest also reads back, journals and moves the name `best`.
- raw: keepbest's bytes written from first to last by a plain program, then synced once.
- blocked: how long the training loop stands still.
- load: file to tensors, warm. keepbest verifies every byte.
- first prediction: process start, load, predict one image.
"""

import argparse
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

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "crates/keepbest-nn/tests/golden"))

FIRST_PREDICTION = """
import sys
sys.path.append(sys.argv[1])
import numpy, torch
from PIL import Image
from make_training import cifar_resnet18
net = cifar_resnet18()
net.load_state_dict(torch.load(sys.argv[2], weights_only=True))
net.eval()
image = torch.from_numpy(numpy.asarray(Image.open(sys.argv[3]), dtype=numpy.float32) / 255).permute(2, 0, 1)
with torch.inference_mode():
    print(int(net(image[None]).argmax()))
"""


def build():
    """Builds ours in release mode: the program and the example that this drives."""
    command = ["cargo", "build", "--release", "--locked", "-p", "keepbest", "--bin", "keepbest", "--example", "store_speed"]
    subprocess.run(command, cwd=ROOT, check=True)
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
    return target / "keepbest", target / "examples" / "store_speed"


def sync(path):
    """fsync of a file or directory."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def publish(staged, target):
    """What a careful user adds to a plain save."""
    sync(staged)
    os.replace(staged, target)
    sync(target.parent)


class Ours:
    """The example, kept running."""

    def __init__(self, binary, folder, batch=8):
        self.process = subprocess.Popen([binary, folder, str(batch)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def save(self):
        told = self.ask("save")
        return {"durable": told["durable"], "blocked": told["blocked"]}

    def raw(self):
        return {"durable": self.ask("raw")["raw"]}

    def load(self):
        return {"load": self.ask("load")["load"]}

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def torch_peers(folder):
    """Savers of PyTorch, safetensors, torch.distributed.checkpoint, Lightning; loaders; and the file of the weights."""
    import torch
    from make_training import cifar_resnet18
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    net = cifar_resnet18()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()

    def checkpoint():
        return {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}

    def tensors():
        names = [name for name, _ in net.named_parameters()]
        momentum = {
            f"optimizer.{name}": optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in zip(names, net.parameters())
        }
        return {**net.state_dict(), **momentum}

    def plain(name, save):
        staged, target = folder / f"{name}.staged", folder / name

        def run():
            step()
            begun = time.perf_counter()
            save(staged)
            blocked = time.perf_counter() - begun
            publish(staged, target)
            return {"durable": time.perf_counter() - begun, "blocked": blocked}

        return run

    savers = {
        "torch.save": plain("best.pt", lambda path: torch.save(checkpoint(), path)),
        "safetensors": plain("best.safetensors", lambda path: save_file(tensors(), path)),
    }

    import torch.distributed.checkpoint as dcp

    def distributed():
        step()
        target = folder / "dcp"
        shutil.rmtree(target, ignore_errors=True)
        begun = time.perf_counter()
        future = dcp.async_save(checkpoint(), checkpoint_id=str(target))
        blocked = time.perf_counter() - begun
        future.result()
        for file in target.iterdir():
            sync(file)
        sync(target)
        return {"durable": time.perf_counter() - begun, "blocked": blocked}

    # async_save wants a process group, of one process here.
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    savers["DCP async_save"] = distributed

    try:
        import lightning

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = cifar_resnet18()

            def training_step(self, batch, _):
                loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
                self.log("loss", loss)
                return loss

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)

        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=8)
        trainer = lightning.Trainer(
            max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(Module(), data)
        # What ModelCheckpoint calls when an epoch is the best.
        savers["Lightning"] = plain("best.ckpt", trainer.save_checkpoint)
    except ImportError:
        pass

    step()
    weights = folder / "weights.pth"
    torch.save(net.state_dict(), weights)
    loaders = {
        "torch.load": lambda: torch.load(folder / "best.pt", weights_only=True, mmap=False),
        "safetensors load_file": lambda: load_file(folder / "best.safetensors"),
    }
    return savers, loaders, weights, tensors


def orbax_peer(folder, tensors):
    import orbax.checkpoint as orbax

    arrays = {name: value.detach().numpy().copy() for name, value in tensors().items()}
    target = folder / "orbax"
    checkpointer = orbax.AsyncCheckpointer(orbax.StandardCheckpointHandler())

    def run():
        shutil.rmtree(target, ignore_errors=True)
        for value in arrays.values():
            value += 1  # other bytes each time
        begun = time.perf_counter()
        checkpointer.save(target, args=orbax.args.StandardSave(arrays))
        blocked = time.perf_counter() - begun
        checkpointer.wait_until_finished()
        for path in target.rglob("*"):
            sync(path)
        sync(target)
        return {"durable": time.perf_counter() - begun, "blocked": blocked}

    return run


def timed(command):
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only-raw", action="store_true", help="nothing but saves and raw writes in turn")
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    a = parser.parse_args()
    keepbest, store_speed = build()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-store-", dir=a.dir or pathlib.Path.cwd())).resolve()
    try:
        found = measure(folder, a.rounds, a.only_raw, keepbest, store_speed)
    finally:
        shutil.rmtree(folder)
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n")


def peers_work(folder, keepbest):
    """What the peers do, by kind and name; and our first prediction, of the same weights."""
    savers, loaders, weights, tensors = torch_peers(folder)
    try:
        savers["orbax"] = orbax_peer(folder, tensors)
    except ImportError:
        pass

    from PIL import Image

    Image.effect_noise((32, 32), 90).convert("RGB").save(folder / "image.png")
    model = folder / "model.safetensors"
    subprocess.run(
        [keepbest, "import", weights, "--model", "resnet18", "--to", model], check=True, stdout=subprocess.DEVNULL
    )
    work = {("save", name): run for name, run in savers.items()}

    def load(run):
        def once():
            begun = time.perf_counter()
            kept = run()
            seconds = time.perf_counter() - begun
            del kept
            return {"load": seconds}

        return once

    work |= {("load", name): load(run) for name, run in loaders.items()}
    python = [sys.executable, "-c", FIRST_PREDICTION, str(ROOT / "crates/keepbest-nn/tests/golden"), weights, folder / "image.png"]
    work["first", "keepbest"] = lambda: {"first prediction": timed([keepbest, "predict", model, folder / "image.png"])}
    work["first", "PyTorch"] = lambda: {"first prediction": timed(python)}
    return work


def measure(folder, rounds, only_raw, keepbest, store_speed):
    ours = Ours(store_speed, folder)
    work = {("save", "keepbest"): ours.save, ("save", "raw"): ours.raw}
    if not only_raw:
        work["load", "keepbest"] = ours.load
        work |= peers_work(folder, keepbest)

    times = {}
    # The first round warms up: savers before loaders, since those read what these write.
    for index in range(rounds + 1):
        order = sorted(work, key=lambda key: (key[0] != "save", key)) if index == 0 else list(work)
        turn = index % len(order)
        for key in order[turn:] + order[:turn] if index else order:
            # What the one before left to do, such as discarding the blocks of a replaced file, is not this one's; and a
            # virtual disk that was kept busy is slowed down for a while.
            os.sync()
            time.sleep(1.0 if key[0] == "save" else 0.1)
            if key[0] == "save":
                # Page cache that was given back while the machine slept has to be fetched from its host first.
                work[key]()
            for what, seconds in work[key]().items():
                if index:
                    times.setdefault((what, key[1]), []).append(seconds)
    ours.end()
    return report(times)


# What is measured, the peers (the ratio is to the one with the smallest median), the ratio to reach.
GOALS = [
    ("durable", {"raw"}, 1.10),
    ("durable", {"torch.save", "safetensors", "DCP async_save", "Lightning", "orbax"}, 0.9),
    ("blocked", {"torch.save", "safetensors", "DCP async_save", "Lightning", "orbax"}, 0.01),
    ("load", {"torch.load"}, 0.5),
    ("first prediction", {"PyTorch"}, 0.1),
]


def report(times):
    versions = {}
    for package in ("torch", "safetensors", "lightning", "orbax-checkpoint", "jax"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    found = {"machine": platform.platform(), "versions": versions, "milliseconds": {}, "ratios": []}
    for (what, who), seconds in sorted(times.items()):
        line = {name: round(value * 1e3, 3) for name, value in summary(seconds).items()}
        found["milliseconds"].setdefault(what, {})[who] = line
        print(f"{what:17} {who:22} {line['median']:10.3f} ms  [{line['min']:.3f} to {line['max']:.3f}]")
    for what, peers, goal in GOALS:
        measured = [who for who in peers if (what, who) in times]
        if not measured:
            continue
        best = min(measured, key=lambda who: statistics.median(times[what, who]))
        ratios = summary([ours / theirs for ours, theirs in zip(times[what, "keepbest"], times[what, best])])
        found["ratios"].append({"what": what, "peer": best, "goal": goal, **ratios})
        state = "reached" if ratios["median"] <= goal else "MISSED"
        print(
            f"{what}, keepbest / {best}: {ratios['median']:.4f} [{ratios['min']:.4f} to {ratios['max']:.4f}],"
            f" to reach {goal}: {state}"
        )
    return found


if __name__ == "__main__":
    main()
