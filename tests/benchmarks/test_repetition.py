"""benchmarks/repetition.py: what counts as a loop, as a line again, and what the judge makes of a text."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from generation.completer import load_completer
from inference.decoding import Decoding
from pretrained.load import read_pretrained
from project import PROJECT, succeed
from repetition import Tally, beginnings, is_loop, nats_of, parse_settings


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([5, *[1, 2, 3] * 3], True),
        ([*[1, 2, 3] * 3, 5], False),
        ([*[1, 2, 3] * 2], False),
        ([7] * 8, True),
        ([7] * 7, False),
        ([*range(50)] * 3, True),
        ([*range(50)], False),
        ([], False),
    ],
)
def test_a_loop_is_a_text_that_ends_in_the_same_tokens_three_times(ids: list[int], expected: bool) -> None:
    assert is_loop(ids) is expected


def test_a_tally_counts_lines_grams_and_words() -> None:
    tally = Tally()
    tally.add([1, 2, 3, 4, 1, 2, 3, 4], "value = name\n    value = name\nx\n")
    assert (tally.lines, tally.lines_again) == (2, 1)
    assert (tally.grams, tally.different_grams) == (5, 4)
    assert (tally.words, tally.different_words) == (5, 3)
    assert tally.row("a", 4).split() == ["a", "1", "0.0%", "50.0%", "80.0%", "60.0"]


def test_settings_are_those_of_the_generator() -> None:
    decoding = parse_settings("temperature=0.5+loop_penalty=0")
    assert (decoding.temperature, decoding.loop_penalty, decoding.top_p) == (0.5, 0.0, 0.95)
    with pytest.raises(SystemExit, match="no setting 'heat'"):
        parse_settings("heat=1")


def test_prompts_are_first_lines_at_the_top_level_and_what_follows_them() -> None:
    text = "import os\n\n\nclass A:\n    def f(self):\n        pass\n"
    assert beginnings([text, "x = 1\n"], 9, 0) == [("class A:\n", "    def f(self):\n        pass\n")]


def test_the_judge_says_what_transformers_says(model_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    completer = load_completer(read_pretrained(model_folder), "cpu")
    nats, tokens = nats_of(completer, "class A:\n", "    x = 1\n")
    prompt = [0, *completer.vocabulary.encode("class A:\n")]
    ids = torch.tensor([[*prompt, *completer.vocabulary.encode("    x = 1\n")]])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(model_folder)(ids).logits[0].log_softmax(-1)
    expected = -sum(float(logits[place - 1, ids[0, place]]) for place in range(len(prompt), ids.shape[1]))
    assert tokens == ids.shape[1] - len(prompt)
    assert math.isclose(nats, expected, rel_tol=0.01)


def test_a_penalty_costs_a_text_that_loops_and_no_other(model_folder: Path) -> None:
    completer = load_completer(read_pretrained(model_folder), "cpu")
    penalty = Decoding(loop_penalty=2.0)
    loop, code = "x = x\n" * 12, "import os\n\nfor name in range(5):\n    print(name)\n"
    dearer = nats_of(completer, "def f():\n", loop, penalty)[0] - nats_of(completer, "def f():\n", loop)[0]
    assert dearer > 2
    assert nats_of(completer, "def f():\n", code, penalty) == nats_of(completer, "def f():\n", code)
    assert nats_of(completer, "def f():\n", code, most=3)[1] == 3


def test_the_table_has_a_row_for_real_code_and_each_setting(model_folder: Path, data_txt: Path) -> None:
    command = [sys.executable, str(PROJECT / "benchmarks/repetition.py"), "--model", str(model_folder)]
    sizes = ["--data", str(data_txt), "--samples", "2", "--tokens", "20", "--judge", str(model_folder)]
    settings = ["--settings", "temperature=0.5", "temperature=0+loop_penalty=0"]
    done = succeed(subprocess.run([*command, *sizes, *settings], capture_output=True, text=True, check=False))
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "real",
        "temperature=0.5",
        "temperature=0+loop_penalty=0",
    ]
    assert all(float(line.split()[-1]) > 0 for line in lines[1:])
