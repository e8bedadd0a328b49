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

Softmax, GELU and the loss are passes over the numbers that numba compiles (cpu_passes.py). In precisions that
these do not know, and on other devices, PyTorch's own operations compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpt2.cpu_passes import causal_softmax, causal_softmax_backward, compiling, cross_entropy, gelu

STRIP = 128  # queries at a time
LONGEST = 512  # beyond it the stored probabilities, T * T for each head, cost more memory than they save time
CHUNK_ROWS = 512  # rows at a time: at 8,192 entries in bfloat16 8 MB, which a CPU's last cache still holds
CHUNK_ROWS_GPU = 1024
CANDIDATES_STEP = 64  # how many entries a chunk compares is rounded up to a multiple of this
PASS_DTYPES = torch.float32, torch.bfloat16
NUMBERS_A_THREAD = 1 << 16  # at least: fewer are computed before another thread has woken up


def has_passes(tensor: Tensor) -> bool:
    """Whether cpu_passes.py computes with the numbers of this tensor."""
    return tensor.device.type == "cpu" and tensor.dtype in PASS_DTYPES


def array_of(tensor: Tensor) -> NDArray[Any]:
    """The memory of a contiguous tensor, as cpu_passes.py takes it."""
    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


@lru_cache(maxsize=1)
def pass_threads(count: int) -> ThreadPoolExecutor:
    """A pool beside PyTorch's: OpenMP's threads cannot run our functions."""
    return ThreadPoolExecutor(count, "pass")


def in_parts(run: Callable[..., None], count: int, array: NDArray[Any], *more: Any) -> None:
    """run(first, last, array, *more) for all of range(count), divided among PyTorch's number of threads."""
    threads = min(torch.get_num_threads(), count, array.size // NUMBERS_A_THREAD)
    if threads < 2:
        run(0, count, array, *more)
        return
    bounds = [count * part // threads for part in range(threads + 1)]
    pool = pass_threads(torch.get_num_threads() - 1)
    others = [pool.submit(run, bounds[part], bounds[part + 1], array, *more) for part in range(1, threads)]
    run(0, bounds[1], array, *more)
    for other in others:
        other.result()


def compile_passes(dtype: torch.dtype, tell: Callable[[str], None]) -> None:
    """Compile what a training step on a CPU calls, if that was never done here.

    tell: is told before, as this takes some seconds. Raises: UserError if the result cannot be kept.
    """
    if dtype not in PASS_DTYPES:
        return
    qkv = torch.zeros(1, 2, 3, dtype=dtype, requires_grad=True)
    with compiling(causal_softmax_backward, tell):  # the last of them
        hidden = gelu_tanh(causal_attention(qkv, 1, 1.0).view(2, 1))
        torch.autograd.grad(linear_cross_entropy(hidden, qkv.view(6, 1), torch.tensor([0, 1])), qkv)


def causal_attention(qkv: Tensor, n_head: int, scale: float) -> Tensor:
    """Queries, keys and values (B, T, 3 * C) of n_head heads -> their outputs side by side (B, T, C)."""
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    heads = qkv.view(B, T, 3, n_head, C // n_head)
    if T > LONGEST or not has_passes(qkv):
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
        y = qkv.new_empty(B, T, n_head, d)
        strips = []
        for start in range(0, T, STRIP):
            end = min(T, start + STRIP)
            probabilities = torch.bmm(q[:, start:end], k[:, :end].mT)  # (B * heads, queries, keys)
            in_parts(causal_softmax, B * n_head, array_of(probabilities), start, np.float32(scale))
            strip = torch.bmm(probabilities, v[:, :end])
            y[:, start:end] = strip.view(B, n_head, end - start, d).transpose(1, 2)
            if ctx.needs_input_grad[0]:
                strips.append(probabilities)
        ctx.save_for_backward(stacked, *strips)
        ctx.n_head, ctx.scale = n_head, np.float32(scale)
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
        for number, probabilities in reversed(list(enumerate(strips))):
            start = number * STRIP
            end = min(T, start + STRIP)
            rows = slice(start, end)
            grad_v_part = torch.bmm(probabilities.mT, grad_y[:, rows])
            grad_scores = torch.bmm(grad_y[:, rows], v[:, :end].mT)
            both = array_of(probabilities), array_of(grad_scores)
            in_parts(causal_softmax_backward, N, *both, start, scale)
            grad_k_part = torch.bmm(grad_scores.mT, q[:, rows])
            if end == T:  # the first of them, which has all keys
                grad_v.copy_(grad_v_part)
                grad_k.copy_(grad_k_part)
            else:
                grad_v[:, :end] += grad_v_part
                grad_k[:, :end] += grad_k_part
            grad_q[:, rows] = torch.bmm(grad_scores, k[:, :end])
        stacked_by_head = gradients.view(3, -1, H, T, d)
        return stacked_by_head.permute(1, 3, 0, 2, 4).reshape(-1, T, 3 * H * d), None, None


@dataclass(frozen=True)
class Candidates:
    """Entries of the vocabulary that the loss of some rows compares, their targets among them."""

    ids: Tensor  # (K,)
    log_counts: Tensor  # (K,): the logarithm of how many entries each of them stands for

    def padded(self, vocab_size: int) -> Candidates:
        """These and, up to a multiple of CANDIDATES_STEP, the last entry of all, which stands for none.

        For bfloat16 oneDNN compiles a product for each shape that it meets and keeps a thousand of them: a
        tenth of the time and two gigabytes, if every chunk had a shape of its own.
        """
        missing = -len(self.ids) % CANDIDATES_STEP
        return Candidates(
            F.pad(self.ids, (0, missing), value=vocab_size - 1),
            F.pad(self.log_counts, (0, missing), value=-math.inf),
        )


def losses_and_gradient(logits: Tensor, log_counts: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (N,) in nats of logits (N, K) + log_counts (K,), and the gradient (N, K) of their sum.

    The logits are overwritten. Raises: IndexError for a target that is none of the K entries.
    """
    if has_passes(logits):
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]:
            raise IndexError(f"a target is none of {logits.shape[1]} entries")
        losses = torch.empty(len(targets))
        added = torch.zeros(logits.shape[1]) if log_counts is None else log_counts
        arrays = [array_of(tensor) for tensor in (logits, added, targets, losses)]
        in_parts(cross_entropy, len(targets), *arrays)
        return losses, logits
    gradient = torch.softmax(logits if log_counts is None else logits.add_(log_counts), dim=-1)
    row = torch.arange(len(targets), device=targets.device)
    likelihood = gradient[row, targets]
    gradient[row, targets] = likelihood - 1
    return -likelihood.float().clamp_min(1e-30).log(), gradient


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
        padded = [each.padded(V) for each in candidates or ()]
        widest = max((len(each.ids) for each in padded), default=V)
        # Written anew by each chunk: fresh memory would cost the first touch of each page.
        buffer = hidden.new_empty(min(chunk, N) * widest)
        grad_hidden = torch.empty_like(hidden) if need_gradients else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_gradients else None
        losses = torch.empty(N, device=hidden.device)
        compared, log_counts = weight, None
        for number, start in enumerate(range(0, N, chunk)):
            rows = slice(start, start + chunk)
            target = targets[rows]
            if candidates is not None:
                each = padded[number]
                compared, log_counts = weight[each.ids], each.log_counts
                target = torch.searchsorted(each.ids, target)
            logits = buffer[: len(target) * len(compared)].view(len(target), len(compared))
            torch.mm(hidden[rows], compared.T, out=logits)
            losses[rows], gradient = losses_and_gradient(logits, log_counts, target)
            if grad_hidden is None or grad_weight is None:
                continue
            torch.mm(gradient, compared, out=grad_hidden[rows])
            of_weight = torch.mm(gradient.T, hidden[rows])
            if candidates is None:
                grad_weight += of_weight
            else:
                grad_weight.index_add_(0, each.ids, of_weight.float())
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
    """GPT-2's GELU on a CPU. Its derivative is computed at once, and kept instead of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        values, slopes = torch.empty_like(x), x.new_empty(x.shape if ctx.needs_input_grad[0] else 0)
        in_parts(gelu, x.numel(), *(array_of(each.view(-1)) for each in (x, values, slopes)))
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (slopes,) = ctx.saved_tensors
        gradient: Tensor = grad_outputs[0] * slopes
        return gradient


def gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's GELU, by its tanh."""
    if not has_passes(x):
        return F.gelu(x, approximate="tanh")
    y: Tensor = GELU.apply(x)  # type: ignore[no-untyped-call]
    return y


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": gelu_tanh,
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
