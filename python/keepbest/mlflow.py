"""MLflow: the best of a run as a logged artifact, with its digest and exactly its metrics.

>>> with mlflow.start_run():  # doctest: +SKIP
...     log_best(keeper)
"""

from __future__ import annotations

import os

import mlflow

import keepbest

__all__ = ["log_best"]


def log_best(run: keepbest.Keeper | str | os.PathLike[str], artifact_path: str = "best") -> keepbest.Model:
    """Logs the best of a run to the active run of MLflow: the model file below ``artifact_path``, its metrics at its step, and the tags
    ``keepbest.digest``, ``keepbest.epoch`` and ``keepbest.run``. What is logged was verified byte by byte just before.

    Args:
        run: The keeper, or the run directory of one that is closed.

    Raises:
        ModelMissing: There is no best yet.
    """
    if isinstance(run, keepbest.Keeper):
        best, path = run.load_best(), run.path
    else:
        best, path = keepbest.load(run), os.fspath(run)
    step = best.step or 0
    mlflow.log_metrics({f"best.{name}": value for name, value in best.metrics.items()}, step=step)
    mlflow.set_tags({"keepbest.digest": best.digest, "keepbest.epoch": str(best.epoch), "keepbest.run": path})
    mlflow.log_artifact(best.path, artifact_path)
    return best
