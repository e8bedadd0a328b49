"""The repetition penalty is that of transformers, on the logits and in the text."""

from __future__ import annotations

from pathlib import Path

import torch
from completion import Completer
from decoding_settings import Decoding
from inference import GPT2
from pretrained import load_weights, read_pretrained
from sampling import penalized
from tiny_model import greedy_ids, save_tiny_model


def test_the_logits_are_those_of_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(1, 50, generator=torch.manual_seed(0))
    ids = [3, 7, 7, 7, 49, 0]
    for penalty in (0.5, 1.0, 1.3, 10.0):
        theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), logits.clone())
        before = logits.clone()
        torch.testing.assert_close(penalized(logits, ids, penalty), theirs)
        assert torch.equal(logits, before), "the logits given are not changed"


def test_a_token_that_stands_there_already_is_less_likely_whatever_its_sign() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    assert penalized(logits, [0, 1], 2.0).tolist() == [[1.0, -4.0, 1.0]]


def test_greedy_text_with_a_penalty_is_that_of_transformers(tmp_path: Path) -> None:
    torch.set_num_threads(1)  # a second one only waits at this size
    pretrained = read_pretrained(save_tiny_model(tmp_path))
    weights = load_weights(pretrained, torch.device("cpu"), torch.float32)
    completer = Completer(GPT2(pretrained.config, weights), pretrained.vocabulary)
    decoding = Decoding(max_new_tokens=40, temperature=0, repetition_penalty=1.3, valid=False)
    [completion] = completer.start("import json\n\nclass JSONDecoder(object):\n", decoding)
    completion.owed = b""  # transformers reads the prompt as it stands
    context = list(completion.ids)
    for _ in completer.write([completion], decoding):
        pass
    never = completer.vocabulary.never_written
    expected = greedy_ids(tmp_path, context, 40, suppress_tokens=never, repetition_penalty=1.3)
    assert completion.ids[len(context) :] == [token_id for token_id in expected if token_id != 0]
    assert expected != greedy_ids(tmp_path, context, 40, suppress_tokens=never), "it made a difference"
