"""A factor on the loss, so that small gradients survive float16: halved where they overflow, slowly raised.

Only float16 needs it, which GPUs before Ampere multiply fastest. Everything stays on the device: no step
waits. Source: Micikevicius et al. 2018, "Mixed precision training", section 3.2; the numbers are those of
torch.amp.GradScaler.
"""

from __future__ import annotations

import torch
from torch import Tensor

INITIAL = 65536.0
GROWTH, BACKOFF, GROWTH_INTERVAL = 2.0, 0.5, 2000


class LossScale:
    """The factor, and for how many steps it has been right."""

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.full((), INITIAL, device=device)
        self.steps = torch.zeros((), dtype=torch.int32, device=device)

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide the gradients by the factor, in place."""
        torch._foreach_mul_(gradients, 1.0 / self.factor)

    def update(self, overflowed: Tensor) -> None:
        """Take note of a step: overflowed is 1 where its gradients were not finite, else 0."""
        torch._amp_update_scale_(self.factor, self.steps, overflowed, GROWTH, BACKOFF, GROWTH_INTERVAL)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold."""
        return {"loss_scale/factor": self.factor, "loss_scale/steps": self.steps}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, own in self.tensors().items():
            own.copy_(tensors[name])
