"""What is said of a finished sample: findings in what was generated, and what the model expected."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from generation.completer import Completer, load_completer
from generation.inspection import (
    LOOP,
    Finding,
    lint,
    logits_before,
    rank,
    repetition,
    spelled,
    top_tokens,
)
from generation.sample import Sample
from inference.decoding import Decoding
from pretrained.load import read_pretrained
from project import STDLIB
from tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> Completer:
    return load_completer(read_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny"))), "cpu")


def write(completer: Completer, prompt: str, **settings: object) -> Sample:
    decoding = Decoding(**{"max_new_tokens": 30, "seed": 4, "valid": False, **settings})  # type: ignore[arg-type]
    [sample] = completer.start(prompt, decoding)
    for _ in completer.write([sample], decoding):
        pass
    return sample


def explained(completer: Completer, sample: Sample) -> list[str]:
    return list(top_tokens(completer.model, completer.vocabulary, sample))


def test_of_a_greedy_completion_the_first_of_five_was_taken(completer: Completer) -> None:
    sample = write(completer, "def f(x):\n    retu", temperature=0, loop_penalty=0)
    lines = explained(completer, sample)
    assert 25 <= len(lines) <= 30
    for line in lines[1:]:  # the first one had to begin with what was typed
        assert re.match(r" *\d+  \[[^ ]+ \d+\.\d %\]  ", line), line
        shares = [float(share) for share in re.findall(r"(\d+\.\d) %", line)]
        assert len(shares) == 5
        assert shares == sorted(shares, reverse=True)


def test_what_was_taken_spells_the_completion(completer: Completer) -> None:
    # which text ends early depends on the vocabulary, and so on the library of the running Python
    samples = (write(completer, "x = 1\n", temperature=1.5, seed=seed) for seed in range(4, 24))
    sample = next(sample for sample in samples if sample.tokens > 24)
    taken = [re.search(r"\[(.+) \d+\.\d %\]", line) for line in explained(completer, sample)]
    text = "".join(match[1] for match in taken if match)
    visible = sample.text.replace(" ", "·").replace("\n", "↵").replace("\t", "→")
    if text.isascii():
        assert text.startswith(visible)
    assert len(taken) > 20


def test_the_expectations_are_those_of_the_whole_text_read_at_once(completer: Completer) -> None:
    ids = completer.vocabulary.encode("def f(x):\n    return x + 1\n")[:20]
    by_step = list(logits_before(completer.model, ids, 3))
    assert len(by_step) == len(ids) - 3
    for place, logits in enumerate(by_step, start=3):
        cache = completer.model.new_cache(1, 64)
        whole = completer.model.next_logits([ids[:place]], cache)[0]
        np.testing.assert_allclose(logits, whole, rtol=1e-4, atol=1e-3)


def test_a_text_longer_than_the_context_is_explained_to_its_end(completer: Completer) -> None:
    ids = [5 + i % 500 for i in range(200)]
    assert len(list(logits_before(completer.model, ids, 10))) == 190


def test_blanks_and_half_characters_can_be_seen(completer: Completer) -> None:
    vocabulary = completer.vocabulary
    ids = {spelling: token_id for token_id, spelling in enumerate(vocabulary.token_bytes)}
    assert spelled(ids[b"\n"], vocabulary) == "↵"
    assert spelled(ids[b" "], vocabulary) == "·"
    assert spelled(ids[b"\xe2"], vocabulary) == "\\xe2"
    assert spelled(ids[b"\x1b"], vocabulary) == "\\x1b"
    assert spelled(0, vocabulary) == "<end>"


def finished(completer: Completer, prompt: str, text: str, surprise: float) -> Sample:
    """A sample with this text, of this surprise in nats a token."""
    sample = write(completer, prompt, scores=True)
    sample.ids[sample.prompt_ids :] = completer.vocabulary.encode(text)
    sample.completion, sample.tokens = text, len(sample.ids) - sample.prompt_ids
    sample.log_probability = -surprise * sample.tokens
    return sample


def test_the_best_sample_is_no_loop_has_few_findings_and_says_something(completer: Completer) -> None:
    ranked = [
        ("    return items[0] + items[-1]\n", 1.2),
        ("    return len(items)\n", 1.9),
        ("    pass\n", 0.3),  # says nothing
        ("    return missing\n", 0.2),  # a finding
        ("    items.pop()\n" * 12, 0.1),  # a loop
        ("\n", 0.0),
    ]
    samples = [finished(completer, "def first(items):\n", *text) for text in reversed(ranked)]
    assert [sample.text for sample in sorted(samples, key=rank)] == [text for text, _ in ranked]


def test_real_code_is_no_loop(completer: Completer) -> None:
    ids = completer.vocabulary.encode((STDLIB / "json/decoder.py").read_text(encoding="utf-8"))
    shares = [repetition(ids[start : start + 110]) for start in range(0, len(ids), 110)]
    assert max(shares) < LOOP
    assert repetition([1, 2, 3] * 40) > 0.9
    assert repetition([1, 2]) == 0


# pyflakes' findings


def lines_of(prompt: str, written: str) -> list[str]:
    return [str(finding) for finding in lint(prompt, written)]


def test_an_undefined_name_is_found_where_it_stands() -> None:
    assert lines_of("import os\n", "print(os, missing)\n") == ["line 2, column 11: undefined name 'missing'"]


def test_what_was_written_by_hand_is_not_objected_to() -> None:
    assert lines_of("import os\nprint(missing)\n", "x = 1\n") == []
    assert lines_of("print(one, ", "two)\n") == ["line 1, column 12: undefined name 'two'"]


def test_findings_come_in_the_order_of_the_lines() -> None:
    found = lint("", "") + lint("", "def f():\n    import os\n    return b\n\nprint(a)\n")
    assert found == [
        Finding(2, 5, "'os' imported but unused"),
        Finding(3, 12, "undefined name 'b'"),
        Finding(5, 7, "undefined name 'a'"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = = 1\n", "invalid syntax"), ("x = '\x00'\n", "null bytes"), ("(" * 500, "too many nested")],
)
def test_a_text_that_does_not_compile_has_one_finding(text: str, message: str) -> None:
    [finding] = lint("", text)
    assert message in finding.message


@pytest.mark.filterwarnings("error")
def test_the_compilers_warnings_are_not_shown() -> None:
    assert lint("", "x = 1\nassert x is 1\ny = '\\d'\n")[0].line == 2


def test_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    assert lint("", f"open({str(mark)!r}, 'w').close()\n") == []
    assert not mark.exists()


def test_what_stands_after_a_gap_is_not_objected_to() -> None:
    assert [str(finding) for finding in lint("x = ", "one", "\nprint(two)\n")] == [
        "line 1, column 5: undefined name 'one'"
    ]
