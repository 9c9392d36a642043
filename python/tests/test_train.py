"""Our engine from Python: what it returns, what it refuses, and that nothing is lost when it is interrupted."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy
import pytest
from images import SETTINGS, squares

import keepbest
from keepbest import errors

pytestmark = pytest.mark.filterwarnings("ignore::keepbest.errors.Caution")


@pytest.fixture
def where(tmp_path: pathlib.Path) -> dict[str, Any]:
    """Settings of a run named ``a``."""
    return {**SETTINGS, "runs_dir": tmp_path, "name": "a"}


def program(code: str, *arguments: str) -> list[str]:
    setup = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); from images import SETTINGS, squares; import keepbest\n"
    return [sys.executable, "-c", setup + textwrap.dedent(code), *arguments]


def test_the_result_is_the_best_with_its_test_and_its_history(where: dict[str, Any]) -> None:
    seen = []
    result = keepbest.train(squares(), on_evaluation=seen.append, **where)
    assert result.run == str(where["runs_dir"] / "a")
    assert result.best is not None and result.best.path == f"{result.run}/best.safetensors"
    assert [record["epoch"] for record in result.history] == [1, 2] == [evaluation.epoch for evaluation in seen]
    assert result.best.score == max(evaluation.value for evaluation in seen) == result.best.metrics["val/accuracy"]
    assert seen[0].improved and seen[0].epochs == 2 and seen[0].metrics["val/loss"] > 0
    assert result.test is not None and 0 <= result.test["test/accuracy"] <= 1
    low, high = result.test_intervals["test/accuracy"]
    assert low <= result.test["test/accuracy"] <= high
    assert result.load().digest == result.best.digest
    assert "val/accuracy" in repr(result) and "test/accuracy" in repr(result)


def test_data_is_a_name_a_path_or_arrays_and_the_run_is_the_same(where: dict[str, Any], tmp_path: pathlib.Path) -> None:
    images, labels = squares()
    digests = []
    numpy.savez(tmp_path / "squares.npz", x_train=images, y_train=labels)
    for name, data in [("a", (images, labels)), ("b", {"train": (images[..., None], labels)}), ("c", tmp_path / "squares.npz")]:
        result = keepbest.train(data, **{**where, "name": name})
        assert result.best is not None
        digests.append(result.best.digest)
    assert len(set(digests)) == 1


def test_own_splits_and_names_of_classes(where: dict[str, Any]) -> None:
    images, labels = squares(60)
    data = {"train": squares(), "val": squares(40, 1), "test": (images, labels), "classes": ["left", "right"]}
    result = keepbest.train(data, **where)
    assert result.load().classes == ["left", "right"]
    names = numpy.array(["left", "right"])[labels]
    named = keepbest.train({"train": (images, names)}, **{**where, "name": "b"})
    assert named.load().classes == ["left", "right"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ((squares()[0] / 255, squares()[1]), "float64, not uint8"),
        ((squares()[0], squares()[1][:5]), "120 images and 5 labels"),
        ((squares()[0].reshape(120, 1, 16, 16), squares()[1]), "channels come last"),
        ((squares()[0].reshape(120, 256), squares()[1]), r"\[120, 256\], not"),
        ((squares()[0], squares()[1] - 1), "have -1: classes are numbered from 0"),
        ((squares()[0], squares()[1] / 2), "whole numbers, or names"),
        ({"train": squares(), "validation": squares()}, "has 'validation'"),
        ({"val": squares()}, "has no 'train'"),
        (squares()[0], "data is a ndarray"),
        ({"train": squares(), "classes": ["one"]}, "class"),
        ("nowhere/at/all", "nowhere/at/all: no such file"),
        ("fashion-mnist-mimi", "fashion-mnist-mini"),
    ],
)
def test_images_that_are_none(where: dict[str, Any], data: Any, told: str) -> None:
    with pytest.raises(errors.InvalidData, match=told) as raised:
        keepbest.train(data, **where)
    assert "arrays-given-in-python" not in str(raised.value)
    assert not os.path.exists(where["runs_dir"] / "a")


def test_settings_are_those_of_the_command(where: dict[str, Any]) -> None:
    settings = keepbest.settings()
    assert settings["batch_size"].startswith("N: ") and "from_" in settings
    with pytest.raises(errors.InvalidSetting, match="batchsize is no setting; did you mean batch_size?") as raised:
        keepbest.train(squares(), **where, batchsize=4)
    assert (raised.value.setting, raised.value.nearest) == ("batchsize", "batch_size")
    for wrong, told in [
        ({"epochs": 0}, "epochs must be a whole number from 1"),
        ({"epochs": 1.5}, "epochs must be"),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"optimizer": "adamm"}, "did you mean adam"),
        ({"model": "lenet"}, "lenet"),
        ({"image_size": {}}, "image_size is a dict"),
        ({"lr_gamma": 0.5}, "lr-gamma is a setting of schedules step and plateau"),
    ]:
        with pytest.raises(errors.InvalidOption, match=told):
            keepbest.train(squares(), **{**where, **wrong})
    with pytest.raises(errors.MetricMissing, match="`quality` was not measured"):
        keepbest.train(squares(), **where, monitor="quality")
    with pytest.raises(errors.InvalidOption, match="progress is 'loud'"):
        keepbest.train(squares(), **{**where, "progress": "loud"})
    assert not os.path.exists(where["runs_dir"] / "a")
    # A list where the flag may be given again, and where it is one value with commas.
    keepbest.train(squares(), **where, keep=["best:2", "last:2"], class_weights=[1, 2.0], nesterov=False, patience=None)
    recorded = (where["runs_dir"] / "a/run.toml").read_text()
    assert 'keep = ["best:2", "last:2"]' in recorded and "nesterov = false" in recorded
    with pytest.raises(errors.RunExists):
        keepbest.train(squares(), **where)


def test_an_exception_in_the_callback_ends_training_saved_and_the_run_goes_on_to_the_same_bits(where: dict[str, Any]) -> None:
    whole = keepbest.train(squares(), **{**where, "name": "whole", "epochs": 3})

    class Mine(Exception):
        pass

    def stop(evaluation: keepbest.Evaluation) -> None:
        if evaluation.epoch == 1:
            raise Mine("enough")

    with pytest.raises(Mine, match="enough") as raised:
        keepbest.train(squares(), on_evaluation=stop, **{**where, "epochs": 3})
    run = str(where["runs_dir"] / "a")
    if hasattr(raised.value, "__notes__"):
        assert f"keepbest.train(resume={run!r}) goes on" in raised.value.__notes__[0]
    # The arrays are nowhere else.
    with pytest.raises(errors.InvalidData, match="say where it lies now: data"):
        keepbest.train(resume=run, progress=False)
    with pytest.raises(errors.InvalidData, match="not those the run began with"):
        keepbest.train(squares(seed=1), resume=run, progress=False)
    again = keepbest.train(squares(), resume=run, progress=False)
    assert again.best is not None and whole.best is not None
    assert again.best.digest == whole.best.digest
    assert [it["metrics"] for it in again.history] == [it["metrics"] for it in whole.history]
    # Longer than planned.
    longer = keepbest.train(squares(), resume=run, epochs=4, progress=False)
    assert longer.epoch == 4 and len(longer.history) == 4
    with pytest.raises(errors.InvalidSetting, match="lr is settled by the run"):
        keepbest.train(squares(), resume=run, lr=0.5, progress=False)


def test_a_run_that_is_being_trained_is_not_resumed(where: dict[str, Any]) -> None:
    raised: list[errors.RunLocked] = []

    def evaluated(evaluation: keepbest.Evaluation) -> None:
        with pytest.raises(errors.RunLocked) as found:
            keepbest.train(squares(), resume=where["runs_dir"] / "a", progress=False)
        raised.append(found.value)

    keepbest.train(squares(), on_evaluation=evaluated, **where)
    assert len(raised) == 2 and str(os.getpid()) in str(raised[0].owner)
    with pytest.raises(errors.ModelMissing) as missing:
        keepbest.train(squares(), **{**where, "name": "b"}, from_="nothing")
    assert missing.value.path == "nothing"


def test_a_run_of_another_loop_and_none_are_not_resumed(tmp_path: pathlib.Path) -> None:
    run = str(tmp_path / "loop")
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer({"w": numpy.zeros(3, "float32")}, {"val/accuracy": 0.5})
    with pytest.raises(errors.RunOfAnotherLoop, match=r"a loop in Python.*keepbest\.Keeper\.resume"):
        keepbest.train(resume=run)
    with pytest.raises(errors.RunMissing):
        keepbest.train(resume=tmp_path / "none")


CTRL_C = """
    import threading, os, signal, time
    def evaluated(e):
        # As at a terminal, while training is busy.
        if e.epoch == 1:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        keepbest.train(squares(2000), on_evaluation=evaluated, runs_dir=sys.argv[1], name="a", **{**SETTINGS, "epochs": 500})
    except KeyboardInterrupt as interrupted:
        print(type(interrupted).__name__, interrupted.run, interrupted.epoch >= 1, interrupted)
    keepbest.load(sys.argv[1] + "/a@last").verify()
"""


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(program(CTRL_C, str(tmp_path)), capture_output=True, text=True, timeout=120)
    run = f"{tmp_path}/a"
    assert done.stdout.startswith(f"Interrupted {run} True interrupted in epoch"), done.stderr
    assert f"keepbest.train(resume={run!r}) goes on" in done.stdout
    assert "KeyboardInterrupt" not in done.stderr
    journal = [json.loads(line) for line in open(f"{run}/journal.jsonl", encoding="utf-8")]
    assert "interrupted" in json.dumps(journal[-1])


def test_ctrl_c_before_the_first_step_makes_no_run(tmp_path: pathlib.Path) -> None:
    code = """
        import signal
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        try:
            keepbest.train(runs_dir=sys.argv[1], **SETTINGS)
        except KeyboardInterrupt as interrupted:
            print("told", interrupted)
    """
    done = subprocess.run(program(code, str(tmp_path / "runs")), capture_output=True, text=True, timeout=120)
    # Wherever it came: in Python before training, or in training.
    assert done.stdout.startswith("told") and done.returncode == 0, done.stderr


def test_other_threads_run_meanwhile(where: dict[str, Any]) -> None:
    counted = [0]
    over = threading.Event()

    def count() -> None:
        while not over.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begun = time.monotonic()
    keepbest.train(squares(), **where)
    took = time.monotonic() - begun
    over.set()
    thread.join()
    assert counted[0] > 100 * took, f"{counted[0]} times in {took:.1f} s"


def test_two_runs_at_a_time(where: dict[str, Any]) -> None:
    alone = keepbest.train(squares(), **{**where, "name": "alone"})
    results: dict[str, keepbest.TrainResult] = {}

    def run(name: str) -> None:
        results[name] = keepbest.train(squares(), **{**where, "name": name})

    threads = [threading.Thread(target=run, args=(name,)) for name in ("b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone.best is not None
    assert {result.best.digest for result in results.values() if result.best} == {alone.best.digest}


def test_lines_on_stderr_are_those_of_the_command(where: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    keepbest.train(squares(), **{**where, "progress": "lines"})
    out, err = capfd.readouterr()
    assert "network  lenet5" in err and "val/acc" in err and "2/2" in err and out == ""
    keepbest.train(squares(), **{**where, "name": "b"})
    assert capfd.readouterr() == ("", "")


def test_a_result_is_a_curve_in_a_notebook(where: dict[str, Any]) -> None:
    import xml.etree.ElementTree

    result = keepbest.train(squares(), **where, monitor="0.5*val/accuracy + 0.5*val/f1_macro", mode="max")
    html = result._repr_html_()
    xml.etree.ElementTree.fromstring(html)
    assert html.count("<polyline") == 3 and 'class="best"' in html
    for outside in ("http:", "https:", "<script", "url("):
        assert outside not in html


def test_a_disk_that_is_full_is_told_and_the_process_lives(tmp_path: pathlib.Path) -> None:
    code = """
        import resource, warnings, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            keepbest.train("fashion-mnist-mini", runs_dir=sys.argv[1], name="a", **{**SETTINGS, "epochs": 1})
        except keepbest.errors.KeepbestError as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run(program(code, str(tmp_path)), capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("BestNotSaved"), done.stdout + done.stderr


def test_sigterm_is_the_programs_own(tmp_path: pathlib.Path) -> None:
    code = """
        import os, signal
        def evaluated(e):
            os.kill(os.getpid(), signal.SIGTERM)
        keepbest.train(squares(), on_evaluation=evaluated, runs_dir=sys.argv[1], **SETTINGS)
    """
    done = subprocess.run(program(code, str(tmp_path)), capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGTERM
