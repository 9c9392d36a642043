"""Many processes train one network: every image counts once, one keeps, and whoever is lost costs nothing that was saved."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import keepbest

LONG = ["train", "--model", "lenet5", "--epochs", "400", "--name", "a", "--device", "torch:cpu", "--threads", "1", "--eval-every", "40"]
SHORT = ["train", "--model", "lenet5", "--epochs", "1", "--device", "torch:cpu", "--threads", "1", "--batch-size", "50", "--ema", "0.9"]


def start(cwd: pathlib.Path, ranks: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """As ``torchrun`` starts them, and without its own second or two."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    started = []
    for rank in range(ranks):
        where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
        env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in where.items()}}
        command = [sys.executable, "-m", "keepbest", *arguments]
        started.append(subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return started


def ended(processes: list[subprocess.Popen[str]], within: float = 120.0) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    done = []
    try:
        for each in processes:
            out, told = each.communicate(timeout=within)
            done.append((each.returncode, out, told))
    finally:
        for each in processes:
            if each.poll() is None:
                each.kill()
    return done


def test_two_ranks_come_to_what_one_does_and_measure_every_image_once(tmp_path: pathlib.Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "keepbest"]
    both = subprocess.run(
        [*torchrun, *SHORT, "--name", "two", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert both.returncode == 0, both.stderr
    assert json.loads(both.stdout)["run"] == "runs/two"
    alone = ended(start(tmp_path, 1, *SHORT, "--name", "one"))
    assert alone[0][0] == 0, alone
    # LeNet has no batch norm: the mean of two halves' gradients is the whole batch's, but for the last bits.
    runs = [keepbest.load(tmp_path / "runs" / name) for name in ("two", "one")]
    for name in ("val/loss", "train/loss", "train/accuracy", "ema/loss"):
        assert runs[0].metrics[name] == pytest.approx(runs[1].metrics[name], abs=2e-3), name
    # One process measures again what two have measured together: every image, in the same order.
    verify = [sys.executable, "-m", "keepbest", "verify", "two", "--device", "torch:cpu", "--threads", "1"]
    told = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0 and "equal to the last bit" in told.stdout, told.stdout + told.stderr


def test_what_is_told_to_stop_is_saved_and_goes_on_with_another_number(tmp_path: pathlib.Path) -> None:
    ranks = start(tmp_path, 2, *LONG)
    wait_for(tmp_path / "runs/a/best.safetensors", ranks)
    for each in ranks:
        each.send_signal(signal.SIGTERM)
    done = ended(ranks)
    assert [code for code, _, _ in done] == [130, 0], done
    assert "interrupted" in done[0][2]
    step = keepbest.load(tmp_path / "runs/a@last").step
    more = start(tmp_path, 3, "train", "--resume", "a", "--max-minutes", "0.02")
    done = ended(more)
    assert [code for code, _, _ in done] == [0, 0, 0], done
    assert keepbest.load(tmp_path / "runs/a@last").step > step


def wait_for(path: pathlib.Path, ranks: list[subprocess.Popen[str]]) -> None:
    until = time.monotonic() + 90
    while not path.exists():
        assert all(each.poll() is None for each in ranks) and time.monotonic() < until, ended(ranks, 5)
        time.sleep(0.02)


def test_a_rank_that_is_killed_costs_nothing_that_was_saved(tmp_path: pathlib.Path) -> None:
    """KEEPBEST_TORCH_KILLS=100 is the long form."""
    draw = random.Random(7)
    best, steps = 0.0, 0
    for kill in range(int(os.environ.get("KEEPBEST_TORCH_KILLS", "3"))):
        arguments = LONG if kill == 0 else ["train", "--resume", "a"]
        ranks = start(tmp_path, 2, *arguments)
        journal = tmp_path / "runs/a/journal.jsonl"
        wait_for(tmp_path / "runs/a/best.safetensors", ranks)
        before = journal.stat().st_size
        until = time.monotonic() + 90
        while journal.stat().st_size == before:
            assert time.monotonic() < until, ended(ranks, 5)
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 1.0))
        victim = draw.randrange(2)
        ranks[victim].kill()
        done = ended(ranks, 60)
        code, _, told = done[1 - victim]
        assert code == 1 and "lost" in told, done
        model, last = keepbest.load(tmp_path / "runs/a"), keepbest.load(tmp_path / "runs/a@last")
        score = model.metrics["val/accuracy"]
        assert score >= best and np.isfinite(score), "a best was lost"
        if victim == 1:
            # The first rank is alive, and saves what it had come to.
            assert last.step > steps and "go on with" in told, done
        best, steps = score, last.step
