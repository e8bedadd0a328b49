"""A line is objected to a word after it went wrong, and never while it is right."""

from __future__ import annotations

import io
import tokenize
from random import Random

import pytest
from conftest import STDLIB
from unfinished_line import objection, with_plain_names


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("get(url=url, url=url, ", "url=url, "),
        ("print x ", "x "),
        ("elif x y z", "y z"),
        ("from os import ('", "'"),
        ("def f(self, self, ", "self, "),
    ],
)
def test_the_place_of_the_fault_is_named(line: str, wrong: str) -> None:
    place = objection(line)
    assert place is not None
    assert line[place:] == wrong


@pytest.mark.parametrize(
    "line",
    [
        "from os imp",
        "x = 1e-",
        "x = 1.5e-10",
        "if x !",
        "a -",
        "f(x for x in",
        "else: x",
        "except (A, ",
        "case x",
        "return (yield x, ",
        "(*a, ",
        "'a' 'b'",
        "",
        "   ",
        "@dec(a, ",
        "async def f(a, ",
        "x: Dict[str, ",
        "# a b",
    ],
)
def test_what_is_not_finished_is_not_wrong(line: str) -> None:
    assert objection(line) is None


def logical_lines(text: str) -> list[str]:
    """The logical lines of a program, without indentation, by tokenize."""
    offsets = [0]
    for line in text.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    lines, start = [], None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.INDENT, tokenize.DEDENT, tokenize.NL, tokenize.COMMENT):
            continue
        place = offsets[token.start[0] - 1] + token.start[1]
        start = place if start is None else start
        if token.type == tokenize.NEWLINE:
            lines.append(text[start:place])
            start = None
    return lines


@pytest.mark.parametrize("name", ["dataclasses.py", "argparse.py", "asyncio/base_events.py"])
def test_real_lines_cut_anywhere_are_not_objected_to(name: str) -> None:
    chance = Random(0)
    for line in logical_lines((STDLIB / name).read_text(encoding="utf-8")):
        cuts = {chance.randrange(len(line) + 1)} | {i + 1 for i, c in enumerate(line) if c == ","}
        for cut in cuts:
            assert objection(line[:cut]) is None, line[:cut]


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("get(url=url, n=10, 'x'", "n0(n1=n1, n2=0, ''"),
        ("for match in f'{a}', b'':", "for match in '', '':"),
        ("x.__class__ = '''a\nb'''", "n0.__class__ = ''"),
    ],
)
def test_of_names_only_which_are_equal_is_left(line: str, plain: str) -> None:
    assert with_plain_names(line) == plain
