"""Tokens are drawn from the distribution that the settings describe."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
import torch
from decoding_settings import Decoding
from sampling import Array, draw, log_probability, sample
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


def logits_of(size: int, spread: float = 2.0) -> Array:
    return np.random.default_rng(size).standard_normal((1, size), np.float32) * np.float32(spread)


def test_temperature_0_takes_the_likeliest() -> None:
    logits = logits_of(300)
    assert sample(logits, Decoding(temperature=0), [Random(1)]) == [int(logits.argmax())]


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(temperature=1, top_p=1),
        Decoding(temperature=0.7, top_p=0.8),
        Decoding(temperature=1.5, top_p=1, top_k=5),
        Decoding(temperature=1, top_p=0.6, top_k=20),
        Decoding(temperature=30, top_p=0.95),  # so flat that the likeliest 64 do not hold the nucleus
    ],
    ids=str,
)
def test_frequencies_are_those_of_the_distribution_that_transformers_draws_from(decoding: Decoding) -> None:
    logits = logits_of(200)
    warped = TemperatureLogitsWarper(float(decoding.temperature))(None, torch.from_numpy(logits))
    if decoding.top_k:
        warped = TopKLogitsWarper(decoding.top_k)(None, warped)
    if decoding.top_p < 1:
        warped = TopPLogitsWarper(decoding.top_p)(None, warped)
    expected = warped.softmax(-1)[0].tolist()
    chance = Random(0)
    draws = 4000
    counts = Counter(sample(logits, decoding, [chance])[0] for _ in range(draws))
    assert all(expected[token] > 0 for token in counts), "a token outside the nucleus was drawn"
    distance = sum(abs(counts[token] / draws - expected[token]) for token in range(200)) / 2
    support = sum(probability > 0 for probability in expected)
    assert distance < 1.2 * (support / draws) ** 0.5 / 2 + 0.01


def test_each_row_follows_its_own_chance() -> None:
    logits = logits_of(300).repeat(3, axis=0)
    decoding = Decoding(temperature=1)
    together = sample(logits, decoding, [Random(1), Random(2), Random(3)])
    assert together == [sample(logits[:1], decoding, [Random(seed)])[0] for seed in (1, 2, 3)]


def test_a_draw_falls_on_its_share_of_the_nucleus() -> None:
    assert draw([0.5, 0.3, 0.1], 0.75, 0.9) == 1
    assert draw([0.5, 0.3, 0.1], 0.75, 0.6) == 0
    assert draw([0.5, 0.3, 0.1], 0.5, 0.999) == 0


def test_a_draw_says_when_the_list_is_too_short() -> None:
    assert draw([0.5, 0.3, 0.1], 0.95, 0.1) is None
    assert draw([0.5, 0.3, 0.1], 1, 0.95) is None
    assert draw([0.5, 0.3, 0.1], 1, 0.85) == 2


def test_what_is_excluded_is_never_drawn() -> None:
    logits = np.full((1, 100), -np.inf, np.float32)
    logits[0, 42] = 0.0
    assert all(sample(logits, Decoding(top_p=p), [Random(i)]) == [42] for p in (0.5, 1) for i in range(50))


def test_a_log_probability_is_that_of_softmax() -> None:
    logits = logits_of(300, spread=20.0)[0]
    expected = torch.from_numpy(logits).log_softmax(-1)
    assert [log_probability(logits, i) for i in (0, 7, 299)] == pytest.approx(expected[[0, 7, 299]].tolist())
