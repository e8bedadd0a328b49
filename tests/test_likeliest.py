"""/why: what the model expected at each token, by its own probabilities."""

from __future__ import annotations

import re

import numpy as np
import pytest
from code_generator import load
from completion import Completer
from decoding_settings import Decoding
from likeliest import Written, expectations, explain, spelt
from pretrained import read_pretrained
from tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> Completer:
    return load(read_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny"))), "cpu")


def write(completer: Completer, prompt: str, **settings: object) -> Written:
    decoding = Decoding(max_new_tokens=30, seed=4, valid=False, **settings)  # type: ignore[arg-type]
    [sample] = completer.start(prompt, decoding)
    read, owed = len(sample.ids), len(sample.owed)
    for _ in completer.write([sample], decoding):
        pass
    return Written(sample, read, owed)


def test_of_a_greedy_completion_the_first_of_five_was_taken(completer: Completer) -> None:
    written = write(completer, "def f(x):\n    retu", temperature=0, loop_penalty=0)
    lines = list(explain(completer, written))
    assert 25 <= len(lines) <= 30
    for line in lines[1:]:  # the first one had to begin with what was typed
        assert re.match(r" *\d+  \[[^ ]+ \d+\.\d %\]  ", line), line
        shares = [float(share) for share in re.findall(r"(\d+\.\d) %", line)]
        assert len(shares) == 5
        assert shares == sorted(shares, reverse=True)


def test_what_was_taken_spells_the_completion(completer: Completer) -> None:
    written = write(completer, "x = 1\n", temperature=1.5)
    taken = [re.search(r"\[(.+) \d+\.\d %\]", line) for line in explain(completer, written)]
    text = "".join(match[1] for match in taken if match)
    visible = written.completion.text.replace(" ", "·").replace("\n", "↵").replace("\t", "→")
    if text.isascii():
        assert text.startswith(visible)
    assert len(taken) > 20


def test_the_expectations_are_those_of_the_whole_text_read_at_once(completer: Completer) -> None:
    ids = completer.vocabulary.encode("def f(x):\n    return x + 1\n")[:20]
    by_step = list(expectations(completer.model, ids, 3))
    assert len(by_step) == len(ids) - 3
    for place, logits in enumerate(by_step, start=3):
        cache = completer.model.new_cache(1, 64)
        whole = completer.model.next_logits([ids[:place]], cache)[0]
        np.testing.assert_allclose(logits, whole, rtol=1e-4, atol=1e-3)


def test_a_text_longer_than_the_context_is_explained_to_its_end(completer: Completer) -> None:
    ids = [5 + i % 500 for i in range(200)]
    assert len(list(expectations(completer.model, ids, 10))) == 190


def test_blanks_and_half_characters_can_be_seen(completer: Completer) -> None:
    vocabulary = completer.vocabulary
    ids = {spelling: token_id for token_id, spelling in enumerate(vocabulary.token_bytes)}
    assert spelt(ids[b"\n"], vocabulary) == "↵"
    assert spelt(ids[b" "], vocabulary) == "·"
    assert spelt(ids[b"\xe2"], vocabulary) == "\\xe2"
    assert spelt(ids[b"\x1b"], vocabulary) == "\\x1b"
    assert spelt(0, vocabulary) == "<end>"
