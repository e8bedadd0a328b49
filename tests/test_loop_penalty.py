"""Loops that a text ends in are less likely to go on; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from code_generator import load
from decoding_settings import Decoding
from pretrained import read_pretrained
from sampling import broken_loops
from text_encoder import TextEncoder
from tiny_model import save_tiny_model


def changed(ids: list[int], penalty: float = 2.0) -> dict[int, float]:
    """What each token loses after these."""
    logits = np.random.default_rng(0).standard_normal((1, 50), np.float32)
    before = logits.copy()
    after = broken_loops(logits, ids, penalty)
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


def test_the_penalty_is_what_is_asked_for() -> None:
    assert changed([1, 2, 3, 4] * 2, penalty=0.5) == {1: 0.5}


def test_real_code_is_hardly_touched(data_txt: Path, tokenizer_folder: Path) -> None:
    encoder = TextEncoder(tokenizer_folder)
    touched = places = 0
    for line in data_txt.read_text(encoding="utf-8").splitlines()[:20]:
        ids = encoder.encode(json.loads(line)["text"]).tolist()
        for place in range(1, len(ids)):
            logits = np.zeros((1, encoder.vocab_size), np.float32)
            touched += bool(broken_loops(logits, ids[max(0, place - 256) : place], 2.0)[0, ids[place]])
            places += 1
    assert places > 5000
    assert touched / places < 0.01


def test_a_text_that_loops_without_it_does_not_with_it(tmp_path: Path) -> None:
    completer = load(read_pretrained(save_tiny_model(tmp_path)), "cpu")

    def newest(penalty: float) -> list[int]:
        decoding = Decoding(max_new_tokens=80, temperature=0, valid=False, loop_penalty=penalty)
        [sample] = completer.start("import json\n\nclass JSONDecoder(object):\n", decoding)
        for _ in completer.write([sample], decoding):
            pass
        return sample.ids[-40:]

    assert len(set(newest(0.0))) < 20, "greedy text of a tiny model goes round in circles"
    assert len(set(newest(2.0))) > len(set(newest(0.0)))
