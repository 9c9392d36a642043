"""Lightning: the callback, the CheckpointIO, and where Lightning's own saver fails."""

from __future__ import annotations

import math
import os
import pathlib
import warnings

import pytest

import torch  # noqa: E402
from lightning.pytorch import LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

import keepbest  # noqa: E402
from keepbest import errors  # noqa: E402
from keepbest.lightning import KeepBest, KeepBestIO  # noqa: E402


class Module(LightningModule):
    """Learns; its accuracy is what the test says for each epoch."""

    def __init__(self, accuracies: list[float]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.accuracies = accuracies
        self.layer = torch.nn.Linear(4, 2)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        self.log("val/accuracy", self.accuracies[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def fit(module: Module, epochs: int, tmp: pathlib.Path, callbacks: list[object], ckpt_path: str | None = None, plugins: list[object] | None = None) -> Trainer:
    torch.manual_seed(0)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 4)), batch_size=4)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        default_root_dir=tmp,
        callbacks=callbacks,
        plugins=plugins or [],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        trainer.fit(module, data, data, ckpt_path=ckpt_path)
    return trainer


def test_the_best_of_a_fit_with_the_metrics_of_its_epoch(run: str, tmp_path: pathlib.Path) -> None:
    module = Module([0.5, 0.9, 0.7])
    callback = KeepBest(run, "val/accuracy")
    fit(module, 3, tmp_path, [callback])
    best = keepbest.load(run)
    assert best.epoch == 1 and best.metrics["val/accuracy"] == pytest.approx(0.9)
    assert callback.best_model_path == best.path
    other = Module([])
    callback.load_best(other)
    assert torch.equal(other.layer.weight, best.state_dict()["layer.weight"])


def test_a_nan_is_never_best_where_lightning_keeps_it(run: str, tmp_path: pathlib.Path) -> None:
    accuracies = [0.5, math.nan, 0.4]
    own = ModelCheckpoint(tmp_path / "own", monitor="val/accuracy", mode="max", save_top_k=1)
    ours = KeepBest(run, "val/accuracy")
    fit(Module(accuracies), 3, tmp_path, [own, ours])
    assert keepbest.load(run).metrics["val/accuracy"] == 0.5


def test_it_stops_and_goes_on_with_the_same_run(run: str, tmp_path: pathlib.Path) -> None:
    undisturbed = Module([0.1, 0.2, 0.3, 0.4])
    fit(undisturbed, 4, tmp_path, [KeepBest(run + "-undisturbed", "val/accuracy")])
    first = Module([0.1, 0.2, 0.3, 0.4])
    fit(first, 2, tmp_path, [KeepBest(run, "val/accuracy")])
    second = Module([0.1, 0.2, 0.3, 0.4])
    fit(second, 4, tmp_path, [KeepBest(run, "val/accuracy")], ckpt_path=f"{run}/last.safetensors", plugins=[KeepBestIO()])
    assert torch.equal(second.layer.weight, undisturbed.layer.weight)
    assert keepbest.load(run).epoch == 3
    assert len(keepbest.load(f"{run}@last").history) >= 3


def test_patience_stops_the_trainer(run: str, tmp_path: pathlib.Path) -> None:
    trainer = fit(Module([0.5, 0.4, 0.3, 0.2, 0.1]), 5, tmp_path, [KeepBest(run, "val/accuracy", patience=2)])
    assert trainer.current_epoch < 5


def test_every_checkpoint_of_lightning_is_durable_and_without_code(tmp_path: pathlib.Path) -> None:
    own = ModelCheckpoint(tmp_path / "own", monitor="val/accuracy", mode="max", save_last=True, filename="best")
    fit(Module([0.5, 0.9]), 2, tmp_path, [own], plugins=[KeepBestIO()])
    model = keepbest.load(own.best_model_path)
    model.verify()
    again = Module([0.5, 0.9, 0.95])
    fit(again, 3, tmp_path, [], ckpt_path=str(tmp_path / "own" / "last.ckpt"), plugins=[KeepBestIO()])
    # A bit that turned is found, where Lightning's own file would be loaded without a word.
    raw = bytearray(pathlib.Path(own.best_model_path).read_bytes())
    raw[-3] ^= 1
    pathlib.Path(own.best_model_path).write_bytes(raw)
    with pytest.raises(errors.ModelDamaged):
        fit(again, 4, tmp_path, [], ckpt_path=own.best_model_path, plugins=[KeepBestIO()])


def test_checkpoints_that_lightning_wrote_are_read_too(tmp_path: pathlib.Path) -> None:
    own = ModelCheckpoint(tmp_path / "own", save_last=True)
    fit(Module([0.5, 0.9]), 2, tmp_path, [own])
    fit(Module([0.5, 0.9, 1.0]), 3, tmp_path, [], ckpt_path=str(tmp_path / "own" / "last.ckpt"), plugins=[KeepBestIO()])


def test_an_exception_in_the_fit_leaves_a_run_to_resume(run: str, tmp_path: pathlib.Path) -> None:
    class Breaks(Module):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                raise RuntimeError("cable")

    with pytest.raises(RuntimeError, match="cable"):
        fit(Breaks([0.1, 0.2, 0.3]), 3, tmp_path, [KeepBest(run, "val/accuracy")])
    assert keepbest.load(run).epoch == 1
    keepbest.Keeper.resume(run).close()


def test_a_metric_that_is_not_logged_is_named(run: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.MetricMissing, match="val/accuracy"):
        fit(Module([0.1]), 1, tmp_path, [KeepBest(run, "val/f1")])
    assert not os.path.exists(f"{run}/best.safetensors")


def test_a_script_that_is_run_again_does_not_mix_two_trainings(run: str, tmp_path: pathlib.Path) -> None:
    fit(Module([0.5, 0.8]), 2, tmp_path, [KeepBest(run, "val/accuracy")])
    with pytest.raises(errors.RunExists, match="ckpt_path"):
        fit(Module([0.9]), 1, tmp_path, [KeepBest(run, "val/accuracy")])
    with pytest.raises(errors.ObjectiveDiffers, match="val/loss"):
        fit(Module([0.9]), 1, tmp_path, [KeepBest(run, "val/loss")])
    assert keepbest.load(run).metrics["val/accuracy"] == pytest.approx(0.8)
