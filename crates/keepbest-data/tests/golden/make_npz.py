#!/usr/bin/env python3
"""Writes small NumPy archives in the forms that data sets come in.

Pixel i of an array (dense, in the array's own order) is (i * 7 + 3) mod 256; labels go round: 0, 1, 2, 0, ...

- keras.npz: x_train [6, 4, 5] and y_train uint8, x_test [3, 4, 5] and y_test
- medmnist.npz: train, val and test images [n, 4, 5, 3], labels [n, 1] int64
- planes.npz: images [4, 3, 5, 6], labels int32, big-endian
- floats.npz: images of float32, whole levels; objects.npz: labels that are a pickle, which are never read
"""

import argparse
import pathlib

import numpy as np


def pixels(*shape):
    return ((np.arange(np.prod(shape)) * 7 + 3) % 256).astype(np.uint8).reshape(shape)


def labels(n, dtype, shape=(-1,)):
    return (np.arange(n) % 3).astype(dtype).reshape(shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    np.savez(
        out / "keras.npz",
        x_train=pixels(6, 4, 5), y_train=labels(6, np.uint8), x_test=pixels(3, 4, 5), y_test=labels(3, np.uint8),
    )
    np.savez(
        out / "medmnist.npz",
        **{f"{split}_images": pixels(n, 4, 5, 3) for split, n in [("train", 6), ("val", 3), ("test", 3)]},
        **{f"{split}_labels": labels(n, np.int64, (-1, 1)) for split, n in [("train", 6), ("val", 3), ("test", 3)]},
    )
    np.savez(out / "planes.npz", images=pixels(4, 3, 5, 6), labels=labels(4, ">i4"))
    np.savez(out / "floats.npz", images=pixels(4, 5, 6).astype(np.float32), labels=labels(4, np.int64))
    objects = np.empty(4, dtype=object)
    objects[:] = ["cat", "dog", "cat", "dog"]
    np.savez(out / "objects.npz", images=pixels(4, 5, 6), labels=objects)


if __name__ == "__main__":
    main()
