"""A fresh model has heads that look back and one that looks for matches, and alike tokens begin alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2 import initial_weights
from gpt2.config import GPT2Config
from gpt2.initial_weights import (
    LEAST_INFORMATION,
    LOOKING_BACK,
    PAIR_RMS,
    PRIOR,
    embed_pairs,
    pair_embeddings,
    pointwise_information,
)
from gpt2.network import GPT2
from training.optimizers import build_optimizers
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


def text_of_pairs(length: int = 200_000, vocab_size: int = 64) -> NDArray[np.uint16]:
    """Tokens in which four of each kind, n, n + 16, n + 32 and n + 48, stand in each other's place."""
    random = np.random.default_rng(0)
    kinds = np.cumsum(random.choice([1, 5], length)) % 16
    return (kinds + 16 * random.integers(vocab_size // 16, size=length)).astype(np.uint16)


@pytest.mark.parametrize("most_contexts", [2048, 20])
def test_tokens_with_the_same_neighbours_begin_alike(
    most_contexts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initial_weights, "MOST_CONTEXTS", most_contexts)
    torch.manual_seed(0)
    found = pair_embeddings(text_of_pairs(), 70, 32)
    assert found.shape == (70, 32)
    assert not found[64:].any()  # tokens that are not there
    rms = found[:64].square().mean(1).sqrt()
    torch.testing.assert_close(rms, torch.full((64,), PAIR_RMS))
    likeness = torch.nn.functional.cosine_similarity(found[:64, None], found[None, :64], dim=2)
    same = (torch.arange(64)[:, None] - torch.arange(64)) % 16 == 0
    assert likeness[same].min() > 0.9 > 0.5 > likeness[~same].max()


def test_information_is_that_of_the_counts() -> None:
    ids = np.array([0, 1, 0, 2, 0, 1, 0, 2, 3, 1] * 1000)
    frequency = np.bincount(ids)
    found = pointwise_information(ids[:-1], ids[1:], frequency, np.array([1, 0]))
    # After 0 comes 1 in half of the cases, and 1 has three tenths of the text; 0 comes never, it has four.
    chance = PRIOR * 0.3
    after_0 = math.log((2000 + chance) / (4000 + PRIOR) / 0.3), LEAST_INFORMATION
    mean = sum(after_0) / 2
    torch.testing.assert_close(found[0], torch.tensor([each - mean for each in after_0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("shape", "texts"),
    [
        (GPT2Config(2, 2, 16, 32, 300), "seen"),
        (GPT2Config(1, 2, 64, 32, 300), "seen"),
        (GPT2Config(2, 2, 64, 32, 20), "seen"),
        (GPT2Config(2, 2, 64, 32, 300), "one"),
        (GPT2Config(2, 2, 64, 32, 300), "none"),
    ],
)
def test_every_shape_and_every_corpus_has_its_embeddings(shape: GPT2Config, texts: str) -> None:
    model = GPT2(shape)
    before = model.transformer.wte.weight.detach().clone()
    tokens = {"seen": np.arange(2000) % 17, "one": np.zeros(1, np.int64), "none": np.zeros(0, np.int64)}[
        texts
    ]
    embed_pairs(model.transformer, shape, tokens)
    after = model.transformer.wte.weight.detach()
    assert torch.isfinite(after).all()
    changed = (after != before).any(1)
    assert changed.sum() == (17 if texts == "seen" else 0)
    if shape.n_layer > 1:
        assert torch.equal(after[:, : shape.n_embd // 2], before[:, : shape.n_embd // 2])


def test_a_run_of_a_few_steps_gains_much() -> None:
    """What embeddings from pairs are for: the text's pairs are known before the first step."""
    tokens, shape = torch.from_numpy(text_of_pairs().astype(np.int64)), GPT2Config(2, 2, 32, 64, 64)
    losses = []
    for begins_with_pairs in (False, True):
        torch.manual_seed(0)
        model = GPT2(shape)
        if begins_with_pairs:
            embed_pairs(model.transformer, shape, tokens.numpy())
        muon, adamw = build_optimizers(model, torch.float32)
        for step in range(30):
            rows = tokens[step * 8 * 65 : (step + 1) * 8 * 65].view(8, 65)
            loss = model(rows[:, :-1], rows[:, 1:])
            loss.backward()
            for optimizer in (muon, adamw):
                optimizer.step()
                optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[1] < 0.95 * losses[0], losses
