"""TorchEngine: GPT-2's forward pass in torch, for GPUs: the numbers and calls of CpuEngine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.config import GPT2Config
from gpt2.operations import ACTIVATIONS
from inference.language_model import Array, KeyValueCache

Linear = Callable[[Tensor], Tensor]  # (N, in) -> (N, out)


class Layer(NamedTuple):
    """The weights of one transformer block, in the order of their use."""

    ln_1: tuple[Tensor, Tensor]
    c_attn: Linear
    attn_c_proj: Linear
    ln_2: tuple[Tensor, Tensor]
    c_fc: Linear
    mlp_c_proj: Linear
    attention_scale: float


def linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """x @ weight + bias; weight: (in, out), as GPT-2 stores its matrices."""
    if bias is None:
        return lambda x: x @ weight
    return lambda x: torch.addmm(bias, x, weight)


class TorchEngine:
    """A GPT-2 on any device that torch knows: ids in, logits of the next token out."""

    def __init__(self, config: GPT2Config, weights: dict[str, Tensor]) -> None:
        """weights: by bare name, on the device and in the type to compute in: see `load_tensors`."""
        self.config = config
        self.wte = weights["wte.weight"]
        self.wpe = weights["wpe.weight"]
        self.ln_f = weights["ln_f.weight"], weights["ln_f.bias"]
        self.activation = ACTIVATIONS[config.activation]
        self.lm_head = linear(
            (self.wte if config.tie_word_embeddings else weights["lm_head.weight"]).t(), None
        )
        self.layers = [self.layer(weights, index) for index in range(config.n_layer)]

    def layer(self, weights: dict[str, Tensor], index: int) -> Layer:
        def named(name: str) -> tuple[Tensor, Tensor]:
            return weights[f"h.{index}.{name}.weight"], weights[f"h.{index}.{name}.bias"]

        return Layer(
            named("ln_1"),
            linear(*named("attn.c_attn")),
            linear(*named("attn.c_proj")),
            named("ln_2"),
            linear(*named("mlp.c_fc")),
            linear(*named("mlp.c_proj")),
            self.config.attention_scale(index),
        )

    def new_cache(self, rows: int, capacity: int) -> KeyValueCache:
        config = self.config
        shape = (config.n_layer, 2, rows, config.n_head, capacity, config.n_embd // config.n_head)
        # zeros: what lies behind a shorter row is multiplied by 0, and 0 * nan is nan
        return KeyValueCache(torch.zeros(shape, dtype=self.wte.dtype, device=self.wte.device))

    def next_logits(self, ids: Sequence[Sequence[int]], cache: KeyValueCache) -> Array:
        """Logits (B, V) after the last of these ids (B, T), which follow what the cache's rows hold.

        Rows of different lengths take one id at a time.
        """
        logits = self.forward(torch.tensor(ids, device=self.wte.device), cache)
        on_cpu: Array = logits.float().cpu().numpy()
        return on_cpu

    @torch.inference_mode()
    def forward(self, ids: Tensor, cache: KeyValueCache) -> Tensor:
        """The same on tensors."""
        B, T = ids.shape
        C, H = self.config.n_embd, self.config.n_head
        start, end = cache.length, cache.length + T
        assert end <= cache.capacity, f"{end} positions in a cache of {cache.capacity}"
        cached = cache.memory.narrow(4, 0, end).unbind(0)  # a layer: (2, B, H, end, C / H)
        if is_ragged := min(cache.lengths) < start:
            assert T == 1, "rows of different lengths take one id at a time"
            positions = torch.tensor(cache.lengths, device=ids.device)
            mask: Tensor | None = (torch.arange(end, device=ids.device) <= positions[:, None])[:, None, None]
            rows = torch.arange(B, device=ids.device)
            fresh = cache.memory.unbind(0)
            x = (F.embedding(ids[:, 0], self.wte) + F.embedding(positions, self.wpe)).view(B, C)
        else:
            fresh = cache.memory.narrow(4, start, T).unbind(0)
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
        """(T, end): position start + t attends to all positions up to itself."""
        everything = torch.ones(end - start, end, dtype=torch.bool, device=self.wte.device)
        return everything.tril(diagonal=start)
