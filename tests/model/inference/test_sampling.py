"""Tokens are drawn from the distribution that the settings describe, and penalties change it as they say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from data_loading.encoding import TextEncoder
from generation.completer import load_completer
from inference.decoding import Decoding
from inference.language_model import Array
from inference.sampling import draw, log_probability, loop_penalty, repetition_penalty, sample
from pretrained.load import read_pretrained
from tiny_model import greedy_ids, save_tiny_model


def logits_of(size: int, spread: float = 2.0) -> Array:
    return np.random.default_rng(size).standard_normal((1, size), np.float32) * np.float32(spread)


@pytest.mark.parametrize("temperature", [0, 1e-7, 1e-40, 1e-320])
@pytest.mark.filterwarnings("error")
def test_temperature_0_takes_the_likeliest(temperature: float) -> None:
    logits = logits_of(300)
    assert sample(logits, Decoding(temperature=temperature), [Random(1)]) == [int(logits.argmax())]


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


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = np.random.default_rng(0).standard_normal((1, 50), np.float32)
    ids = [3, 7, 7, 7, 49, 0]
    for penalty in (0.5, 1.0, 1.3, 10.0):
        theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), torch.tensor(logits))
        before = logits.copy()
        np.testing.assert_allclose(repetition_penalty(logits, ids, penalty), theirs.numpy(), rtol=1e-6)
        assert np.array_equal(logits, before), "the logits given are not changed"


def test_a_token_that_stands_there_already_is_less_likely_whatever_its_sign() -> None:
    logits = np.array([[2.0, -2.0, 1.0]], np.float32)
    assert repetition_penalty(logits, [0, 1], 2.0).tolist() == [[1.0, -4.0, 1.0]]


def test_greedy_text_with_a_penalty_is_that_of_transformers(tmp_path: Path) -> None:
    completer = load_completer(read_pretrained(save_tiny_model(tmp_path)), "cpu")
    decoding = Decoding(max_new_tokens=40, temperature=0, loop_penalty=0, repetition_penalty=1.3, valid=False)
    [completion] = completer.start("import json\n\nclass JSONDecoder(object):\n", decoding)
    completion.pending_prompt_bytes = b""  # transformers reads the prompt as it stands
    context = list(completion.ids)
    for _ in completer.write([completion], decoding):
        pass
    never = completer.vocabulary.never_written
    expected = greedy_ids(tmp_path, context, 40, suppress_tokens=never, repetition_penalty=1.3)
    assert completion.ids[len(context) :] == [token_id for token_id in expected if token_id != 0]
    assert expected != greedy_ids(tmp_path, context, 40, suppress_tokens=never), "it made a difference"


def changed(ids: list[int], penalty: float = 2.0) -> dict[int, float]:
    """What each token loses to the loop penalty after these."""
    logits = np.random.default_rng(0).standard_normal((1, 50), np.float32)
    before = logits.copy()
    after = loop_penalty(logits, ids, penalty)
    assert np.array_equal(logits, before), "the logits given are not changed"
    return {int(i): round(float(before[0, i] - after[0, i]), 4) for i in np.flatnonzero(before != after)}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 3, 4, 1, 2, 3, 4], {1: 2.0}),  # the third 1 2 3 4 would begin
        ([9, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2], {3: 2.0}),  # or go on
        ([1, 2, 3, 4] * 3, {1: 4.0}),
        ([7, 7, 7, 7, 7], {7: 8.0}),
        ([1, 2, 1, 2, 1, 2], {1: 4.0}),
        ([7, 7, 7, 7], {}),  # not long enough
        ([1, 2, 1, 2], {}),
        ([1, 2, 3, 4, 5, 1, 2, 3, 4], {}),  # it stood there before, but not twice in a row
        ([1, 2, 3, 4, 1, 2, 3, 4, 9], {}),  # it is over
        ([*range(40), *range(40)], {0: 2.0}),
        ([5], {}),
        ([], {}),
    ],
)
def test_the_token_with_which_a_loop_goes_on_loses_as_much_for_each_repetition(
    ids: list[int], expected: dict[int, float]
) -> None:
    assert changed(ids) == expected


def test_the_loop_penalty_is_what_is_asked_for() -> None:
    assert changed([1, 2, 3, 4] * 2, penalty=0.5) == {1: 0.5}


def test_the_loop_penalty_hardly_touches_real_code(data_txt: Path, tokenizer_folder: Path) -> None:
    encoder = TextEncoder(tokenizer_folder)
    touched = places = 0
    for line in data_txt.read_text(encoding="utf-8").splitlines()[:20]:
        ids = encoder.encode(json.loads(line)["text"]).tolist()
        for place in range(1, len(ids)):
            logits = np.zeros((1, encoder.vocab_size), np.float32)
            touched += bool(loop_penalty(logits, ids[max(0, place - 256) : place], 2.0)[0, ids[place]])
            places += 1
    assert places > 5000
    assert touched / places < 0.01


def test_a_text_that_loops_without_the_loop_penalty_does_not_with_it(tmp_path: Path) -> None:
    completer = load_completer(read_pretrained(save_tiny_model(tmp_path)), "cpu")

    def newest(penalty: float) -> list[int]:
        decoding = Decoding(max_new_tokens=80, temperature=0, valid=False, loop_penalty=penalty)
        [sample] = completer.start("import json\n\nclass JSONDecoder(object):\n", decoding)
        for _ in completer.write([sample], decoding):
            pass
        return sample.ids[-40:]

    assert len(set(newest(0.0))) < 20, "greedy text of a tiny model goes round in circles"
    assert len(set(newest(2.0))) > len(set(newest(0.0)))
