"""Bits per byte by its definition: each token of a file once, with at least half a context behind it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gpt2 import GPT2, Shape
from held_out import sample_files, score
from token_dataset import TokenSplit

torch.set_num_threads(1)  # at these sizes a second thread only waits

SHAPE = Shape(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=64)


def split_of(lengths: list[int]) -> TokenSplit:
    """Files of random tokens, each closed by <|endoftext|>; a token counts for three bytes of text."""
    random = np.random.default_rng(0)
    files = [np.append(random.integers(5, 64, length), 0) for length in lengths]
    return TokenSplit(
        tokens=np.concatenate(files).astype(np.uint16),
        offsets=np.cumsum([0, *map(len, files)]),
        text_bytes=np.array([3 * length for length in lengths], dtype=np.int64),
        repository=np.zeros(len(lengths), dtype=np.int32),
        repositories=["a"],
        paths=[f"{number}.py" for number in range(len(lengths))],
    )


def random_model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(SHAPE)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def bits_by_definition(model: GPT2, tokens: list[int]) -> float:
    """A file alone, window after window as the definition says it, one token at a time."""
    sequence, bits, half = [0, *tokens], 0.0, SHAPE.block_size // 2
    for target in range(1, len(sequence)):
        # the first window ends at its context; each later one brings half a context of new targets
        beyond = max(0, target - SHAPE.block_size)
        end = SHAPE.block_size + half * math.ceil(beyond / half)
        end = min(end, len(sequence) - 1)
        start = max(0, end - SHAPE.block_size)
        with torch.no_grad():
            scores = model.logits(torch.tensor([sequence[start:target]]))[0, -1]
        bits -= float(torch.log_softmax(scores, 0)[sequence[target]]) / math.log(2)
    return bits


@pytest.mark.parametrize("length", [1, 5, 7, 8, 9, 12, 13, 40])
def test_a_file_is_scored_as_the_definition_says(length: int) -> None:
    model, split = random_model(), split_of([length])
    expected = bits_by_definition(model, split.tokens.tolist()) / (3 * length)
    assert score(model, split, [0]).bits_per_byte == pytest.approx(expected, rel=1e-4)


def test_files_are_scored_together_as_they_are_alone() -> None:
    model, split = random_model(), split_of([3, 30, 8, 17])
    alone = [score(model, split, [file]).bits for file in range(4)]
    together = score(model, split, [2, 0, 3, 1])
    assert together.bits == pytest.approx(sum(alone), rel=1e-5)
    assert (together.text_bytes, together.files) == (3 * 58, 4)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary() -> None:
    model, split = GPT2(SHAPE), split_of([20])
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
    assert score(model, split, [0]).bits == pytest.approx(
        21 * 6, rel=1e-3
    )  # 2^6 entries, 20 tokens and the end


def test_a_smaller_sample_is_the_beginning_of_a_larger_one() -> None:
    split = split_of([10] * 30)
    small, large = sample_files(split, 90), sample_files(split, 300)
    assert (len(small), len(large)) == (3, 10)
    assert large[:3] == small
    assert sorted(sample_files(split, 10**9)) == list(range(30))
