"""Keeps the best model of any training loop: complete, verified, durable, without stopping the loop.

>>> import keepbest, numpy, tempfile
>>> run = tempfile.mkdtemp() + "/run"
>>> weights = {"fc.weight": numpy.zeros((10, 4), "float32")}
>>> with keepbest.Keeper(run, monitor="val/accuracy") as keeper:
...     for epoch, accuracy in enumerate([0.81, 0.88, 0.86]):
...         weights["fc.weight"] += 1  # train, then measure
...         verdict = keeper.offer(weights, {"val/accuracy": accuracy}, epoch=epoch)
>>> best = keepbest.load(run)
>>> best.epoch, best.metrics["val/accuracy"], float(best.state_dict()["fc.weight"][0, 0])
(1, 0.88, 2.0)
"""

from keepbest import errors
from keepbest._contents import save
from keepbest._keeper import Best, Keeper, Summary, Verdict
from keepbest._model import Model, load
from keepbest._native import __version__
from keepbest.errors import KeepbestError

__all__ = [
    "Best",
    "KeepbestError",
    "Keeper",
    "Model",
    "Summary",
    "Verdict",
    "__version__",
    "errors",
    "load",
    "save",
]
