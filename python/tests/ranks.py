"""Run by test_ranks.py under torchrun: every rank makes a keeper, all get one verdict, sharded weights are stored whole."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import keepbest
from keepbest import errors


def main() -> None:
    dist.init_process_group("gloo")
    rank, run = dist.get_rank(), sys.argv[1]
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fully_shard(model, mesh=mesh)
    assert any(isinstance(parameter, DTensor) for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters())

    keeper = keepbest.Keeper(run, "val/accuracy", patience=2)
    # Each rank's own accuracy: their mean counts.
    verdict = keeper.offer(model, {"val/accuracy": 0.4 + 0.2 * rank}, epoch=0, reduce="mean", optimizer=optimizer)
    assert verdict.improved and "0.5" in verdict.reason, verdict
    assert keeper.best is None or abs(keeper.best.score - 0.5) < 1e-12
    verdict = keeper.offer(model, {"val/accuracy": 0.3 + rank}, epoch=1)
    assert not verdict, "rank 0's metrics count"
    # What rank 0 refuses, every rank is told, and all go on.
    try:
        keeper.offer(model, {"val/acc": 0.9}, epoch=2)
        raise AssertionError("a metric was missing")
    except errors.MetricMissing:
        assert rank == 0
    except errors.OtherRankFailed as error:
        assert rank != 0 and "MetricMissing" in str(error)
    # So is rank 0 of what another rank cannot do; the next call is in step again.
    for wrong in ({"metrics": {"val/accuracy": None}}, {"metrics": {"val/accuracy": 0.1}, "state": object()}):
        metrics = wrong["metrics"] if rank else {"val/accuracy": 0.1}
        state = {"note": wrong["state"]} if rank and "state" in wrong else {}
        try:
            keeper.offer(model, metrics, epoch=2, **state)
            raise AssertionError("rank 1 was wrong")
        except errors.OtherRankFailed as error:
            assert rank == 0 and "rank 1" in str(error), error
        except (errors.InvalidMetric, errors.CannotStore):
            assert rank == 1
    torch.manual_seed(100 + rank)
    keeper.offer(model, {"val/accuracy": 0.1}, epoch=2, optimizer=optimizer)
    drawn = torch.rand(3)
    assert keeper.should_stop
    # One rank may ask alone.
    assert rank or keeper.best is not None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    best = keeper.load_best(model)
    for name, tensor in best.state_dict().items():
        assert torch.equal(tensor, whole[name]), name
    for name, tensor in model.state_dict().items():
        assert isinstance(tensor, DTensor) and torch.equal(tensor.full_tensor(), whole[name]), name
    keeper.interrupt()
    keeper = keepbest.Keeper.resume(run, model=model, optimizer=optimizer)
    assert torch.equal(torch.rand(3), drawn), "each rank has its own random numbers back"
    assert len(keeper.history) == 3
    summary = keeper.close()
    assert summary.best is not None and summary.best.epoch == 0 and summary.evaluations == 3
    print(f"rank {rank} agrees", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
