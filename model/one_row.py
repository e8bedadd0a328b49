"""One token through a small GPT-2 on the CPU, in numpy: what writing token by token spends its time on.

A step of a small model is some forty operations of a microsecond or less; torch takes three to fifteen to
begin one. numpy begins them in half a microsecond, and its product of one row with a matrix is faster as
well: 1.0 M parameters, 185 us a step instead of 331. Models whose weights are packed in half precision stay
with torch: there the products are what takes time, and going from one library to the other costs more than it
saves (benchmarks/LOG.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from inference import GPT2, KeyValueCache
    from torch import Tensor

Array = NDArray[np.float32]


class Block(NamedTuple):
    """Weight and bias of each part of a transformer block, in the order of their use."""

    ln_1: tuple[Array, Array]
    c_attn: tuple[Array, Array]
    attn_c_proj: tuple[Array, Array]
    ln_2: tuple[Array, Array]
    c_fc: tuple[Array, Array]
    mlp_c_proj: tuple[Array, Array]


PARTS = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")


class OneRow:
    """The same model as a GPT2 in float32 on the CPU, on the same memory."""

    def __init__(self, model: GPT2, weights: dict[str, Tensor]) -> None:
        def pair(name: str) -> tuple[Array, Array]:
            return weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()

        self.config = model.config
        self.activation = model.activation
        self.wte, self.wpe = model.wte.numpy(), model.wpe.numpy()
        self.ln_f = pair("ln_f")
        self.blocks = [
            Block(*(pair(f"h.{index}.{part}") for part in PARTS)) for index in range(model.config.n_layer)
        ]
        self.scales = [np.float32(layer.attention_scale) for layer in model.layers]
        head = model.wte if model.config.tie_word_embeddings else weights["lm_head.weight"]
        self.lm_head = head.numpy().T  # (C, V)
        self.epsilon = np.float32(model.config.layer_norm_epsilon)
        self.width = np.float32(model.config.n_embd)

    def logits(self, token_id: int, cache: KeyValueCache) -> Tensor:
        """Logits (1, V) after this token, which follows what the cache's only row holds."""
        C, H = self.config.n_embd, self.config.n_head
        start = cache.length
        end = start + 1
        x = self.wte[token_id] + self.wpe[start]  # (C,)
        memory = cache.tensor.numpy()[:, :, 0]  # (n_layer, 2, H, capacity, C / H)
        for block, scale, (keys, values) in zip(self.blocks, self.scales, memory, strict=True):
            qkv = self.normalized(x, block.ln_1) @ block.c_attn[0]
            qkv += block.c_attn[1]
            q, k, v = qkv.reshape(3, H, C // H)
            keys[:, start] = k
            values[:, start] = v
            scores = (q * scale)[:, None] @ keys[:, :end].transpose(0, 2, 1)  # (H, 1, end)
            scores -= np.maximum.reduce(scores, -1, keepdims=True)
            np.exp(scores, out=scores)
            y = scores @ values[:, :end]  # (H, 1, C / H)
            y /= np.add.reduce(scores, -1, keepdims=True)
            x += y.reshape(C) @ block.attn_c_proj[0]
            x += block.attn_c_proj[1]
            h = self.normalized(x, block.ln_2) @ block.c_fc[0]
            h += block.c_fc[1]
            x += self.activation(torch.from_numpy(h)).numpy() @ block.mlp_c_proj[0]
            x += block.mlp_c_proj[1]
        cache.length = end
        return torch.from_numpy((self.normalized(x, self.ln_f) @ self.lm_head)[None])

    def normalized(self, x: Array, weight_and_bias: tuple[Array, Array]) -> Array:
        """Layer norm of (C,): Ba et al. 2016, "Layer normalization"."""
        y: Array = x - np.add.reduce(x) / self.width
        y *= 1 / np.sqrt(y.dot(y) / self.width + self.epsilon)
        y *= weight_and_bias[0]
        y += weight_and_bias[1]
        return y
