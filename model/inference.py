"""GPT-2's forward pass with cached keys and values, by hand: torch alone, no framework on top.

transformers computes the same numbers (a test holds logits and greedy tokens equal) but takes 5 s to import
its model class and, for small models, spends most of each step outside the matrix products.

Those products are bound by the memory that the weights come from. On x86 processors FBGEMM, which is part of
torch, keeps the weights in half precision in the order in which it reads them and computes in float32: 2.5
times as fast as float32 weights for one row, with a relative error of 0.0002 (int8 weights: 0.0065, bfloat16:
0.0027, neither faster; benchmarks/LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F
from one_row import OneRow
from pretrained import GPT2Config
from torch import Tensor

Linear = Callable[[Tensor], Tensor]  # (N, in) -> (N, out)
LARGEST_HALF = 65504.0

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), lambda x: F.gelu(x, approximate="tanh")),
    **dict.fromkeys(("silu", "swish"), F.silu),
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
}


class Layer(NamedTuple):
    """The weights of one transformer block, in the order of their use."""

    ln_1: tuple[Tensor, Tensor]
    c_attn: Linear
    attn_c_proj: Linear
    ln_2: tuple[Tensor, Tensor]
    c_fc: Linear
    mlp_c_proj: Linear
    attention_scale: float


def in_float32(weight: Tensor, bias: Tensor | None) -> Linear:
    """x @ weight + bias; weight: (in, out), for GPT-2 keeps its matrices transposed."""
    if bias is None:
        return lambda x: x @ weight
    return lambda x: torch.addmm(bias, x, weight)


def in_half(weight: Tensor, bias: Tensor | None) -> Linear:
    """The same with the weight packed in half precision: 5 s for 124 M parameters on one thread."""
    packed = torch.ops.quantized.linear_prepack_fp16(weight.t().contiguous(), bias)
    product = torch.ops.quantized.linear_dynamic_fp16.default
    return lambda x: product(x, packed)


def has_half_products(device: torch.device) -> bool:
    """Whether this processor can multiply with weights in half precision."""
    return device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines


class KeyValueCache:
    """Keys and values of the positions read: (n_layer, 2, B, n_head, capacity, head size), `lengths` in use.

    Rolling back is setting a row's length to a smaller number; what lies behind it is overwritten.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.lengths = [0] * tensor.shape[2]

    @property
    def length(self) -> int:
        """The length of the longest row; setting it makes all rows as long."""
        return max(self.lengths)

    @length.setter
    def length(self, length: int) -> None:
        self.lengths = [length] * len(self.lengths)

    @property
    def capacity(self) -> int:
        return self.tensor.shape[4]

    def row(self, index: int) -> KeyValueCache:
        """One row, empty, in the same storage: what is read into it stands here."""
        return KeyValueCache(self.tensor.narrow(2, index, 1))

    def select_rows(self, rows: list[int]) -> None:
        """Keep these rows in this order; [0, 0, 0] makes three equal ones of the first."""
        chosen = torch.tensor(rows, device=self.tensor.device)
        self.tensor = self.tensor.index_select(2, chosen)
        self.lengths = [self.lengths[row] for row in rows]


class GPT2:
    """A GPT-2 that answers what the next token may be."""

    def __init__(self, config: GPT2Config, weights: dict[str, Tensor], *, half: bool = False) -> None:
        """half: keep the matrices in half precision, where has_half_products and all of them fit."""
        self.config = config
        self.wte = weights["wte.weight"]
        self.wpe = weights["wpe.weight"]
        self.ln_f = weights["ln_f.weight"], weights["ln_f.bias"]
        self.activation = ACTIVATIONS[config.activation_function]
        fits = half and all(float(w.abs().max()) < LARGEST_HALF for w in weights.values())
        linear = in_half if fits else in_float32
        lm_head = self.wte if config.tie_word_embeddings else weights["lm_head.weight"]
        with ThreadPoolExecutor(torch.get_num_threads()) as packers:
            head = packers.submit(linear, lm_head.t(), None)
            layers = range(config.n_layer)
            self.layers = list(packers.map(lambda index: self.layer(weights, index, linear), layers))
            self.lm_head = head.result()
        is_plain = self.wte.device.type == "cpu" and self.wte.dtype == torch.float32 and not fits
        self.one_row = OneRow(self, weights) if is_plain else None

    def layer(
        self, weights: dict[str, Tensor], index: int, kind: Callable[[Tensor, Tensor], Linear]
    ) -> Layer:
        def named(name: str) -> tuple[Tensor, Tensor]:
            return weights[f"h.{index}.{name}.weight"], weights[f"h.{index}.{name}.bias"]

        def linear(name: str) -> Linear:
            return kind(*named(name))

        scale = 1.0
        if self.config.scale_attn_weights:
            scale /= math.sqrt(self.config.n_embd // self.config.n_head)
        if self.config.scale_attn_by_inverse_layer_idx:
            scale /= index + 1
        return Layer(
            named("ln_1"),
            linear("attn.c_attn"),
            linear("attn.c_proj"),
            named("ln_2"),
            linear("mlp.c_fc"),
            linear("mlp.c_proj"),
            scale,
        )

    def new_cache(self, rows: int, capacity: int) -> KeyValueCache:
        config = self.config
        shape = (config.n_layer, 2, rows, config.n_head, capacity, config.n_embd // config.n_head)
        # zeros, for what lies behind a shorter row is multiplied by 0, and 0 * nan is nan
        return KeyValueCache(torch.zeros(shape, dtype=self.wte.dtype, device=self.wte.device))

    @torch.inference_mode()
    def next_logits(self, ids: Tensor, cache: KeyValueCache) -> Tensor:
        """Logits (B, V) after the last of these ids (B, T), which follow what the cache holds.

        Rows of different lengths take one id at a time.
        """
        B, T = ids.shape
        C, H = self.config.n_embd, self.config.n_head
        start, end = cache.length, cache.length + T
        assert end <= cache.capacity, f"{end} positions in a cache of {cache.capacity}"
        if self.one_row and B == T == 1:
            return self.one_row.logits(int(ids), cache)
        cached = cache.tensor.narrow(4, 0, end).unbind(0)  # a layer: (2, B, H, end, C / H)
        if is_ragged := min(cache.lengths) < start:
            assert T == 1, "rows of different lengths take one id at a time"
            positions = torch.tensor(cache.lengths, device=ids.device)
            mask: Tensor | None = (torch.arange(end, device=ids.device) <= positions[:, None])[:, None, None]
            rows = torch.arange(B, device=ids.device)
            fresh = cache.tensor.unbind(0)
            x = (F.embedding(ids[:, 0], self.wte) + F.embedding(positions, self.wpe)).view(B, C)
        else:
            fresh = cache.tensor.narrow(4, start, T).unbind(0)
            mask = self.causal_mask(start, end) if start > 0 and T > 1 else None
            x = (F.embedding(ids, self.wte) + self.wpe[start:end]).view(B * T, C)
        for layer, keys_values, new_keys_values in zip(self.layers, cached, fresh, strict=True):
            y = F.layer_norm(x, (C,), *layer.ln_1, self.config.layer_norm_epsilon)
            qkv = layer.c_attn(y).view(B, T, 3, H, C // H)
            q, *new = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, C / H)
            for place, values in zip(new_keys_values, new, strict=True):
                if is_ragged:
                    place[rows, :, positions] = values[:, :, 0]
                else:
                    place.copy_(values)
            k, v = keys_values.unbind(0)
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=start == 0 and T > 1, scale=layer.attention_scale
            )
            y = y.transpose(1, 2).reshape(B * T, C)
            x += layer.attn_c_proj(y)
            y = F.layer_norm(x, (C,), *layer.ln_2, self.config.layer_norm_epsilon)
            y = self.activation(layer.c_fc(y))
            x += layer.mlp_c_proj(y)
        cache.lengths = [length + T for length in cache.lengths]
        last = x.view(B, T, C)[:, -1]
        return self.lm_head(F.layer_norm(last, (C,), *self.ln_f, self.config.layer_norm_epsilon))

    def causal_mask(self, start: int, end: int) -> Tensor:
        """(T, end): position start + t sees everything up to itself."""
        everything = torch.ones(end - start, end, dtype=torch.bool, device=self.wte.device)
        return everything.tril(diagonal=start)
