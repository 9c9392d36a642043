#!/usr/bin/env python3
"""Measures what `keepbest train --recipe` reaches in a time, and how long PyTorch takes for the same.

usage: bench/recipes.py [--recipe quick|strong] [--time-budget TIME] [--rounds N] [--torch PYTHON] [--data DIR] [--seed N]

Each round trains Fashion-MNIST (the full set) with the time budget, then, with --torch, the same network by the same recipe for as many
epochs in PyTorch (`torch_recipe.py`), with whichever of its two memory layouts takes steps faster here. Prints wall time of the whole
process, test accuracy of the best by val, and the ratio of the times.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from store import build

HERE = pathlib.Path(__file__).resolve().parent
# As in engine.py: PyTorch is told to keep its memory.
TUNED = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184"}


def ours(keepbest, a):
    with tempfile.TemporaryDirectory() as folder:
        command = [keepbest, "train", "--data", a.data, "--recipe", a.recipe, "--time-budget", a.time_budget]
        command += ["--threads", str(a.threads), "--seed", str(a.seed), "--name", "run", "--quiet", "--json", *a.arguments]
        begun = time.perf_counter()
        told = json.loads(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "epochs": told["epoch"], "test": told["test"]["test/accuracy"]}


def torch(a, layout, epochs, *more):
    command = [a.torch, HERE / "torch_recipe.py", "--recipe", a.recipe, "--epochs", str(epochs), "--data", a.data]
    command += ["--threads", str(a.threads), "--layout", layout, "--seed", str(a.seed), *more]
    begun = time.perf_counter()
    told = json.loads(subprocess.run(command, env=TUNED, check=True, stdout=subprocess.PIPE).stdout)
    return {**told, "seconds": time.perf_counter() - begun}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=["quick", "strong"], default="quick")
    parser.add_argument("--time-budget", default="5m")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--torch", type=pathlib.Path, help="a Python with PyTorch")
    parser.add_argument("arguments", nargs="*", help="more for `keepbest train`, after --")
    a = parser.parse_args()
    keepbest = build()[0].resolve()
    layout = None
    if a.torch:
        speed = {of: torch(a, of, 1, "--steps", "200")["images_per_second"] for of in ("eager", "channels_last")}
        layout = max(speed, key=speed.get)
        print("PyTorch, images/s: " + ", ".join(f"{of} {rate:.0f}" for of, rate in speed.items()))
    ratios = []
    for _ in range(a.rounds):
        found = ours(keepbest, a)
        print(f"keepbest {found['seconds']:.0f} s, {found['epochs']} epochs, test accuracy {found['test']:.4f}", flush=True)
        if layout:
            peer = torch(a, layout, found["epochs"])
            ratios.append(found["seconds"] / peer["seconds"])
            print(f"PyTorch  {peer['seconds']:.0f} s, {peer['epochs']} epochs, test accuracy {peer['test']:.4f}; ratio {ratios[-1]:.2f}", flush=True)
    if len(ratios) > 1:
        print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
