"""``python -m keepbest``: the same program, in a process of Python."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy
import pytest

import keepbest

COMMAND = [sys.executable, "-m", "keepbest"]
LONG = ["train", "--model", "lenet5", "--epochs", "500", "--name", "a", "--threads", "1"]


def command(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def started(cwd: pathlib.Path, *shell: str) -> subprocess.Popen[bytes]:
    """A long run of which an epoch is measured."""
    process = subprocess.Popen([*shell, *COMMAND, *LONG], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (cwd / "runs/a/best.safetensors").exists():
        assert process.poll() is None and time.monotonic() < until, process.stderr and process.stderr.read()
        time.sleep(0.02)
    return process


def test_train_and_use_on_the_data_within(tmp_path: pathlib.Path) -> None:
    done = command("train", "--model", "lenet5", "--epochs", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["best"]["path"] == "runs/lenet5-1/best.safetensors"
    assert command("verify", "lenet5-1", cwd=tmp_path).returncode == 0
    assert command("list", cwd=tmp_path).stdout.count("lenet5-1") == 1
    assert keepbest.load(tmp_path / "runs/lenet5-1").digest == told["best"]["digest"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--version"], 0, keepbest.__version__),
        (["--help"], 0, "Usage: keepbest"),
        (["trian"], 2, "similar subcommand"),
        (["train", "--epoch", "3"], 2, "--epochs"),
        (["train", "--epochs", "none"], 2, "epochs must be"),
        (["show", "nothing"], 1, "nothing"),
    ],
)
def test_exit_codes(tmp_path: pathlib.Path, arguments: list[str], code: int, told: str) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == code and told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_check_that_does_not_hold(tmp_path: pathlib.Path) -> None:
    assert command("train", "--model", "lenet5", "--epochs", "1", cwd=tmp_path).returncode == 0
    path = tmp_path / "runs/lenet5-1/best.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.unlink()
    path.write_bytes(damaged)
    assert command("verify", "lenet5-1", cwd=tmp_path).returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    process = started(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"keepbest train --resume runs/a" in err and b"Traceback" not in err
    keepbest.load(tmp_path / "runs/a@last").verify()
    again = command("train", "--resume", "a", "--max-minutes", "0.001", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_a_signal_that_was_ignored_from_the_start_stays_ignored(tmp_path: pathlib.Path) -> None:
    process = started(tmp_path, "bash", "-c", 'trap "" INT; exec "$@"', "bash")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_the_second_ctrl_c_ends_it_at_once(tmp_path: pathlib.Path) -> None:
    process = started(tmp_path)
    # The first cannot be answered yet, the second need not wait for it.
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - begun < 10
    keepbest.load(tmp_path / "runs/a").verify()


def test_ctrl_c_where_nothing_is_saved_ends_it(tmp_path: pathlib.Path) -> None:
    assert command("train", "--model", "lenet5", "--epochs", "1", cwd=tmp_path).returncode == 0
    waiting = subprocess.Popen(
        [*COMMAND, "predict", "lenet5-1", "-"], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(1)
    assert waiting.poll() is None, "it waits for the image"
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == -signal.SIGINT and b"Traceback" not in err


def test_a_pipe_that_nobody_reads(tmp_path: pathlib.Path) -> None:
    with keepbest.Keeper(tmp_path / "runs/a", "loss", save_last=False) as keeper:
        for epoch in range(3000):
            keeper.offer({"w": numpy.zeros(3, "float32")}, {"loss": 1.0}, epoch=epoch)
    line = f"{sys.executable} -m keepbest show a --json | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and "panicked" not in done.stderr
    assert done.returncode in (0, 1, 141), done


def test_the_entry_point_is_this_program() -> None:
    from keepbest.__main__ import main

    assert main.__module__ == "keepbest.__main__" and re.match(r"\d+\.\d+", keepbest.__version__)
