"""What other people's programs do to a keeper: none of it may lose a best, hang, or go by in silence."""

from __future__ import annotations

import array
import ctypes
import os
import pathlib
import pickle
import subprocess
import sys

import numpy
import pytest
import torch

import keepbest
from keepbest import errors


def test_a_program_that_changes_its_directory_stays_in_its_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    keepers = []
    for folder, accuracy in (("a", 0.9), ("b", 0.1)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        keeper = keepbest.Keeper("run", "accuracy")
        keeper.offer(model, {"accuracy": accuracy})
        keeper.wait()
        keepers.append(keeper)
    keepers[0].offer(model, {"accuracy": 0.95})
    summaries = [keeper.close() for keeper in keepers]
    monkeypatch.chdir(tmp_path)
    assert keepbest.load("a/run").metrics["accuracy"] == 0.95 and keepbest.load("b/run").metrics["accuracy"] == 0.1
    best = keepbest.load("a/run")
    monkeypatch.chdir("/")
    best.verify()
    assert summaries[0].best is not None and os.path.isabs(summaries[0].best.path) and os.path.isabs(str(summaries[0].last))
    for made in (tmp_path / "a/run", tmp_path / "b/run"):
        keepbest.Keeper.resume(made).close()


@pytest.mark.parametrize(
    ("monitor", "better"),
    [("neg_mean_squared_error", -1.0), ("val/neg_log_loss", -1.0), ("loss_scale_accuracy", -1.0), ("val/iou_loss", -3.0)],
)
def test_the_last_word_of_a_name_and_neg_decide(run: str, monitor: str, better: float) -> None:
    with keepbest.Keeper(run, monitor) as keeper:
        for value in (-3.0, -1.0, -2.0):
            keeper.offer({"w": numpy.zeros(2)}, {monitor: value})
    assert keeper.best is not None and keeper.best.score == better


def test_a_name_that_contradicts_itself_is_asked_about(run: str) -> None:
    with pytest.raises(errors.InvalidObjective, match="neg_accuracy"):
        keepbest.Keeper(run, "neg_accuracy")


def test_every_second_epoch_without_saying_epochs(run: str) -> None:
    with keepbest.Keeper(run, "acc", every_n_epochs=2) as keeper:
        kinds = [keeper.offer({"w": numpy.zeros(2)}, {"acc": 0.1 * i}).kind for i in range(6)]
    assert kinds == ["skipped", "improved"] * 3
    assert keeper.best is not None and keeper.best.epoch == 5


class Versioned(torch.nn.Module):
    """A module whose weights of old were ten times smaller, as torch's documentation says how to tell."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):  # type: ignore[no-untyped-def]
        if (local_metadata.get("version") or 1) < 2:
            state_dict[prefix + "w"] = state_dict[prefix + "w"] * 10
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


@pytest.mark.parametrize("alone", [False, True])
def test_the_versions_of_modules_come_back(run: str, alone: bool) -> None:
    model = torch.nn.Sequential(Versioned(), torch.nn.BatchNorm1d(3))
    with keepbest.Keeper(run, "acc", save_weights_only=alone) as keeper:
        keeper.offer(model, {"acc": 1}, ema=model)
    keepbest.Keeper.resume(run, model=model, ema=model).close()
    assert torch.equal(model[0].w.data, torch.ones(3))
    keeper.load_best(model)
    assert torch.equal(model[0].w.data, torch.ones(3))


@pytest.mark.parametrize("name", ["python", "rng"])
def test_names_that_are_keepbests_own_are_refused(run: str, name: str) -> None:
    with keepbest.Keeper(run, "acc") as keeper:
        with pytest.raises(errors.InvalidOption, match=name):
            keeper.offer({"w": numpy.zeros(2)}, {"acc": 1}, **{name: torch.arange(3.0)})
        keeper.offer({"w": numpy.zeros(2)}, {"acc": 1})


def test_a_point_saved_in_the_first_epoch_is_of_none(run: str) -> None:
    with keepbest.Keeper(run, "acc") as keeper:
        keeper.save_last({"w": numpy.zeros(2)}, step=3)
    resumed = keepbest.Keeper.resume(run)
    assert resumed.next_epoch == 0 and resumed.step == 3
    resumed.close()


def test_a_tensor_whose_memory_was_given_back_is_named(run: str) -> None:
    model = torch.nn.Linear(4, 4)
    model.weight.untyped_storage().resize_(0)
    with keepbest.Keeper(run, "acc") as keeper, pytest.raises(errors.CannotStore, match=r"weight .*given back"):
        keeper.offer(model, {"acc": 1})


def test_what_has_no_place_is_named(run: str) -> None:
    state = {"w": torch.zeros(2)}
    with keepbest.Keeper(run, "acc") as keeper:
        for where, value, why in [
            ("mask", numpy.ma.array([1.0, 2.0], mask=[0, 1]), "mask would be lost"),
            ("lazy", torch.nn.LazyLinear(3), "no shape before"),
            ("text", "\ud800", "no text"),
            ("nets", {"G": torch.nn.Linear(1, 1)}, r"state_dict\(\)"),
            ("q", torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8), "quantized"),
        ]:
            with pytest.raises(errors.CannotStore, match=why) as raised:
                keeper.offer(state, {"acc": 1}, **{where: value})
            assert str(raised.value).startswith(where), raised.value
        keeper.offer(state, {"acc": 1})


def test_buffers_and_ties_come_back(run: str) -> None:
    numbers = (ctypes.c_float * 2)(1.0, 2.0)
    shared = torch.nn.Linear(2, 2)
    shared.add_module("tied", shared.__class__(2, 2))
    shared.tied.weight = shared.weight  # type: ignore[union-attr]
    with keepbest.Keeper(run, "acc") as keeper:
        keeper.offer(shared, {"acc": 1}, a=array.array("f", [1, 2]), c=numbers)
    last = keepbest.load(f"{run}@last")
    assert last.state()["a"].tolist() == last.state()["c"].tolist() == [1.0, 2.0]
    loaded = last.state_dict()
    assert loaded["weight"].data_ptr() == loaded["tied.weight"].data_ptr()


def test_a_file_of_weights_alone_says_what_it_would_lose(run: str) -> None:
    class Extra(torch.nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 3}

        def set_extra_state(self, state: object) -> None:
            pass

    with keepbest.Keeper(run, "acc", save_weights_only=True) as keeper:
        for model in (torch.nn.Linear(1, 1, dtype=torch.complex128), Extra(1, 1), {"a": {"w": torch.zeros(1)}}):
            with pytest.raises(errors.CannotStore, match="save_weights_only"):
                keeper.offer(model, {"acc": 1})


def test_metrics_of_any_kind(run: str) -> None:
    model = {"w": numpy.zeros(2)}
    loss = torch.tensor([0.5], requires_grad=True)
    with keepbest.Keeper(run, "acc") as keeper:
        for value, why in [(10**400, "too large"), (2**53 + 1, "more digits"), (numpy.array("0.5"), "text"), (numpy.zeros(2), "one number")]:
            with pytest.raises(errors.InvalidMetric, match=why):
                keeper.offer(model, {"acc": value})
        with pytest.raises(errors.InvalidMetric, match="not a mapping"):
            keeper.offer(model, [0.5])  # type: ignore[arg-type]
        keeper.offer(model, {"acc": numpy.array([[0.5]]), "loss": loss})
    assert keeper.best is not None and keeper.best.metrics == {"acc": 0.5, "loss": 0.5}
    assert len(keeper.history) == 1 and keeper.others == []


def test_a_text_where_a_list_is_meant(run: str) -> None:
    for name, value in (("constraints", "val/recall >= 0.9"), ("keep", "best:2"), ("classes", "abc")):
        with pytest.raises(errors.InvalidOption, match=name):
            keepbest.Keeper(run, "acc", **{name: value})  # type: ignore[arg-type]


def test_a_keeper_used_within_its_own_offer_says_so(run: str) -> None:
    class Asking(torch.nn.Linear):
        def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            assert keeper.best is None
            return super().state_dict(*args, **kwargs)

    with keepbest.Keeper(run, "acc") as keeper:
        with pytest.raises(errors.KeepbestError, match="inside of an offer"):
            keeper.offer(Asking(1, 1), {"acc": 1})
        keeper.offer(torch.nn.Linear(1, 1), {"acc": 1})


def test_a_signal_handler_that_ends_the_run_within_an_offer_does_not_hang(run: str) -> None:
    script = f"""
import os, signal, sys, keepbest, torch
class Model(torch.nn.Linear):
    def state_dict(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().state_dict(*args, **kwargs)
keeper = keepbest.Keeper({run!r}, "acc")
def end(*_):
    keeper.interrupt()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
keeper.offer(Model(1, 1), {{"acc": 1}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "inside of an offer" in done.stderr, done.stderr


def test_a_resume_that_fails_leaves_the_run_free(run: str) -> None:
    with keepbest.Keeper(run, "acc") as keeper:
        keeper.offer(torch.nn.Linear(2, 2), {"acc": 1})
    with pytest.raises(RuntimeError) as kept:
        keepbest.Keeper.resume(run, model=torch.nn.Linear(3, 3))
    keepbest.Keeper.resume(run, model=torch.nn.Linear(2, 2)).close()
    assert kept.value.__traceback__ is not None


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are found by /proc")
def test_a_child_does_not_hold_the_lock_of_a_run_behind_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    run = str(tmp_path / "link/run")
    script = f"""
import os, time, keepbest
keeper = keepbest.Keeper({run!r}, "acc")
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.warns(errors.Repaired):
        keepbest.Keeper.resume(run).close()


def test_an_interruption_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(errors.Interrupted("stopped", "runs/a", 3, 1)))
    assert (error.run, error.step, error.epoch, str(error)) == ("runs/a", 3, 1, "stopped")


def test_frameworks_are_attributes() -> None:
    script = "import keepbest; assert keepbest.ignite.KeepBest and 'torch' not in keepbest.__all__"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert not hasattr(keepbest, "Keper")
