"""The forward pass gives transformers' numbers, whichever way the positions are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from inference import ACTIVATIONS, GPT2
from pretrained import ACTIVATIONS as ACCEPTED_ACTIVATIONS
from pretrained import load_weights, read_pretrained
from tiny_model import VOCABULARY, greedy_ids, save_tiny_model
from transformers import GPT2LMHeadModel

CPU = torch.device("cpu")
VARIANTS: dict[str, dict[str, Any]] = {
    "the default": {},
    "an own output matrix": {"tie_word_embeddings": False},
    "saved in bf16": {"dtype": "bfloat16"},
    "a narrow mlp": {"n_inner": 48},
    "unscaled attention": {"scale_attn_weights": False},
    "attention scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "another epsilon": {"layer_norm_epsilon": 0.1},
    **{name: {"activation_function": name} for name in ACTIVATIONS},
}


def load(folder: Path) -> GPT2:
    pretrained = read_pretrained(folder)
    return GPT2(pretrained.config, load_weights(pretrained, CPU, torch.float32))


def reference_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(ids).logits[:, -1]
    return logits


def some_ids(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(5, VOCABULARY, (1, count), generator=generator)


def test_every_activation_that_is_accepted_can_be_computed() -> None:
    assert set(ACCEPTED_ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_of_transformers(variant: str, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, **VARIANTS[variant])
    ids = some_ids(40)
    expected = reference_logits(folder, ids)
    model = load(folder)
    torch.testing.assert_close(model.next_logits(ids, model.new_cache(1, 40)), expected, rtol=1e-4, atol=1e-3)


def test_greedy_tokens_equal_those_of_generate(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path)
    ids = some_ids(4)
    expected = greedy_ids(folder, ids[0].tolist(), 50, eos_token_id=None)
    model = load(folder)
    cache = model.new_cache(1, 64)
    written = []
    step = ids
    for _ in range(50):
        step = model.next_logits(step, cache).argmax(-1, keepdim=True)
        written.append(int(step))
    assert written == expected


def test_reading_in_parts_equals_reading_at_once(tmp_path: Path) -> None:
    model = load(save_tiny_model(tmp_path))
    ids = some_ids(60)
    at_once = model.next_logits(ids, model.new_cache(1, 60))
    cache = model.new_cache(1, 60)
    for part in torch.split(ids, [20, 1, 30, 1, 8], dim=1):
        logits = model.next_logits(part, cache)
    torch.testing.assert_close(logits, at_once, rtol=1e-4, atol=1e-4)


def test_a_cache_that_is_rolled_back_forgets_what_came_after(tmp_path: Path) -> None:
    model = load(save_tiny_model(tmp_path))
    start, wrong, right = some_ids(30), some_ids(9), some_ids(5)
    cache = model.new_cache(1, 64)
    model.next_logits(start, cache)
    model.next_logits(wrong, cache)
    cache.length = 30
    rolled_back = model.next_logits(right, cache)
    straight = model.next_logits(torch.cat([start, right], dim=1), model.new_cache(1, 35))
    torch.testing.assert_close(rolled_back, straight, rtol=1e-4, atol=1e-4)


def test_rows_of_a_batch_do_not_see_each_other(tmp_path: Path) -> None:
    model = load(save_tiny_model(tmp_path))
    rows = torch.cat([some_ids(12), some_ids(12).flip(1)])
    together = model.next_logits(rows, model.new_cache(2, 12))
    alone = [model.next_logits(row[None], model.new_cache(1, 12)) for row in rows]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_rows_of_a_cache_can_be_repeated_and_dropped(tmp_path: Path) -> None:
    model = load(save_tiny_model(tmp_path))
    cache = model.new_cache(1, 20)
    model.next_logits(some_ids(12), cache)
    cache.select_rows([0, 0, 0])
    cache.select_rows([1])
    expected = model.next_logits(torch.cat([some_ids(12), some_ids(3)], dim=1), model.new_cache(1, 20))
    torch.testing.assert_close(model.next_logits(some_ids(3), cache), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_token_by_token_the_logits_are_those_of_reading_at_once(variant: str, tmp_path: Path) -> None:
    model = load(save_tiny_model(tmp_path, **VARIANTS[variant]))
    ids = some_ids(40)
    assert model.one_row, "float32 on the CPU is written in numpy"
    cache = model.new_cache(1, 40)
    for place in range(40):
        logits = model.next_logits(ids[:, place : place + 1], cache)
    torch.testing.assert_close(logits, model.next_logits(ids, model.new_cache(1, 40)), rtol=1e-4, atol=1e-3)
