"""A run that a loop in Python trained, met by the command: it says whose network and loop it is, and does what can be done without."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy
import pytest
from images import SETTINGS, squares

import keepbest

PYTHONS = "was kept by a loop in Python: it holds weights alone, and the network is that program's"


@pytest.fixture
def where(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with such a run at ``runs/a``, which says of itself what it likes."""
    own = {"provenance": {"data": "mine"}, "preprocessing": {"scale": 3}, "config": {"lr": 0.1}}
    with keepbest.Keeper(tmp_path / "runs/a", "val/accuracy", **own) as keeper:
        for epoch, accuracy in enumerate([0.5, 0.8, 0.7]):
            keeper.offer({"fc.weight": numpy.full((10, 4), epoch, "float32")}, {"val/accuracy": accuracy}, epoch=epoch)
    return tmp_path


def command(where: pathlib.Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "keepbest", *arguments], cwd=where, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def test_show_and_list(where: pathlib.Path) -> None:
    code, out, _ = command(where, "show", "a")
    assert code == 0 and "kept by   a loop in Python: network and images are that program's" in out
    assert "network  " not in out.replace("network and", "") and "\ndata" not in out
    told = json.loads(command(where, "show", "a", "--json")[1])
    assert told["loop"] == "python" and told["best"]["value"] == 0.8
    listed = command(where, "list")[1].splitlines()[1].split()
    assert listed[:3] == ["a", "completed", "2"]


def test_verify_checks_all_but_the_metrics(where: pathlib.Path) -> None:
    code, out, err = command(where, "verify", "a")
    assert code == 0, err
    for check in ("digest   ok", "journal  ok", "file     ok"):
        assert check in out
    assert "not checked: the metrics: the model was kept by a loop in Python, and network and images are that program's" in out
    code, out, _ = command(where, "verify", "a@last")
    assert code == 0
    code, line, _ = command(where, "attest", "a")
    attested = line.splitlines()[0]
    assert command(where, "verify", "a", "--against", attested)[0] == 0
    best = where / "runs/a/best.safetensors"
    damaged = bytearray(best.read_bytes())
    damaged[-1] ^= 1
    best.unlink()
    best.write_bytes(damaged)
    code, out, _ = command(where, "verify", "a")
    assert code == 3 and "digest   FAILED" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "a"],
        ["predict", "a", "x.png"],
        ["export", "a", "--to", "x.onnx"],
        ["train", "--from", "a", "--data", "fashion-mnist-mini"],
        ["reproduce", "a"],
        ["card", "a"],
        ["compare", "a", "a"],
        ["import", "runs/a/best.safetensors", "--to", "x.safetensors"],
    ],
)
def test_what_needs_the_network_says_whose_it_is(where: pathlib.Path, arguments: list[str]) -> None:
    code, out, err = command(where, *arguments)
    assert code in (1, 2), out
    # What is asked of the loop says the same of that.
    assert PYTHONS in err or "but of a loop in Python: network, images and loop are that program's" in err
    assert "hint: " in err and "Traceback" not in err
    if PYTHONS in err:
        assert "`keepbest.load` there gives its weights" in err and "keepbest import" in err


@pytest.mark.parametrize("how", [["--resume", "a"], ["--config", "runs/a/run.toml"]])
def test_train_cannot_go_on_with_it(where: pathlib.Path, how: list[str]) -> None:
    journal = (where / "runs/a/journal.jsonl").read_bytes()
    code, _, err = command(where, "train", *how)
    assert code == 2
    assert "they are not settings of `keepbest train`, but of a loop in Python" in err
    assert 'hint: in that program, keepbest.Keeper.resume("runs/a") goes on with it' in err
    assert (where / "runs/a/journal.jsonl").read_bytes() == journal


def test_inspect(where: pathlib.Path) -> None:
    code, out, _ = command(where, "inspect", "a")
    assert code == 0 and "null" not in out
    assert "weights and training state, without a network" in out
    assert "kept by       a loop in Python: the network is that program's" in out


def test_what_needs_no_network_works(where: pathlib.Path) -> None:
    for arguments in (["explain", "a"], ["fsck", "a"], ["report", "a"], ["prune", "a", "--dry-run"], ["pin", "a@best"]):
        code, _, err = command(where, *arguments)
        assert code == 0, (arguments, err)


def test_a_network_of_ours_becomes_a_full_model(tmp_path: pathlib.Path) -> None:
    trained = keepbest.train(squares(), runs_dir=tmp_path / "runs", name="ours", **SETTINGS).load()
    with keepbest.Keeper(tmp_path / "runs/a", "val/accuracy") as keeper:
        keeper.offer(trained.state_dict("numpy"), {"val/accuracy": 0.5})
    code, _, err = command(tmp_path, "import", "runs/a/best.safetensors", "--model", "lenet5", "--to", "full.safetensors")
    assert code == 0, err
    assert keepbest.load(tmp_path / "full.safetensors").digest == trained.digest
