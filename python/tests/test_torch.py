"""Modules, optimizers and tensors of torch, one process and several; loops that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import torch

import keepbest  # noqa: E402
from keepbest import errors  # noqa: E402

LOOP = pathlib.Path(__file__).with_name("torch_loop.py")
METRICS = {"val/accuracy": 0.5}


def network() -> "torch.nn.Module":
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 2))


def test_everything_comes_back_and_training_goes_on_alike(run: str) -> None:
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        loss = model(torch.randn(4, 1, 4, 4)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with keepbest.Keeper(run, "val/accuracy") as keeper:
        step(model, optimizer)
        keeper.offer(model, METRICS, epoch=0, optimizer=optimizer, scaler=scaler, note={"fold": 3})
    step(model, optimizer)
    again = network()
    optimizer_again = torch.optim.SGD(again.parameters(), lr=0.5, momentum=0.9)
    keeper = keepbest.Keeper.resume(run, model=again, optimizer=optimizer_again, scaler=scaler)
    assert keeper.state["note"] == {"fold": 3}
    step(again, optimizer_again)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    keeper.close()
    with pytest.raises(errors.KeepbestError, match="no state of scheduler"):
        keepbest.Keeper.resume(run, model=again, scheduler=optimizer)


def test_every_element_type_and_layout(run: str) -> None:
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex32 complex64 complex128 "
    names += "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu uint16 uint32 uint64"
    state = {}
    for name in names.split():
        raw = torch.arange(1, 1 + 48 * 16, dtype=torch.uint8).remainder(2 if name == "bool" else 120)
        flat = raw.view(getattr(torch, name))
        state[name] = flat[: 2 * 3 * 4].view(2, 3, 4)
        state[f"{name} scalar"] = flat[0].clone()
        state[f"{name} part"] = flat[: 2 * 3 * 4].view(2, 3, 4)[:, 1:, ::2]
    base = torch.randn(2, 3, 4, 5)
    state["channels last"] = base.to(memory_format=torch.channels_last)
    state["transposed"] = base.transpose(0, 3)
    state["expanded"] = torch.randn(1, 3).expand(4, 3)
    state["conjugate"] = torch.randn(3, dtype=torch.complex64).conj()
    state["negative"] = torch.randn(3, dtype=torch.complex64).conj().imag
    state["empty"] = torch.zeros(0, 5)
    state["parameter"] = torch.nn.Parameter(torch.randn(3))
    state["tied"] = state["parameter"]
    with keepbest.Keeper(run, "val/accuracy", save_last=False) as keeper:
        keeper.offer(state, METRICS)
    back = keepbest.load(run).state_dict()
    assert list(back) == list(state)
    for name, tensor in state.items():
        wanted, got = tensor.detach().resolve_conj().resolve_neg().contiguous(), back[name]
        assert got.dtype == wanted.dtype and got.shape == wanted.shape, name
        if wanted.numel():
            assert torch.equal(wanted.view(-1).view(torch.uint8), got.contiguous().view(-1).view(torch.uint8)), name
    for name in ("channels last", "transposed"):
        assert back[name].stride() == state[name].stride()


def test_tied_weights_lie_in_memory_once(run: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 300))
    model[1].weight = model[0].weight
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        keeper.offer(model, METRICS)
        assert sum(len(arena) for arena in keeper._arenas) < 2 * 300 * 300 * 4
    again = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 300))
    again[1].weight = again[0].weight
    keepbest.load(run)
    keepbest.Keeper.resume(run, model=again).close()
    assert torch.equal(again[1].weight, model[0].weight)


def test_what_holds_no_numbers_is_named(run: str) -> None:
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        for name, tensor in {
            "meta": torch.zeros(3, device="meta"),
            "sparse": torch.eye(3).to_sparse(),
            "quantised": torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8),
        }.items():
            with pytest.raises(errors.CannotStore) as refused:
                keeper.offer({"a": torch.zeros(1), name: tensor}, METRICS)
            assert refused.value.where == name
        assert keeper.offer(network(), METRICS)


def test_pth_beside_best_opens_in_torch(run: str) -> None:
    model = network()
    with keepbest.Keeper(run, "val/accuracy", also="pth", save_weights_only=True) as keeper:
        keeper.offer(model, METRICS, optimizer=torch.optim.Adam(model.parameters()))
    for name, tensor in torch.load(f"{run}/best.pth", weights_only=True).items():
        assert torch.equal(tensor, model.state_dict()[name])
    from safetensors.torch import load_file

    assert set(load_file(f"{run}/best.safetensors")) == set(model.state_dict())


class Loops:
    """Loops of torch_loop.py, each a process."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._output = folder / "output"
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(LOOP), "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *arguments: str) -> int:
        self._output.write_text("")
        assert self._server.stdin is not None
        print(json.dumps([str(self._output), *arguments]), file=self._server.stdin, flush=True)
        return int(self._line())

    def _line(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()

    def wait_for(self, epochs: int, pid: int) -> None:
        """Waits until so many epochs are over, or the loop is."""
        while self.output.count("\n") < epochs and "best" not in self.output and os.path.exists(f"/proc/{pid}/fd/1"):
            time.sleep(0.002)

    def end(self) -> int:
        return int(self._line())

    @property
    def output(self) -> str:
        return self._output.read_text()

    def run(self, *arguments: str) -> list[str]:
        """The digests of best and last of a loop that nobody disturbs."""
        self.start(*arguments)
        assert self.end() == 0
        return digests(self.output)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def digests(output: str) -> list[str]:
    return output.strip().splitlines()[-1].split()[1::2]


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: pathlib.Path) -> None:
    kills = int(os.environ.get("KEEPBEST_KILLS", "50"))
    seed = int(os.environ.get("KEEPBEST_KILL_SEED", str(os.getpid())))
    print(f"KEEPBEST_KILLS={kills} KEEPBEST_KILL_SEED={seed}")
    chance = random.Random(seed)
    loops = Loops(tmp_path)
    undisturbed = loops.run(str(tmp_path / "undisturbed"), "8")
    run, killed, ended = str(tmp_path / "run"), 0, 0
    while killed < kills:
        pid = loops.start(run, "8", "--sleep", "0.02")
        # Some epochs on, then at any moment of an epoch or of a save.
        loops.wait_for(chance.randrange(0, 4), pid)
        time.sleep(chance.random() * 0.06)
        # It may have ended by itself.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status = loops.end()
        killed += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL)
        if os.path.exists(f"{run}/best.safetensors"):
            keepbest.load(run).verify()
        if "best " in loops.output:
            ended += 1
            assert digests(loops.output) == undisturbed
            shutil.rmtree(run)
    assert loops.run(run, "8") == undisturbed
    loops.close()
    print(f"{killed} kills, {ended} loops that ended before, 0 bests lost")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX")
def test_a_rank_that_dies_leaves_the_best_whole(tmp_path: pathlib.Path) -> None:
    kills = int(os.environ.get("KEEPBEST_RANK_KILLS", "15"))
    chance = random.Random(os.getpid())
    run = str(tmp_path / "run")
    for kill in range(kills):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(LOOP), run, "400"]
        process = subprocess.Popen([*command, "--ranks"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        try:
            assert process.stdout is not None
            for _ in range(chance.randrange(2, 6)):
                assert process.stdout.readline().startswith("epoch"), f"kill {kill}"
            ranks = [int(pid) for pid in _children(process.pid)]
            assert len(ranks) == 2
            os.kill(chance.choice(ranks), signal.SIGKILL)
            process.wait(timeout=60)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.communicate()
        keepbest.load(run).verify()
    keeper = keepbest.Keeper.resume(run)
    assert keeper.best is not None and keeper.epoch >= kills
    keeper.close()
    print(f"{kills} ranks killed, 0 bests lost")


def _children(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
