"""Ignite's Checkpoint with our save handler, and a loop under Accelerate."""

from __future__ import annotations

import math

import pytest

import torch

import keepbest  # noqa: E402


def test_ignite_hands_over_what_it_would_keep(run: str) -> None:
    from ignite.engine import Engine, Events
    from ignite.handlers import Checkpoint

    from keepbest.ignite import KeepBest

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    scores = [0.5, math.nan, 0.9, 0.7]
    engine = Engine(lambda engine, batch: model.weight.data.add_(1))
    handler = KeepBest(run, "accuracy")
    to_save = {"model": model, "optimizer": optimizer}
    best = Checkpoint(
        to_save, handler, n_saved=None, score_name="accuracy", score_function=lambda engine: scores[engine.state.epoch - 1]
    )
    engine.add_event_handler(Events.EPOCH_COMPLETED, best)
    engine.run([0], max_epochs=4)
    summary = handler.close()
    assert summary.best is not None and summary.best.score == 0.9
    assert set(keepbest.load(f"{run}@last").state()) >= {"optimizer"}


def test_accelerate_unwraps_and_stores_what_was_prepared(run: str) -> None:
    import accelerate

    from keepbest.accelerate import KeepBest

    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    prepared, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    with KeepBest(accelerator, run, "val/accuracy") as keeper:
        accelerator.backward(prepared(torch.randn(2, 3)).sum())
        optimizer.step()
        scheduler.step()
        assert keeper.offer(prepared, {"val/accuracy": 0.5}, epoch=0)
    back = keepbest.load(f"{run}@last")
    assert set(back.state_dict()) == {"weight", "bias"}
    assert len(back.state()["optimizer"]) == 1 and len(back.state()["scheduler"]) == 1
    state = optimizer.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    again = torch.nn.Linear(3, 2)
    fresh = torch.optim.Adam(again.parameters())
    steps = torch.optim.lr_scheduler.StepLR(fresh, 1)
    accelerator = accelerate.Accelerator(cpu=True)
    wrapped, fresh, steps = accelerator.prepare(again, fresh, steps)
    with KeepBest.resume(accelerator, run, wrapped) as keeper:
        assert keeper.next_epoch == 1 and steps.scheduler.last_epoch == 1
        assert torch.equal(again.weight, back.state_dict()["weight"])
        assert torch.equal(fresh.optimizer.state_dict()["state"][0]["exp_avg"], state)
        assert keeper.offer(wrapped, {"val/accuracy": 0.6})
