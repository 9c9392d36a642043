"""Every known way to lose the best that was seen in a framework of today: the framework's own saver beside ours, under the same fault.

Each test of a loss asserts it, so that a framework that mends it makes the test fail, and the claim goes.

What cannot be shown, and why:

- A power loss between a rename and what was to be synced cannot be made in a test. Shown is that Lightning asks for no sync at all; that ours
  syncs file, name and directory in the right order is proven by enumerating every system call (keepbest-store's tests).
- Weights that change while an asynchronous save reads them (Lightning, torch.distributed.checkpoint): both copy first in the versions of
  interop/requirements.txt. That ours does is tested in test_keeper.py.
- Lightning's checkpoint of a resume that is deleted (thread #21813): the fit that was resumed spares it in Lightning 2.6. That it does, and that ours
  keeps the best, is tested all the same. Of the `last` link what is left is shown: it leads to nothing after a kill.
- Transformers' rotation that deletes the best (thread #25129): the Trainer of today keeps it apart. That ours keeps it is tested in
  test_transformers.py.
- Ray's retention that deletes the best (thread #32545) works on a cluster's storage and was not tried beside ours; what we report to Ray is tested in
  test_ray_mlflow.py.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import resource
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import keepbest
from keepbest import errors
from keepbest.lightning import KeepBest

os.environ.setdefault("KERAS_BACKEND", "torch")


@contextlib.contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file becomes longer than this: a write beyond it fails, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def failures_are_told() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield told
    assert any(issubclass(warning.category, errors.SaveFailed) for warning in told)


class Sizes:
    """Watches the length of what has a name, from another thread, until it is told to stop."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path, self._stop = os.fspath(path), threading.Event()
        self.seen: set[int] = set()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                self.seen.add(os.stat(self._path).st_size)

    def __enter__(self) -> Sizes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def net(value: float = 0.0, side: int = 300) -> torch.nn.Module:
    layer = torch.nn.Linear(side, side)
    with torch.no_grad():
        layer.weight.fill_(value)
    return layer


# torch


def test_torch_overwrites_in_place_and_a_failed_save_leaves_nothing(tmp_path: pathlib.Path) -> None:
    theirs, ours = tmp_path / "best.pt", tmp_path / "best.safetensors"
    torch.save(net(1).state_dict(), theirs)
    keepbest.save(ours, net(1))
    with full_after(100_000):
        with pytest.raises(Exception):  # noqa: B017, PT011: torch raises a plain RuntimeError
            torch.save(net(2).state_dict(), theirs)
        with pytest.raises(errors.CannotWrite):
            keepbest.save(ours, net(2))
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch.load(theirs)
    assert keepbest.load(ours).state_dict()["weight"][0, 0] == 1


def test_torch_loads_damaged_weights_without_a_word(tmp_path: pathlib.Path, run: str) -> None:
    theirs = tmp_path / "best.pt"
    torch.save(net(1).state_dict(), theirs)
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer(net(1), {"val/accuracy": 0.5})
    ours = keepbest.load(run).path
    for path in (os.fspath(theirs), ours):
        damaged = bytearray(pathlib.Path(path).read_bytes())
        damaged[len(damaged) // 2] ^= 0x40
        os.unlink(path)
        pathlib.Path(path).write_bytes(damaged)
    loaded = torch.load(theirs)
    assert any(not torch.equal(value, net(1).state_dict()[name]) for name, value in loaded.items() if name == "weight")
    with pytest.raises(errors.ModelDamaged):
        keepbest.load(ours)


def test_a_pickle_runs_its_code_and_none_is_ever_loaded_by_ours(tmp_path: pathlib.Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (os.fspath(tmp_path / "ran"),)

    path = tmp_path / "model.pt"
    torch.save(Evil(), path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").is_dir()
    (tmp_path / "ran").rmdir()
    with pytest.raises(errors.KeepbestError):
        keepbest.load(path)
    assert not (tmp_path / "ran").exists()


# Keras


def keras_model(value: float = 0.0) -> Any:
    import keras

    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300, use_bias=False)])
    model.compile(optimizer="sgd", loss="mse")
    set_keras_weight(model, value)
    return model


def set_keras_weight(model: Any, value: float) -> None:
    model.layers[0].set_weights([numpy.full((300, 300), value, "float32")])


def keras_callbacks(model: Any, path: pathlib.Path, run: str) -> tuple[Any, Any]:
    import keras

    from keepbest.keras import KeepBest as OfKeras

    theirs = keras.callbacks.ModelCheckpoint(path, monitor="val_loss", save_best_only=True)
    ours = OfKeras(run, "val_loss")
    for callback in (theirs, ours):
        callback.set_model(model)
    return theirs, ours


def keras_weight(model: Any) -> float:
    return float(model.layers[0].get_weights()[0][0, 0])


def our_keras_weight(run: str) -> float:
    (weight,) = (value for value in keepbest.load(run).state_dict("numpy").values() if value.shape == (300, 300))
    return float(weight[0, 0])


def test_keras_tears_the_old_best_and_has_advanced_its_score(tmp_path: pathlib.Path, run: str) -> None:
    import keras

    model = keras_model(1)
    theirs, ours = keras_callbacks(model, tmp_path / "best.keras", run)
    for callback in (theirs, ours):
        callback.on_epoch_end(0, {"val_loss": 0.5})
    ours.keeper.wait()
    set_keras_weight(model, 2.0)
    with failures_are_told(), full_after(100_000):
        with pytest.raises(Exception):  # noqa: B017, PT011: h5py and zipfile raise what they like
            theirs.on_epoch_end(1, {"val_loss": 0.4})
        ours.on_epoch_end(1, {"val_loss": 0.4})
        ours.keeper.wait()
    with pytest.raises(Exception):  # noqa: B017, PT011
        keras.models.load_model(tmp_path / "best.keras")
    assert our_keras_weight(run) == 1
    # A later model, worse than the one whose save failed and better than any on disk: Keras does not save it, for its score has
    # advanced; ours saves the one that failed.
    assert theirs.best == 0.4
    set_keras_weight(model, 3.0)
    for callback in (theirs, ours):
        callback.on_epoch_end(2, {"val_loss": 0.45})
    ours.on_train_end()
    with pytest.raises(Exception):  # noqa: B017, PT011
        keras.models.load_model(tmp_path / "best.keras")
    assert our_keras_weight(run) == 2 and keepbest.load(run).metrics["val_loss"] == 0.4


def test_keras_never_saves_again_after_a_first_nan(tmp_path: pathlib.Path, run: str) -> None:
    import keras

    model = keras_model(1)
    theirs, ours = keras_callbacks(model, tmp_path / "best.keras", run)
    for epoch, loss in enumerate([math.nan, 0.5]):
        set_keras_weight(model, float(epoch))
        for callback in (theirs, ours):
            callback.on_epoch_end(epoch, {"val_loss": loss})
    ours.on_train_end()
    assert keras_weight(keras.models.load_model(tmp_path / "best.keras")) == 0, "the model of the NaN"
    assert our_keras_weight(run) == 1


def test_keras_overwrites_the_best_when_the_metric_is_missing(tmp_path: pathlib.Path, run: str) -> None:
    import keras

    model = keras_model(0)
    theirs, ours = keras_callbacks(model, tmp_path / "best.keras", run)
    for callback in (theirs, ours):
        callback.on_epoch_end(0, {"val_loss": 0.5})
    set_keras_weight(model, 1.0)
    with pytest.warns(UserWarning, match="val_loss available"):
        theirs.on_epoch_end(1, {"loss": 9.0})
    with pytest.raises(errors.MetricMissing):
        ours.on_epoch_end(1, {"loss": 9.0})
    ours.on_train_end()
    assert keras_weight(keras.models.load_model(tmp_path / "best.keras")) == 1, "nobody knows whether it is better"
    assert our_keras_weight(run) == 0


def test_keras_forgets_the_best_when_it_goes_on(tmp_path: pathlib.Path, run: str) -> None:
    import keras

    model = keras_model(0)
    for start, loss in enumerate([0.5, 0.9]):
        set_keras_weight(model, float(start))
        # As in a new process: a callback of its own.
        theirs, ours = keras_callbacks(model, tmp_path / "best.keras", run)
        for callback in (theirs, ours):
            callback.on_epoch_end(start, {"val_loss": loss})
        ours.on_train_end()
    assert keras_weight(keras.models.load_model(tmp_path / "best.keras")) == 1, "0.9 has replaced 0.5"
    assert our_keras_weight(run) == 0


# Ignite


def ignite_checkpoint(handler: Any, score: list[float], model: torch.nn.Module) -> tuple[Any, Any]:
    from ignite.engine import Engine
    from ignite.handlers import Checkpoint

    engine = Engine(lambda engine, batch: None)
    engine.run([0], max_epochs=1)
    # With our handler the choice is the keeper's.
    n_saved = None if type(handler).__module__.startswith("keepbest") else 1
    return engine, Checkpoint(
        {"model": model}, handler, n_saved=n_saved, score_name="accuracy", score_function=lambda engine: score[0]
    )


def test_ignite_deletes_the_best_before_the_better_one_is_saved(tmp_path: pathlib.Path, run: str) -> None:
    from ignite.handlers import DiskSaver

    from keepbest.ignite import KeepBest as OfIgnite

    model, score = net(1), [0.5]
    handler = OfIgnite(run, "accuracy")
    theirs = ignite_checkpoint(DiskSaver(tmp_path / "ignite", atomic=True), score, model)
    ours = ignite_checkpoint(handler, score, model)
    for engine, checkpoint in (theirs, ours):
        checkpoint(engine)
    handler.keeper.wait()
    assert len(list((tmp_path / "ignite").iterdir())) == 1
    score[0] = 0.9
    with failures_are_told(), full_after(100_000):
        with pytest.raises(Exception):  # noqa: B017, PT011
            theirs[1](theirs[0])
        ours[1](ours[0])
        handler.keeper.wait()
    assert not list((tmp_path / "ignite").iterdir()), "the old best is gone, and no new one is there"
    assert keepbest.load(run).metrics["accuracy"] == 0.5
    assert handler.close().best.score == 0.9  # type: ignore[union-attr]


def test_ignite_keeps_a_first_nan_for_good_and_takes_nan_for_progress(tmp_path: pathlib.Path, run: str) -> None:
    from ignite.engine import Engine
    from ignite.handlers import DiskSaver, EarlyStopping

    from keepbest.ignite import KeepBest as OfIgnite

    score = [math.nan]
    handler = OfIgnite(run, "accuracy", patience=2)
    theirs = ignite_checkpoint(DiskSaver(tmp_path / "ignite"), score, net())
    ours = ignite_checkpoint(handler, score, net())
    trainer = Engine(lambda engine, batch: None)
    stopping = EarlyStopping(2, lambda engine: score[0], trainer)
    for value in (math.nan, 0.5, math.nan, math.nan, math.nan, math.nan):
        score[0] = value
        for engine, checkpoint in (theirs, ours):
            checkpoint(engine)
        stopping(theirs[0])
    (kept,) = (tmp_path / "ignite").iterdir()
    assert "nan" in kept.name
    assert not trainer.should_terminate, "four NaNs in a row were progress"
    assert handler.keeper.should_stop
    assert handler.close().best.score == 0.5  # type: ignore[union-attr]


# Lightning


class Counting(LightningModule):
    """Its one weight is the number of steps behind it; its metric is that weight at the time of the validation."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(size))
        self.scores: list[float] | None = None

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        with torch.no_grad():
            self.weight += 1
        return (0 * self.weight).sum()

    def validation_step(self, batch: Any, _: int) -> None:
        score = self.scores[self.current_epoch] if self.scores else float(self.weight[0])
        self.log("val/score", score)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(module: Counting, epochs: int, tmp: pathlib.Path, callbacks: list[Any], **options: Any) -> Trainer:
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(8, 1)), batch_size=2)
    path = options.pop("ckpt_path", None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=tmp, callbacks=callbacks, **quiet, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        trainer.fit(module, data, data, ckpt_path=path)
    return trainer


def test_lightning_saves_a_step_with_the_metric_of_an_earlier_one(tmp_path: pathlib.Path, run: str) -> None:
    theirs = ModelCheckpoint(tmp_path / "own", monitor="val/score", mode="max", every_n_train_steps=3, save_top_k=1)
    ours = KeepBest(run, "val/score")
    fit(Counting(), 3, tmp_path, [theirs, ours])
    weights = torch.load(theirs.best_model_path, weights_only=False)["state_dict"]["weight"]
    assert float(weights) != float(theirs.best_model_score), "these weights never had this score"
    best = keepbest.load(run)
    assert float(best.state_dict()["weight"]) == best.metrics["val/score"] == 12


def test_lightning_copies_under_the_final_name_across_file_systems(
    tmp_path: pathlib.Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = pathlib.Path("/dev/shm")
    assert elsewhere.stat().st_dev != tmp_path.stat().st_dev, "it takes two file systems"
    monkeypatch.setattr("tempfile.tempdir", os.fspath(elsewhere))
    size = 30_000_000
    path = tmp_path / "own.ckpt"
    module = Counting(size)
    trainer = fit(module, 1, tmp_path, [], enable_checkpointing=False)
    with Sizes(path) as lengths:
        trainer.save_checkpoint(path)
    whole = path.stat().st_size
    assert lengths.seen - {whole}, "a part of a checkpoint had the name of a whole one"
    with Sizes(f"{run}/best.safetensors") as ours, keepbest.Keeper(run, "val/score") as keeper:
        for score in range(3):
            keeper.offer(module, {"val/score": score})
    assert ours.seen and min(ours.seen) > 4 * size, "the name has always been a whole file's"


def test_lightning_asks_for_no_sync(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for name in ("fsync", "fdatasync", "sync"):
        monkeypatch.setattr(os, name, lambda *_, name=name: asked.append(name))
    theirs = ModelCheckpoint(tmp_path / "own", monitor="val/score", mode="max")
    fit(Counting(), 1, tmp_path, [theirs])
    assert theirs.best_model_path and not asked


def test_lightnings_last_leads_to_nothing(tmp_path: pathlib.Path, run: str) -> None:
    module = Counting()
    module.scores = [0.5, 0.9]
    theirs = ModelCheckpoint(tmp_path / "own", monitor="val/score", mode="max", save_top_k=1, save_last="link")
    ours = KeepBest(run, "val/score")
    # The better one is saved and the older deleted, which `last` still leads to; then the process is killed.
    link = ModelCheckpoint._link_checkpoint
    calls = []

    def killed(trainer: Any, filepath: str, linkpath: str) -> None:
        calls.append(linkpath)
        if len(calls) == 2:
            raise KeyboardInterrupt
        link(trainer, filepath, linkpath)

    ModelCheckpoint._link_checkpoint = staticmethod(killed)  # type: ignore[method-assign]
    try:
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            fit(module, 2, tmp_path, [ours, theirs])
    finally:
        ModelCheckpoint._link_checkpoint = staticmethod(link)  # type: ignore[method-assign]
    last = tmp_path / "own" / "last.ckpt"
    assert last.is_symlink() and not last.exists()
    assert keepbest.load(f"{run}@last").epoch == 1


def test_lightning_spares_what_it_was_resumed_from_and_ours_goes_on_with_one_best(tmp_path: pathlib.Path, run: str) -> None:
    def callbacks() -> list[Any]:
        return [ModelCheckpoint(tmp_path / "own", monitor="val/score", mode="max", save_top_k=1), KeepBest(run, "val/score")]

    module = Counting()
    module.scores = [0.1, 0.2, 0.3, 0.4]
    first = callbacks()
    fit(module, 1, tmp_path, first)
    resumed_from = first[0].best_model_path
    second = callbacks()
    fit(module, 2, tmp_path, second, ckpt_path=resumed_from)
    assert os.path.exists(resumed_from)
    assert keepbest.load(run).metrics["val/score"] == pytest.approx(0.2)
