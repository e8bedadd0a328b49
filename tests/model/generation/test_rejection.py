"""Lines that no program contains are taken back; what is left of a completion compiles, always."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest

from generation.completer import Completer
from generation.completer import load_completer as load_model
from generation.rejection import CHECKED_EVERY, MOST_TRIES, GuardedText
from generation.sample import Sample
from inference.decoding import Decoding
from pretrained.load import read_pretrained
from project import STDLIB
from python_syntax import compiler
from python_syntax.compiler import is_complete
from python_syntax.judge import NotPythonError, accept_prompt
from python_syntax.prefix_parser import PrefixParser
from tiny_model import save_tiny_model

DECODER_PY = (STDLIB / "json" / "decoder.py").read_text(encoding="utf-8")


def load(folder: Path) -> Completer:
    return load_model(read_pretrained(folder), "cpu")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Completer:
    return load(save_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def trained(model_folder: Path) -> Completer:
    return load(model_folder)


def written(completer: Completer, prompt: str, decoding: Decoding) -> tuple[str, list[Sample]]:
    """What is shown of the first sample, and all samples at their end."""
    samples = completer.start(prompt, decoding)
    shown = "".join(text for number, text in completer.write(samples, decoding) if number == 0)
    return shown, samples


def prompts(count: int) -> list[str]:
    """Every other one empty, every other one json/decoder.py up to a random place."""
    rng = Random(0)
    return [DECODER_PY[: rng.randrange(len(DECODER_PY))] if i % 2 else "" for i in range(count)]


@pytest.mark.parametrize("model", ["untrained", "trained"])
@pytest.mark.parametrize("temperature", [0, 0.6, 1.5])
def test_whatever_the_model_writes_what_is_shown_compiles(
    model: str, temperature: float, request: pytest.FixtureRequest
) -> None:
    completer = request.getfixturevalue(model)
    for seed, prompt in enumerate(prompts(6)):
        decoding = Decoding(max_new_tokens=60, temperature=temperature, seed=seed)
        shown, [sample] = written(completer, prompt, decoding)
        assert shown == sample.text, "what was shown was taken back"
        assert is_complete(prompt + shown + "\n", 0), repr(shown)


@pytest.mark.full
@pytest.mark.parametrize("model", ["untrained", "trained"])
def test_the_same_holds_for_many_texts(model: str, request: pytest.FixtureRequest) -> None:
    completer = request.getfixturevalue(model)
    for seed, prompt in enumerate(prompts(150)):
        shown, _ = written(completer, prompt, Decoding(max_new_tokens=200, seed=seed))
        assert is_complete(prompt + shown + "\n", 0), repr(shown)


def takes(completer: Completer, prompt: str, text: str) -> bool:
    """Whether a sample may write all of this text."""
    [sample] = completer.start(prompt, Decoding())
    for token_id in completer.vocabulary.encode(sample.forced_bytes.decode() + text):
        sample.remember(np.zeros((1, len(completer.vocabulary.token_bytes)), np.float32))
        if not completer.add(sample, token_id):
            return False
    return True


def test_no_line_names_an_encoding_that_python_cannot_read(untrained: Completer) -> None:
    unknown, known = "# -*- coding: nosuch -*-\nx = 1\n", "# -*- coding: utf-8 -*-\nx = 1\n"
    for prompt in ("", "#!/usr/bin/env python\n"):
        assert not takes(untrained, prompt, unknown)
        assert takes(untrained, prompt, known)
    assert takes(untrained, "x = 1\ny = 2\n", unknown), "below the second line it is a comment like others"


def test_all_of_several_samples_compile(trained: Completer) -> None:
    _, samples = written(trained, "import os\n", Decoding(max_new_tokens=60, samples=4, seed=1))
    assert all(is_complete("import os\n" + sample.text + "\n", 0) for sample in samples)
    assert len({sample.text for sample in samples}) > 1


def test_a_weak_model_writes_something_before_its_tokens_are_spent(trained: Completer) -> None:
    prompt = "def area(width, height):\n"  # which cannot be the end
    texts = [written(trained, prompt, Decoding(max_new_tokens=40, seed=seed))[0] for seed in range(8)]
    assert sum(text.strip() not in ("", "pass") for text in texts) >= 6


def test_the_same_seed_writes_the_same_text_whatever_is_taken_back(trained: Completer) -> None:
    decoding = Decoding(max_new_tokens=80, seed=5)
    assert written(trained, "", decoding)[0] == written(trained, "", decoding)[0]


def test_a_prompt_that_is_no_python_is_refused_and_left_to_the_caller(trained: Completer) -> None:
    with pytest.raises(NotPythonError):
        trained.start("x = = 1\n", Decoding())
    unjudged = [Decoding(valid=False, max_new_tokens=20, seed=seed) for seed in range(4)]
    assert any(written(trained, "x = = 1\n", decoding)[0] for decoding in unjudged)


def test_no_more_passes_than_tokens_where_nothing_is_taken_back(trained: Completer) -> None:
    _, [sample] = written(trained, "x = 1\n", Decoding(max_new_tokens=30, seed=1, valid=False))
    assert sample.window.passes <= sample.tokens + 4  # the end of the prompt is written again


def test_the_log_probability_is_that_of_the_tokens_that_stayed(trained: Completer) -> None:
    decoding = Decoding(max_new_tokens=40, seed=3, scores=True)
    samples = trained.start("x = 1\n", decoding)
    read = len(samples[0].ids)
    for _ in trained.write(samples, decoding):
        pass
    # the token that ends a text has a probability too, and no place in the text
    ids = [*samples[0].ids, *(trained.vocabulary.end_ids if samples[0].ended else ())]
    expected = 0.0
    for place in range(read, len(ids)):
        cache = trained.model.new_cache(1, place)
        logits = trained.model.next_logits([ids[:place]], cache)[0]
        logits[trained.never_written] = -np.inf
        expected += float(logits[ids[place]] - np.logaddexp.reduce(logits))
    assert len(ids) > read
    assert math.isclose(samples[0].log_probability, expected, abs_tol=0.05)


def test_a_comment_is_no_way_out_of_a_line_that_cannot_go_on(untrained: Completer) -> None:
    [sample] = untrained.start("x = 1\n", Decoding(seed=1))
    assert sample.guard
    sample.pending_prompt_bytes, sample.guard.parser = b"", PrefixParser().after("y = x")
    assert sample.may_continue(b" + 1", as_comment=False)
    assert not sample.may_continue(b"  # is", as_comment=False)
    assert sample.may_continue(b"  # is", as_comment=True)
    assert not sample.may_continue(b" y ", as_comment=True)


def test_a_model_that_can_say_nothing_but_the_end_stops(untrained: Completer) -> None:
    [sample] = untrained.start("f(", Decoding(seed=1))
    sample.remember(np.zeros((1, 1), np.float32))
    for _ in range(MOST_TRIES):
        assert not sample.end(0)
    assert sample.end(0)
    assert is_complete("f(" + sample.text + "\n", 0)


def test_a_backslash_is_never_the_last_that_is_printed(untrained: Completer) -> None:
    [sample] = untrained.start("x = 1\n", Decoding(seed=1, max_new_tokens=100))
    sample.pending_prompt_bytes = b""
    for spelling in (b"y", b"\\", b"\n"):
        sample.remember(np.zeros((1, 512), np.float32))
        assert sample.add(0, spelling)
    sample.remember(np.zeros((1, 512), np.float32))
    assert not sample.add(1, b"\n"), "the second line end is taken back"
    sample.finish()
    assert is_complete("x = 1\n" + sample.text + "\n", 0)


def test_of_a_long_prompt_only_the_last_statement_is_compiled_while_it_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = "def f(x):\n    return x + 1\n\n\n" * 3_000
    guard = GuardedText(prompt, accept_prompt(prompt))
    sample = Sample(0, prompt, [], b"", 100, Decoding(), guard)
    lengths: list[int] = []

    def compiled(text: str, flags: int) -> object:
        lengths.append(len(text))
        return compile(text, "<text>", "exec", flags, dont_inherit=True)

    monkeypatch.setattr(compiler, "compiled", compiled)
    for token_id, word in enumerate(
        [b"x", b" =", b" 1", b"\n", b"def", b" g", b"(", b")", b":", b" ", b"\n"]
    ):
        sample.remember(np.zeros((1, 1), np.float32))
        assert sample.add(token_id, word)
    sample.finish()
    assert sample.text == "x = 1\ndef g(): \n    pass"
    assert lengths
    assert max(lengths) < 200


def test_a_string_that_ends_in_one_of_its_quotes_is_closed_once_and_not_for_ever() -> None:
    """One quote more, where two close it, left it open, and the text was taken back to there without end."""
    opened = [b"y", b" if", b" z", b" ==", b"'''", *[b" a"] * 92, b" '", b"b", b"\n"]
    script = [b"x", b" =", b" [", b"\n", *opened, *[b" a"] * 40]
    assert (len(script) - 40) % CHECKED_EVERY == 0
    sample = Sample(0, "", [], b"", len(script), Decoding(), GuardedText("", accept_prompt("")))
    ids: dict[bytes, int] = {}
    rejected = 0
    while not sample.finished:
        sample.remember(np.zeros((1, 1), np.float32))
        is_taken = False
        while not is_taken:
            word = sample.forced_bytes + b"\n" if sample.forced_bytes else script[sample.tokens]
            if ids.setdefault(word, len(ids)) in sample.banned:
                word = b" 0"
            is_taken = sample.add(ids.setdefault(word, len(ids)), word)
            rejected += not is_taken
            assert rejected < 1000, sample.written[-100:]
    assert is_complete(sample.text + "\n", 0)
