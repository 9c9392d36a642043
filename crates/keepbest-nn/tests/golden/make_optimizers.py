#!/usr/bin/env python3
"""Writes optimizers.json and optimizers.safetensors: PyTorch's optimizers, schedules and gradient clipping.

optimizers.json has three lists:

- `optimizers`: {"name", "optimizer", "learning_rates", "parameters"}: one step per learning rate. Tensors
  `<name>/initial.<p>`, `<name>/grad.<step>.<p>` (float32) and `<name>/param.<step>.<p>`, the parameter after
  that step (float64), for each parameter p; steps count from 1.
- `clips`: {"name", "max_norm", "parameters", "total_norm"}: `<name>/grad.<p>` before, `<name>/clipped.<p>` after
  clip_grad_norm_ (2-norm over all of them together).
- `schedules`: {"name", "schedule", "base_lr", "learning_rates"}: element t is the learning rate that step t
  uses, t from 0. A plateau has `metrics` too: `learning_rates[t]` holds before `metrics[t]` is observed.

Optimizers run in float64 on float32 values, so a float32 engine is judged against the truth.
"""

import torch
from torch.optim import SGD, Adam, AdamW, lr_scheduler as lrs

from golden import Sink, out_dir, values, write_json, write_tensors

SHAPES = {"weight": (4, 3), "bias": (5,)}
LEARNING_RATES = [0.1, 0.1, 0.05, 0.2, 0.01]

OPTIMIZERS = {
    "sgd": (SGD, {}),
    "sgd-weight-decay": (SGD, {"weight_decay": 0.01}),
    "sgd-momentum": (SGD, {"momentum": 0.9}),
    "sgd-momentum-weight-decay": (SGD, {"momentum": 0.9, "weight_decay": 5e-4}),
    "sgd-dampening": (SGD, {"momentum": 0.8, "dampening": 0.3}),
    "sgd-nesterov": (SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd-nesterov-weight-decay": (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    "adam": (Adam, {}),
    "adam-weight-decay": (Adam, {"weight_decay": 0.05}),
    "adam-betas-eps": (Adam, {"betas": (0.8, 0.95), "eps": 1e-3}),
    "adamw": (AdamW, {"weight_decay": 0.01}),
    "adamw-betas-eps": (AdamW, {"betas": (0.7, 0.9), "eps": 1e-4, "weight_decay": 0.1}),
}


def describe(kind, options):
    """The optimizer as data, every field explicit."""
    if kind is SGD:
        full = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0} | options
        return {"type": "sgd", **full}
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    decay = options.get("weight_decay", 0.0)
    return {"type": kind.__name__.lower(), "beta1": beta1, "beta2": beta2, "eps": options.get("eps", 1e-8), "weight_decay": decay}


def optimizers(sink):
    index = []
    for name, (kind, options) in OPTIMIZERS.items():
        params = {p: values(f"{name}/initial.{p}", shape).requires_grad_() for p, shape in SHAPES.items()}
        for p, tensor in params.items():
            sink.put(name, f"initial.{p}", tensor, exact=True)
        optimizer = kind(params.values(), lr=LEARNING_RATES[0], **options)
        for step, lr in enumerate(LEARNING_RATES, start=1):
            optimizer.param_groups[0]["lr"] = lr
            for p, tensor in params.items():
                tensor.grad = values(f"{name}/grad.{step}.{p}", tensor.shape)
                if step == 3:
                    tensor.grad *= 2.0**-12  # a step with a far smaller gradient, still exact
                sink.put(name, f"grad.{step}.{p}", tensor.grad, exact=True)
            optimizer.step()
            for p, tensor in params.items():
                sink.put(name, f"param.{step}.{p}", tensor, exact=False)
        index.append(
            {
                "name": name,
                "optimizer": describe(kind, options),
                "learning_rates": LEARNING_RATES,
                "parameters": list(SHAPES),
            }
        )
    return index


def clips(sink):
    index = []
    for name, max_norm, scale in [("clip-above", 0.5, 1.0), ("clip-below", 50.0, 1.0), ("clip-zero", 1.0, 0.0)]:
        params = []
        for p, shape in SHAPES.items():
            tensor = torch.zeros(shape, dtype=torch.float64).requires_grad_()
            tensor.grad = values(f"{name}/grad.{p}", shape) * scale
            sink.put(name, f"grad.{p}", tensor.grad, exact=True)
            params.append(tensor)
        total = torch.nn.utils.clip_grad_norm_(params, max_norm)
        for p, tensor in zip(SHAPES, params):
            sink.put(name, f"clipped.{p}", tensor.grad, exact=False)
        index.append({"name": name, "max_norm": max_norm, "parameters": list(SHAPES), "total_norm": total.item()})
    return index


def warm_up_then(steps, start_factor, main):
    """LinearLR for `steps` steps, then the schedule that `main` builds."""

    def build(optimizer):
        warm_up = lrs.LinearLR(optimizer, start_factor=start_factor, total_iters=steps)
        return lrs.SequentialLR(optimizer, [warm_up, main(optimizer)], milestones=[steps])

    return build


SCHEDULES = [
    ("constant", {"type": "constant"}, 12, lambda o: lrs.ConstantLR(o, factor=1.0)),
    ("step", {"type": "step", "step_size": 4, "gamma": 0.1}, 14, lambda o: lrs.StepLR(o, 4, 0.1)),
    ("step-one", {"type": "step", "step_size": 1, "gamma": 0.95}, 20, lambda o: lrs.StepLR(o, 1, 0.95)),
    ("cosine", {"type": "cosine", "steps": 20, "eta_min": 0.0}, 21, lambda o: lrs.CosineAnnealingLR(o, 20)),
    (
        "cosine-eta-min",
        {"type": "cosine", "steps": 13, "eta_min": 0.003},
        14,
        lambda o: lrs.CosineAnnealingLR(o, 13, eta_min=0.003),
    ),
    (
        "one-cycle",
        {
            "type": "one_cycle",
            "max_lr": 0.4,
            "steps": 30,
            "pct_start": 0.3,
            "anneal": "cosine",
            "div_factor": 25.0,
            "final_div_factor": 1e4,
        },
        30,
        lambda o: lrs.OneCycleLR(o, 0.4, total_steps=30, cycle_momentum=False),
    ),
    (
        "one-cycle-linear",
        {
            "type": "one_cycle",
            "max_lr": 0.1,
            "steps": 17,
            "pct_start": 0.25,
            "anneal": "linear",
            "div_factor": 10.0,
            "final_div_factor": 100.0,
        },
        17,
        lambda o: lrs.OneCycleLR(
            o,
            0.1,
            total_steps=17,
            pct_start=0.25,
            anneal_strategy="linear",
            div_factor=10.0,
            final_div_factor=100.0,
            cycle_momentum=False,
        ),
    ),
    (
        "warm-up-constant",
        {"type": "constant", "warm_up": {"steps": 5, "start_factor": 0.2}},
        10,
        warm_up_then(5, 0.2, lambda o: lrs.ConstantLR(o, factor=1.0)),
    ),
    (
        "warm-up-step",
        {"type": "step", "step_size": 3, "gamma": 0.5, "warm_up": {"steps": 4, "start_factor": 0.1}},
        14,
        warm_up_then(4, 0.1, lambda o: lrs.StepLR(o, 3, 0.5)),
    ),
    (
        "warm-up-cosine",
        {"type": "cosine", "steps": 20, "eta_min": 0.001, "warm_up": {"steps": 5, "start_factor": 0.01}},
        26,
        warm_up_then(5, 0.01, lambda o: lrs.CosineAnnealingLR(o, 20, eta_min=0.001)),
    ),
]

FALLING = [1.0, 0.8, 0.79, 0.81, 0.795, 0.7899, 0.79, 0.9, 0.5, 0.5, 0.51, 0.50005, 0.6, 0.7, 0.49, 0.49, 0.49, 0.49, 0.49]
RISING = [0.1, 0.5, 0.52, 0.51, 0.519, 0.5201, 0.7, 0.7, 0.69, 0.7, 0.71, 0.70, 0.65, 0.72, 0.72, 0.72, 0.72, 0.72]
PLATEAUS = [
    ("plateau-min", FALLING, {"mode": "min", "factor": 0.1, "patience": 2}),
    ("plateau-max", RISING, {"mode": "max", "factor": 0.5, "patience": 1}),
    ("plateau-abs", RISING, {"mode": "max", "factor": 0.5, "patience": 0, "threshold": 0.01, "threshold_mode": "abs"}),
    ("plateau-cooldown", FALLING, {"mode": "min", "factor": 0.3, "patience": 1, "cooldown": 2, "min_lr": 0.002}),
    ("plateau-nan", [1.0, float("nan"), float("nan"), 0.9, float("inf"), 0.8], {"mode": "min", "factor": 0.5, "patience": 1}),
]
PLATEAU_DEFAULTS = {"threshold": 1e-4, "threshold_mode": "rel", "cooldown": 0, "min_lr": 0.0, "eps": 1e-8}


def new_optimizer(lr):
    return SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def schedules():
    index = []
    for name, schedule, count, build in SCHEDULES:
        base = schedule.get("max_lr", 0.1)
        optimizer = new_optimizer(base)
        scheduler = build(optimizer)
        rates = []
        for step in range(count):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if step + 1 < count:
                scheduler.step()
        index.append({"name": name, "schedule": schedule, "base_lr": base, "learning_rates": rates})
    for name, metrics, options in PLATEAUS:
        optimizer = new_optimizer(0.1)
        scheduler = lrs.ReduceLROnPlateau(optimizer, **options)
        rates = []
        for metric in metrics:
            rates.append(float(optimizer.param_groups[0]["lr"]))
            scheduler.step(metric)
        rates.append(float(optimizer.param_groups[0]["lr"]))
        schedule = {"type": "plateau", **PLATEAU_DEFAULTS, **options}
        # JSON has no NaN or infinity: they stand as strings.
        told = [m if abs(m) < float("inf") else {"nan": "NaN", "inf": "inf"}[str(m)] for m in metrics]
        index.append({"name": name, "schedule": schedule, "base_lr": 0.1, "metrics": told, "learning_rates": rates})
    return index


def main():
    out = out_dir(__doc__)
    sink = Sink()
    index = {
        "about": "PyTorch's optimizers, clipping and schedules; see make_optimizers.py",
        "optimizers": optimizers(sink),
        "clips": clips(sink),
        "schedules": schedules(),
    }
    write_json(out / "optimizers.json", index)
    write_tensors(out / "optimizers.safetensors", sink)
    print(f"{len(index['optimizers'])} optimizers, {len(index['clips'])} clips, {len(index['schedules'])} schedules")


if __name__ == "__main__":
    main()
