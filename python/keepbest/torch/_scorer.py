"""Scoring images with PyTorch."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from keepbest.torch._build import build_checked
from keepbest.torch._device import Inbox, Numerics, device_of, placed, tensor_at, threads


class Scorer:
    """A network on a device, in evaluation mode and in ``f32``."""

    def __init__(self, spec: str, device: str, layout: str, batch_size: int, wanted_threads: int | None) -> None:
        network = json.loads(spec)
        self._device, self._batch_size = device_of(device), batch_size
        if self._device.type == "cpu" and wanted_threads is not None:
            torch.set_num_threads(wanted_threads)
        self.threads = threads(self._device)
        self._numerics = Numerics(self._device, deterministic=True)
        self._module = placed(build_checked(network), self._device).eval()
        self._module.requires_grad_(False)
        state = self._module.state_dict()
        self._places: list[tuple[str, int]] = json.loads(layout)["weights"]
        self._weights = [state[name] for name, _ in self._places]
        self._classes: int = network["classes"]
        size = network["input"]
        self._image = (size["channels"], size["height"], size["width"])
        self._inbox = Inbox(self._device, batch_size, self._image)

    def load(self, address: int) -> None:
        """Takes the weights that lie there by the layout."""
        for (_, offset), tensor in zip(self._places, self._weights, strict=True):
            tensor.copy_(tensor_at(address + offset, tuple(tensor.shape), tensor.dtype))

    def load_snapshot(self, snapshot: Any, average: bool) -> None:
        """Takes the weights of a snapshot of an engine, or their average, on the device."""
        shown: list[Tensor] = snapshot.views["weights"]
        if average:
            averages = iter(snapshot.views["averages"])
            shown = [next(averages) if each.is_floating_point() else each for each in shown]
        torch._foreach_copy_(self._weights, shown)

    def logits(self, images: int, n: int, out: int) -> None:
        """Scores ``n`` images that lie at an address, ``[n, height, width, channels]``; ``[n, classes]`` comes to another."""
        answers = tensor_at(out, (n, self._classes), torch.float32)
        channels, height, width = self._image
        bytes_per_image = 4 * channels * height * width
        with torch.inference_mode(), self._numerics.set():
            for start in range(0, n, self._batch_size):
                count = min(self._batch_size, n - start)
                batch = self._inbox.take(images + start * bytes_per_image, count)
                answers[start : start + count].copy_(self._module(batch.images))
