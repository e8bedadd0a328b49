"""How a completion ends: in a gap that it fits, or after the statement or function that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generation.completer import Completer
from generation.completer import load_completer as load_model
from generation.ending import Gap, place_to_stop
from inference.decoding import Decoding
from pretrained.load import read_pretrained
from project import notes_of, run_script, succeed

GENERATOR = "model/code_generator.py"
BEFORE, AFTER = "def f(x):\n    if x:\n", "    return x\n"


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
    assert Gap(prefix, suffix).fit(middle) == kept
    if kept is not None:
        compile(prefix + kept + suffix, "filled", "exec")


@pytest.mark.parametrize("options", [["--prompt", "x = (<FILL>)"], ["--prompt", "x = (", "--suffix", ")"]])
def test_the_command_line_says_so_too(continuing_folder: Path, options: list[str]) -> None:
    result = run_script(GENERATOR, "--model", continuing_folder, *options)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "leave out --suffix and <FILL>" in result.stderr


# With a model that was


@pytest.fixture(scope="module")
def filling(data_txt: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 that half of the documents were turned round for."""
    folder = tmp_path_factory.mktemp("filling") / "GPyT"
    paths = ["--data", str(data_txt), "--tokenizer", str(tokenizer_folder), "--output", str(folder)]
    shape = "--n-layer 1 --n-head 2 --n-embd 64 --block-size 128 --steps 60 --device cpu --threads 1".split()
    succeed(run_script("model/train.py", *paths, *shape, "--fim-rate", "0.5", "--dtype", "float32"))
    return folder


def fill(folder: Path, *options: str) -> str:
    """What is printed, with no note that nothing fits."""
    result = succeed(
        run_script(GENERATOR, "--model", folder, "--max-new-tokens", "24", "--seed", "1", *options)
    )
    assert notes_of(result) == []
    return result.stdout


def test_a_gap_is_filled_by_a_suffix_and_by_the_marker_alike(filling: Path) -> None:
    seed, filled = next(
        (seed, filled)
        for seed in map(str, range(1, 10))  # at some, the model of this Python's library writes blanks alone
        if (filled := fill(filling, "--prompt", BEFORE, "--suffix", AFTER, "--seed", seed))
        and filled[len(BEFORE) : -len(AFTER)].strip()
    )
    assert filled.startswith(BEFORE) and filled.endswith(AFTER)
    compile(filled, "filled", "exec")
    assert filled == fill(filling, "--prompt", f"{BEFORE}<FILL>{AFTER}", "--seed", seed)
    middle = fill(filling, "--prompt", BEFORE, "--suffix", AFTER, "--completion-only", "--seed", seed)
    assert BEFORE + middle.removesuffix("\n") + AFTER == filled


def test_what_stands_after_the_gap_is_read(filling: Path) -> None:
    ask = ["--prompt", "import os\n\nx = ", "--json", "--no-valid", "--temperature", "1", "--samples", "4"]
    after_path, after_call = (
        [json.loads(line)["completion"] for line in fill(filling, *ask, "--suffix", suffix).splitlines()]
        for suffix in ("\n", "\n\n\nclass TestCase(unittest.TestCase):\n    def test_one(self):\n")
    )
    assert len(after_path) == 4
    assert after_path != after_call


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


# What is judged is the whole


def load(folder: Path) -> Completer:
    return load_model(read_pretrained(folder), "cpu")


def gap_text(folder: Path, prompt: str, suffix: str, middle: str) -> tuple[bool, str]:
    """Whether this middle may end there, and what stays of it when it has to."""
    completer = load(folder)
    [sample] = completer.start(prompt, Decoding(max_new_tokens=200, seed=1), suffix)
    for character in sample.forced_bytes.decode() + middle:  # the prompt's end is written again
        [token_id] = completer.vocabulary.encode(character)
        sample.remember(np.zeros((1, len(completer.vocabulary.token_bytes)), np.float32))
        assert sample.add(token_id, completer.vocabulary.token_bytes[token_id]), sample.written
    assert sample.guard
    may_end = sample.guard.may_end(sample.gap)
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


# Where to stop


@pytest.mark.parametrize(
    ("prompt", "written", "stop", "kept"),
    [
        ("def f(x):\n", "    return x\n\n\ny = 1\n", "function", "    return x\n\n\n"),
        (
            "def f(x):",
            "\n    if x:\n        y\n    return x\nz",
            "function",
            "\n    if x:\n        y\n    return x\n",
        ),
        ("class A:\n    def f(self):\n        ", "return 1\n\n    def g", "function", "return 1\n\n"),
        ("", "import os\n\ndef f():\n    pass\n\nx = 1", "function", "import os\n\ndef f():\n    pass\n\n"),
        ("x = ", "1\ny = 2\n", "statement", "1"),
        ("x = ", "f(\n  1)\ny", "statement", "f(\n  1)"),
        ("x = 1\n", "y = 2\nz = 3\n", "statement", "y = 2"),
        ("if x:\n", "    y\nelse:\n    z\nw", "statement", "    y\nelse:\n    z\n"),
        ("def f(x):\n", "    '''a\nb'''\n    return x\n", "function", None),
        ("x = ", "1", "statement", None),
        ("", "", "function", None),
        ("\n", "\n  ", "statement", None),
    ],
)
def test_the_text_is_cut_where_it_has_done_what_was_asked(
    prompt: str, written: str, stop: str, kept: str | None
) -> None:
    place = place_to_stop(prompt + written, len(prompt), stop)
    assert (None if place is None else written[: place - len(prompt)]) == kept


@pytest.mark.parametrize(
    ("prompt", "suffix", "middle", "kept", "fits"),
    [
        ("x = (\n", ")\n", "1,\n2", "1,", True),
        ("x = [\n", "))\n", "1,\n2", "1,", False),
        ("x = 1\n", "", "y = 2\nz = (", "y = 2", True),
    ],
)
def test_a_middle_that_is_interrupted_keeps_what_is_settled_and_fits(
    filling: Path, prompt: str, suffix: str, middle: str, kept: str, fits: bool
) -> None:
    completer = load(filling)
    [sample] = completer.start(prompt, Decoding(max_new_tokens=200, seed=1), suffix)
    for character in sample.forced_bytes.decode() + middle:  # the prompt's end is written again
        [token_id] = completer.vocabulary.encode(character)
        sample.remember(np.zeros((1, len(completer.vocabulary.token_bytes)), np.float32))
        assert sample.add(token_id, completer.vocabulary.token_bytes[token_id])
    sample.break_off()
    assert (sample.text.rstrip("\n"), sample.guaranteed) == (kept, fits)


def test_a_prompt_that_is_not_python_is_filled_in_without_the_guarantee(filling: Path) -> None:
    completer, told = load(filling), list[str]()
    decoding = Decoding(max_new_tokens=8, seed=1)
    samples = completer.start("x = = ", decoding, "\ny = 1\n", warn=told.append)
    for _ in completer.write(samples, decoding):
        pass
    assert told == ["your prompt is not Python (invalid syntax (line 1, column 5)): "
                    "continuing without the guarantee"]  # fmt: skip
    assert not samples[0].guaranteed
