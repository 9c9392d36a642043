"""The tensors of a module, in the order of a file, and what of them learns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Parameters:
    """Weights and buffers of a module in training mode, with a factor on the learning rate of each: 0 for what stays as it is."""

    def __init__(self, module: nn.Module, names: list[str], rates: list[float]) -> None:
        named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        known = set(module.state_dict())
        if known != set(names):
            raise RuntimeError(f"the module has other tensors than the network: {sorted(known ^ set(names))}")
        self.all = [named[name] for name in names]
        self.floats = [each for each in self.all if each.is_floating_point()]
        rate_of = dict(zip(names, rates, strict=True))
        parameters = {name for name, _ in module.named_parameters()}
        self.trained = {name: named[name] for name in names if name in parameters}
        self.rates = {name: rate_of[name] for name in self.trained}
        for name, parameter in self.trained.items():
            parameter.requires_grad_(self.rates[name] > 0.0)
        self._learning = [each for each in self.trained.values() if each.requires_grad]
        module.train()
        self._norms: list[Any] = []
        for name, each in module.named_modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.track_running_stats:
                if rate_of[f"{name}.running_mean"] == 0.0:
                    each.eval()
                else:
                    self._norms.append(each)
        self.statistics: list[Tensor] = [each for norm in self._norms for each in (norm.running_mean, norm.running_var)]
        """Of the batch norms that follow their batches."""
        self.counters: list[Tensor] = [norm.num_batches_tracked for norm in self._norms]
        self._kept = [torch.empty_like(each) for each in (*self.statistics, *self.counters)]

    def gradients(self) -> list[Tensor]:
        """Those of all that learns; zeros for what nothing was computed with."""
        for each in self._learning:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        return [each.grad for each in self._learning if each.grad is not None]

    def keep_statistics(self) -> None:
        """Keeps the statistics of all batch norms, which a forward pass changes."""
        if self._kept:
            with torch.no_grad():
                torch._foreach_copy_(self._kept, [*self.statistics, *self.counters])

    def put_statistics_back(self) -> None:
        """As they were kept."""
        if self._kept:
            with torch.no_grad():
                torch._foreach_copy_([*self.statistics, *self.counters], self._kept)

    @contextlib.contextmanager
    def momentum(self, momentum: float) -> Iterator[None]:
        """Another momentum of the statistics for a while, in which their batches are not counted."""
        momenta = [norm.momentum for norm in self._norms]
        counts = [each.clone() for each in self.counters]
        for norm in self._norms:
            norm.momentum = momentum
        try:
            yield
        finally:
            for norm, own, before in zip(self._norms, momenta, counts, strict=True):
                norm.momentum = own
                norm.num_batches_tracked.copy_(before)
