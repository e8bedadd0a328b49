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
Of a large vocabulary these rows may be compared with some entries alone, which stand for the others: sampled
softmax.

GELU goes through the sigmoid, which is the same function: PyTorch's tanh takes five times as long on a CPU
(2.2 beside 0.4 ns a number on one core). Its derivative is computed at once, while the numbers are in the
cache, and kept instead of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
        return y.transpose(1, 2).reshape(B, T, C)
    in_strips: Tensor = StripAttention.apply(qkv, n_head, scale)  # type: ignore[no-untyped-call]
    return in_strips


class StripAttention(torch.autograd.Function):
    """Causal attention on a CPU, STRIP queries at a time.

    Its backward pass is written out: autograd would fill a tensor of zeros with the gradient of each strip's
    keys and values, and add these up, which took a fifth of the time.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, n_head: int, scale: float) -> Tensor:
        B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        d = C // n_head
        stacked = qkv.view(B, T, 3, n_head, d).permute(2, 0, 3, 1, 4).reshape(3, B * n_head, T, d)
        q, k, v = stacked
        mask = causal_mask(T, q.dtype)
        y = qkv.new_empty(B, T, n_head, d)
        strips = []
        for start in range(0, T, STRIP):
            end = min(T, start + STRIP)
            scores = torch.baddbmm(mask[start:end, :end], q[:, start:end], k[:, :end].mT, alpha=scale)
            probabilities = torch.softmax(scores, dim=-1)  # (B * heads, queries, keys)
            strip = torch.bmm(probabilities, v[:, :end])
            y[:, start:end] = strip.view(B, n_head, end - start, d).transpose(1, 2)
            if ctx.needs_input_grad[0]:
                strips.append(probabilities)
        ctx.save_for_backward(stacked, *strips)
        ctx.n_head, ctx.scale = n_head, scale
        return y.view(B, T, C)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        stacked, *strips = ctx.saved_tensors
        q, k, v = stacked
        N, T, d = q.shape
        H, scale = ctx.n_head, ctx.scale
        grad_y = grad_outputs[0].reshape(-1, T, H, d).transpose(1, 2).reshape(N, T, d)
        gradients = torch.empty_like(stacked)
        grad_q, grad_k, grad_v = gradients
        nothing = q.new_zeros(())
        for number, probabilities in reversed(list(enumerate(strips))):
            start = number * STRIP
            end = min(T, start + STRIP)
            rows = slice(start, end)
            grad_v_part = torch.bmm(probabilities.mT, grad_y[:, rows])
            grad_scores = torch._softmax_backward_data(
                torch.bmm(grad_y[:, rows], v[:, :end].mT), probabilities, -1, q.dtype
            )
            grad_k_part = torch.baddbmm(nothing, grad_scores.mT, q[:, rows], beta=0, alpha=scale)
            if end == T:  # the first of them, which has all keys
                grad_v.copy_(grad_v_part)
                grad_k.copy_(grad_k_part)
            else:
                grad_v[:, :end] += grad_v_part
                grad_k[:, :end] += grad_k_part
            grad_q[:, rows] = torch.baddbmm(nothing, grad_scores, k[:, :end], beta=0, alpha=scale)
        stacked_by_head = gradients.view(3, -1, H, T, d)
        return stacked_by_head.permute(1, 3, 0, 2, 4).reshape(-1, T, 3 * H * d), None, None


@lru_cache(maxsize=4)
def causal_mask(T: int, dtype: torch.dtype) -> Tensor:
    """(T, T): 0 where the key is not later than the query, -inf where it is."""
    return torch.full((T, T), -torch.inf, dtype=dtype).triu(1)


@dataclass(frozen=True)
class Candidates:
    """Entries of the vocabulary that the loss of some rows compares, their targets among them."""

    ids: Tensor  # (K,)
    log_counts: Tensor  # (K,): the logarithm of how many entries each of them stands for


class LinearCrossEntropy(torch.autograd.Function):
    """mean(cross_entropy(hidden @ weight.T, targets)); its gradients come with the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, candidates: Sequence[Candidates] | None
    ) -> Tensor:
        N, V = hidden.shape[0], len(weight)
        need_gradients = any(ctx.needs_input_grad[:2])
        on_cpu = hidden.device.type == "cpu"
        chunk = CHUNK_ROWS if on_cpu or candidates is not None else CHUNK_ROWS_GPU
        widest = V if candidates is None else max(len(each.ids) for each in candidates)
        # Written anew by each chunk: fresh memory would cost the first touch of each page.
        buffers = [hidden.new_empty(min(chunk, N) * widest) for _ in range(2)]
        grad_hidden = torch.empty_like(hidden) if need_gradients else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_gradients else None
        losses = torch.empty(N, device=hidden.device)
        for number, start in enumerate(range(0, N, chunk)):
            rows = slice(start, start + chunk)
            target, compared = targets[rows], weight
            row = torch.arange(len(target), device=target.device)
            shape = len(target), V
            if candidates is not None:
                each = candidates[number]
                target, compared = torch.searchsorted(each.ids, target), weight[each.ids]
                shape = len(target), len(each.ids)
            logits, probabilities = (buffer[: math.prod(shape)].view(shape) for buffer in buffers)
            if candidates is None:
                torch.mm(hidden[rows], compared.T, out=logits)
            else:
                torch.addmm(each.log_counts.to(hidden.dtype), hidden[rows], compared.T, out=logits)
            torch.softmax(logits, dim=-1, out=probabilities)
            likelihood = probabilities[row, target]
            losses[rows] = -likelihood.float().clamp_min(1e-30).log()
            if grad_hidden is None or grad_weight is None:
                continue
            probabilities[row, target] = likelihood - 1  # now the gradient of the logits
            torch.mm(probabilities, compared, out=grad_hidden[rows])
            gradient = torch.mm(probabilities.T, hidden[rows])
            if candidates is None:
                grad_weight += gradient
            else:
                grad_weight.index_add_(0, each.ids, gradient.float())
        ctx.save_for_backward(grad_hidden, grad_weight)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grad_outputs[0] / grad_hidden.shape[0]
        grad_weight = grad_weight.mul_(scale).to(grad_hidden.dtype)
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight, None, None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, candidates: Sequence[Candidates] | None = None
) -> Tensor:
    """Mean loss in nats of hidden states (N, C) under an output layer (V, C) for target ids (N,).

    candidates: of each CHUNK_ROWS rows, to estimate it from these entries; their ids are sorted, and each
    target of the rows is among them.
    """
    loss: Tensor = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, candidates
    )
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
        is_half = x.dtype != precision
        first = torch.tensor(GELU.FIRST, dtype=torch.float64)
        chunk = CHUNK_NUMBERS * torch.get_num_threads()
        buffers = torch.empty(5 if is_half else 3, min(chunk, len(numbers)), dtype=precision)
        for start in range(0, len(numbers), chunk):
            part = slice(start, start + chunk)
            x_part = numbers[part].to(precision)
            squares, gate, rest, *wide = buffers[:, : len(x_part)]
            value = wide[0] if is_half else values[part]
            torch.mul(x_part, x_part, out=squares)
            torch.add(first, squares, alpha=GELU.THIRD, out=gate).mul_(x_part).sigmoid_()
            torch.mul(x_part, gate, out=value)
            if is_half:
                values[part] = value
            if slope is None:
                continue
            # gate + x * gate * (1 - gate) * (FIRST + 3 * THIRD * x^2)
            its_slope = wide[1] if is_half else slope.view(-1)[part]
            torch.addcmul(value, value, gate, value=-1, out=rest)
            torch.add(first, squares, alpha=3 * GELU.THIRD, out=squares)
            torch.addcmul(gate, rest, squares, out=its_slope)
            if is_half:
                slope.view(-1)[part] = its_slope
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
