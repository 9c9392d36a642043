"""Transformers' Trainer on a small model that is made here."""

from __future__ import annotations

import pathlib

import pytest

import torch
import transformers

import keepbest  # noqa: E402
from keepbest.transformers import KeepBest  # noqa: E402


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.layer(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def trainer(model: Net, tmp: pathlib.Path, callback: KeepBest, accuracies: list[float], epochs: int) -> "transformers.Trainer":
    torch.manual_seed(0)
    rows = [{"x": torch.randn(4), "labels": torch.tensor(i % 2)} for i in range(16)]
    said = iter(accuracies)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp / "out"), num_train_epochs=epochs, eval_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True
    )
    return transformers.Trainer(
        model,
        arguments,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda _: {"accuracy": next(said)},
        callbacks=[callback],
    )


def test_the_best_of_a_training(run: str, tmp_path: pathlib.Path) -> None:
    model = Net()
    callback = KeepBest(run, "eval_accuracy", load_best=True)
    trainer(model, tmp_path, callback, [0.5, 0.8, float("nan"), 0.6], 4).train()
    best = keepbest.load(run)
    assert (best.epoch, best.metrics["eval_accuracy"]) == (2, 0.8)
    assert torch.equal(model.layer.weight, best.state_dict()["layer.weight"])
    assert set(keepbest.load(f"{run}@last").state()) >= {"optimizer", "scheduler", "trainer", "rng"}
    assert callback.summary is not None and callback.summary.evaluations == 4


def test_patience_stops_it(run: str, tmp_path: pathlib.Path) -> None:
    callback = KeepBest(run, "eval_accuracy", patience=2)
    trainer(Net(), tmp_path, callback, [0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 6).train()
    assert callback.summary is not None and callback.summary.evaluations == 3


def test_one_of_several_evaluation_sets_has_the_metric(run: str, tmp_path: pathlib.Path) -> None:
    callback = KeepBest(run, "eval_a_accuracy")
    made = trainer(Net(), tmp_path, callback, [0.5, 0.1, 0.7, 0.2], 2)
    made.eval_dataset = {"a": made.eval_dataset, "b": made.eval_dataset}
    made.train()
    assert callback.summary is not None and callback.summary.evaluations == 2
    assert keepbest.load(run).metrics["eval_a_accuracy"] == 0.7


def test_a_metric_that_no_evaluation_has_ends_the_training_at_once(run: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(keepbest.errors.MetricMissing, match="eval_acuracy"):
        trainer(Net(), tmp_path, KeepBest(run, "eval_acuracy", mode="max"), [0.5] * 9, 9).train()


def test_a_script_that_is_run_again_does_not_mix_two_trainings(run: str, tmp_path: pathlib.Path) -> None:
    trainer(Net(), tmp_path, KeepBest(run, "eval_accuracy"), [0.5, 0.8], 2).train()
    for _ in range(2):
        with pytest.raises(keepbest.errors.RunExists, match="begins at step 0"):
            trainer(Net(), tmp_path, KeepBest(run, "eval_accuracy"), [0.9], 1).train()
    with pytest.raises(keepbest.errors.ObjectiveDiffers, match="eval_loss"):
        trainer(Net(), tmp_path, KeepBest(run, "eval_loss"), [0.9], 1).train()
    with pytest.raises(keepbest.errors.InvalidOption, match="patience"):
        trainer(Net(), tmp_path, KeepBest(run, "eval_accuracy", patience=3), [0.9], 1).train()
    assert keepbest.load(run).metrics["eval_accuracy"] == 0.8
