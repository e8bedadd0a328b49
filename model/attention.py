"""Causal attention while training: on a CPU in strips of queries, elsewhere PyTorch's own.

On a CPU the fused kernel of scaled_dot_product_attention takes 2.3 times as long, there and back, as plain
matrix products (8 sequences of 256 tokens in bfloat16; benchmarks/LOG.md). Those would compute the upper half
too, which is never seen: strips of queries that meet the keys up to their own last one skip most of it.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP = 128  # queries at a time
LONGEST = 512  # beyond it the stored probabilities, T * T for each head, cost more memory than they save time


def causal_attention(qkv: Tensor, n_head: int, scale: float) -> Tensor:
    """Queries, keys and values (B, T, 3 * C) of n_head heads -> what the heads gather, (B, T, C)."""
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
