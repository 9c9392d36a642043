"""Lightning: a callback that keeps the best, and a ``CheckpointIO`` that makes every checkpoint durable and verified.

>>> trainer = Trainer(callbacks=[KeepBest("runs/a", monitor="val/accuracy")], plugins=[KeepBestIO()])  # doctest: +SKIP
>>> trainer.fit(model)  # doctest: +SKIP
>>> trainer.fit(model, ckpt_path="runs/a/last.safetensors")  # goes on, with KeepBestIO  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch.callbacks import Callback

import keepbest
from keepbest import errors
from keepbest._options import check_goes_on, keeper_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KeepBest", "KeepBestIO"]


class KeepBest(Callback):
    """Keeps the best model of a fit after each validation. Metrics are those that were logged, by their names.

    Args:
        run: The run directory. One that exists is gone on with, by a trainer that does so too (``fit(ckpt_path=...)``).
        monitor: As of :class:`keepbest.Keeper`; so are the further options. ``strict=False`` leaves out hyperparameters that are objects.
    """

    def __init__(self, run: str | os.PathLike[str], monitor: str | Sequence[str], **options: Any) -> None:
        self.run = os.path.abspath(run)
        self._monitor, self._options = monitor, options
        self.keeper: keepbest.Keeper | None = None
        self.summary: keepbest.Summary | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begins the run, or goes on with it."""
        if stage != "fit" or self.keeper is not None:
            return
        self.keeper = keeper_of(self.run, self._monitor, **self._options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Sees that the trainer goes on where the run is."""
        # A further fit with the same callback goes on with the model as it is.
        if self.keeper is not None and self.summary is None and not trainer.fast_dev_run:
            check_goes_on(self.keeper, trainer.global_step, f"fit(ckpt_path={os.path.join(self.run, 'last.safetensors')!r}) with KeepBestIO")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Offers what was validated."""
        if self.keeper is None or trainer.sanity_checking or trainer.fast_dev_run:
            return
        # At the end of a validation, so the metrics are those of these weights.
        self.keeper.offer(
            pl_module,
            dict(trainer.callback_metrics),
            epoch=trainer.current_epoch,
            step=max(trainer.global_step, self.keeper.step),
            lightning=_Beside(trainer),
        )
        if self.keeper.should_stop:
            trainer.should_stop = True

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Ends the run as one to be resumed."""
        if self.keeper is not None:
            self.summary = self.keeper.interrupt()
            self.keeper = None

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Waits for what is being saved."""
        if self.keeper is not None:
            self.summary = self.keeper.close()
            self.keeper = None

    @property
    def best_model_path(self) -> str:
        """The best on disk, as ``ModelCheckpoint`` calls it; empty when there is none."""
        best = self.keeper.best if self.keeper is not None else self.summary.best if self.summary is not None else None
        return best.path if best is not None else ""

    def load_best(self, pl_module: Any = None) -> keepbest.Model:
        """The best, loaded into a module if there is one."""
        if self.keeper is not None:
            return self.keeper.load_best(pl_module)
        best = keepbest.load(self.run)
        if pl_module is not None:
            pl_module.load_state_dict(best.state_dict())
        return best


class KeepBestIO(CheckpointIO):
    """Writes every checkpoint of Lightning as a model file of keepbest: staged, synced, read back, renamed; no pickle. Reads these, and those that
    Lightning wrote itself.

    Args:
        strict: Whether what cannot be stored, such as an object among the hyperparameters, is an error; else it is left out, with a warning.
    """

    def __init__(self, strict: bool = True) -> None:
        self._strict = strict

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint."""
        if storage_options is not None:
            raise TypeError("KeepBestIO writes to the local disk: it takes no storage_options")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        rest = {name: value for name, value in checkpoint.items() if name != "state_dict"}
        keepbest.save(
            path,
            checkpoint["state_dict"],
            epoch=rest.get("epoch", 0),
            step=rest.get("global_step", 0),
            strict=self._strict,
            lightning=rest,
        )

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint, every byte of it verified."""
        if not _is_ours(path):
            import torch

            loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=weights_only is not False)
            return loaded
        model = keepbest.load(path)
        state = model.state()
        if "lightning" not in state:
            raise errors.KeepbestError(f"{os.fspath(path)} holds a model, and nothing that Lightning could go on from")
        return {"state_dict": model.state_dict(), **state["lightning"]}

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint."""
        if os.path.lexists(path):
            os.remove(path)


class _Beside:
    """Everything that a checkpoint of Lightning holds beside the weights, gathered only when it is saved."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        dump = self._trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        return {name: value for name, value in dump.items() if name != "state_dict"}


def _is_ours(path: Any) -> bool:
    """Whether a file begins as safetensors do: the header's length, then JSON. A file of torch begins as a zip archive."""
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{"
