"""PyTorch as an engine of keepbest's trainer: what ``crates/keepbest-python/src/torch`` calls, always on one thread.

Addresses are of memory that the caller holds until the call is over.
"""

from __future__ import annotations

import json
import warnings
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from keepbest._native import Arena
from keepbest.torch._build import build_checked
from keepbest.torch._criterion import Criterion
from keepbest.torch._device import STREAMS, Inbox, Numerics, device_of, problem, processor, software, tensor_at, threads
from keepbest.torch._scaler import Scaler
from keepbest.torch._scorer import Scorer

__all__ = ["Engine", "Scorer", "Snapshot", "problem"]

_PRECISIONS = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}


class Engine:
    """A network that is trained on a device."""

    def __init__(self, spec: str, told: str) -> None:
        config: dict[str, Any] = json.loads(told)
        network = json.loads(spec)
        self.device = device_of(config["device"])
        if self.device.type == "cpu" and config["threads"] is not None:
            torch.set_num_threads(config["threads"])
        self.processor, self.software, self.threads = processor(self.device), software(self.device), threads(self.device)
        self._numerics, self._deterministic = Numerics(self.device, config["deterministic"]), config["deterministic"]
        self._dtype = _PRECISIONS[config["precision"]]
        self._seed, self._clip = config["seed"], config["clip_grad_norm"]
        self._layout: dict[str, Any] = config["layout"]
        self._scaler = Scaler() if config["precision"] == "f16" else None
        self._criterion = Criterion(config["loss"], self.device)
        self.module: nn.Module = build_checked(network).to(self.device, memory_format=torch.channels_last)
        self._tensors = _Tensors(self.module, self._layout["weights"], config["rates"])
        self._forward = torch.compile(self.module, dynamic=False) if config["compile"] else self.module
        self._optimizer, self._slots = _optimizer(config["optimizer"], self._tensors)
        self._averages = [torch.zeros_like(each) for each in self._tensors.floats] if config["averaging"] else []
        self._is_ema = bool(config["averaging"]) and "ema" in config["averaging"]
        self._draws = any(type(each).__name__ in ("Dropout", "StochasticDepth") for each in self.module.modules())
        size = network["input"]
        self._inbox = Inbox(self.device, config["batch_size"], (size["channels"], size["height"], size["width"]))
        self._snapshots = _Snapshots(self.device, self._layout, self._tensors)
        self._steps = 0

    @property
    def is_deterministic(self) -> bool:
        """Whether two runs that are alike give the same bits, as far as PyTorch has said so far."""
        return self._deterministic

    def step(
        self,
        images: int,
        n: int,
        own: int,
        mixed: tuple[int, int] | None,
        learning_rate: float,
        average_share: float,
        ahead: tuple[int, int, int, tuple[int, int] | None] | None = None,
    ) -> tuple[float, int, float | None, bool]:
        """One optimizer step; brings the batch of the next one here meanwhile.

        Returns the mean loss, the images that were right, the norm of the gradient where it counts, and whether all were numbers: if not, nothing
        has changed.
        """
        batch = self._inbox.take(images, n, own, mixed)
        with self._numerics.set(), self._listen():
            self._tensors.keep_statistics()
            self._draw()
            self._optimizer.zero_grad(set_to_none=True)
            scale = self._scaler.scale if self._scaler is not None else 1.0
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
                logits = self._forward(batch.images)
            loss, correct = self._criterion(logits.float(), batch)
            (loss * scale if scale != 1.0 else loss).backward()
            gradients = self._tensors.gradients()
            measured = [loss.detach(), correct]
            if self._clip is not None or self._scaler is not None:
                measured.append(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
            if ahead is not None:
                self._inbox.bring_ahead(*ahead)
            read = self._read(torch.stack([each.float() for each in measured]))
            value, right = read[0], int(read[1])
            norm = read[2] / scale if len(read) > 2 else None
            if not _is_finite(value) or (self._scaler is None and norm is not None and not _is_finite(norm)):
                self._tensors.put_statistics_back()
                return value, right, norm, False
            if self._scaler is not None and norm is not None and not _is_finite(norm):
                # The scale was too large: as torch.amp.GradScaler does, the step is left out and the next one has half of it.
                self._scaler.overflowed()
                if self._scaler.is_spent:
                    self._tensors.put_statistics_back()
                    return value, right, norm, False
            else:
                self._update(gradients, norm, scale, learning_rate, average_share)
            self._steps += 1
        return value, right, norm, True

    def _update(self, gradients: list[Tensor], norm: float | None, scale: float, learning_rate: float, average_share: float) -> None:
        factor = 1.0 / scale
        if self._clip is not None and norm is not None:
            factor *= min(self._clip / (norm + 1e-6), 1.0)
        if factor != 1.0:
            torch._foreach_mul_(gradients, factor)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["rate"]
        self._optimizer.step()
        if self._scaler is not None:
            self._scaler.held()
        if self._is_ema:
            with torch.no_grad():
                torch._foreach_lerp_(self._averages, self._tensors.floats, average_share)

    def _read(self, values: Tensor) -> list[float]:
        """The one place of a step where the device is waited for."""
        numbers: list[float] = values.tolist()
        return numbers

    def _draw(self) -> None:
        """What is random in a step follows from the seed and the step alone, whatever was drawn before."""
        if self._draws:
            mixed = (self._seed * 0x9E3779B97F4A7C15 + (self._steps + 1) * 0xBF58476D1CE4E5B9) % 2**64
            torch.manual_seed((mixed ^ (mixed >> 31)) % 2**63)

    def _listen(self) -> Any:
        """Hears in the first step whether something has no deterministic algorithm."""
        return _Hearing(self) if self._deterministic and self._steps == 0 else _SILENCE

    def snapshot(self) -> Snapshot:
        """A copy of all weights and the training state."""
        return self._snapshots.take(self._state())

    def _state(self) -> list[Tensor]:
        """All tensors, in the order of the layout."""
        slots = [self._slots.tensor(self._optimizer, name) for name, _ in self._layout["slots"]]
        scaler = self._scaler.state(self.device) if self._scaler is not None else []
        return [*self._tensors.all, *slots, *self._averages, *scaler]

    def load_weights(self, address: int) -> None:
        """Takes the weights that lie there by the layout, and begins the average anew."""
        self._copy_in(address, "weights", self._tensors.all)
        with torch.no_grad():
            if self._averages:
                torch._foreach_copy_(self._averages, self._tensors.floats)

    def restore(self, address: int, steps: int) -> None:
        """Takes weights and training state that lie there by the layout."""
        self._copy_in(address, "weights", self._tensors.all)
        self._copy_in(address, "averages", self._averages)
        if self._scaler is not None:
            state = self._scaler.state(torch.device("cpu"))
            self._copy_in(address, "scaler", state)
            self._scaler.restore(state)
        skipped = self._scaler.skipped if self._scaler is not None else 0
        slots = self._slots.fresh(self._optimizer, steps - skipped)
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
                torch._foreach_copy_(self._averages, self._tensors.floats)
            else:
                torch._foreach_lerp_(self._averages, self._tensors.floats, 1.0 / (taken + 1.0))

    def measure_statistics(self, average: bool, images: int, n: int, seen: int) -> None:
        """Takes a batch into the mean of the statistics of all batch norms, of the weights or of their average; ``seen`` batches were before."""
        batch = self._inbox.take(images, n)
        with torch.no_grad(), self._numerics.set(), self._tensors.counted(), self._tensors.momentum(1.0 / (seen + 1.0)):
            self._draw()
            if not average:
                self.module(batch.images)
                return
            own = [each.clone() for each in self._tensors.floats]
            torch._foreach_copy_(self._tensors.floats, self._averages)
            try:
                self.module(batch.images)
                torch._foreach_copy_(self._averages, self._tensors.floats)
            finally:
                torch._foreach_copy_(self._tensors.floats, own)


def _is_finite(value: float) -> bool:
    return value - value == 0.0


class _Tensors:
    """The tensors of a module, in the order of a file, and what of them learns."""

    def __init__(self, module: nn.Module, places: list[tuple[str, int]], rates: list[float]) -> None:
        named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        names = [name for name, _ in places]
        known = set(module.state_dict())
        if known != set(names):
            raise RuntimeError(f"the module has other tensors than the network: {sorted(known ^ set(names))}")
        self.all = [named[name] for name in names]
        self.floats = [each for each in self.all if each.is_floating_point()]
        parameters = {name for name, _ in module.named_parameters()}
        self.trained = {name: named[name] for name in names if name in parameters}
        self.rates = {name: rate for name, rate in zip(names, rates, strict=True) if name in parameters}
        for name, parameter in self.trained.items():
            parameter.requires_grad_(self.rates[name] > 0.0)
        rate_of = dict(zip(names, rates, strict=True))
        module.train()
        self._norms = []
        for name, each in module.named_modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.track_running_stats:
                if rate_of[f"{name}.running_mean"] == 0.0:
                    each.eval()
                else:
                    self._norms.append(each)
        self._statistics = [each for norm in self._norms for each in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
        self._kept = [torch.empty_like(each) for each in self._statistics]

    def gradients(self) -> list[Tensor]:
        """Those of all that learns."""
        return [each.grad for each in self.trained.values() if each.grad is not None]

    def keep_statistics(self) -> None:
        """Keeps the statistics of all batch norms, which a forward pass changes."""
        if self._kept:
            with torch.no_grad():
                torch._foreach_copy_(self._kept, self._statistics)

    def put_statistics_back(self) -> None:
        """As they were kept."""
        if self._kept:
            with torch.no_grad():
                torch._foreach_copy_(self._statistics, self._kept)

    def counted(self) -> Any:
        """Leaves the counters of batches as they are."""
        return _Counters([norm.num_batches_tracked for norm in self._norms])

    def momentum(self, momentum: float) -> Any:
        """Another momentum for a while."""
        return _Momentum(self._norms, momentum)


class _Counters:
    def __init__(self, counters: list[Tensor]) -> None:
        self._counters = counters

    def __enter__(self) -> None:
        self._before = [each.clone() for each in self._counters]

    def __exit__(self, *_: object) -> None:
        for each, before in zip(self._counters, self._before, strict=True):
            each.copy_(before)


class _Momentum:
    def __init__(self, norms: list[Any], momentum: float) -> None:
        self._norms, self._momentum = norms, momentum

    def __enter__(self) -> None:
        self._before = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.momentum = self._momentum

    def __exit__(self, *_: object) -> None:
        for norm, momentum in zip(self._norms, self._before, strict=True):
            norm.momentum = momentum


class _Slots:
    """The tensors that an optimizer keeps for each parameter, as keepbest names them: ``momentum_buffer.conv1.weight``."""

    def __init__(self, kinds: tuple[str, ...], counts: bool, trained: dict[str, Tensor]) -> None:
        self._kinds, self._counts, self._trained = kinds, counts, trained
        self._nothing: dict[str, Tensor] = {}

    def tensor(self, optimizer: torch.optim.Optimizer, name: str) -> Tensor:
        """One of them; zeros before the first step, and for what is frozen."""
        kind, _, parameter = name.partition(".")
        of = self._trained[parameter]
        found = optimizer.state[of].get(kind) if of in optimizer.state else None
        if found is not None:
            return found
        if parameter not in self._nothing:
            self._nothing[parameter] = torch.zeros_like(of)
        return self._nothing[parameter]

    def fresh(self, optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Tensor]:
        """New state after ``steps`` steps, to be filled."""
        optimizer.state.clear()
        made = {}
        for name, parameter in self._trained.items():
            state = {kind: torch.zeros_like(parameter, memory_format=torch.preserve_format) for kind in self._kinds}
            made.update({f"{kind}.{name}": tensor for kind, tensor in state.items()})
            # Before the first step PyTorch has no state, and makes the momentum of the gradient.
            if parameter.requires_grad and steps > 0:
                if self._counts:
                    on = parameter.device if optimizer.defaults.get("fused") else "cpu"
                    state["step"] = torch.tensor(float(steps), dtype=torch.float32, device=on)
                optimizer.state[parameter] = state
        return made


def _optimizer(config: dict[str, Any], tensors: _Tensors) -> tuple[torch.optim.Optimizer, _Slots]:
    """PyTorch's optimizer of these settings, a group for each factor on the learning rate."""
    learning = {name: each for name, each in tensors.trained.items() if each.requires_grad}
    rates = sorted({tensors.rates[name] for name in learning})
    groups: list[dict[str, Any]] = [
        {"params": [each for name, each in learning.items() if tensors.rates[name] == rate], "rate": rate} for rate in rates
    ]
    fused = next(iter(learning.values())).device.type in ("cpu", "cuda", "mps", "xpu")
    decay = config["weight_decay"]
    if config["type"] == "sgd":
        momentum = config["momentum"]
        sgd = torch.optim.SGD(
            groups, 0.0, momentum, config["dampening"], decay, config["nesterov"], fused=fused or None
        )
        return sgd, _Slots(("momentum_buffer",) if momentum else (), False, tensors.trained)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config["type"]]
    betas = config["beta1"], config["beta2"]
    made = kind(groups, 0.0, betas, config["eps"], decay, fused=fused or None)
    return made, _Slots(("exp_avg", "exp_avg_sq"), True, tensors.trained)


class _Hearing:
    """Takes note of what has no deterministic algorithm."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._caught = warnings.catch_warnings(record=True)

    def __enter__(self) -> None:
        self._heard = self._caught.__enter__()
        warnings.simplefilter("always")

    def __exit__(self, *raised: Any) -> None:
        self._caught.__exit__(*raised)
        for warning in self._heard or []:
            if "deterministic" in str(warning.message):
                self._engine._deterministic = False
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Silence:
    def __enter__(self) -> None:
        """Nothing to hear."""

    def __exit__(self, *_: object) -> None:
        """Nothing was heard."""


_SILENCE = _Silence()


class Snapshot:
    """All weights and the training state at one step: on the device, and on their way to this machine's memory."""

    def __init__(self, arena: Arena, views: dict[str, list[Tensor]], arriving: Any) -> None:
        self.arena, self.views, self._arriving = arena, views, arriving

    @property
    def is_here(self) -> bool:
        """Whether nothing is on its way."""
        return self._arriving is None

    def wait(self) -> None:
        """Waits until all is in the arena."""
        if self._arriving is not None:
            self._arriving.synchronize()


class _Snapshots:
    """Memory for snapshots, which is used again when nobody reads it any more."""

    def __init__(self, device: torch.device, layout: dict[str, Any], tensors: _Tensors) -> None:
        self._device, self._layout = device, layout
        self._stream: Any = getattr(torch, device.type).Stream(device) if device.type in STREAMS else None
        self._made: list[_Memory] = []

    def take(self, state: list[Tensor]) -> Snapshot:
        """A copy of the state, ordered after all that was computed before."""
        memory = next((each for each in self._made if each.is_free), None)
        if memory is None:
            memory = _Memory(self._device, self._layout, state)
            self._made.append(memory)
        with torch.no_grad():
            torch._foreach_copy_(memory.places, state)
        snapshot = Snapshot(memory.arena, memory.views, memory.send(self._stream))
        memory.reader = weakref.ref(snapshot)
        return snapshot


class _Memory:
    """Room for one snapshot: on the device, and page-locked in this machine's memory where the device has memory of its own."""

    def __init__(self, device: torch.device, layout: dict[str, Any], state: list[Tensor]) -> None:
        size = max(layout["bytes"], 1)
        self.reader: Any = None
        self._device = device
        if device.type == "cpu":
            self.arena = Arena(size)
            self._host = self._flat = tensor_at(self.arena.address, (size,), torch.uint8)
        else:
            self._host = torch.empty(size, dtype=torch.uint8, pin_memory=device.type in STREAMS)
            self.arena = Arena.of(self._host, self._host.data_ptr(), size)
            self._flat = torch.empty(size, dtype=torch.uint8, device=device)
        self.places: list[Tensor] = []
        self.views: dict[str, list[Tensor]] = {}
        rest = iter(state)
        for part in ("weights", "slots", "averages", "scaler"):
            self.views[part] = []
            for _, offset in layout[part]:
                tensor = next(rest)
                bytes_ = tensor.numel() * tensor.element_size()
                view = self._flat[offset : offset + bytes_].view(tensor.dtype).view(tensor.shape)
                self.views[part].append(view)
                self.places.append(view)

    @property
    def is_free(self) -> bool:
        """Whether nobody reads it."""
        return self.arena.is_free and (self.reader is None or self.reader() is None)

    def send(self, stream: Any) -> Any:
        """Sends it to this machine's memory; gives what says when it is there, unless it is."""
        if self._host is self._flat:
            return None
        if stream is None:
            self._host.copy_(self._flat)
            return None
        module = getattr(torch, self._device.type)
        stream.wait_stream(module.current_stream(self._device))
        with module.stream(stream):
            self._host.copy_(self._flat, non_blocking=True)
        event = module.Event()
        event.record(stream)
        return event
