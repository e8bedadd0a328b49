"""The log-probability that --json gives, beside transformers' own log_softmax over the same ids.

It covers the tokens that stayed, with those that spell the end of the prompt again and the end-of-text token.
It is the model's own, at temperature 1 and without the tokens that are never written, under all settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from generation import rejection
from generation.completer import Completer
from generation.completer import load_completer as load_model
from generation.sample import Sample
from inference.decoding import Decoding
from pretrained.load import read_pretrained
from terminal.one_shot import Output, complete_once
from tiny_model import save_tiny_model

PROMPTS = ("", "import json\n", "class Decoder:\n    def dec", "x = [1,")


def load(folder: Path) -> Completer:
    return load_model(read_pretrained(folder), "cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # a second one only waits at this size
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), initializer_range=0.1)


def reference(folder: Path, ids: list[int], start: int, never_written: list[int]) -> float:
    """The sum over ids[start:]; a text longer than the context is read again from its last half on."""
    from transformers import GPT2LMHeadModel

    model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    context, window, total = model.config.n_positions, 0, 0.0
    for place in range(start, len(ids)):
        if place > start and place - 1 - window >= context:
            window = place - context // 2
        with torch.no_grad():
            logits = model(torch.tensor([ids[window:place]])).logits[0, -1]
        logits[never_written] = -torch.inf
        total += float(logits.log_softmax(-1)[ids[place]])
    return total


def write(completer: Completer, prompt: str, **settings: Any) -> tuple[list[Sample], int]:
    """The finished samples, and how many ids the model read before the first of its own."""
    decoding = Decoding(**{"max_new_tokens": 30, "seed": 1, "temperature": 1.0, "scores": True, **settings})
    samples = completer.start(prompt, decoding)
    start = len(samples[0].ids)
    for _ in completer.write(samples, decoding):
        pass
    return samples, start


def expected(folder: Path, completer: Completer, sample: Sample, start: int) -> float:
    ids = [*sample.ids, *completer.vocabulary.end_ids] if sample.ended else sample.ids
    return reference(folder, ids, start, completer.vocabulary.never_written)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_it_is_what_transformers_says_of_every_sample(tiny: Path, prompt: str) -> None:
    completer = load(tiny)
    samples, start = write(completer, prompt, samples=3, valid=False)
    assert len({sample.text for sample in samples}) == 3
    for sample in samples:
        assert len(sample.ids) > start or sample.ended
        assert sample.log_probability == pytest.approx(expected(tiny, completer, sample, start), abs=0.01)


def test_settings_change_what_is_drawn_and_not_what_it_is_worth(tiny: Path) -> None:
    completer = load(tiny)
    settings = (
        {"temperature": 0.3},
        {"top_p": 0.5},
        {"top_k": 3},
        {"repetition_penalty": 1.5},
        {"loop_penalty": 9},
    )
    for changed in settings:
        [sample], start = write(completer, "import json\n", valid=False, **changed)
        assert sample.log_probability == pytest.approx(expected(tiny, completer, sample, start), abs=0.01)
    [greedy], _ = write(completer, "import json\n", valid=False, temperature=0)
    [likeliest], _ = write(completer, "import json\n", valid=False, top_k=1)
    assert greedy.ids == likeliest.ids
    assert greedy.log_probability == likeliest.log_probability


def test_a_text_that_outgrows_the_context_is_worth_what_the_model_saw_of_it(tiny: Path) -> None:
    completer = load(tiny)
    texts = (
        write(completer, "import json\n", valid=False, max_new_tokens=120, seed=seed) for seed in range(5, 25)
    )
    sample, start = next((sample, start) for [sample], start in texts if len(sample.ids) > 70)  # context: 64
    assert sample.log_probability == pytest.approx(expected(tiny, completer, sample, start), abs=0.01)


def test_tokens_that_the_judge_took_back_do_not_count(model_folder: Path) -> None:
    completer = load(model_folder)
    rejected = 0
    for seed in range(6):
        [sample], start = write(completer, "import asyncio\n", max_new_tokens=40, seed=seed)
        rejected += sample.rejected_tokens.total()
        value = expected(model_folder, completer, sample, start)
        assert sample.log_probability == pytest.approx(value, abs=0.01)
    assert rejected > 20


def test_a_text_that_was_given_up_counts_what_is_left_of_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejection, "MOST_TRIES", 0)
    completer = load(tiny)
    given_up = 0
    for seed in range(20):
        [sample], start = write(completer, "", max_new_tokens=40, seed=seed)
        given_up += sample.tokens < 40 and not sample.ended
        assert sample.log_probability == pytest.approx(expected(tiny, completer, sample, start), abs=1e-3)
    assert given_up > 0


def test_json_gives_that_number(tiny: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    completer = load(tiny)
    settings: dict[str, Any] = {"max_new_tokens": 12, "seed": 3, "valid": False, "scores": True}
    complete_once(completer, "import json\n", None, Decoding(**settings), Output(json=True))
    record = json.loads(capsysbinary.readouterr().out)
    [sample], start = write(completer, "import json\n", **{**settings, "temperature": 0.8})
    assert record["completion"] == sample.text
    assert record["log_probability"] == pytest.approx(expected(tiny, completer, sample, start), abs=0.01)
