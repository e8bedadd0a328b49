"""The repetition penalty is that of transformers, on the logits and in the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from code_generator import load
from decoding_settings import Decoding
from pretrained import read_pretrained
from sampling import penalized
from tiny_model import greedy_ids, save_tiny_model


def test_the_logits_are_those_of_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = np.random.default_rng(0).standard_normal((1, 50), np.float32)
    ids = [3, 7, 7, 7, 49, 0]
    for penalty in (0.5, 1.0, 1.3, 10.0):
        theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), torch.tensor(logits))
        before = logits.copy()
        np.testing.assert_allclose(penalized(logits, ids, penalty), theirs.numpy(), rtol=1e-6)
        assert np.array_equal(logits, before), "the logits given are not changed"


def test_a_token_that_stands_there_already_is_less_likely_whatever_its_sign() -> None:
    logits = np.array([[2.0, -2.0, 1.0]], np.float32)
    assert penalized(logits, [0, 1], 2.0).tolist() == [[1.0, -4.0, 1.0]]


def test_greedy_text_with_a_penalty_is_that_of_transformers(tmp_path: Path) -> None:
    completer = load(read_pretrained(save_tiny_model(tmp_path)), "cpu")
    decoding = Decoding(max_new_tokens=40, temperature=0, loop_penalty=0, repetition_penalty=1.3, valid=False)
    [completion] = completer.start("import json\n\nclass JSONDecoder(object):\n", decoding)
    completion.owed = b""  # transformers reads the prompt as it stands
    context = list(completion.ids)
    for _ in completer.write([completion], decoding):
        pass
    never = completer.vocabulary.never_written
    expected = greedy_ids(tmp_path, context, 40, suppress_tokens=never, repetition_penalty=1.3)
    assert completion.ids[len(context) :] == [token_id for token_id in expected if token_id != 0]
    assert expected != greedy_ids(tmp_path, context, 40, suppress_tokens=never), "it made a difference"
