"""GPT-2's forward pass on the CPU, with cached keys and values: numpy and numba, torch is not imported.

transformers computes the same numbers (tests hold logits and greedy tokens equal) but takes 5 s to import its
model class, and torch alone takes longer than this program needs to its first token. What is read at once, a
prompt, is matrix products in float32, which numpy gives to a BLAS; what is written token by token goes
through compiled_pass.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from compiled_pass import Array, activate
from key_value_cache import KeyValueCache
from numpy.typing import NDArray
from one_row import ACTIVATIONS, OneRow, attention_scales
from pretrained import GPT2Config

QUERIES = 128  # at once in attention: a strip of the square of a long prompt, which would not fit


class LanguageModel(Protocol):
    """What completing needs of a model, wherever it computes."""

    config: GPT2Config

    def new_cache(self, rows: int, capacity: int) -> KeyValueCache: ...

    def next_logits(self, ids: Sequence[Sequence[int]], cache: KeyValueCache) -> Array:
        """Logits (B, V) after the last of these ids (B, T), which follow what the cache's rows hold."""
        ...


class GPT2:
    """A GPT-2 on the CPU that answers what the next token may be."""

    def __init__(self, config: GPT2Config, weights: Mapping[str, Array], bits: int = 16) -> None:
        """weights: in float32 by bare name; bits: of those that write token by token, 16 or 8."""
        self.config = config
        self.weights = weights
        self.one_row = OneRow(config, weights, bits)

    def new_cache(self, rows: int, capacity: int) -> KeyValueCache:
        config = self.config
        shape = (config.n_layer, 2, rows, config.n_head, capacity, config.n_embd // config.n_head)
        return KeyValueCache(np.zeros(shape, np.float32))

    def next_logits(self, ids: Sequence[Sequence[int]], cache: KeyValueCache) -> Array:
        """Logits (B, V) after the last of these ids (B, T), which follow what the cache's rows hold."""
        logits = []
        for row, (new, length) in enumerate(zip(ids, cache.lengths, strict=True)):
            end = length + len(new)
            assert end <= cache.capacity, f"{end} positions in a cache of {cache.capacity}"
            if len(new) == 1 and cache.memory.flags.c_contiguous:
                logits.append(self.one_row.logits(new[0], row, length, cache.memory))
            else:
                logits.append(self.read(np.array(new), length, cache.memory[:, :, row]))
            cache.lengths[row] = end
        return logits[0][None] if len(logits) == 1 else np.stack(logits)

    def read(self, ids: NDArray[np.int64], start: int, memory: Array) -> Array:
        """Logits (V,) after ids (T,) from position `start` on; memory: (n_layer, 2, H, capacity, D)."""
        config, weights = self.config, self.weights
        T, H, D = len(ids), config.n_head, config.n_embd // config.n_head
        activation = ACTIVATIONS[config.activation_function]
        x = weights["wte.weight"][ids] + weights["wpe.weight"][start : start + T]  # (T, C)
        for layer, scale in enumerate(attention_scales(config)):
            qkv = self.linear(self.normalized(x, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn")
            q, k, v = qkv.reshape(T, 3, H, D).transpose(1, 2, 0, 3)  # (H, T, D) each
            keys, values = memory[layer]
            keys[:, start : start + T] = k
            values[:, start : start + T] = v
            seen = attended(q * np.float32(scale), keys, values, start)
            x += self.linear(seen.transpose(1, 0, 2).reshape(T, H * D), f"h.{layer}.attn.c_proj")
            hidden = self.normalized(x, f"h.{layer}.ln_2") @ weights[f"h.{layer}.mlp.c_fc.weight"]
            bias = weights[f"h.{layer}.mlp.c_fc.bias"]
            for row in hidden:
                activate(row, bias, activation)
            x += self.linear(hidden, f"h.{layer}.mlp.c_proj")
        lm_head = weights["wte.weight" if config.tie_word_embeddings else "lm_head.weight"]
        logits: Array = lm_head @ self.normalized(x[-1:], "ln_f")[0]
        return logits

    def linear(self, x: Array, name: str) -> Array:
        """x (T, in) through the named weight (in, out), for GPT-2 keeps its matrices transposed, and bias."""
        y: Array = x @ self.weights[f"{name}.weight"]
        y += self.weights[f"{name}.bias"]
        return y

    def normalized(self, x: Array, name: str) -> Array:
        """Layer norm of each row of (T, C): Ba et al. 2016, "Layer normalization"."""
        y = x - x.mean(-1, keepdims=True)
        y *= 1 / np.sqrt(np.square(y).mean(-1, keepdims=True) + np.float32(self.config.layer_norm_epsilon))
        normalized: Array = y * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return normalized


def attended(q: Array, keys: Array, values: Array, start: int) -> Array:
    """Causal attention of queries (H, T, D) at positions from `start` on over (H, capacity, D): (H, T, D)."""
    T = q.shape[1]
    out = np.empty_like(q)
    for first in range(0, T, QUERIES):
        last = min(first + QUERIES, T)
        scores: Any = q[:, first:last] @ keys[:, : start + last].transpose(0, 2, 1)
        ahead = np.triu(np.ones((last - first, last - first), bool), 1)
        scores[:, :, start + first :][:, ahead] = -np.inf
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        out[:, first:last] = scores @ values[:, : start + last]
        out[:, first:last] /= scores.sum(-1, keepdims=True)
    return out
