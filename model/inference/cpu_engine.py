"""CpuEngine: GPT-2's forward pass on the CPU by numpy and numba, with a key/value cache and without torch.

transformers computes the same numbers (tests hold logits and greedy tokens equal), but it takes 5 s to import
its model class, and importing torch alone takes longer than this program needs to its first token. A prompt,
read at once, is matrix products in float32, which numpy gives to a BLAS. What is written token by token goes
through the compiled kernel in cpu_kernel.py, which reads quantised weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.config import GPT2Config
from gpt2.cpu_passes import compiling, is_compiled
from inference.cpu_kernel import (
    GELU,
    GELU_TANH,
    GROUP,
    RELU,
    SILU,
    TANH,
    Weights,
    activate,
    decode_step,
)
from inference.language_model import Array, KeyValueCache

QUERIES = 128  # at once in attention: a strip of the square of a long prompt, which would not fit in memory

ACTIVATIONS = {"gelu_tanh": GELU_TANH, "gelu": GELU, "relu": RELU, "silu": SILU, "tanh": TANH}


class CpuEngine:
    """A GPT-2 on the CPU: ids in, logits of the next token out."""

    def __init__(self, config: GPT2Config, weights: Mapping[str, Array], bits: int = 16) -> None:
        """weights: in float32 by bare name. bits: 16 or 8, of the weights that write token by token."""
        self.config = config
        self.weights = weights
        self.quantized = QuantizedWeights(config, weights, bits)

    def compile(self, tell: Callable[[str], None]) -> None:
        """Compile the kernel if that was never done here, so that no completion waits for it.

        tell: is told before, as this takes some seconds.

        Raises:
            UserError: the result cannot be written.
        """
        if is_compiled(decode_step):
            return
        cache = self.new_cache(rows=1, capacity=3)
        with compiling(decode_step, tell):
            self.next_logits([[0, 0]], cache)
            self.next_logits([[0]], cache)

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
                logits.append(self.quantized.decode(new[0], row, length, cache.memory))
            else:
                logits.append(self.read(np.array(new), length, cache.memory[:, :, row]))
            cache.lengths[row] = end
        return logits[0][None] if len(logits) == 1 else np.stack(logits)

    def read(self, ids: NDArray[np.int64], start: int, memory: Array) -> Array:
        """Logits (V,) after ids (T,) from position `start` on; memory: (n_layer, 2, H, capacity, D)."""
        config, weights = self.config, self.weights
        T, H, D = len(ids), config.n_head, config.n_embd // config.n_head
        activation = ACTIVATIONS[config.activation]
        x = weights["wte.weight"][ids] + weights["wpe.weight"][start : start + T]  # (T, C)
        for layer in range(config.n_layer):
            qkv = self.linear(self.normalized(x, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn")
            q, k, v = qkv.reshape(T, 3, H, D).transpose(1, 2, 0, 3)  # (H, T, D) each
            keys, values = memory[layer]
            keys[:, start : start + T] = k
            values[:, start : start + T] = v
            seen = attended(q * np.float32(config.attention_scale(layer)), keys, values, start)
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
        """x (T, in) @ weight (in, out) + bias, by name; GPT-2 stores its matrices as (in, out)."""
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


class QuantizedWeights:
    """A model's matrices in `bits` = 16 or 8, laid out for the decode kernel."""

    def __init__(self, config: GPT2Config, weights: Mapping[str, Array], bits: int) -> None:
        """weights: in float32, by the names of GPT2Config.tensor_shapes.

        Widths that GROUP does not divide stay in 16 bits.
        """

        def stacked(name: str) -> Array:
            return np.stack([weights[f"h.{index}.{name}"] for index in range(config.n_layer)])

        def linear(name: str) -> tuple[Weights, Array, Array]:
            # GPT-2 stores its matrices as (in, out)
            layers = [weights[f"h.{index}.{name}.weight"].T for index in range(config.n_layer)]
            rounded, scales = zip(*(quantize(layer, bits) for layer in layers), strict=True)
            return np.stack(rounded), np.stack(scales), stacked(f"{name}.bias")

        if config.n_embd % GROUP or config.inner % GROUP:
            bits = 16
        self.wte, self.wpe = weights["wte.weight"], weights["wpe.weight"]
        norms = np.zeros((config.n_layer + 1, 4, config.n_embd), np.float32)
        for place, name in enumerate(("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias")):
            norms[:-1, place] = stacked(name)
        norms[-1, :2] = weights["ln_f.weight"], weights["ln_f.bias"]
        lm_head = self.wte if config.tie_word_embeddings else weights["lm_head.weight"]
        self.arguments: tuple[Any, ...] = (
            self.wte,
            self.wpe,
            norms,
            *map(linear, ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
            quantize(lm_head, bits),
            np.array([config.attention_scale(layer) for layer in range(config.n_layer)], np.float32),
            np.float32(config.layer_norm_epsilon),
            ACTIVATIONS[config.activation],
        )

    def decode(self, token_id: int, row: int, start: int, cache: Array) -> Array:
        """Logits (V,) after this token at position `start`; cache: (n_layer, 2, B, H, capacity, D)."""
        logits = np.empty(len(self.wte), np.float32)
        decode_step(token_id, row, start, cache, logits, *self.arguments)
        return logits


def quantize(weights: Array, bits: int) -> tuple[Weights, Array]:
    """Weights (..., out, in) as integers in C order, and their scales (..., out, 1 or in / 64).

    quantize([[0.5, -1.0]], 16) -> [[16384, -32767]], [[1 / 32767]]
    """
    size, kind, highest = (GROUP, np.int8, 127) if bits == 8 else (weights.shape[-1], np.int16, 32767)
    groups = np.ascontiguousarray(weights).reshape(*weights.shape[:-1], -1, size)
    scales = (np.maximum(np.abs(groups).max(-1), 1e-30) / highest).astype(np.float32)
    with np.errstate(invalid="ignore"):  # nan stays in the scale
        rounded = np.rint(groups / scales[..., None]).reshape(weights.shape).astype(kind)
    return rounded, scales
