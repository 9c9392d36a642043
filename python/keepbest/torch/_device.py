"""The devices of PyTorch: their names, what they say of themselves, and how images come to them."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

STREAMS = ("cuda", "xpu")
"""Kinds of device that copy while they compute."""


def device_of(name: str) -> torch.device:
    """The device that ``keepbest`` calls so; of several ranks on one machine, each has its own."""
    if name == "torch:cpu":
        return torch.device("cpu")
    if name in STREAMS and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        return torch.device(name, int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


def problem(name: str) -> str | None:
    """Why nothing computes on a device here; ``None`` where it does."""
    device = device_of(name)
    if device.type == "cpu":
        return None
    module = getattr(torch, device.type, None)
    if module is None or not module.is_available():
        return f"this PyTorch ({torch.__version__}) finds none: torch.{device.type}.is_available() is False"
    count = module.device_count()
    if device.index is not None and device.index >= count:
        return f"this machine has {count}, of which the last is {device.type}:{count - 1}"
    return None


def processor(device: torch.device) -> str:
    """The model of a device."""
    if device.type == "cpu":
        return str(torch.backends.cpu.get_cpu_capability()).lower()
    module = getattr(torch, device.type)
    name = getattr(module, "get_device_name", None)
    return str(name(device)) if name is not None else device.type


def software(device: torch.device) -> str:
    """PyTorch with its version, and what it computes with on a device."""
    parts = []
    if device.type == "cuda" and torch.version.hip is not None:
        parts.append(f"ROCm {torch.version.hip}")
    elif device.type == "cuda":
        parts.append(f"CUDA {torch.version.cuda}")
        cudnn: Any = torch.backends.cudnn
        if cudnn.is_available():
            parts.append(f"cuDNN {cudnn.version()}")
    inside = f" ({', '.join(parts)})" if parts else ""
    return f"PyTorch {torch.__version__}{inside}"


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """A module on a device, channels last."""
    return module.to(device).to(memory_format=torch.channels_last)


def threads(device: torch.device) -> int:
    """Threads of this machine that it is worth making batches on."""
    if device.type == "cpu":
        return torch.get_num_threads()
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max((os.cpu_count() or 1) // max(local_ranks, 1), 1)


def tensor_at(address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in memory of the caller's, which stays his: it is valid as long as that is."""
    count = 1
    for side in shape:
        count *= side
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype, count=count).view(shape)


class Numerics:
    """How PyTorch computes: settings of the process, which are put back after each use."""

    def __init__(self, device: torch.device, deterministic: bool) -> None:
        self._device, self._deterministic = device, deterministic
        if device.type == "cuda" and deterministic:
            # cuBLAS reads it when it starts, and has no deterministic sums without.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    @contextlib.contextmanager
    def set(self) -> Iterator[None]:
        """``f32`` means ``f32``, without TF32; deterministic algorithms where it was asked for them, with a warning where there are none."""
        before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        # Memory that is not written to before it is read would be a fault of an operation, and filling it takes time.
        memory: Any = torch.utils.deterministic
        fill = memory.fill_uninitialized_memory
        torch.use_deterministic_algorithms(self._deterministic, warn_only=True)
        memory.fill_uninitialized_memory = False
        try:
            with self._cudnn():
                yield
        finally:
            memory.fill_uninitialized_memory = fill
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])

    def _cudnn(self) -> Any:
        if self._device.type != "cuda":
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=not self._deterministic, deterministic=self._deterministic, allow_tf32=False
        )


class Inbox:
    """Brings batches from this machine's memory to a device: through page-locked memory and, where the device can, while it computes."""

    def __init__(self, device: torch.device, batch_size: int, image: tuple[int, int, int]) -> None:
        self._device, self._image = device, image
        self._stream: Any = getattr(torch, device.type).Stream(device) if device.type in STREAMS else None
        self._pinned: list[tuple[Tensor, Tensor, Tensor, Any]] = []
        self._turn = 0
        if self._stream is not None:
            channels, height, width = image
            for _ in range(2):
                images = torch.empty((batch_size, height, width, channels), pin_memory=True)
                labels = torch.empty((2, batch_size), dtype=torch.int64, pin_memory=True)
                shares = torch.empty(batch_size, pin_memory=True)
                self._pinned.append((images, labels, shares, getattr(torch, device.type).Event()))
        self._ahead: tuple[tuple[int, int], Batch] | None = None

    def take(self, images: int, n: int, own: int | None = None, mixed: tuple[int, int] | None = None) -> Batch:
        """The batch at these addresses: ``n`` images ``[height, width, channels]``, a label each, and what was mixed into them."""
        ahead, self._ahead = self._ahead, None
        batch = ahead[1] if ahead is not None and ahead[0] == (images, n) else self._bring(images, n, own, mixed)
        if self._stream is not None:
            current = getattr(torch, self._device.type).current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in batch.tensors():
                tensor.record_stream(current)
        return batch

    def bring_ahead(self, images: int, n: int, own: int, mixed: tuple[int, int] | None) -> None:
        """Begins to bring the batch that is taken next, where the device copies while it computes."""
        if self._stream is not None:
            self._ahead = (images, n), self._bring(images, n, own, mixed)

    def _bring(self, images: int, n: int, own: int | None, mixed: tuple[int, int] | None) -> Batch:
        channels, height, width = self._image
        pixels = tensor_at(images, (n, height, width, channels), torch.float32)
        # Labels are below 2^31, so that their bits are those of a signed number.
        labels = [tensor_at(at, (n,), torch.int32) for at in (own, mixed[0] if mixed else None) if at is not None]
        shares = tensor_at(mixed[1], (n,), torch.float64) if mixed else None
        if self._stream is None:
            moved = [label.to(torch.int64).to(self._device) for label in labels]
            share = shares.to(torch.float32).to(self._device) if shares is not None else None
            return Batch(pixels.to(self._device), moved, share)
        pinned_images, pinned_labels, pinned_shares, copied = self._pinned[self._turn]
        self._turn = 1 - self._turn
        # What lay here before must have left.
        copied.synchronize()
        pinned_images[:n].copy_(pixels)
        for at, label in enumerate(labels):
            pinned_labels[at, :n].copy_(label)
        if shares is not None:
            pinned_shares[:n].copy_(shares)
        with getattr(torch, self._device.type).stream(self._stream):
            batch = Batch(
                pinned_images[:n].to(self._device, non_blocking=True),
                [pinned_labels[at, :n].to(self._device, non_blocking=True) for at in range(len(labels))],
                pinned_shares[:n].to(self._device, non_blocking=True) if shares is not None else None,
            )
            copied.record(self._stream)
        return batch


class Batch:
    """A batch on the device."""

    def __init__(self, images: Tensor, labels: list[Tensor], share: Tensor | None) -> None:
        self._images = images
        self.own = labels[0] if labels else None
        """Each image's label."""
        self.other = labels[1] if len(labels) > 1 else None
        """The label of what was mixed into it, if anything was."""
        self.share = share
        """The share of its own label then."""

    @property
    def images(self) -> Tensor:
        """``[n, channels, height, width]``, channels last in memory."""
        return self._images.permute(0, 3, 1, 2)

    def tensors(self) -> list[Tensor]:
        """All there are."""
        return [each for each in (self._images, self.own, self.other, self.share) if each is not None]
