"""A prompt and its completions on standard output: exactly, alone, the best one, as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from generation.completer import Completer, load_completer
from generation.inspection import lint
from inference.decoding import Decoding
from model_cli import UserError
from pretrained.load import read_pretrained
from terminal.one_shot import Output, complete_once
from tiny_model import save_tiny_model

PROMPT = "import json\nx = 1\n"
PLAIN = Output()


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> Completer:
    return load_completer(read_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny"))), "cpu")


class Printed:
    """What complete_once prints for some settings."""

    def __init__(self, completer: Completer, capture: pytest.CaptureFixture[bytes]) -> None:
        self.completer, self.capture = completer, capture

    def __call__(self, prompt: str = PROMPT, output: Output = PLAIN, **settings: Any) -> tuple[str, str]:
        """(standard output, standard error); not held to valid Python, which random weights hardly write"""
        chosen = {"max_new_tokens": 20, "seed": 4, "temperature": 1.0, "valid": False, **settings}
        decoding = Decoding(**chosen)
        assert complete_once(self.completer, prompt, None, decoding, output) == 0
        printed = self.capture.readouterr()
        return printed.out.decode(), printed.err.decode()


@pytest.fixture
def printed(completer: Completer, capsysbinary: pytest.CaptureFixture[bytes]) -> Printed:
    return Printed(completer, capsysbinary)


def test_the_prompt_its_completion_and_one_newline_are_all_that_is_printed(printed: Printed) -> None:
    out, err = printed()
    assert out.startswith(PROMPT) and out.endswith("\n") and not out.endswith("\n\n")
    assert err == ""
    alone, _ = printed(output=Output(completion_only=True))
    assert PROMPT + alone == out


def test_no_tokens_asked_for_is_the_prompt_alone(printed: Printed) -> None:
    assert printed(max_new_tokens=0) == (f"{PROMPT}\n", "")
    assert printed(max_new_tokens=0, samples=2)[0] == f"{PROMPT}\n# sample 2 of 2\n{PROMPT}\n"
    record = json.loads(printed(max_new_tokens=0, output=Output(json=True), scores=True)[0])
    assert (record["completion"], record["tokens"], record["log_probability"]) == ("", 0, 0)


def test_a_prompt_that_is_no_python_is_completed_after_a_note(printed: Printed) -> None:
    out, err = printed("x = = 1\n", valid=True)
    assert out.startswith("x = = 1\n")
    assert err.startswith("note: your prompt is not Python (")
    assert "invalid syntax (line 1, column 5)" in err
    assert err.count("\n") == 1


def test_an_error_stands_on_a_line_of_its_own(
    completer: Completer, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        completer.model,
        "next_logits",
        lambda ids, cache: np.full((1, len(completer.vocabulary.token_bytes)), np.nan),
    )
    with pytest.raises(UserError, match="not finite"):
        complete_once(completer, "x = 1", None, Decoding(valid=False), PLAIN)
    assert capsysbinary.readouterr().out == b"x = 1\n"


def test_json_describes_each_sample(printed: Printed) -> None:
    out, err = printed(output=Output(json=True, lint=True), samples=3, scores=True)
    records = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [record["sample"] for record in records] == [0, 1, 2]
    assert len({record["completion"] for record in records}) == 3
    for record in records:
        assert record["text"] == PROMPT + record["completion"]
        assert record["guaranteed"] is False
        assert 0 <= record["tokens"] <= 20
        assert record["log_probability"] <= 0
        assert 0 < record["seconds_to_first_text"] <= record["seconds"]
        found = lint(PROMPT, record["completion"])
        assert record["lint"] == [str(finding) for finding in found]
    assert json.loads(printed("x = 1\n", Output(json=True), valid=True)[0])["guaranteed"] is True
    assert json.loads(printed("x = = 1\n", Output(json=True), valid=True)[0])["guaranteed"] is False


def test_the_best_sample_is_the_one_with_the_fewest_findings(printed: Printed) -> None:
    described, _ = printed(output=Output(json=True, lint=True), samples=6, scores=True)
    records = [json.loads(line) for line in described.splitlines()]
    best, err = printed(output=Output(best=True), samples=6, scores=True)
    assert err == ""
    assert "# sample" not in best
    [chosen] = [record for record in records if record["text"] + "\n" == best]
    written = [record for record in records if record["completion"].strip()]
    assert len(chosen["lint"]) == min(len(record["lint"]) for record in written)


def test_findings_go_to_standard_error_with_their_sample(printed: Printed) -> None:
    plain, _ = printed(samples=2)
    out, err = printed(output=Output(lint=True), samples=2)
    assert out == plain
    texts = out.removesuffix("\n").split("\n# sample 2 of 2\n")
    expected = [
        f"sample {number}, {finding}"
        for number, text in enumerate(texts, start=1)
        for finding in lint(PROMPT, text.removeprefix(PROMPT))
    ]
    assert expected
    assert err.splitlines() == expected
