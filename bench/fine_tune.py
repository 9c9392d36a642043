#!/usr/bin/env python3
"""Measures what fine-tuning gains: 500 handwritten digits, from a model of clothes and from scratch, everything else the same.

usage: PYTHON bench/fine_tune.py [--base MODEL] [--seeds N] [--threads N]

PYTHON needs scikit-learn and Pillow. The digits are scikit-learn's (1,797 of 8x8 pixels), resized to 28x28: 500 to train and choose on, the
rest to test on. MODEL is trained first, on full Fashion-MNIST by the strong recipe in ten minutes, unless it is given. Each seed splits and trains
anew, both ways, by the quick recipe; prints test accuracies and the mean difference with its standard error.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import numpy
from PIL import Image
from sklearn.datasets import load_digits

from store import build

WAYS = {
    "from scratch": ["--model", "default"],
    "fine-tuned": ["--from", "base"],
}


def digits(path, seed):
    """500 digits to train on, the others to test on, of all classes alike."""
    found = load_digits()
    sizes = [numpy.asarray(Image.fromarray((image * 255 / 16).astype(numpy.uint8)).resize((28, 28), Image.BILINEAR)) for image in found.images]
    order = numpy.random.default_rng(seed).permutation(len(sizes))
    images, labels = numpy.stack(sizes)[order], found.target[order].astype(numpy.uint8)
    numpy.savez(path, x_train=images[:500], y_train=labels[:500], x_test=images[500:], y_test=labels[500:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="model to start from")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="Fashion-MNIST, for the base")
    a = parser.parse_args()
    keepbest = build()[0].resolve()
    base = a.base and pathlib.Path(a.base).resolve()
    found = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:

        def train(*arguments):
            command = [keepbest, "train", "--threads", str(a.threads), "--quiet", "--json", *map(str, arguments)]
            return json.loads(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout)

        if base is None:
            train("--data", a.data, "--recipe", "strong", "--time-budget", "10m", "--name", "base")
            base = "base"
        for seed in range(a.seeds):
            digits(pathlib.Path(folder, f"{seed}.npz"), seed)
            for way, (flag, value) in WAYS.items():
                told = train("--data", f"{seed}.npz", "--recipe", "quick", "--seed", seed, flag, base if value == "base" else value)
                found[way].append(told["test"]["test/accuracy"])
    for way, accuracies in found.items():
        print(f"{way:13} {statistics.mean(accuracies):.4f}  ({', '.join(f'{x:.4f}' for x in accuracies)})")
    gains = [tuned - scratch for scratch, tuned in zip(*found.values())]
    error = statistics.stdev(gains) / len(gains) ** 0.5
    print(f"gain          {statistics.mean(gains):+.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
