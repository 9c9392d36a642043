"""PyTorch's optimizers with keepbest's settings, and the tensors that they keep by keepbest's names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FUSED = ("cpu", "cuda", "mps", "xpu")
"""Kinds of device on which an optimizer's step is one kernel."""


class Optimizer:
    """An optimizer with a group of parameters for each factor on the learning rate."""

    def __init__(self, config: dict[str, Any], trained: dict[str, Tensor], rates: dict[str, float]) -> None:
        self._trained = trained
        learning = {name: each for name, each in trained.items() if each.requires_grad}
        groups: list[dict[str, Any]] = [
            {"params": [each for name, each in learning.items() if rates[name] == rate], "rate": rate}
            for rate in sorted({rates[name] for name in learning})
        ]
        self._is_fused = next(iter(learning.values())).device.type in FUSED
        decay, fused = config["weight_decay"], self._is_fused or None
        self._own: torch.optim.Optimizer
        if config["type"] == "sgd":
            momentum = config["momentum"]
            self._own = torch.optim.SGD(
                groups, 0.0, momentum, config["dampening"], decay, config["nesterov"], fused=fused
            )
            self._kinds: tuple[str, ...] = ("momentum_buffer",) if momentum else ()
        else:
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config["type"]]
            betas = config["beta1"], config["beta2"]
            self._own = kind(groups, 0.0, betas, config["eps"], decay, fused=fused)
            self._kinds = ("exp_avg", "exp_avg_sq")
        self._counts = config["type"] != "sgd"
        self._nothing: dict[str, Tensor] = {}

    def forget_gradients(self) -> None:
        """Frees the gradients."""
        self._own.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> None:
        """Takes a step with the gradients as they are."""
        for group in self._own.param_groups:
            group["lr"] = learning_rate * group["rate"]
        self._own.step()

    def tensor(self, name: str) -> Tensor:
        """``momentum_buffer.conv1.weight`` and so on: zeros before the first step, and for what is frozen."""
        kind, _, parameter = name.partition(".")
        of = self._trained[parameter]
        found: Tensor | None = self._own.state[of].get(kind) if of in self._own.state else None
        if found is not None:
            return found
        if parameter not in self._nothing:
            self._nothing[parameter] = torch.zeros_like(of)
        return self._nothing[parameter]

    def renewed(self, steps: int) -> dict[str, Tensor]:
        """New tensors, as after ``steps`` steps, to be filled."""
        self._own.state.clear()
        made = {}
        for name, parameter in self._trained.items():
            state = {kind: torch.zeros_like(parameter) for kind in self._kinds}
            made.update({f"{kind}.{name}": tensor for kind, tensor in state.items()})
            # Before the first step PyTorch has no state, and makes the momentum of the gradient.
            if parameter.requires_grad and steps > 0:
                if self._counts:
                    on = parameter.device if self._is_fused else "cpu"
                    state["step"] = torch.tensor(float(steps), dtype=torch.float32, device=on)
                self._own.state[parameter] = state
        return made
