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

:func:`train` is keepbest's own engine; :class:`Keeper` keeps for loops of one's own.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from keepbest import errors
    from keepbest._contents import save
    from keepbest._keeper import Best, Keeper, Summary, Verdict
    from keepbest._model import Model, Predictions, load
    from keepbest._native import __version__
    from keepbest._train import Evaluation, TrainResult, settings, train
    from keepbest.errors import KeepbestError

__all__ = [
    "Best",
    "Evaluation",
    "KeepbestError",
    "Keeper",
    "Model",
    "Predictions",
    "Summary",
    "TrainResult",
    "Verdict",
    "__version__",
    "errors",
    "load",
    "save",
    "settings",
    "train",
]

_FRAMEWORKS = ("accelerate", "ignite", "keras", "lightning", "mlflow", "ray", "torch", "transformers")
# A program that imports keepbest waits for what it uses of it, and no more.
_MODULES = {
    "Best": "_keeper",
    "Evaluation": "_train",
    "KeepbestError": "errors",
    "Keeper": "_keeper",
    "Model": "_model",
    "Predictions": "_model",
    "Summary": "_keeper",
    "TrainResult": "_train",
    "Verdict": "_keeper",
    "__version__": "_native",
    "load": "_model",
    "save": "_contents",
    "settings": "_train",
    "train": "_train",
}


# A type checker is to find names that are not there.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name == "errors" or name in _FRAMEWORKS:
            return import_module(f"keepbest.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module 'keepbest' has no attribute {name!r}")
        value = getattr(import_module(f"keepbest.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
