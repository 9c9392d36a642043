#!/usr/bin/env python3
"""Measures which network reaches the best accuracy within a time, on full Fashion-MNIST: how `fast` and `default` were picked.

usage: bench/networks.py [--time-budget 1m] [--networks simple-cnn,fast,default,...] [--recipe quick|strong] [--seeds N] [--threads N] [--data DIR]

A network is a name of the zoo or a model file. Each is trained by the recipe for as many epochs as fit; prints, for each, epochs, wall time of
the whole process, and accuracy of the best on val, which picks, and on test.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

from store import build


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-budget", default="1m")
    parser.add_argument("--networks", default="lenet5,simple-cnn,fast,default,resnet18")
    parser.add_argument("--recipe", choices=["quick", "strong"], default="quick")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    a = parser.parse_args()
    keepbest = build()[0].resolve()
    print(f"{'network':12} epochs  seconds     val    test", flush=True)
    for network in a.networks.split(","):
        if network.endswith(".toml"):
            network = pathlib.Path(network).resolve()
        found = []
        for seed in range(1, a.seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                command = [keepbest, "train", "--data", a.data, "--recipe", a.recipe, "--time-budget", a.time_budget, "--model", network]
                command += ["--threads", str(a.threads), "--seed", str(seed), "--name", "run", "--quiet", "--json"]
                begun = time.perf_counter()
                ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                if ended.returncode:
                    # Such as a network of which no epoch fits.
                    print(f"{pathlib.Path(network).stem:12} {ended.stderr.splitlines()[0]}", flush=True)
                    break
                told = json.loads(ended.stdout)
                took = time.perf_counter() - begun
                found.append((told["epoch"], took, told["best"]["metrics"]["val/accuracy"], told["test"]["test/accuracy"]))
        else:
            epochs, seconds, val, test = (statistics.mean(column) for column in zip(*found))
            print(f"{pathlib.Path(network).stem:12} {epochs:6.0f} {seconds:8.0f}  {val:.4f}  {test:.4f}", flush=True)


if __name__ == "__main__":
    main()
