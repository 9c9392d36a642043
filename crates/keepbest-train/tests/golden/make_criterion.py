"""Writes criterion.json: PyTorch's cross entropy in float64, with and without smoothing and weights.

Run with current PyTorch: python make_criterion.py
"""

import json
from pathlib import Path

import torch

torch.manual_seed(1)
logits = (torch.randn(7, 4) * 3).to(torch.float32)
labels = torch.tensor([0, 3, 2, 2, 1, 0, 3])
weights = torch.tensor([0.5, 2.0, 1.0, 0.0], dtype=torch.float64)
cases = []
for smoothing in (0.0, 0.1, 0.9):
    for weight in (None, weights):
        loss = torch.nn.functional.cross_entropy(logits.double(), labels, weight=weight, label_smoothing=smoothing)
        cases.append({"smoothing": smoothing, "weights": None if weight is None else weight.tolist(), "loss": loss.item()})
golden = {"torch": torch.__version__, "logits": logits.tolist(), "labels": labels.tolist(), "cases": cases}
Path(__file__).with_name("criterion.json").write_text(json.dumps(golden, indent=1) + "\n")
