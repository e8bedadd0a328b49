"""Filling a gap in, from the marker in a prompt to a model that was trained for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from code_generator import load as load_model
from completion import Completer
from conftest import run_script, succeed
from decoding_settings import Decoding
from fill_in import check_fills_in, fitting, gap_of, split_at_marker
from pretrained import PretrainedError, read_pretrained

GENERATOR = "model/code_generator.py"
BEFORE, AFTER = "def f(x):\n    if x:\n", "    return x\n"


def test_the_marker_parts_a_text_once() -> None:
    assert split_at_marker("a = <FILL>\nb") == ("a = ", "\nb")
    assert split_at_marker("<FILL><FILL>") == ("", "<FILL>")
    assert split_at_marker("a = b") is None


@pytest.mark.parametrize(
    ("prefix", "middle", "suffix", "kept"),
    [
        ("x = (", "1, 2", ")\n", "1, 2"),
        (BEFORE, "        y = 1", AFTER, "        y = 1\n"),
        (BEFORE, "        y = 1\n        z = (", AFTER, "        y = 1\n"),
        ("x = 1\n", "y = (", "\nz = 2\n", ""),
        ("x = [", "1))", ")\n", None),
    ],
)
def test_as_many_lines_stay_as_the_whole_compiles_with(
    prefix: str, middle: str, suffix: str, kept: str | None
) -> None:
    assert fitting(prefix, middle, suffix) == kept
    if kept is not None:
        compile(prefix + kept + suffix, "filled", "exec")


@pytest.mark.parametrize(
    "record", [None, "{", "[]", "{}", '{"options": {"fim_rate": 0.0}}', '{"options": null}']
)
def test_a_model_that_was_not_trained_for_it_is_said_to_be_so(record: str | None, tmp_path: Path) -> None:
    if record is not None:
        (tmp_path / "provenance.json").write_text(record, encoding="utf-8")
    with pytest.raises(PretrainedError, match="not trained to fill a gap in") as caught:
        check_fills_in(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("options", [["--prompt", "x = (<FILL>)"], ["--prompt", "x = (", "--suffix", ")"]])
def test_the_command_line_says_so_too(model_folder: Path, options: list[str]) -> None:
    result = run_script(GENERATOR, "--model", model_folder, *options)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "leave out --suffix and <FILL>" in result.stderr


# With a model that was


@pytest.fixture(scope="module")
def filling(data_txt: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 that half of the documents were turned round for."""
    folder = tmp_path_factory.mktemp("filling") / "GPyT"
    paths = ["--data", str(data_txt), "--tokenizer", str(tokenizer_folder), "--output", str(folder)]
    shape = "--n-layer 1 --n-head 2 --n-embd 64 --block-size 128 --steps 60 --device cpu --threads 1".split()
    succeed(run_script("model/train.py", *paths, *shape, "--fim-rate", "0.5"))
    return folder


def fill(folder: Path, *options: str) -> str:
    """What is printed, with no note that nothing fits."""
    result = succeed(
        run_script(GENERATOR, "--model", folder, "--max-new-tokens", "24", "--seed", "1", *options)
    )
    assert result.stderr == ""
    return result.stdout


def test_a_gap_is_filled_by_a_suffix_and_by_the_marker_alike(filling: Path) -> None:
    filled = fill(filling, "--prompt", BEFORE, "--suffix", AFTER)
    assert filled.startswith(BEFORE) and filled.endswith(AFTER)
    assert filled[len(BEFORE) : -len(AFTER)].strip()
    compile(filled, "filled", "exec")
    assert filled == fill(filling, "--prompt", f"{BEFORE}<FILL>{AFTER}")
    middle = fill(filling, "--prompt", BEFORE, "--suffix", AFTER, "--completion-only")
    assert BEFORE + middle.rstrip("\n") + "\n" + AFTER == filled


def test_what_stands_after_the_gap_is_read(filling: Path) -> None:
    ask = ["--prompt", "import os\n\nx = ", "--json", "--no-valid", "--temperature", "1"]
    after_path, after_call = (
        json.loads(fill(filling, *ask, "--suffix", suffix))
        for suffix in ("\n", "\n\n\nclass TestCase(unittest.TestCase):\n    def test_one(self):\n")
    )
    assert after_path["completion"] != after_call["completion"]


def test_several_samples_are_each_whole_and_described(filling: Path) -> None:
    printed = fill(filling, "--prompt", "x = [<FILL>]\n", "--samples", "2", "--json")
    records: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    assert [record["sample"] for record in records] == [0, 1]
    for record in records:
        assert record["text"] == f"x = [{record['completion']}]\n"
        assert record["guaranteed"] is True
        compile(record["text"], "filled", "exec")


def test_of_long_surroundings_what_is_near_the_gap_is_read(filling: Path) -> None:
    prompt = "import os\n" * 2000 + "<FILL>" + "\nimport sys\n" * 2000
    filled = fill(filling, "--prompt", prompt[:100_000])
    assert filled.startswith("import os\n" * 2000)
    assert filled.endswith("\nimport sys\n" * 2000)


def test_the_marks_are_those_of_the_model_s_own_tokenizer() -> None:
    ids = {"<|fim_prefix|>": 40, "<|fim_suffix|>": 7, "<|fim_middle|>": 99}
    assert gap_of([1, 2], [3], ids.get) == [40, 1, 2, 7, 3, 99]
    del ids["<|fim_suffix|>"]
    with pytest.raises(PretrainedError, match=r"has no <\|fim_suffix\|>: leave out --suffix"):
        gap_of([1], [2], ids.get)


# What is judged is the whole


def load(folder: Path) -> Completer:
    return load_model(read_pretrained(folder), "cpu")


def gap_text(folder: Path, prompt: str, suffix: str, middle: str) -> tuple[bool, str]:
    """Whether this middle may end there, and what stays of it when it has to."""
    completer = load(folder)
    [sample] = completer.start(prompt, Decoding(max_new_tokens=200, seed=1), suffix)
    for character in middle:
        [token_id] = completer.vocabulary.encode(character)
        sample.remember(np.zeros((1, len(completer.vocabulary.token_bytes)), np.float32))
        assert sample.add(token_id, completer.vocabulary.token_bytes[token_id]), sample.raw
    may_end = sample.may_end()
    sample.finish()
    return may_end, sample.text


@pytest.mark.parametrize(
    ("prompt", "suffix", "middle", "may_end", "kept"),
    [
        ("x = (", ")\n", "1, 2", True, "1, 2"),  # no program without what comes after it
        ("x = (", ")\n", "1, (2", False, "1, "),
        ("x = 1\n", "else:\n    z\n", "if x:\n    y", True, "if x:\n    y\n"),
        ("def f(a):\n    return ", "\n\nf(1)\n", "a +", False, "a "),
        ("x = [", "))\n", "1", False, "1]"),  # nothing closes that: it is a program by itself
    ],
)
def test_a_middle_is_judged_with_what_comes_after_it(
    filling: Path, prompt: str, suffix: str, middle: str, may_end: bool, kept: str
) -> None:
    assert gap_text(filling, prompt, suffix, middle) == (may_end, kept)
