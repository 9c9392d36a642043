#!/usr/bin/env python3
"""Trains with `--log`, then asks the real programs what they have: TensorBoard and an MLflow server, both started here.

What they show must be what the journal has: every metric at every step, the settings as parameters, the best model as a file.
Run with the Python of interop/requirements-loggers.txt.
"""

import argparse
import json
import math
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path


def check(holds, words):
    if not holds:
        sys.exit(f"loggers: {words}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def wait_for(url, process, ready=lambda body: True):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        check(process.poll() is None, f"{url}: the server ended with {process.poll()}")
        try:
            body = get(url)
            if ready(body):
                return body
        except OSError:
            pass
        time.sleep(0.5)
    sys.exit(f"loggers: {url} did not answer in time")


class Server:
    """A program that is ended when it is no longer needed."""

    def __init__(self, command, log):
        self.log = open(log, "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def as_f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def tensorboard(run, measured, port):
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", run / "tensorboard", "--port", str(port), "--host", "127.0.0.1",
               "--reload_interval", "1"]
    base = f"http://127.0.0.1:{port}/data/plugin/scalars"
    with Server(command, run / "tensorboard.log") as process:
        tags = json.loads(wait_for(f"{base}/tags", process, lambda body: b"val/accuracy" in body))
        check(set(tags) == {"."}, f"TensorBoard has the runs {set(tags)}")
        names = {name for metrics in measured.values() for name in metrics}
        check(names | {"train/learning_rate", "train/images_per_second"} == set(tags["."]), f"TensorBoard has {sorted(tags['.'])}")
        for name in sorted(names):
            query = urllib.parse.urlencode({"run": ".", "tag": name})
            points = json.loads(get(f"{base}/scalars?{query}"))
            shown = {step: float(value) for _, step, value in points}
            check(set(shown) == set(measured), f"TensorBoard has {name} at {sorted(shown)}")
            for step, value in shown.items():
                expected = as_f32(float(measured[step][name]))
                check(same(value, expected), f"TensorBoard has {name} {value} at step {step}, the journal {expected}")
    print(f"loggers: TensorBoard shows {len(names)} metrics of {len(measured)} evaluations as the journal has them")


def mlflow(url, keepbest, work, process):
    def ask(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    wait_for(f"{url}/health", process)
    train = f"train --name flow --epochs 2 --quiet --log mlflow={url}".split()
    said = subprocess.run([keepbest, *train], cwd=work, check=True, stderr=subprocess.PIPE).stderr.decode()
    check("mlflow" not in said, f"MLflow: {said}")
    # The run goes on, longer: on the server it is the same one.
    subprocess.run([keepbest, "train", "--resume", "runs/flow", "--epochs", "3", "--quiet"], cwd=work, check=True)
    events = journal(work / "runs" / "flow")
    measured = {event["step"]: event for event in events if event["event"] == "evaluated"}
    experiment = ask("experiments/get-by-name?experiment_name=keepbest")["experiment"]["experiment_id"]
    runs = ask("runs/search", {"experiment_ids": [experiment]})["runs"]
    check(len(runs) == 1, f"MLflow has {len(runs)} runs")
    info, data = runs[0]["info"], runs[0]["data"]
    check(info["status"] == "FINISHED" and info["run_name"] == "flow", f"MLflow has {info}")
    params = {param["key"]: param["value"] for param in data["params"]}
    check(params["model"] == "simple-cnn" and params["seed"] == "1", f"MLflow has the parameters {params}")
    for name in measured[max(measured)]["metrics"]:
        query = urllib.parse.urlencode({"run_id": info["run_id"], "metric_key": name})
        shown = {int(point["step"]): float(point["value"]) for point in ask(f"metrics/get-history?{query}")["metrics"]}
        check(set(shown) == set(measured), f"MLflow has {name} at {sorted(shown)}")
        for step, value in shown.items():
            expected = float(measured[step]["metrics"][name])
            check(same(value, expected), f"MLflow has {name} {value} at step {step}, the journal {expected}")
    query = urllib.parse.urlencode({"run_id": info["run_id"], "path": "model"})
    files = ask(f"artifacts/list?{query}")["files"]
    check([file["path"] for file in files] == ["model/best.safetensors"], f"MLflow has the files {files}")
    place = info["artifact_uri"].removeprefix("mlflow-artifacts:/").lstrip("/")
    kept = get(f"{url}/api/2.0/mlflow-artifacts/artifacts/{place}/model/best.safetensors")
    check(kept == (work / "runs" / "flow" / "best.safetensors").read_bytes(), "MLflow's model is not the best")
    print(f"loggers: MLflow has the run, {len(params)} parameters, {len(measured)} evaluations, and the best model")


def journal(run):
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def tables(run, measured):
    text = (run / "metrics.csv").read_text().splitlines()
    heads = text[0].split(",")
    rows = [dict(zip(heads, line.split(","))) for line in text[1:]]
    evaluations = json.loads((run / "metrics.json").read_text())["evaluations"]
    check(len(rows) == len(evaluations) == len(measured), "metrics.csv, metrics.json and the journal have other numbers of evaluations")
    for row, evaluation in zip(rows, evaluations):
        expected = measured[int(row["step"])]
        check(evaluation["metrics"] == expected, "metrics.json is not the journal")
        for name, value in expected.items():
            check(same(float(row[name]), float(value)), f"metrics.csv has {name} {row[name]}")
    print(f"loggers: metrics.csv and metrics.json have {len(rows)} evaluations as the journal has them")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keepbest", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    work, keepbest = args.work.resolve(), args.keepbest.resolve()

    port = free_port()
    command = [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{work}/mlflow.db", "--artifacts-destination", work / "artifacts"]
    # It takes a while to be ready: meanwhile the others.
    with Server(command, work / "mlflow.log") as process:
        train = "train --name board --epochs 3 --quiet --log tensorboard --log csv --log json".split()
        subprocess.run([keepbest, *train], cwd=work, check=True)
        run = work / "runs" / "board"
        measured = {event["step"]: event["metrics"] for event in journal(run) if event["event"] == "evaluated"}
        tables(run, measured)
        tensorboard(run, measured, free_port())
        mlflow(f"http://127.0.0.1:{port}", keepbest, work, process)


main()
