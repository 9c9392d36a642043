#!/usr/bin/env python3
"""Goes on in PyTorch from the checkpoints (`best.pt`) that keepbest writes: model and optimizer load, and the next 10
losses are those of keepbest to 1e-3. Exit code 1 if not. After half of them writes its own checkpoint to DIR/back, and
the losses that followed beside it: for `--example resume_pth -- --back DIR`.

check_resume.py DIR      (as written by `--example resume_pth`, which also goes on from the files itself)

Needs: safetensors, torch, torchvision
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

from make_training import SimpleCnn

TOLERANCE = 1e-3
MODELS = {"simple-cnn": SimpleCnn}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def check(path):
    """Largest difference of a loss, and the losses."""
    best = torch.load(path, weights_only=True, mmap=True)
    model, optimizer = path.stem.rsplit("-", 1)
    model = MODELS[model]()
    model.load_state_dict(best["state_dict"], strict=True)
    names = [name for name, _ in model.named_parameters()]
    assert best["optimizer"]["param_groups"][0]["param_names"] == names
    # All settings come from the file: this learning rate is not used.
    optimizer = OPTIMIZERS[optimizer](model.parameters(), lr=123.0)
    optimizer.load_state_dict(best["optimizer"])
    data = load_file(path.with_suffix(".safetensors"))
    model.train()
    losses = []
    back = path.parent / "back" / path.name
    back.parent.mkdir(exist_ok=True)
    for images, labels in zip(data["images"], data["labels"]):
        if len(losses) == 5:
            state = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "step": best["step"] + 5}
            torch.save(state, back)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images.permute(0, 3, 1, 2).contiguous()), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    back.with_suffix(".json").write_text(json.dumps(losses[5:]))
    expected = best["keepbest"]["next_losses"]
    assert len(losses) == len(expected) == 10
    worst = max(abs(one - other) for one, other in zip(losses, expected))
    assert worst <= TOLERANCE, f"{path.name}: losses {losses}, keepbest's {expected}"
    return worst, losses


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: check_resume.py DIR")
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*.pt"))
    assert paths, "no checkpoints"
    for path in paths:
        worst, losses = check(path)
        print(f"{path.name}: losses {losses[0]:.3f} to {losses[-1]:.3f}, largest difference {worst:.1e}")
    print(f"torch {torch.__version__}: {len(paths)} checkpoints go on as in keepbest")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        raise SystemExit(f"FAILED: {error}") from error
