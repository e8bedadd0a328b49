"""The forward pass gives transformers' numbers, whichever way the positions are read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2 import operations
from gpt2.config import ACTIVATIONS
from inference import cpu_engine
from inference.cpu_engine import CpuEngine, quantize
from inference.language_model import Array, KeyValueCache, LanguageModel
from inference.torch_engine import TorchEngine
from pretrained.load import load_tensors, load_weights, read_pretrained
from tiny_model import VOCABULARY, greedy_ids, save_tiny_model

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


def load(folder: Path, bits: int = 16) -> CpuEngine:
    pretrained = read_pretrained(folder)
    return CpuEngine(pretrained.config, load_weights(pretrained), bits)


def load_in_torch(folder: Path) -> TorchEngine:
    pretrained = read_pretrained(folder)
    tensors = load_tensors(pretrained.weight_files, pretrained.config, torch.device("cpu"), torch.float32)
    return TorchEngine(pretrained.config, tensors)


LOADERS: dict[str, Callable[[Path], LanguageModel]] = {"numpy": load, "torch": load_in_torch}


@pytest.fixture(params=LOADERS)
def loader(request: pytest.FixtureRequest) -> Callable[[Path], LanguageModel]:
    return LOADERS[request.param]


def reference_logits(folder: Path, ids: list[int]) -> Array:
    """Logits (V,) after these ids, by transformers."""
    model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits: Array = model.eval()(torch.tensor([ids])).logits[0, -1].numpy()
    return logits


def some_ids(count: int) -> list[int]:
    return Random(count).choices(range(5, VOCABULARY), k=count)


def one_by_one(model: LanguageModel, ids: list[int], cache: KeyValueCache) -> Array:
    for token_id in ids:
        logits = model.next_logits([[token_id]], cache)
    return logits


def alone(model: LanguageModel, prompts: list[list[int]]) -> Array:
    """Logits (B, V) after each of these, read by itself."""
    return np.concatenate([model.next_logits([prompt], model.new_cache(1, 20)) for prompt in prompts])


def assert_close(logits: Array, expected: Array, tolerance: float = 1e-3) -> None:
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=tolerance)


def test_every_activation_that_is_accepted_can_be_computed() -> None:
    assert set(ACTIVATIONS.values()) == set(operations.ACTIVATIONS) == set(cpu_engine.ACTIVATIONS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_of_transformers(
    loader: Callable[[Path], LanguageModel], variant: str, tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path, **VARIANTS[variant])
    ids = some_ids(40)
    model = loader(folder)
    assert_close(model.next_logits([ids], model.new_cache(1, 40))[0], reference_logits(folder, ids))


@pytest.mark.parametrize("variant", VARIANTS)
def test_token_by_token_the_logits_are_those_of_reading_at_once(variant: str, tmp_path: Path) -> None:
    model = load(save_tiny_model(tmp_path, **VARIANTS[variant]))
    ids = some_ids(40)
    written = one_by_one(model, ids, model.new_cache(1, 40))
    assert_close(written, model.next_logits([ids], model.new_cache(1, 40)))


def test_greedy_tokens_equal_those_of_generate(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path)
    ids = some_ids(4)
    expected = greedy_ids(folder, ids, 50, eos_token_id=None)
    model = loader(folder)
    cache = model.new_cache(1, 64)
    written: list[int] = []
    while len(written) < 50:
        written.append(int(model.next_logits([[written[-1]] if written else ids], cache).argmax()))
    assert written == expected


def test_a_prompt_longer_than_a_strip_of_attention_is_read(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path, n_positions=300)
    ids = some_ids(300)
    model, cache = loader(folder), loader(folder).new_cache(1, 300)
    model.next_logits([ids[:20]], cache)
    assert_close(model.next_logits([ids[20:]], cache)[0], reference_logits(folder, ids), 3e-3)


def test_whole_numbers_give_the_logits_of_the_weights_that_they_stand_for(tmp_path: Path) -> None:
    pretrained = read_pretrained(save_tiny_model(tmp_path, n_embd=128))
    weights = load_weights(pretrained)
    for name, weight in weights.items():
        if weight.ndim == 2 and name != "wpe.weight":
            is_transposed = ".c_" in name  # GPT-2's own matrices are (in, out)
            whole, scales = quantize(weight.T if is_transposed else weight, 8)
            rounded = (whole.reshape(*scales.shape, -1) * scales[..., None]).reshape(whole.shape)
            assert 0 < np.abs(rounded - (weight.T if is_transposed else weight)).max() < 0.01
            weights[name] = np.ascontiguousarray(rounded.T if is_transposed else rounded)
    model = CpuEngine(pretrained.config, weights, bits=8)
    assert model.quantized.arguments[3][0].dtype == np.int8
    ids = some_ids(40)
    written = one_by_one(model, ids, model.new_cache(1, 40))
    assert_close(written, model.next_logits([ids], model.new_cache(1, 40)), 5e-3)


def test_widths_that_groups_do_not_divide_stay_in_16_bits(tmp_path: Path) -> None:
    model = load(save_tiny_model(tmp_path), bits=8)
    assert model.quantized.arguments[3][0].dtype == np.int16


@pytest.mark.parametrize(("bits", "kind", "relative"), [(16, np.int16, 2e-5), (8, np.int8, 5e-3)])
def test_weights_are_rounded_to_half_a_step(bits: int, kind: type, relative: float) -> None:
    weights = np.random.default_rng(0).standard_normal((3, 5, 128)).astype(np.float32)
    weights[0, 0] = 0
    rounded, scales = quantize(weights, bits)
    assert rounded.dtype == kind
    groups = rounded.reshape(3, 5, scales.shape[-1], -1) * scales[..., None]
    assert np.abs(groups.reshape(weights.shape) - weights).max() <= relative * np.abs(weights).max()


def test_reading_in_parts_equals_reading_at_once(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    model = loader(save_tiny_model(tmp_path))
    ids = some_ids(60)
    at_once = model.next_logits([ids], model.new_cache(1, 60))
    cache = model.new_cache(1, 60)
    for start, end in pairwise([0, 20, 21, 51, 52, 60]):
        logits = model.next_logits([ids[start:end]], cache)
    assert_close(logits, at_once)


def test_a_cache_that_is_rolled_back_forgets_what_came_after(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    model = loader(save_tiny_model(tmp_path))
    start, wrong, right = some_ids(30), some_ids(9), some_ids(5)
    cache = model.new_cache(1, 64)
    model.next_logits([start], cache)
    one_by_one(model, wrong, cache)
    cache.length = 30
    assert_close(one_by_one(model, right, cache), model.next_logits([start + right], model.new_cache(1, 35)))


def test_rows_of_a_batch_do_not_see_each_other(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    model = loader(save_tiny_model(tmp_path))
    rows = [some_ids(12), some_ids(12)[::-1]]
    assert_close(model.next_logits(rows, model.new_cache(2, 12)), alone(model, rows))


def test_rows_of_different_lengths_go_on_each_from_its_own_end(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    model = loader(save_tiny_model(tmp_path))
    ids = some_ids(12)
    cache = model.new_cache(2, 20)
    model.next_logits([ids, ids], cache)
    cache.lengths = [12, 7]
    assert_close(model.next_logits([[9], [8]], cache), alone(model, [[*ids, 9], [*ids[:7], 8]]))


def test_what_is_read_into_a_row_stands_there(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    model = loader(save_tiny_model(tmp_path))
    ids = some_ids(12)
    cache = model.new_cache(2, 20)
    model.next_logits([ids, ids[::-1]], cache)
    model.next_logits([ids[:5]], cache.row(1))
    model.next_logits([ids[:1]], cache.row(0))
    cache.lengths = [1, 5]
    assert_close(model.next_logits([[9], [8]], cache), alone(model, [[ids[0], 9], [*ids[:5], 8]]))


def test_rows_of_a_cache_can_be_repeated_and_dropped(
    loader: Callable[[Path], LanguageModel], tmp_path: Path
) -> None:
    model = loader(save_tiny_model(tmp_path))
    cache = model.new_cache(1, 20)
    model.next_logits([some_ids(12)], cache)
    cache.select_rows([0, 0, 0])
    cache.select_rows([1])
    expected = model.next_logits([some_ids(12) + some_ids(3)], model.new_cache(1, 20))
    assert_close(model.next_logits([some_ids(3)], cache), expected)
