"""Ray Train: reports a new best as a checkpoint of Ray.

>>> verdict = keeper.offer(model, metrics, epoch=epoch)  # doctest: +SKIP
>>> report(keeper, verdict, metrics)  # doctest: +SKIP
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import ray.train

import keepbest

__all__ = ["report"]


def report(keeper: keepbest.Keeper, verdict: keepbest.Verdict, metrics: Mapping[str, Any]) -> None:
    """``ray.train.report`` with the best's file as the checkpoint when the verdict is that it is new, and without one otherwise. To be called by every
    worker. Ray copies the file to its storage; it is on the local disk, verified, before that begins."""
    numbers = {name: float(value) for name, value in metrics.items()}
    if not verdict:
        ray.train.report(numbers)
        return
    keeper.wait()
    best = keeper.best
    with tempfile.TemporaryDirectory(dir=os.path.dirname(keeper.path)) as folder:
        checkpoint = None
        if best is not None and ray.train.get_context().get_world_rank() == 0:
            target = os.path.join(folder, "best.safetensors")
            try:
                os.link(best.path, target)
            except OSError:  # a file system without hard links
                shutil.copyfile(best.path, target)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(numbers, checkpoint=checkpoint)
