"""Operations of GPT-2 that are our own, because PyTorch computes them more slowly at these sizes.

Attention on a CPU goes in strips of queries. The fused kernel of scaled_dot_product_attention takes 2.3 times
as long, there and back, as plain matrix products (8 sequences of 256 tokens in bfloat16; benchmarks/LOG.md).
Those would also compute the upper half, which causal attention discards: strips of queries that meet the keys
up to their own last one skip most of it.

The output layer and its loss are one step that never stores the logits. A vocabulary of 8,192 makes the
logits the largest tensor of a small model. Here they exist for a few rows at a time: logits, softmax, and,
still in the forward pass, the two products that give the gradients. `model(labels=...)` keeps them in float32
for the backward pass, which is the largest single cost at this size.
Source of the idea: Hsu et al. 2024 (Liger Kernel), section 3.2; Wijmans et al. 2024 (Cut Your Losses).
Of a large vocabulary a step may compare some entries alone, which stand for the others: sampled softmax.

GELU goes through the sigmoid, which is the same function: PyTorch's tanh takes five times as long on a CPU
(2.2 beside 0.4 ns a number on one core). Its derivative is computed at once, while the numbers are in the
cache, and kept instead of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP = 128  # queries at a time
LONGEST = 512  # beyond it the stored probabilities, T * T for each head, cost more memory than they save time
CHUNK_ROWS = 512  # rows at a time: at 8,192 entries in bfloat16 8 MB, which a CPU's last cache still holds
CHUNK_ROWS_GPU = 1024
CHUNK_NUMBERS = 1 << 16  # of an activation at a time, for each thread: 256 kB, which an inner cache holds


def causal_attention(qkv: Tensor, n_head: int, scale: float) -> Tensor:
    """Queries, keys and values (B, T, 3 * C) of n_head heads -> their outputs side by side (B, T, C)."""
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    heads = qkv.view(B, T, 3, n_head, C // n_head)
    if qkv.device.type != "cpu" or T > LONGEST:
        q, k, v = heads.transpose(1, 3).unbind(2)  # three of (B, heads, T, head size)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        q, k, v = heads.permute(2, 0, 3, 1, 4).reshape(3, B * n_head, T, C // n_head).unbind(0)
        y = in_strips(q, k, v, scale).view(B, n_head, T, C // n_head)
    return y.transpose(1, 2).reshape(B, T, C)


def in_strips(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention of (N, T, head size) each."""
    T = q.shape[1]
    mask = causal_mask(T, q.dtype)
    strips = []
    for start in range(0, T, STRIP):
        end = min(T, start + STRIP)
        scores = torch.baddbmm(mask[start:end, :end], q[:, start:end], k[:, :end].mT, alpha=scale)
        strips.append(torch.softmax(scores, dim=-1) @ v[:, :end])
    return torch.cat(strips, dim=1)


@lru_cache(maxsize=4)
def causal_mask(T: int, dtype: torch.dtype) -> Tensor:
    """(T, T): 0 where the key is not later than the query, -inf where it is."""
    return torch.full((T, T), -torch.inf, dtype=dtype).triu(1)


@dataclass(frozen=True)
class Candidates:
    """Entries of the vocabulary that a loss compares, the targets among them."""

    ids: Tensor  # (K,)
    log_counts: Tensor  # (K,): the logarithm of how many entries each of them stands for


class LinearCrossEntropy(torch.autograd.Function):
    """mean(cross_entropy(hidden @ weight.T + bias, targets)); its gradients come with the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        N = hidden.shape[0]
        need_gradients = any(ctx.needs_input_grad[:2])
        chunk = CHUNK_ROWS if hidden.device.type == "cpu" else CHUNK_ROWS_GPU
        # Written anew by each chunk: fresh memory would cost the first touch of each page.
        buffers = [hidden.new_empty(min(chunk, N), len(weight)) for _ in range(2)]
        grad_hidden = torch.empty_like(hidden) if need_gradients else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_gradients else None
        losses = torch.empty(N, device=hidden.device)
        for start in range(0, N, chunk):
            rows = slice(start, start + chunk)
            target = targets[rows]
            row = torch.arange(len(target), device=target.device)
            logits, probabilities = (buffer[: len(target)] for buffer in buffers)  # (rows, V)
            if bias is None:
                torch.mm(hidden[rows], weight.T, out=logits)
            else:
                torch.addmm(bias, hidden[rows], weight.T, out=logits)
            torch.softmax(logits, dim=-1, out=probabilities)
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
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grad_outputs[0] / grad_hidden.shape[0]
        grad_weight = grad_weight.mul_(scale).to(grad_hidden.dtype)
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight, None, None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, candidates: Candidates | None = None
) -> Tensor:
    """Mean loss in nats of hidden states (N, C) under an output layer (V, C) for target ids (N,).

    candidates: estimate it from these entries; each target must be one of them.
    """
    bias = None
    if candidates is not None:
        position = torch.empty(len(weight), dtype=torch.int64, device=weight.device)
        position[candidates.ids] = torch.arange(len(candidates.ids), device=weight.device)
        weight, targets = weight[candidates.ids], position[targets]
        bias = candidates.log_counts.to(hidden.dtype)
    loss: Tensor = LinearCrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss


class GELU(torch.autograd.Function):
    """GPT-2's GELU on a CPU: x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x^3)).

    Source: Hendrycks and Gimpel 2016, section 2, with 1 + tanh(y) = 2 * sigmoid(2 * y).
    """

    FIRST = 2 * math.sqrt(2 / math.pi)
    THIRD = 0.044715 * FIRST

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        slope = torch.empty_like(y) if ctx.needs_input_grad[0] else None
        numbers, values = x.reshape(-1), y.view(-1)
        precision = torch.promote_types(x.dtype, torch.float32)
        first = torch.tensor(GELU.FIRST, dtype=torch.float64)
        chunk = CHUNK_NUMBERS * torch.get_num_threads()
        for start in range(0, len(numbers), chunk):
            part = slice(start, start + chunk)
            x_part = numbers[part].to(precision)
            squares = x_part.square()
            gate = torch.add(first, squares, alpha=GELU.THIRD).mul_(x_part).sigmoid_()
            value = x_part * gate
            values[part] = value
            if slope is not None:
                # gate + x * gate * (1 - gate) * (FIRST + 3 * THIRD * x^2)
                inner = torch.add(first, squares, alpha=3 * GELU.THIRD)
                inner.mul_(value.addcmul_(value, gate, value=-1))
                torch.add(inner, gate, out=inner)
                slope.view(-1)[part] = inner
        if slope is not None:
            ctx.save_for_backward(slope)
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        gradient: Tensor = grad_outputs[0] * slope
        return gradient


def gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's GELU, by its tanh."""
    if x.device.type == "cpu":
        y: Tensor = GELU.apply(x)  # type: ignore[no-untyped-call]
        return y
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": gelu_tanh,
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
