"""The training criterion: cross entropy with label smoothing, class weights and mixed labels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from keepbest.torch._device import Batch


class Criterion:
    """As ``torch.nn.CrossEntropyLoss``; an image of two labels counts as both, each by its share (Zhang et al., arXiv 1710.09412)."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        self._smoothing: float = config["label_smoothing"]
        weights = config.get("class_weights")
        self._weights = torch.tensor(weights, dtype=torch.float32, device=device) if weights is not None else None

    def __call__(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor | float, Tensor]:
        """Of logits ``[n, classes]`` the sum of the losses, the sum of the images' weights, whose quotient is the mean loss, and the number of images
        whose highest score is their label's, or that of the larger share."""
        own, other, share = batch.own, batch.other, batch.share
        assert own is not None
        guesses = logits.detach().argmax(1)
        if other is None or share is None:
            total = F.cross_entropy(logits, own, self._weights, reduction="sum", label_smoothing=self._smoothing)
            weight = float(len(own)) if self._weights is None else self._weights[own].sum()
            return total, weight, (guesses == own).sum()
        right = (guesses == torch.where(share >= 0.5, own, other)).sum()
        log_probabilities = F.log_softmax(logits, 1)
        likely = [log_probabilities.gather(1, labels[:, None])[:, 0] for labels in (own, other)]
        shares = [share, 1.0 - share]
        if self._weights is not None:
            shares = [part * self._weights[labels] for part, labels in zip(shares, (own, other), strict=True)]
        total = -(shares[0] * likely[0] + shares[1] * likely[1]).sum() * (1.0 - self._smoothing)
        if self._smoothing > 0.0:
            spread = log_probabilities if self._weights is None else log_probabilities * self._weights
            total = total - spread.sum() * (self._smoothing / logits.shape[1])
        return total, (shares[0] + shares[1]).sum(), right
