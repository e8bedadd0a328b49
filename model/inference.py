"""GPT-2's forward pass with cached keys and values, by hand: torch alone, no framework on top.

transformers computes the same numbers (a test holds logits and greedy tokens equal) but takes 5 s to import
its model class and, for small models, spends most of each step outside the matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pretrained import GPT2Config
from torch import Tensor

Linear = tuple[Tensor, Tensor]  # bias (out,), weight (in, out): GPT-2 keeps its matrices transposed

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

    def __init__(self, config: GPT2Config, weights: dict[str, Tensor]) -> None:
        self.config = config
        self.wte = weights["wte.weight"]
        self.wpe = weights["wpe.weight"]
        self.lm_head = self.wte if config.tie_word_embeddings else weights["lm_head.weight"]
        self.ln_f = weights["ln_f.weight"], weights["ln_f.bias"]
        self.activation = ACTIVATIONS[config.activation_function]
        self.layers = [self.layer(weights, index) for index in range(config.n_layer)]

    def layer(self, weights: dict[str, Tensor], index: int) -> Layer:
        def named(name: str) -> tuple[Tensor, Tensor]:
            return weights[f"h.{index}.{name}.weight"], weights[f"h.{index}.{name}.bias"]

        def linear(name: str) -> Linear:
            weight, bias = named(name)
            return bias, weight

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
            qkv = torch.addmm(layer.c_attn[0], y, layer.c_attn[1]).view(B, T, 3, H, C // H)
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
            x += torch.addmm(layer.attn_c_proj[0], y, layer.attn_c_proj[1])
            y = F.layer_norm(x, (C,), *layer.ln_2, self.config.layer_norm_epsilon)
            y = self.activation(torch.addmm(layer.c_fc[0], y, layer.c_fc[1]))
            x += torch.addmm(layer.mlp_c_proj[0], y, layer.mlp_c_proj[1])
        cache.lengths = [length + T for length in cache.lengths]
        last = x.view(B, T, C)[:, -1]
        return F.linear(F.layer_norm(last, (C,), *self.ln_f, self.config.layer_norm_epsilon), self.lm_head)

    def causal_mask(self, start: int, end: int) -> Tensor:
        """(T, end): position start + t sees everything up to itself."""
        everything = torch.ones(end - start, end, dtype=torch.bool, device=self.wte.device)
        return everything.tril(diagonal=start)
