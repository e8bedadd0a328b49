"""What is judged of a file that an editor sends whole or in part."""

from __future__ import annotations

import time

import pytest

from project import STDLIB
from python_syntax.compiler import is_complete
from python_syntax.judge import NotPythonError, TooLongError
from serving.editor_window import accept_window, class_headers, flags_of_program, judged_suffix, up_to_next

ARGPARSE = (STDLIB / "argparse.py").read_text(encoding="utf-8")
LINES = ARGPARSE.splitlines(keepends=True)
PLACES = range(400, len(LINES) - 80, 83)  # lines of the file, within docstrings, calls and bodies


def around(line: int, before: int | None = None, after: int | None = None) -> tuple[str, str]:
    """The text before the middle of a line and the one after it, of so many lines."""
    column = len(LINES[line]) // 2
    first = 0 if before is None else max(0, line - before)
    last = None if after is None else line + after
    prefix = "".join(LINES[first:line]) + LINES[line][:column]
    return prefix, LINES[line][column:] + "".join(LINES[line + 1 : last])


@pytest.mark.parametrize("line", PLACES)
def test_a_prefix_and_a_suffix_of_a_valid_file_are_valid_together(line: int) -> None:
    prefix, suffix = around(line)
    judged = accept_window(prefix)
    assert is_complete(judged.text + judged_suffix(judged, suffix), judged.accepted.flags)


@pytest.mark.parametrize("line", PLACES)
def test_of_a_window_the_part_that_is_judged_is_valid(line: int) -> None:
    prefix, suffix = around(line, before=256, after=64)
    judged = accept_window(prefix)
    assert is_complete(judged.text + judged_suffix(judged, suffix), judged.accepted.flags)


@pytest.mark.parametrize("line", PLACES)
def test_what_breaks_the_file_breaks_the_part_that_is_judged(line: int) -> None:
    prefix, suffix = around(line)
    judged = accept_window(prefix)
    near = judged_suffix(judged, suffix)
    for wrong in ("\n  )\n", "\n = = \n", "'''\n", "\nx = 1\n", "\\ x"):
        is_whole_valid = is_complete(prefix + wrong + suffix, 0)
        assert is_complete(judged.text + wrong + near, judged.accepted.flags) is is_whole_valid, wrong


def test_the_part_that_is_judged_is_short() -> None:
    prefix, _ = around(1800)
    judged = accept_window(prefix)
    assert judged.text.startswith("class _:\n    def ") and len(judged.text) < 4000 < len(prefix)
    assert prefix.endswith(judged.text.removeprefix("class _:\n"))


def test_after_a_keystroke_what_stands_before_the_method_is_not_read_again() -> None:
    prefix = "import sys\n\n" + around(800)[0]
    flags_of_program.cache_clear()
    accept_window(prefix + "\n# once more")
    first = flags_of_program.cache_info()
    assert first.misses
    for number in range(5):
        accept_window(f"{prefix}\n# once more {number}")
    assert flags_of_program.cache_info().misses == first.misses


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n    x = = 1\n    def f(self):\n        re",
        "def f(:\n    pass\n\ndef g():\n    re",
        "x = = 1",
        "a b",
    ],
)
def test_a_prefix_that_is_wrong_is_refused_however_far_back(text: str) -> None:
    with pytest.raises(NotPythonError):
        accept_window(text)


def test_an_error_is_named_by_its_line_in_the_text() -> None:
    with pytest.raises(NotPythonError, match="line 5"):
        accept_window("class A:\n    x = 1\n\n    def f(self):\n        a b\n")


@pytest.mark.parametrize(
    ("before", "indent", "headers"),
    [
        ("class A:\n    x = 1\n", "    ", "class _:\n"),
        ("class A(B,\n        C):\n    x = 1\n", "    ", None),
        ("def f():\n    x = 1\n", "    ", None),
        ("class A:\n  class B(C):  # why\n    x = 1\n", "    ", "class _:\n  class _:\n"),
        ("    x = 1\n", "    ", "class _:\n"),
        ("", "", ""),
    ],
)
def test_a_method_is_judged_in_an_empty_class_if_it_stands_in_classes_alone(
    before: str, indent: str, headers: str | None
) -> None:
    assert class_headers(before, indent) == headers


def test_a_window_that_begins_in_a_text_at_the_margin_is_not_judged() -> None:
    prefix, _ = around(266, before=256)
    with pytest.raises(NotPythonError):
        accept_window(prefix)


def test_a_nested_function_is_judged_with_what_it_stands_in() -> None:
    judged = accept_window("def f():\n    def g():\n        return 1\n    return g")
    assert judged.text.startswith("def f():")


@pytest.mark.parametrize(
    ("suffix", "indent", "near"),
    [
        (")\n\n    def g(self):\n        pass\n", "    ", ")\n\n    _\n"),
        (")\n        x\n", "    ", ")\n        x\n"),
        ("\nx = 1\ny = 2\n", "", "\n_\n"),
        ("\n    @property\n    def g(self): ...\n", "    ", "\n    _\n"),
        ("\n    def g(): ...\nx", "", "\n    def g(): ...\n_\n"),
        ("", "", ""),
        ("else", "", "else"),
    ],
)
def test_of_a_suffix_the_rest_of_the_statement_is_judged(suffix: str, indent: str, near: str) -> None:
    assert up_to_next(suffix, indent) == near


def test_a_prompt_that_names_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(NotPythonError, match="encoding"):
        accept_window("# coding: nonsense\nx = 1\ndef f(): ")


def test_features_of_the_future_are_in_force() -> None:
    judged = accept_window("from __future__ import annotations\n\n\nclass A:\n    def f(self) -> ")
    assert judged.accepted.flags


CLASS = "class A:\n" + "    def f(self):\n        return 1\n" * 25_000


@pytest.mark.parametrize(
    "prompt", [CLASS, "x = 1\n" * 170_000, CLASS + "    def g(self): ret", "x = 1\n" * 170_000 + "y = (1, "]
)
def test_of_a_very_long_text_the_end_is_judged(prompt: str) -> None:
    began = time.process_time()
    judged = accept_window(prompt)
    assert time.process_time() - began < 5, "whole, the class takes the compiler a minute"
    assert prompt.endswith(judged.text.removeprefix("class _:\n")) and len(judged.text) < 1000


@pytest.mark.parametrize(
    "prompt", ["x = [" + "1, " * 300_000, "x = 1\nf(" + "\n  a," * 200_000, "x" * 1_000_000]
)
def test_a_very_long_statement_is_not_judged(prompt: str) -> None:
    with pytest.raises(TooLongError):
        accept_window(prompt)


def test_a_statement_that_goes_on_for_very_long_is_not_judged() -> None:
    judged = accept_window("x = [")
    with pytest.raises(TooLongError):
        judged_suffix(judged, "1, " * 300_000 + "]\n")
    assert judged_suffix(judged, "1]\n" + "y = 2\n" * 150_000) == "1]\n_\n"


@pytest.mark.parametrize("wrong", ["é🐍", "🐍", "$ + 1\n", "= = 1\n    y\n"])
def test_for_what_nothing_could_complete_no_ending_is_sought(wrong: str) -> None:
    """It took seconds, in which nobody else was answered."""
    judged = accept_window("x = ")
    began = time.process_time()
    judged_suffix(judged, wrong)
    assert time.process_time() - began < 0.5
