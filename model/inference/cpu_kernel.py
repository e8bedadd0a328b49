"""The decode kernel: one token through all of GPT-2 on the CPU, compiled by numba into one function.

Why our own: a step of a small model is some forty operations of a microsecond each, and a library takes
longer to start one than to do it: 1.0 M parameters took torch 331 us, numpy 185 and this 60. It is as
fast as llama.cpp (12.9 to 12.2 times transformers), needs no conversion, keeps a cache that rolls back, and
loads in a fraction of a second (benchmarks/LOG.md).

A step of a large model is bound by the memory that its weights come from, so they are kept small:

- int16 with a scale for each output: an error of 2^-16 of the largest weight, which changes no choice;
- int8 with a scale for every 64 weights of an output (as Q8_0 of llama.cpp with its 32), multiplied in
  integers with activations rounded to 16 bits: half of the memory again, for an error of half a percent.

The first call compiles for some seconds, see gpt2/cpu_passes.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from gpt2.cpu_passes import FAST, compiled, exponential
from inference.language_model import Array

GROUP = 64  # weights that share a scale in int8: a sum of 64 products of 8 and 16 bits fits into 32

GELU, GELU_TANH, SILU, RELU, TANH = range(5)

Weights = NDArray[np.int16] | NDArray[np.int8]


def product(weights: Weights, scales: Array, x: Array, rounded: NDArray[np.int16], out: Array) -> None:
    """out = weights @ x; weights: (out, in), scales: (out, in / weights that share one), rounded: scratch."""
    raise NotImplementedError("it exists compiled alone: `product_of` chooses by the type of the weights")


@overload(product, jit_options={"fastmath": FAST, "error_model": "numpy"})
def product_of(
    weights: Weights, scales: Array, x: Array, rounded: NDArray[np.int16], out: Array
) -> Callable[..., None]:
    """The product for the types of these arrays, which is what numba gives in their place."""

    def in_int16(weights: Weights, scales: Array, x: Array, rounded: NDArray[np.int16], out: Array) -> None:
        for o in range(weights.shape[0]):
            row = weights[o]
            total = np.float32(0)
            for i in range(x.shape[0]):
                total += np.float32(row[i]) * x[i]
            out[o] = total * scales[o, 0]

    def in_int8(weights: Weights, scales: Array, x: Array, rounded: NDArray[np.int16], out: Array) -> None:
        largest = np.float32(1e-30)
        for i in range(x.shape[0]):
            largest = max(largest, abs(x[i]))
        for i in range(x.shape[0]):
            rounded[i] = np.int16(np.rint(x[i] * (np.float32(32767) / largest)))
        for o in range(weights.shape[0]):
            row = weights[o]
            total = np.float32(0)
            for group in range(x.shape[0] // GROUP):
                start = group * GROUP
                part = np.int32(0)
                for i in range(start, start + GROUP):  # int32 by hand: numba's own sums are of 64 bits
                    part = np.int32(part + np.int32(np.int32(row[i]) * np.int32(rounded[i])))
                total += np.float32(part) * scales[o, group]
            out[o] = total * (largest / np.float32(32767))

    return in_int8 if weights.dtype == types.int8 else in_int16


@compiled
def normalize(x: Array, weight: Array, bias: Array, epsilon: np.float32, out: Array) -> None:
    """Layer norm of (C,): Ba et al. 2016, "Layer normalization"."""
    width = x.shape[0]
    total = np.float32(0)
    for i in range(width):
        total += x[i]
    mean = total / np.float32(width)
    squares = np.float32(0)
    for i in range(width):
        squares += (x[i] - mean) * (x[i] - mean)
    factor = np.float32(1) / np.sqrt(squares / np.float32(width) + epsilon)
    for i in range(width):
        out[i] = (x[i] - mean) * factor * weight[i] + bias[i]


@compiled
def attend(query: Array, keys: Array, values: Array, scale: np.float32, scores: Array, out: Array) -> None:
    """One head: out (D,) = softmax(scale * keys @ query) @ values; keys, values: (T, D), scores: scratch."""
    length, D = keys.shape
    highest = np.float32(-np.inf)
    for t in range(length):
        score = np.float32(0)
        for i in range(D):
            score += query[i] * keys[t, i]
        scores[t] = score * scale
        highest = max(highest, scores[t])
    total = np.float32(0)
    for t in range(length):
        scores[t] = exponential(scores[t] - highest)
        total += scores[t]
    out[:] = np.float32(0)
    for t in range(length):
        for i in range(D):
            out[i] += scores[t] * values[t, i]
    for i in range(D):
        out[i] /= total


@compiled
def activate(x: Array, bias: Array, activation: int) -> None:
    """x (n,) = activation(x + bias), in place."""
    one, two = np.float32(1), np.float32(2)
    for i in range(x.shape[0]):
        x[i] += bias[i]
    if activation == GELU_TANH:  # 0.5 x (1 + tanh u) is x / (1 + e^-2u)
        for i in range(x.shape[0]):
            u = np.float32(math.sqrt(2 / math.pi)) * (x[i] + np.float32(0.044715) * x[i] * x[i] * x[i])
            x[i] /= one + exponential(-two * u)
    elif activation == SILU:
        for i in range(x.shape[0]):
            x[i] /= one + exponential(-x[i])
    elif activation == TANH:
        for i in range(x.shape[0]):
            x[i] = two / (one + exponential(-two * x[i])) - one
    elif activation == RELU:
        for i in range(x.shape[0]):
            x[i] = max(x[i], np.float32(0))
    else:
        for i in range(x.shape[0]):
            x[i] *= np.float32(0.5 * (1 + math.erf(x[i] * math.sqrt(0.5))))


@compiled
def decode_step(
    token_id: int,
    row: int,
    start: int,
    cache: Array,
    logits: Array,
    wte: Array,
    wpe: Array,
    norms: Array,
    c_attn: tuple[Weights, Array, Array],
    attn_c_proj: tuple[Weights, Array, Array],
    c_fc: tuple[Weights, Array, Array],
    mlp_c_proj: tuple[Weights, Array, Array],
    lm_head: tuple[Weights, Array],
    attention_scales: Array,
    epsilon: np.float32,
    activation: int,
) -> None:
    """Logits (V,) after a token at position `start`, whose keys and values go into the cache.

    cache: (n_layer, 2, B, H, capacity, D), of which `row` is meant. norms: (n_layer + 1, 4, C), weight and
    bias of each layer's two and, in the last, of ln_f. The others: weights (n_layer, out, in), scales
    (n_layer, out, ...) and bias (n_layer, out).
    """
    n_layer, C = c_attn[0].shape[0], wte.shape[1]
    H, capacity, D = cache.shape[3:]
    inner = c_fc[0].shape[1]
    x = wte[token_id] + wpe[start]
    y, z = np.empty(C, np.float32), np.empty(C, np.float32)
    qkv, hidden = np.empty(3 * C, np.float32), np.empty(inner, np.float32)
    scores, rounded = np.empty(capacity, np.float32), np.empty(max(C, inner), np.int16)
    for layer in range(n_layer):
        normalize(x, norms[layer, 0], norms[layer, 1], epsilon, y)
        product(c_attn[0][layer], c_attn[1][layer], y, rounded, qkv)
        qkv += c_attn[2][layer]
        for head in range(H):
            keys, values = cache[layer, 0, row, head], cache[layer, 1, row, head]
            first = head * D
            keys[start] = qkv[C + first : C + first + D]
            values[start] = qkv[2 * C + first : 2 * C + first + D]
            attend(
                qkv[first : first + D],
                keys[: start + 1],
                values[: start + 1],
                attention_scales[layer],
                scores,
                y[first : first + D],
            )
        product(attn_c_proj[0][layer], attn_c_proj[1][layer], y, rounded, z)
        for i in range(C):
            x[i] += z[i] + attn_c_proj[2][layer, i]
        normalize(x, norms[layer, 2], norms[layer, 3], epsilon, y)
        product(c_fc[0][layer], c_fc[1][layer], y, rounded, hidden)
        activate(hidden, c_fc[2][layer], activation)
        product(mlp_c_proj[0][layer], mlp_c_proj[1][layer], hidden, rounded, z)
        for i in range(C):
            x[i] += z[i] + mlp_c_proj[2][layer, i]
    normalize(x, norms[n_layer, 0], norms[n_layer, 1], epsilon, y)
    product(lm_head[0], lm_head[1], y, rounded, logits)
