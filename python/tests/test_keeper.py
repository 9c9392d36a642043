"""The keeper with plain numpy arrays: what is kept, what is refused, and that training in place changes nothing."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy
import pytest

import keepbest
from keepbest import errors

METRICS = {"val/accuracy": 0.5, "val/loss": 1.0}


def weights(value: float = 0.0, n: int = 100) -> dict[str, numpy.ndarray]:
    return {"fc.weight": numpy.full((n, 10), value, "float32"), "fc.bias": numpy.full(10, value, "float32")}


def test_the_best_is_kept_with_its_own_metrics(run: str) -> None:
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        for epoch, accuracy in enumerate([0.5, 0.8, 0.7]):
            verdict = keeper.offer(weights(epoch), {"val/accuracy": accuracy, "n": epoch}, epoch=epoch)
            assert bool(verdict) == (epoch < 2), verdict
    best = keepbest.load(run)
    assert (best.epoch, best.metrics) == (1, {"val/accuracy": 0.8, "n": 1.0})
    numpy.testing.assert_array_equal(best.state_dict("numpy")["fc.weight"], weights(1)["fc.weight"])
    assert keepbest.load(f"{run}@last").epoch == 2
    assert len(best.digest) == 64
    best.verify()


def test_training_in_place_afterwards_changes_nothing_of_what_is_saved(run: str) -> None:
    model = weights(n=200_000)
    with keepbest.Keeper(run, "loss", save_last=False) as keeper:
        for epoch in range(5):
            model["fc.weight"][...] = epoch
            keeper.offer(model, {"loss": -float(epoch)}, epoch=epoch)
            # While the background thread reads.
            for _ in range(20):
                model["fc.weight"] += 1
    best = keepbest.load(run)
    assert (best.state_dict()["fc.weight"] == best.epoch).all()


def test_what_is_not_saved_is_not_copied(run: str) -> None:
    class Counted:
        copied = 0

        def state_dict(self) -> dict[str, numpy.ndarray]:
            Counted.copied += 1
            return weights()

    with keepbest.Keeper(run, "val/accuracy", save_last=False) as keeper:
        for epoch, accuracy in enumerate([0.5, 0.4, 0.3, 0.6]):
            keeper.offer(Counted(), {"val/accuracy": accuracy}, epoch=epoch)
    assert Counted.copied == 2


def test_several_bests_top_k_constraints_and_patience(run: str) -> None:
    with keepbest.Keeper(
        run,
        ["val/accuracy", "val/loss"],
        save_top_k=2,
        constraints=["val/recall >= 0.5"],
        patience=2,
        save_last=False,
    ) as keeper:
        accuracies, losses, recalls = [0.5, 0.9, 0.8, 0.7], [1.0, 0.9, 0.8, 0.85], [0.6, 0.4, 0.6, 0.6]
        kinds = []
        for epoch, (a, loss, recall) in enumerate(zip(accuracies, losses, recalls, strict=True)):
            metrics = {"val/accuracy": a, "val/loss": loss, "val/recall": recall}
            kinds.append(keeper.offer(weights(epoch), metrics, epoch=epoch).kind)
        assert kinds == ["improved", "rejected", "improved", "not improved"]
        assert not keeper.should_stop
        keeper.offer(weights(9), {"val/accuracy": 0.1, "val/loss": 2, "val/recall": 1}, epoch=4)
        assert keeper.should_stop and "2" in str(keeper.stop_reason)
        keeper.wait()
        assert keeper.best is not None and keeper.best.epoch == 2
        assert [other.reference for other in keeper.others] == ["best:val/loss"]
    assert keepbest.load(f"{run}@epoch:2").epoch == 2
    assert keepbest.load(f"{run}@epoch:3").epoch == 3, "the second best of two"
    with pytest.raises(errors.ModelMissing):
        keepbest.load(f"{run}@epoch:0")


@pytest.mark.parametrize(
    ("monitor", "better"),
    [("val_loss", "less"), ("eval_accuracy", "more"), ("my/f1", "more"), ("valid_mse", "less"), ("val/ece", "less")],
)
def test_the_direction_follows_from_the_name(run: str, monitor: str, better: str) -> None:
    with keepbest.Keeper(run, monitor) as keeper:
        keeper.offer(weights(), {monitor: 1.0})
        assert bool(keeper.offer(weights(1), {monitor: 0.5})) == (better == "less")


def test_a_direction_that_is_not_known_must_be_given(run: str) -> None:
    with pytest.raises(errors.InvalidObjective, match='mode="max" or mode="min"'):
        keepbest.Keeper(run, "val/goodness")
    assert not os.path.exists(run), "the name is still free"
    keepbest.Keeper(run, "val/goodness", mode="max").close()


def test_metrics_that_are_none(run: str) -> None:
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer(weights(), METRICS)
        with pytest.raises(errors.MetricMissing) as missing:
            keeper.offer(weights(1), {"val/acc": 0.9})
        assert missing.value.metric == "val/accuracy" and missing.value.existing == ["val/acc"]
        for value in ("0.9", None, [1.0, 2.0], numpy.zeros(3)):
            with pytest.raises(errors.InvalidMetric) as invalid:
                keeper.offer(weights(1), {"val/accuracy": 0.9, "x": value})
            assert invalid.value.metric == "x"
        for value in (float("nan"), float("inf"), -float("inf")):
            assert keeper.offer(weights(1), {"val/accuracy": value}).kind == "rejected"
        # Best is untouched, and the loop goes on.
        assert keeper.offer(weights(2), {"val/accuracy": 0.6})
    assert keepbest.load(run).metrics == {"val/accuracy": 0.6}


def test_what_cannot_be_stored_is_named_and_costs_nothing(run: str) -> None:
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer(weights(), METRICS)
        bad = [
            ({"a": {"b": [1, object()]}}, "model", "a.b.1"),
            ({"w": numpy.array(["x"])}, "model", "w"),
            ({"w": numpy.array([None])}, "model", "w"),
            ({}, "model", "model"),
            ({"optimizer.w": numpy.zeros(3)}, "model", "optimizer.w"),
        ]
        for model, _, where in bad:
            with pytest.raises(errors.CannotStore) as refused:
                keeper.offer(model, {"val/accuracy": 0.9})
            assert refused.value.where == where
        with pytest.raises(errors.CannotStore) as refused:
            keeper.offer(weights(), {"val/accuracy": 0.9}, scheduler={"fn": len})
        assert (refused.value.where, refused.value.type) == ("scheduler.fn", "builtins.builtin_function_or_method")
        with pytest.raises(errors.ShapesChanged) as changed:
            keeper.offer(weights(n=7), {"val/accuracy": 0.9})
        assert changed.value.where == "fc.weight"
        assert len(keeper.history) == 1
        assert keeper.offer(weights(1), {"val/accuracy": 0.7})
    assert keepbest.load(run).metrics["val/accuracy"] == 0.7


def test_not_strict_leaves_out_and_says_so(run: str) -> None:
    with keepbest.Keeper(run, "val/accuracy", strict=False) as keeper:
        with pytest.warns(errors.Skipped, match=r"scheduler\.fn"):
            keeper.offer(weights(), METRICS, scheduler={"fn": len, "last": 3})
    assert keepbest.load(f"{run}@last").state()["scheduler"] == {"last": 3}


def test_nested_trees_and_plain_values_come_back_as_they_were(run: str) -> None:
    import collections

    Adam = collections.namedtuple("Adam", ["count", "mu"])
    state = {
        "tuple": (1, (2.5, None)),
        "named": Adam(3, {"w": numpy.arange(4.0)}),
        7: {"int key": True},
        "floats": [float("nan"), float("inf"), 0.1 + 0.2, 1e-310, -0.0],
        "big": 2**200,
        "bytes": b"\x00\xff",
        "complex": 1 + 2j,
        "set": {1, 2},
        "$dollar": {"$tensor": "not one"},
        "scalar": numpy.float32(1.5),
        "empty": numpy.zeros((0, 3)),
        "order": {"b": 1, "a": 2},
    }
    model = {"block": [{"w": numpy.arange(6, dtype="int64").reshape(2, 3)}, {"w": numpy.array(2.0)}], "dtype": "f32"}
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer(model, METRICS, state=state)
    back = keepbest.load(f"{run}@last")
    numpy.testing.assert_equal(back.state_dict()["block"], model["block"])
    got = back.state()["state"]
    assert repr(got.pop("named")) == repr(state.pop("named"))
    empty = got.pop("empty")
    assert empty.shape == (0, 3) and empty.dtype == numpy.float64
    state.pop("empty")
    assert repr(got) == repr(state)
    assert list(got) == list(state) and type(got["scalar"]) is numpy.float32


@pytest.mark.parametrize(
    "dtype",
    "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool complex64 complex128 >f4 >i8".split(),
)
def test_every_element_type_of_numpy(run: str, dtype: str) -> None:
    array = numpy.arange(24).reshape(2, 3, 4).astype(dtype)
    arrays = {"c": array, "f": numpy.asfortranarray(array), "part": array[:, ::2, 1:], "zero": array[0, 0, 0].reshape(())}
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer(arrays, METRICS)
    for name, back in keepbest.load(run).state_dict().items():
        numpy.testing.assert_array_equal(back, arrays[name])
        assert back.dtype == array.dtype.newbyteorder("<") and back.shape == arrays[name].shape


def test_runs_that_are_there_locked_or_missing(run: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.RunMissing):
        keepbest.Keeper.resume(run)
    keeper = keepbest.Keeper(run, "val/accuracy")
    with pytest.raises(errors.RunExists) as exists:
        keepbest.Keeper(run, "val/accuracy")
    assert str(exists.value.path) == run
    with pytest.raises(errors.RunLocked) as locked:
        keepbest.Keeper.resume(run)
    assert str(os.getpid()) in str(locked.value.owner)
    with pytest.raises(errors.ModelMissing):
        keeper.load_best()
    keeper.close()
    with pytest.raises(errors.RunEnded):
        keeper.offer(weights(), METRICS)
    keeper.close()
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.CannotWrite):
        keepbest.Keeper(tmp_path / "file" / "run", "val/accuracy")


@pytest.mark.parametrize(
    "options",
    [
        {"save_top_k": 0},
        {"patience": -1},
        {"patience": "five"},
        {"min_delta": -1.0},
        {"min_delta": "much"},
        {"keep": ["nothing:3"]},
        {"also": "onnx"},
        {"constraints": ["val/recall"]},
        {"mode": "up"},
        {"every_n_epochs": 0},
        {"config": {"f": len}},
        {"tie_break": "goodness"},
    ],
)
def test_options_that_are_none(run: str, options: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidOption):
        keepbest.Keeper(run, "val/accuracy", **options)  # type: ignore[arg-type]
    assert not os.path.exists(run)


def test_every_n_epochs(run: str) -> None:
    with keepbest.Keeper(run, "val/accuracy", every_n_epochs=2) as keeper:
        kinds = [keeper.offer(weights(), METRICS, epoch=epoch).kind for epoch in range(4)]
    assert kinds == ["skipped", "improved", "skipped", "not improved"]


def test_a_damaged_model_is_told(run: str) -> None:
    with keepbest.Keeper(run, "val/accuracy", save_last=False) as keeper:
        keeper.offer(weights(), METRICS)
    path = pathlib.Path(run, "best.safetensors")
    model = keepbest.load(run)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(errors.ModelDamaged):
        keepbest.load(run)
    with pytest.raises(errors.ModelDamaged):
        model.verify()
    path.write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(errors.ModelDamaged):
        keepbest.load(run)


def test_an_exception_in_the_loop_goes_on_and_the_run_can_be_resumed(run: str) -> None:
    with pytest.raises(ZeroDivisionError), keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer(weights(), METRICS, epoch=3, lr=0.5)
        1 / 0  # noqa: B018
    keeper = keepbest.Keeper.resume(run)
    assert (keeper.epoch, keeper.next_epoch, keeper.state["lr"]) == (3, 4, 0.5)
    assert keeper.best is not None and keeper.best.epoch == 3
    assert keeper.offer(weights(1), {"val/accuracy": 0.4}).kind == "not improved"
    keeper.close()


def test_threads_offer_while_others_run(run: str) -> None:
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.0005)

    ticker = threading.Thread(target=tick)
    ticker.start()
    model = {"w": numpy.ones(20_000_000, "float32")}
    with keepbest.Keeper(run, "loss") as keeper:
        for epoch in range(3):
            keeper.offer(model, {"loss": -epoch}, epoch=epoch)
        before = ticks
        keeper.wait()
        assert ticks > before, "the GIL was held while waiting"
    done.set()
    ticker.join()


def test_a_forked_child_cannot_use_it_and_the_parent_goes_on(run: str) -> None:
    keeper = keepbest.Keeper(run, "val/accuracy")
    keeper.offer(weights(), METRICS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            keeper.offer(weights(), METRICS)
        except errors.Forked:
            del keeper
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert keeper.offer(weights(1), {"val/accuracy": 0.9})
    keeper.close()
    assert keepbest.load(run).metrics["val/accuracy"] == 0.9


def test_a_child_that_outlives_a_killed_parent_leaves_the_run_unlocked(run: str) -> None:
    code = f"""
        import os, time, numpy, keepbest
        keeper = keepbest.Keeper({run!r}, "val/accuracy")
        keeper.offer({{"w": numpy.zeros(3)}}, {{"val/accuracy": 1.0}}); keeper.wait()
        if os.fork() == 0:
            time.sleep(30)
        print("ready", flush=True); time.sleep(30)
    """
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        process.kill()
        process.wait()
        keepbest.Keeper.resume(run).close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_ends_a_wait(run: str) -> None:
    code = f"""
        import numpy, keepbest
        try:
            with keepbest.Keeper({run!r}, "val/accuracy") as keeper:
                keeper.offer({{"w": numpy.zeros(3)}}, {{"val/accuracy": 1.0}}, epoch=0)
                print("ready", flush=True)
                while True:
                    keeper.wait()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == b"interrupted\n"
    keeper = keepbest.Keeper.resume(run)
    assert keeper.next_epoch == 1
    keeper.close()


def test_a_disk_that_is_full_costs_the_save_alone(run: str, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            keeper = keepbest.Keeper(small / "run", "val/accuracy", save_last=False)
            keeper.offer(weights(), METRICS, epoch=0)
            keeper.wait()
            (small / "filler").write_bytes(bytes(2_080_000))
            keeper.offer(weights(1), {"val/accuracy": 0.9}, epoch=1)
            keeper.wait()
            assert any(issubclass(warning.category, errors.SaveFailed) for warning in told)
            assert keepbest.load(small / "run").epoch == 0
            (small / "filler").unlink()
            # Tried again with the next evaluation, though that is worse.
            keeper.offer(weights(2), {"val/accuracy": 0.1}, epoch=2)
            keeper.close()
        assert keepbest.load(small / "run").epoch == 1
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_best_that_is_not_on_disk_in_the_end_is_an_error(run: str, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        warnings.simplefilter("ignore", errors.SaveFailed)
        keeper = keepbest.Keeper(small / "run", "val/accuracy", save_last=False)
        keeper.offer(weights(n=100_000), METRICS, epoch=0)
        with pytest.raises(errors.BestNotSaved) as lost:
            keeper.close()
        assert lost.value.summary.best is None and lost.value.summary.unresolved
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_importing_it_imports_neither_numpy_nor_a_framework() -> None:
    code = "import sys, keepbest; print(sorted({'numpy', 'torch', 'jax', 'keras', 'lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
