"""The best as a checkpoint of Ray Train, and as an artifact of MLflow."""

from __future__ import annotations

import pathlib

import numpy
import pytest

import keepbest


def test_mlflow_gets_the_best_with_its_metrics(
    run: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    from keepbest.mlflow import log_best

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with keepbest.Keeper(run, "val/accuracy") as keeper:
        for epoch, accuracy in enumerate([0.5, 0.9, 0.7]):
            keeper.offer({"w": numpy.full(3, epoch)}, {"val/accuracy": accuracy}, epoch=epoch)
        with mlflow.start_run() as active:
            log_best(keeper)
    logged = mlflow.get_run(active.info.run_id)
    assert logged.data.metrics == {"best.val/accuracy": 0.9}
    assert logged.data.tags["keepbest.digest"] == keepbest.load(run).digest
    path = mlflow.artifacts.download_artifacts(run_id=active.info.run_id, artifact_path="best/best.safetensors", dst_path=str(tmp_path))
    assert keepbest.load(path).epoch == 1


def test_ray_gets_a_checkpoint_for_each_new_best(tmp_path: pathlib.Path) -> None:
    from ray.train import Checkpoint, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    folder = str(tmp_path)

    def loop() -> None:
        import numpy

        import keepbest
        from keepbest.ray import report

        with keepbest.Keeper(f"{folder}/run", "val/accuracy") as keeper:
            for epoch, accuracy in enumerate([0.5, 0.9, 0.7]):
                metrics = {"val/accuracy": accuracy}
                verdict = keeper.offer({"w": numpy.full(3, epoch)}, metrics, epoch=epoch)
                report(keeper, verdict, metrics)

    result = TorchTrainer(
        loop, scaling_config=ScalingConfig(num_workers=1), run_config=RunConfig(storage_path=folder, name="ray")
    ).fit()
    assert isinstance(result.checkpoint, Checkpoint)
    with result.checkpoint.as_directory() as directory:
        assert keepbest.load(f"{directory}/best.safetensors").metrics == {"val/accuracy": 0.9}
