"""The tokens and refusals of a sample, as they are handed out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from generation.completer import Completer, load_completer
from generation.trace import MOST_REFUSALS, NEVER, Trace
from inference.decoding import Decoding
from pretrained.load import read_pretrained
from pretrained.vocabulary import Vocabulary
from tiny_model import VOCABULARY, save_tiny_model


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> Completer:
    return load_completer(read_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny"))), "cpu")


@pytest.fixture(scope="module")
def vocabulary(completer: Completer) -> Vocabulary:
    return completer.vocabulary


def logits(**values: float) -> np.ndarray:
    row = np.full((1, VOCABULARY), -np.inf, np.float32)
    for name, value in values.items():
        row[0, int(name[1:])] = value
    return row


def test_the_likeliest_tokens_are_named_with_their_log_probabilities(vocabulary: Vocabulary) -> None:
    trace = Trace(vocabulary, top=2)
    trace.take(0, 40, "x", 0, logits(t40=math.log(0.2), t41=math.log(0.5), t42=math.log(0.3)))
    [[token], _] = trace.hand_out(1, is_finished=False)
    assert token.log_probability == pytest.approx(math.log(0.2))
    assert list(token.top.values()) == pytest.approx([math.log(0.5), math.log(0.3)])
    assert list(token.top) == [vocabulary.token_bytes[i].decode() for i in (41, 42)]


def test_a_token_that_the_model_excludes_has_a_number_that_json_can_say(vocabulary: Vocabulary) -> None:
    trace = Trace(vocabulary, top=0)
    trace.take(0, 40, "x", 0, logits(t41=0))
    assert trace.tokens[0].log_probability == NEVER


def test_tokens_that_were_taken_back_are_not_handed_out(vocabulary: Vocabulary) -> None:
    trace = Trace(vocabulary, top=0, refusals=True)
    for place in range(3):
        trace.take(place, 40, "x", place, logits(t40=0))
    trace.refuse(2, "x", "why")
    trace.take_back(1, 1, "!!", "wrong")
    tokens, refusals = trace.hand_out(9, is_finished=True)
    assert [token.place for token in tokens] == [0]
    assert [(refusal.offset, refusal.text) for refusal in refusals] == [(1, "!!")]


def test_each_token_is_handed_out_once_and_with_its_text(vocabulary: Vocabulary) -> None:
    trace = Trace(vocabulary, top=0)
    for place in range(4):
        trace.take(place, 40, "x", place, logits(t40=0))
    assert [len(trace.hand_out(kept, is_finished=False)[0]) for kept in (0, 1, 1, 3)] == [0, 1, 0, 2]


def test_of_a_token_that_repeats_the_prompt_the_new_part_is_its_text(completer: Completer) -> None:
    decoding = Decoding(max_new_tokens=3, seed=1, scores=True, valid=False)
    [sample] = completer.start("import o", decoding)
    trace = sample.trace = Trace(completer.vocabulary, top=0)
    for _ in completer.write([sample], decoding):
        pass
    text = "".join(token.text for token in trace.tokens if not token.text.startswith("bytes:"))
    assert sample.written.startswith(text) and text


def test_half_of_a_character_is_spelled_in_bytes(vocabulary: Vocabulary) -> None:
    trace = Trace(vocabulary, top=0)
    trace.take(0, vocabulary.token_bytes.index(b"\xe2"), "", 0, logits(t40=0))
    assert trace.tokens[0].text == "bytes:\\xe2"


def test_the_number_of_refusals_is_bounded(vocabulary: Vocabulary) -> None:
    trace = Trace(vocabulary, refusals=True)
    for _ in range(MOST_REFUSALS + 5):
        trace.refuse(0, "x", "why")
    assert len(trace.refusals) == MOST_REFUSALS


@pytest.mark.parametrize("seed", range(6))
def test_tokens_and_refusals_fit_the_text_that_stays(completer: Completer, seed: int) -> None:
    decoding = Decoding(max_new_tokens=40, temperature=1.5, seed=seed, scores=True)
    [sample] = completer.start("class A:\n    def f(se", decoding)
    trace = sample.trace = Trace(completer.vocabulary, top=1, refusals=True)
    for _ in completer.write([sample], decoding):
        pass
    kept = sum(1 for a, b in zip(sample.text, sample.written, strict=False) if a == b)
    tokens, refusals = trace.hand_out(kept, is_finished=True)
    for token in tokens:
        if not token.text.startswith("bytes:"):
            assert sample.written[token.offset :].startswith(token.text)
    assert [token.offset for token in tokens] == sorted(token.offset for token in tokens)
    assert sum(sample.rejected_tokens.values()) == 0 or refusals
