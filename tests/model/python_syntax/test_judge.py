"""CPython's compiler says what can be the beginning of a program, and a short ending proves it."""

from __future__ import annotations

from random import Random

import pytest

from programs import PROGRAMS
from project import STDLIB
from python_syntax.compiler import Accepted, compiled, is_complete
from python_syntax.judge import (
    NotPythonError,
    UnfinishedError,
    accept_line,
    accept_prompt,
    explain,
    may_be_indented,
)

FILES = ["json/decoder.py", "asyncio/queues.py", "dataclasses.py", "textwrap.py", "typing.py"]


def source(name: str) -> str:
    return (STDLIB / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_cut_at_any_character_can_be_completed(program: str) -> None:
    for end in range(len(program) + 1):
        prompt = program[:end]
        assert is_complete(prompt + accept_prompt(prompt).ending, 0), repr(prompt[-80:])


@pytest.mark.parametrize("name", FILES)
def test_real_code_cut_anywhere_can_be_completed(name: str) -> None:
    text, rng = source(name), Random(name)
    for _ in range(12):
        prompt = text[: rng.randrange(len(text))]
        assert is_complete(prompt + accept_prompt(prompt).ending, 0), repr(prompt[-80:])


@pytest.mark.full
@pytest.mark.parametrize("file", sorted(STDLIB.glob("*.py")), ids=lambda file: file.name)
def test_every_file_of_the_standard_library_cut_anywhere_can_be_completed(file: object) -> None:
    text, rng = source(file.name), Random(0)  # type: ignore[attr-defined]
    for _ in range(30):
        prompt = text[: rng.randrange(len(text) + 1)]
        assert is_complete(prompt + accept_prompt(prompt).ending, 0), repr(prompt[-80:])


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "\n",
        "def f(",
        "x = '",
        'f"{a',
        "if x:\n    ",
        "try:\n    pass\n",
        "@dec\n",
        "async ",
        "impor",
        "x = 1\\\n",
        "class A:\n    '''doc",
        "print((1, 2)",
        "for i in",
        "lambda",
        "# comment",
        "x = [i fo",
        "f(a,  # not",
        "x = {1: (2, # a\n  # b",
        # CPython's own words on these are about their ends
        "s = 'abc\\\n",
        'f("abc\\\n',
        "s = b'abc\\\n",
        "s = '\\N{",
        "s = '\\N{GREEK SMALL",
        "s = '''\\N{LATIN",
        "s = '\\N{carriage ret",
        "x = await",
        "x = [1if a el",
        "x = 0xfo",
        "x = {**a, *",
        "def f(*a, *",
        "from __future__ import (annotat",
        "a\u0301 = a\u0301 +",  # a letter and its accent
        "x = (await y async for y",
        "(" * 100,
        # names that only a later line, or other letters, make right
        "def f():\n    def g():\n        nonlocal x\n        x = (",
        "x = 1\nglobal x",
        "match x:\n    case A(y=1, z",
        "match x:\n    case [a, 1] | [",
        "*a",
        "x = 01",
        "break",
    ],
)
def test_a_cut_is_no_fault(prompt: str) -> None:
    assert is_complete(prompt + accept_prompt(prompt).ending, 0)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("x = = 1", "invalid syntax (line 1, column 5)"),
        ("x = 1\nprint 'a'\n", "Missing parentheses in call to 'print'. Did you mean print(...)? (line 2"),
        ("def f(a, a):\n    pass\n", "duplicate argument 'a' in function definition (line 1"),
        ("  x = 1\n y", "unexpected indent (line 1"),
        ("f(]", "closing parenthesis ']' does not match opening parenthesis '(' (line 1"),
        ("hello, write me", "invalid syntax (line 1, column 14)"),
        ("How do I sort a list?", "invalid syntax (line 1, column 5)"),
        ("import os\nfrom __future__ import annotations\n", "from __future__ imports must occur at the beg"),
        ("from __future__ import nonsense\n", "future feature nonsense is not defined (line 1"),
        ("return x", "'return' outside function (line 1"),
        ("f(a b", "'(' was never closed (line 1"),
        ("x = a 'b", "unterminated string literal (detected at line 1) (line 1"),
        ("x = 'abc\n", "unterminated string literal (detected at line 1) (line 1"),
        ("x = '\\N{NO SUCH NAME}'", "(unicode error) "),
        ("x = f'{}'", ""),  # other Pythons, other words
        ("x = '\x00'", ""),
        ("if x\n    y", "expected ':' (line 1"),
        ("def f():\nreturn", "expected an indented block after function definition on line 1 (line 2"),
        ("\u201chello\u201d", "invalid character '\u201c' (U+201C) (line 1"),
    ],
)
def test_what_is_no_beginning_of_a_program_is_refused_in_pythons_words(prompt: str, message: str) -> None:
    with pytest.raises(NotPythonError) as caught:
        accept_prompt(prompt)
    assert not isinstance(caught.value, UnfinishedError)
    assert str(caught.value).startswith(message)
    error = compiled(prompt, 0)
    assert isinstance(error, SyntaxError)
    assert str(caught.value) == explain(error, prompt, 0), "CPython says so of the prompt alone"


def test_a_prompt_whose_ending_is_not_found_is_not_called_impossible() -> None:
    with pytest.raises(UnfinishedError) as caught:
        accept_prompt("x = '\\N{NO SUCH NAME")
    assert caught.value.advice == (
        "no way was found to finish your prompt (unterminated string literal (detected at line 1)"
        " (line 1, column 5)): continuing without the guarantee"
    )


@pytest.mark.parametrize("late", ["from __future__ import annotations\n", "global x\n"])
def test_the_end_of_a_long_prompt_is_judged_by_its_beginning(late: str) -> None:
    with pytest.raises(NotPythonError, match=r"\(line 20001, "):
        accept_prompt("x = 'some text'\n" * 20_000 + late)


def test_the_line_of_an_error_is_counted_from_the_beginning_of_a_long_prompt() -> None:
    with pytest.raises(NotPythonError, match=r"\(line 20002, "):
        accept_prompt("x = 'some text'\n" * 20_000 + "y = 1\nx = = 1\n")


def accepted_lines(text: str) -> Accepted | None:
    """The judge's answer after the lines of a text, one after the other."""
    accepted: Accepted | None = accept_prompt("")
    place = 0
    while accepted and (place := text.find("\n", place) + 1):
        accepted = accept_line(text[:place], accepted)
    return accepted


@pytest.mark.parametrize("name", FILES)
def test_no_line_of_real_code_is_rejected(name: str) -> None:
    text = source(name)
    lines = text.split("\n")[: 250 if len(text) < 40_000 else 120]
    assert accepted_lines("\n".join(lines) + "\n") is not None


@pytest.mark.parametrize(
    "text",
    [
        "x = = 1\n",
        "if x\n",
        "if x:\ny\n",
        "return 1\n",
        "def f():\n    x\n  y\n",
        "x = 'a\n",
        "break\n",
        "def f(a, a):\n",
        "class A:\n    pass\n  x\n",
        "f(a=1, a=2)\n",
        "else:\n",
        "x = 1\nfrom __future__ import annotations\n",
        "x = 1\nglobal x\n",
        "nonlocal x\n",
        "*a\n",
        "a + 1 = 2\n",
        "print 1\n",
    ],
    ids=repr,
)
def test_a_line_that_no_program_contains_is_rejected(text: str) -> None:
    assert accepted_lines(text) is None


def test_a_future_import_is_in_force_for_what_follows() -> None:
    assert accepted_lines("from __future__ import barry_as_FLUFL\nx <> 1\n") is not None
    assert accepted_lines("x <> 1\n") is None


def test_a_line_may_only_be_indented_as_its_block_is() -> None:
    text = "def f():\n    if x:\n        y\n"
    accepted = accepted_lines(text)
    assert accepted is not None
    assert [width for width in range(12) if may_be_indented(text, " " * width, accepted)] == [
        *range(9)
    ]  # 1 and 2 may grow to 4
    assert not may_be_indented("x = 1\n", "    ", accept_prompt("x = 1\n"))


def test_an_encoding_that_python_does_not_know_is_refused_and_half_a_name_of_one_is_not() -> None:
    with pytest.raises(NotPythonError, match="unknown encoding: nosuch"):
        accept_prompt("#!/usr/bin/env python\n# coding: nosuch\nx = 1\n")
    for prompt in ("# coding: utf", "# coding: latin-1\nx = 1\n", "x = 1\ny = 2\n# coding: nosuch\n"):
        assert is_complete(prompt + accept_prompt(prompt).ending, 0)
