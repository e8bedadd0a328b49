"""The output layer and its loss as one step that never stores the logits.

A vocabulary of 8,192 makes the logits the largest tensor of a small model. Here they exist for a few rows at
a time: logits, softmax, and, still in the forward pass, the two products that give the gradients. What
`model(labels=...)` keeps in float32 for the backward pass, the largest single cost at this size, is gone.
Source of the idea: Hsu et al. 2024 (Liger Kernel), section 3.2; Wijmans et al. 2024 (Cut Your Losses).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ROWS = 1024  # rows at a time: at 8,192 entries in bfloat16 16 MB, which a CPU's last cache still holds


class LinearCrossEntropy(torch.autograd.Function):
    """mean(cross_entropy(hidden @ weight.T, targets)) with its gradients formed on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        N = hidden.shape[0]
        need_gradients = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if need_gradients else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_gradients else None
        losses = torch.empty(N, device=hidden.device)
        for start in range(0, N, CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            target = targets[rows]
            row = torch.arange(len(target), device=target.device)
            probabilities = torch.softmax(hidden[rows] @ weight.T, dim=-1)  # (rows, V)
            likelihood = probabilities[row, target]
            losses[rows] = -likelihood.float().clamp_min(1e-30).log()
            if grad_hidden is None or grad_weight is None:
                continue
            probabilities[row, target] = likelihood - 1  # now the gradient of the logits
            torch.mm(probabilities, weight, out=grad_hidden[rows])
            grad_weight += torch.mm(probabilities.T, hidden[rows])
        ctx.save_for_backward(grad_hidden, grad_weight)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grad_outputs[0] / grad_hidden.shape[0]
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight.mul_(scale).to(grad_hidden.dtype), None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean loss in nats of hidden states (N, C) under an output layer (V, C) for target ids (N,)."""
    loss: Tensor = LinearCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss
