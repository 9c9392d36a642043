"""A run on one of PyTorch's devices is a run like any other: kept, resumed, verified, reproduced."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from images import SETTINGS, squares

import keepbest
from keepbest import errors

pytestmark = pytest.mark.filterwarnings("ignore::keepbest.errors.Caution")

COMMAND = [sys.executable, "-m", "keepbest"]


def command(*arguments: str, cwd: pathlib.Path, code: int = 0) -> str:
    done = subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a run on ``torch:cpu``."""
    where = tmp_path_factory.mktemp("trained")
    command(
        "train", "--model", "lenet5", "--epochs", "1", "--device", "torch:cpu", "--threads", "1", "--name", "a", "--ema", "0.9",
        "--deterministic", "--quiet", cwd=where,
    )  # fmt: skip
    return where


def test_a_run_records_what_computed(trained: pathlib.Path) -> None:
    import torch

    recorded = keepbest.load(trained / "runs/a").provenance
    environment = recorded["environment"]
    assert environment["device"] == "torch:cpu" and torch.__version__ in environment["software"]
    assert recorded["config"]["device"] == "torch:cpu" and recorded["config"]["deterministic"] is True
    assert "PyTorch" in (trained / "runs/a/report.html").read_text()


def test_it_learns_as_the_cpu_does(trained: pathlib.Path) -> None:
    command("train", "--model", "lenet5", "--epochs", "1", "--name", "own", "--threads", "1", "--ema", "0.9", "--quiet", cwd=trained)
    scores = [keepbest.load(trained / "runs" / name).metrics["val/loss"] for name in ("own", "a")]
    assert scores[1] == pytest.approx(scores[0], rel=0.05)
    assert "device" in (trained / "runs/own/run.toml").read_text()
    assert "deterministic" not in (trained / "runs/own/run.toml").read_text()


def test_verify_says_what_measured(trained: pathlib.Path) -> None:
    told = command("verify", "a", "--test", cwd=trained)
    assert "measured by keepbest on cpu where PyTorch" in told and "to the last bit, measured" not in told
    assert "agree to 0.0" in told or "are equal to the last bit" in told
    told = command("verify", "a", "--device", "torch:cpu", "--threads", "1", cwd=trained)
    assert "measured by PyTorch on torch:cpu where PyTorch" in told


def test_reproduce_holds_here_and_promises_no_more(trained: pathlib.Path) -> None:
    told = command("reproduce", "a", "--quiet", cwd=trained)
    assert "reproduced" in told and "same kind of device with the same software at most" in told


def test_models_answer_on_the_device(trained: pathlib.Path) -> None:
    shared = ["a", "--split", "test", "--json", "--threads", "1"]
    own, theirs = (json.loads(command("evaluate", *shared, "--device", each, cwd=trained)) for each in ("cpu", "torch:cpu"))
    assert theirs["metrics"]["test/loss"] == pytest.approx(own["metrics"]["test/loss"], abs=1e-4)
    assert theirs["metrics"]["test/loss"] != own["metrics"]["test/loss"], "both were measured by one engine"


def test_a_run_goes_on_where_it_was_and_on_another_device(tmp_path: pathlib.Path) -> None:
    settings: dict[str, Any] = {**SETTINGS, "runs_dir": tmp_path, "device": "torch:cpu", "optimizer": "adamw", "epochs": 3}
    whole = keepbest.train(squares(), name="whole", **settings)

    class Enough(Exception):
        pass

    def stop(evaluation: keepbest.Evaluation) -> None:
        if evaluation.epoch == 1:
            raise Enough

    for name in ("same", "other"):
        with pytest.raises(Enough):
            keepbest.train(squares(), name=name, on_evaluation=stop, **settings)
    same = keepbest.train(squares(), resume=tmp_path / "same", threads=1, progress=False)
    assert same.best is not None and whole.best is not None and same.best.digest == whole.best.digest
    other = keepbest.train(squares(), resume=tmp_path / "other", device="cpu", threads=1, progress=False)
    for record, expected in zip(other.history, whole.history, strict=True):
        assert record["metrics"]["val/loss"] == pytest.approx(expected["metrics"]["val/loss"], abs=1e-3)
    assert keepbest.load(tmp_path / "other").provenance["environment"].get("device", "cpu") in ("cpu", "torch:cpu")


def test_settings_go_with_the_device(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.InvalidSetting, match="compile is a setting of PyTorch's devices"):
        keepbest.train(squares(), **{**SETTINGS, "runs_dir": tmp_path, "compile": True})
    with pytest.raises(errors.InvalidOption, match="f16 is no number format of cpu; device torch:cpu"):
        keepbest.train(squares(), **{**SETTINGS, "runs_dir": tmp_path, "precision": "f16"})
    with pytest.raises(errors.InvalidSetting, match="nothing computes on cuda:99 here"):
        keepbest.train(squares(), **{**SETTINGS, "runs_dir": tmp_path, "device": "cuda:99"})
    with pytest.raises(errors.InvalidSetting, match="did you mean"):
        keepbest.train(squares(), **{**SETTINGS, "runs_dir": tmp_path, "device": "cudo"})
    assert not list(tmp_path.iterdir())


def test_ctrl_c_saves_and_the_run_goes_on(tmp_path: pathlib.Path) -> None:
    long = ["train", "--model", "lenet5", "--epochs", "500", "--device", "torch:cpu", "--name", "a", "--threads", "1"]
    process = subprocess.Popen([*COMMAND, *long], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    until = time.monotonic() + 90
    while not (tmp_path / "runs/a/best.safetensors").exists():
        assert process.poll() is None and time.monotonic() < until, process.stderr and process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted" in told, told
    command("verify", "a@last", "--digest-only", cwd=tmp_path)
