"""Images that are quickly learnt: which side of a grey square is bright."""

from __future__ import annotations

import numpy

SETTINGS = {"model": "lenet5", "epochs": 2, "batch_size": 16, "image_size": 16, "threads": 1, "progress": False}
"""A run of a few seconds."""


def squares(n: int = 120, seed: int = 0) -> tuple[numpy.ndarray, numpy.ndarray]:
    """``uint8[n, 16, 16]`` and ``int64[n]``."""
    random = numpy.random.default_rng(seed)
    labels = numpy.arange(n) % 2
    images = random.integers(0, 60, (n, 16, 16), dtype=numpy.uint8)
    images[labels == 0, :, :8] += 150
    images[labels == 1, :, 8:] += 150
    return images, labels
