#!/usr/bin/env python3
"""Measures which network reaches the best accuracy within a time, on full Fashion-MNIST: how `fast` and `default` were picked.

usage: bench/networks.py [--time-budget 1m] [--networks simple-cnn,fast,default,...] [--recipe quick|strong] [--seeds N] [--rounds N] [--threads N] [--data DIR]

A network is a name of the zoo or a model file. First `train --time-budget` is asked, in several interleaved rounds, how many epochs of each
network fit; the median counts, so that a machine whose speed varies favours none. Each is then trained that long, with several seeds.
Prints, for each, the epochs, wall time of the whole process, and accuracy of the best on val, which picks, and on test; means over the seeds.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

from store import build


def train(keepbest, a, network, *more):
    """A training's result, what it told, and its seconds; None with the first line of its error."""
    with tempfile.TemporaryDirectory() as folder:
        command = [keepbest, "train", "--data", a.data, "--recipe", a.recipe, "--model", network, "--threads", str(a.threads)]
        command += ["--name", "run", "--json", *more]
        begun = time.perf_counter()
        ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        took = time.perf_counter() - begun
    if ended.returncode:
        return None, ended.stderr.splitlines()[0], took
    return json.loads(ended.stdout), ended.stderr, took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-budget", default="1m")
    parser.add_argument("--networks", default="lenet5,simple-cnn,fast,default,resnet18")
    parser.add_argument("--recipe", choices=["quick", "strong"], default="quick")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    a = parser.parse_args()
    keepbest = build()[0].resolve()
    networks = [pathlib.Path(name).resolve() if name.endswith(".toml") else name for name in a.networks.split(",")]
    fitting = {network: [] for network in networks}
    for _ in range(a.rounds):
        for network in networks:
            # It ends after the first step.
            told, words, _ = train(keepbest, a, network, "--time-budget", a.time_budget, "--max-minutes", "0.0001")
            fit = re.search(r"(\d+) epochs? fit", words) if told else None
            fitting[network].append(int(fit[1]) if fit else 0)
    print(f"{'network':14} epochs  seconds     val    test", flush=True)
    for network in networks:
        name, epochs = pathlib.Path(network).stem, int(statistics.median(fitting[network]))
        if epochs == 0:
            print(f"{name:14} no epoch fits", flush=True)
            continue
        found = []
        for seed in range(1, a.seeds + 1):
            told, words, took = train(keepbest, a, network, "--epochs", str(epochs), "--seed", str(seed))
            if told is None:
                raise SystemExit(words)
            found.append((took, told["best"]["metrics"]["val/accuracy"], told["test"]["test/accuracy"]))
        seconds, val, test = (statistics.mean(column) for column in zip(*found))
        print(f"{name:14} {epochs:6} {seconds:8.0f}  {val:.4f}  {test:.4f}", flush=True)


if __name__ == "__main__":
    main()
