"""Copies of the weights: on the device, and from there to this machine's memory while training goes on."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from keepbest._native import Arena
from keepbest.torch._device import STREAMS, tensor_at

PARTS = ("weights", "slots", "averages", "scaler")
"""The parts of the state, in the order of the layout."""


class Snapshot:
    """All weights and the training state at one step."""

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


class Snapshots:
    """Memory for snapshots, which is used again when nobody reads it any more."""

    def __init__(self, device: torch.device, layout: dict[str, Any]) -> None:
        self._device, self._layout = device, layout
        self._stream: Any = getattr(torch, device.type).Stream(device) if device.type in STREAMS else None
        self._made: list[_Memory] = []

    def take(self, state: list[Tensor]) -> Snapshot:
        """A copy of the state, after all that was computed before."""
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
        self.reader: weakref.ref[Snapshot] | None = None
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
        for part in PARTS:
            self.views[part] = []
            for _, offset in layout[part]:
                tensor = next(rest)
                length = tensor.numel() * tensor.element_size()
                view = self._flat[offset : offset + length].view(tensor.dtype).view(tensor.shape)
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
