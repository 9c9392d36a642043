"""The scale of the loss in half precision, as ``torch.amp.GradScaler`` moves it (Micikevicius et al., arXiv 1710.03740)."""

from __future__ import annotations

import torch
from torch import Tensor

_GROWTH_INTERVAL = 2000
_LEAST = 2.0**-16


class Scaler:
    """Half of it where gradients are too large for the format, twice after many steps where they were not."""

    def __init__(self) -> None:
        self.scale = 2.0**16
        """The factor on the loss."""
        self._held = 0
        self.skipped = 0
        """Steps that were left out."""

    def held(self) -> None:
        """Gradients were numbers."""
        self._held += 1
        if self._held == _GROWTH_INTERVAL:
            self.scale, self._held = self.scale * 2.0, 0

    def overflowed(self) -> None:
        """Gradients were none, and the step was left out."""
        self.scale, self._held = self.scale * 0.5, 0
        self.skipped += 1

    @property
    def is_spent(self) -> bool:
        """Whether gradients are no numbers at any scale: training has diverged."""
        return self.scale < _LEAST

    def state(self, device: torch.device) -> list[Tensor]:
        """``scale`` and ``counts`` of the training state."""
        counts = torch.tensor([self._held, self.skipped], dtype=torch.int64)
        return [torch.tensor([self.scale], dtype=torch.float32).to(device), counts.to(device)]

    def restore(self, state: list[Tensor]) -> None:
        """Goes on from there."""
        self.scale = float(state[0][0])
        self._held, self.skipped = (int(each) for each in state[1])
