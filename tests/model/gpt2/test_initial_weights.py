"""A fresh model has heads that look back, and one that looks at what followed the same token before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gpt2.config import GPT2Config
from gpt2.initial_weights import LOOKING_BACK
from gpt2.network import GPT2
from training.plan import PRESETS

TRAINED_STD = 0.16  # of token embeddings after 100 steps


@torch.no_grad()
def attention(model: GPT2, tokens: Tensor) -> list[Tensor]:
    """(B, n_head, T, T) weights of each layer."""
    (B, T), H = tokens.shape, model.config.n_head
    trunk, future = model.transformer, torch.ones(T, T).triu(1).bool()
    x = (trunk.wte(tokens) + trunk.wpe.weight[:T]).view(B * T, -1)
    found, blocks = [], list[Any](trunk.h)
    for block in blocks:
        queries, keys, _ = block.attn.c_attn(block.ln_1(x)).view(B, T, 3, H, -1).transpose(1, 3).unbind(2)
        scores = queries @ keys.mT * block.attn.scale
        found.append(scores.masked_fill(future, -torch.inf).softmax(-1))
        x = block(x, B)
    return found


@pytest.mark.parametrize(
    "numbers", [(2, 2, 128, 128), (2, 3, 192, 128), (3, 3, 192, 256), (4, 4, 256, 256), *PRESETS[:4]]
)
def test_a_fresh_model_looks_back_and_finds_what_followed_before(numbers: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(*numbers, vocab_size=2000))
    with torch.no_grad():
        model.transformer.wte.weight.normal_(std=TRAINED_STD)
    half = torch.stack([torch.randperm(2000)[: numbers[3] // 2] for _ in range(8)])
    first, second = attention(model, torch.cat([half, half], dim=1))[:2]
    for head in range(min(LOOKING_BACK, numbers[1])):
        assert first[:, head].diagonal(-1 - head, 1, 2).mean() > 0.9  # on the token one, two, three before
    # On what came after this token in the first half.
    followed = second[:, 0].diagonal(1 - half.shape[1], 1, 2)[:, 1:]
    assert followed.mean() > 20 / (2 * half.shape[1])


def test_a_model_of_one_layer_or_one_head_begins_as_a_bigram_model() -> None:
    for shape in (GPT2Config(1, 2, 64, 32, 300), GPT2Config(2, 1, 64, 32, 300)):
        for name, weight in GPT2(shape).named_parameters():
            if name.endswith("c_proj.weight"):
                assert not weight.any(), name
