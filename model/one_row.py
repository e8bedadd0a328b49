"""A GPT-2's weights as the compiled pass of one token wants them: small, and in the order of their use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from compiled_pass import GELU, GELU_TANH, GROUP, RELU, SILU, TANH, Array, Weights, pass_one

if TYPE_CHECKING:
    from pretrained import GPT2Config

ACTIVATIONS = {
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), GELU_TANH),
    **dict.fromkeys(("silu", "swish"), SILU),
    "gelu": GELU,
    "relu": RELU,
    "tanh": TANH,
}


class OneRow:
    """The model for one token at a time on the CPU, its matrices in `bits` = 16 or 8."""

    def __init__(self, config: GPT2Config, weights: Mapping[str, Array], bits: int) -> None:
        """weights: in float32, by the names of pretrained.expected_shapes."""

        def stacked(name: str) -> Array:
            return np.stack([weights[f"h.{index}.{name}"] for index in range(config.n_layer)])

        def linear(name: str) -> tuple[Weights, Array, Array]:
            # GPT-2 keeps its matrices as (in, out)
            layers = [weights[f"h.{index}.{name}.weight"].T for index in range(config.n_layer)]
            rounded, scales = zip(*(in_integers(layer, bits) for layer in layers), strict=True)
            return np.stack(rounded), np.stack(scales), stacked(f"{name}.bias")

        if config.n_embd % GROUP or config.n_inner % GROUP:
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
            in_integers(lm_head, bits),
            np.array(attention_scales(config), np.float32),
            np.float32(config.layer_norm_epsilon),
            ACTIVATIONS[config.activation_function],
        )

    def logits(self, token_id: int, row: int, start: int, cache: Array) -> Array:
        """Logits (V,) after this token at position `start` of a row of (n_layer, 2, B, H, capacity, D)."""
        logits = np.empty(len(self.wte), np.float32)
        pass_one(token_id, row, start, cache, logits, *self.arguments)
        return logits


def attention_scales(config: GPT2Config) -> list[float]:
    """What each layer's products of queries and keys are multiplied by."""
    scale = 1 / math.sqrt(config.n_embd // config.n_head) if config.scale_attn_weights else 1.0
    by_layer = config.scale_attn_by_inverse_layer_idx
    return [scale / (layer + 1) if by_layer else scale for layer in range(config.n_layer)]


def in_integers(weights: Array, bits: int) -> tuple[Weights, Array]:
    """Weights (..., out, in) as whole numbers in C order, and their scales (..., out, 1 or in / 64).

    in_integers([[0.5, -1.0]], 16) -> [[16384, -32767]], [[1 / 32767]]
    """
    size, kind, highest = (GROUP, np.int8, 127) if bits == 8 else (weights.shape[-1], np.int16, 32767)
    groups = np.ascontiguousarray(weights).reshape(*weights.shape[:-1], -1, size)
    scales = (np.maximum(np.abs(groups).max(-1), 1e-30) / highest).astype(np.float32)
    with np.errstate(invalid="ignore"):  # nan stays in the scale
        rounded = np.rint(groups / scales[..., None]).reshape(weights.shape).astype(kind)
    return rounded, scales
