"""PyTorch as an engine of keepbest's trainer: what ``crates/keepbest-python/src/torch`` calls, always on one thread.

Addresses are of memory that the caller holds until the call is over.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from keepbest.torch import _distributed
from keepbest.torch._build import build_checked
from keepbest.torch._criterion import Criterion
from keepbest.torch._device import STREAMS, Inbox, Numerics, device_of, placed, problem, processor, software, tensor_at, threads
from keepbest.torch._optimizer import Optimizer
from keepbest.torch._state import Parameters
from keepbest.torch._scaler import Scaler
from keepbest.torch._scorer import Scorer
from keepbest.torch._snapshot import Snapshot, Snapshots

__all__ = ["Engine", "Scorer", "problem"]

Addresses = tuple[int, int, int, tuple[int, int] | None]
"""Where a batch lies: images, how many, own labels, and what was mixed in: other labels, and shares of the own."""

_PRECISIONS = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}


class Engine:
    """A network that is trained on a device."""

    def __init__(self, spec: str, told: str, device: torch.device | None = None) -> None:
        config: dict[str, Any] = json.loads(told)
        network = json.loads(spec)
        self.device = device or device_of(config["device"])
        if self.device.type == "cpu" and config["threads"] is not None:
            torch.set_num_threads(config["threads"])
        if self.device.type in STREAMS and self.device.index is not None:
            getattr(torch, self.device.type).set_device(self.device)
        self._numerics = Numerics(self.device, config["deterministic"])
        self.is_deterministic: bool = config["deterministic"]
        """Whether two runs that are alike give the same bits, as far as PyTorch has said so far."""
        self.looks_ahead = self.device.type in STREAMS
        self._dtype = _PRECISIONS[config["precision"]]
        self._seed, self._clip, self._ranks = config["seed"], config["clip_grad_norm"], config["ranks"]
        self._batch_size: int = config["batch_size"]
        self._layout: dict[str, Any] = config["layout"]
        self._scaler = Scaler() if config["precision"] == "f16" else None
        self._criterion = Criterion(config["loss"], self.device)
        self.module = placed(build_checked(network), self.device)
        self._parameters = Parameters(self.module, [name for name, _ in self._layout["weights"]], config["rates"])
        self._forward = torch.compile(self.module, dynamic=False) if config["compile"] else self.module
        self._optimizer = Optimizer(config["optimizer"], self._parameters.trained, self._parameters.rates)
        averaging = config["averaging"] or {}
        self._averages = [torch.zeros_like(each) for each in self._parameters.floats] if averaging else []
        self._is_ema = "ema" in averaging
        self._draws = any(type(each).__name__ in ("Dropout", "StochasticDepth") for each in self.module.modules())
        size = network["input"]
        self._inbox = Inbox(self.device, self._batch_size, (size["channels"], size["height"], size["width"]))
        self._snapshots = Snapshots(self.device, self._layout)
        self._steps = 0

    @property
    def processor(self) -> str:
        """The model of the device."""
        return processor(self.device)

    @property
    def software(self) -> str:
        """What computes, with versions."""
        return software(self.device)

    @property
    def threads(self) -> int:
        """Threads that it is worth making batches on."""
        return threads(self.device)

    def step(
        self, batch: Addresses, learning_rate: float, average_share: float, ahead: Addresses | None
    ) -> tuple[float, int, int, float | None, bool]:
        """One optimizer step; brings the batch of the next one to the device meanwhile.

        Returns the mean loss, the images that were right and all of them, the norm of the gradient where it counts, and whether all were numbers: if
        not, or where something is raised, nothing has changed.
        """
        self._parameters.keep_statistics()
        changed = False
        try:
            with self._numerics.set(), self._listening():
                counts = self._backward(batch)
                if ahead is not None:
                    self._inbox.bring_ahead(*ahead)
                scale = self._scaler.scale if self._scaler is not None else 1.0
                loss, right, images, norm = self._measured(counts, scale)
                if _is_finite(loss) and (norm is None or _is_finite(norm)):
                    self._update(norm, scale, learning_rate, average_share)
                    changed = True
                elif _is_finite(loss) and self._scaler is not None:
                    # The scale was too large: as torch.amp.GradScaler does, the step is left out and the next one has half of it.
                    self._scaler.overflowed()
                    changed = not self._scaler.is_spent
        finally:
            if not changed:
                self._parameters.put_statistics_back()
        self._steps += int(changed)
        return loss, right, images, norm, changed

    def _backward(self, batch: Addresses) -> Tensor:
        """Computes the gradients; gives the sum of the losses, the sum of the weights, the images that were right and all of them."""
        images, n, own, mixed = batch
        self._draw()
        self._optimizer.forget_gradients()
        scale = self._scaler.scale if self._scaler is not None else 1.0
        counted = [torch.zeros((), device=self.device)] * 3
        if n > 0:
            taken = self._inbox.take(images, n, own, mixed)
            with self._autocast():
                logits = self._forward(taken.images)
            total, weight, right = self._criterion(logits.float(), taken)
            loss = total / (weight if self._ranks == 1 else self._batch_size)
            (loss * scale if scale != 1.0 else loss).backward()  # type: ignore[no-untyped-call]
            weight = weight if isinstance(weight, Tensor) else torch.full((), weight, device=self.device)
            counted = [total.detach(), weight, right.float()]
        counts = torch.stack([*counted, torch.full((), float(n), device=self.device)])
        if self._ranks > 1:
            self._join(counts, n)
        return counts

    def _autocast(self) -> Any:
        return contextlib.nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)

    def _join(self, counts: Tensor, n: int) -> None:
        """Makes gradients, statistics and counts those of all ranks: of a rank's images each counts as one of any other's."""
        gradients, statistics = self._parameters.gradients(), self._parameters.statistics
        with torch.no_grad():
            if statistics:
                torch._foreach_mul_(statistics, float(n))
            _distributed.sum_tensors([*gradients, *statistics, counts])
            torch._foreach_mul_(gradients, self._batch_size / counts[1])
            if statistics:
                torch._foreach_div_(statistics, counts[3])
                if n == 0:
                    torch._foreach_add_(self._parameters.counters, 1)

    def _measured(self, counts: Tensor, scale: float) -> tuple[float, int, int, float | None]:
        """Mean loss, right images, images, and the norm of the gradient where it is needed."""
        measured = [counts[0] / counts[1], counts[2], counts[3]]
        if self._clip is not None or self._scaler is not None:
            norms = torch._foreach_norm(self._parameters.gradients())
            measured.append(torch.linalg.vector_norm(torch.stack(norms)).float())
        read = self._read(torch.stack(measured))
        return read[0], int(_whole(read[1])), int(_whole(read[2])), read[3] / scale if len(read) > 3 else None

    def _read(self, values: Tensor) -> list[float]:
        """The one place of a step where the device is waited for."""
        numbers: list[float] = values.tolist()
        return numbers

    def _update(self, norm: float | None, scale: float, learning_rate: float, average_share: float) -> None:
        factor = 1.0 / scale
        if self._clip is not None and norm is not None:
            factor *= min(self._clip / (norm + 1e-6), 1.0)
        with torch.no_grad():
            if factor != 1.0:
                torch._foreach_mul_(self._parameters.gradients(), factor)
            self._optimizer.step(learning_rate)
            if self._is_ema:
                torch._foreach_lerp_(self._averages, self._parameters.floats, average_share)
        if self._scaler is not None:
            self._scaler.held()

    def _draw(self) -> None:
        """What is random in a step follows from the seed, the step and the rank alone, whatever was drawn before."""
        if self._draws:
            rank = torch.distributed.get_rank() if self._ranks > 1 else 0
            mixed = (self._seed * 0x9E3779B97F4A7C15 + (self._steps + 1) * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**64
            torch.manual_seed((mixed ^ (mixed >> 31)) % 2**63)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Hears in the first step whether something has no deterministic algorithm."""
        if not self.is_deterministic or self._steps > 0:
            yield
            return
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield
        for warning in heard:
            if "deterministic" in str(warning.message):
                self.is_deterministic = False
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    def snapshot(self) -> Snapshot:
        """A copy of all weights and the training state."""
        slots = [self._optimizer.tensor(name) for name, _ in self._layout["slots"]]
        scaler = self._scaler.state(self.device) if self._scaler is not None else []
        return self._snapshots.take([*self._parameters.all, *slots, *self._averages, *scaler])

    def load_weights(self, address: int) -> None:
        """Takes the weights that lie there by the layout, and begins the average anew."""
        self._copy_in(address, "weights", self._parameters.all)
        if self._averages:
            with torch.no_grad():
                torch._foreach_copy_(self._averages, self._parameters.floats)

    def restore(self, address: int, steps: int) -> None:
        """Takes weights and training state that lie there by the layout."""
        self._copy_in(address, "weights", self._parameters.all)
        self._copy_in(address, "averages", self._averages)
        left_out = 0
        if self._scaler is not None:
            state = self._scaler.state(torch.device("cpu"))
            self._copy_in(address, "scaler", state)
            self._scaler.restore(state)
            left_out = self._scaler.skipped
        slots = self._optimizer.renewed(steps - left_out)
        self._copy_in(address, "slots", [slots[name] for name, _ in self._layout["slots"]])
        self._steps = steps

    def _copy_in(self, address: int, part: str, tensors: list[Tensor]) -> None:
        with torch.no_grad():
            for (_, offset), tensor in zip(self._layout[part], tensors, strict=True):
                tensor.copy_(tensor_at(address + offset, tuple(tensor.shape), tensor.dtype))

    def average_weights(self, taken: int) -> None:
        """Takes the weights into the mean of those of some steps, of which ``taken`` are in it."""
        with torch.no_grad():
            if taken == 0:
                torch._foreach_copy_(self._averages, self._parameters.floats)
            else:
                torch._foreach_lerp_(self._averages, self._parameters.floats, 1.0 / (taken + 1.0))

    def measure_statistics(self, average: bool, images: int, n: int, seen: int) -> None:
        """Takes a batch into the mean of the statistics of all batch norms, of the weights or of their average; ``seen`` batches were before."""
        batch = self._inbox.take(images, n)
        with torch.no_grad(), self._numerics.set(), self._parameters.momentum(1.0 / (seen + 1.0)):
            self._draw()
            if not average:
                self.module(batch.images)
                return
            floats = self._parameters.floats
            own = [each.clone() for each in floats]
            torch._foreach_copy_(floats, self._averages)
            try:
                self.module(batch.images)
                torch._foreach_copy_(self._averages, floats)
            finally:
                torch._foreach_copy_(floats, own)


def _is_finite(value: float) -> bool:
    return value - value == 0.0


def _whole(value: float) -> float:
    """A count, or 0 where even that is no number."""
    return value if _is_finite(value) else 0.0
