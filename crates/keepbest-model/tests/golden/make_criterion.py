"""PyTorch's cross entropy in float64, with and without smoothing and weights.

Writes criterion.json beside itself, or into --out DIR. The inputs come from numpy's RandomState, which is frozen.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
out = parser.parse_args().out

logits = torch.from_numpy((np.random.RandomState(1).standard_normal((7, 4)) * 3).astype(np.float32))
labels = torch.tensor([0, 3, 2, 2, 1, 0, 3])
weights = torch.tensor([0.5, 2.0, 1.0, 0.0], dtype=torch.float64)
cases = []
for smoothing in (0.0, 0.1, 0.9):
    for weight in (None, weights):
        loss = torch.nn.functional.cross_entropy(logits.double(), labels, weight=weight, label_smoothing=smoothing)
        cases.append({"smoothing": smoothing, "weights": None if weight is None else weight.tolist(), "loss": loss.item()})
golden = {
    "about": "logits: float32 [images, classes]; cases: label smoothing, class weights, and the mean loss in float64",
    "logits": logits.tolist(),
    "labels": labels.tolist(),
    "cases": cases,
}
(out / "criterion.json").write_text(json.dumps(golden, indent=1) + "\n")
