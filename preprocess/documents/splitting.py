"""Split long code into pieces of at most so many characters, at the borders of its syntax; nothing is lost.

Cuts are between top-level statements where possible. A class or function that is too long by itself is cut
between its own statements, these between theirs; after that come line ends outside strings, then tokens. The
borders are found by lines and their indentation: a syntax tree would take several times as long.

>>> split_source("import os\n\n\ndef f():\n    return os\n", max_chars=28)
['import os\n\n\n', 'def f():\n    return os\n']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from documents.comments import STRING, UnlexableError, without_nested_quotes

INSIDE_A_LINE = rf"""
    [^#"'\n()\[\]{{}}\\]++
  | \( [^#"'\n()\[\]{{}}\\]*+ \)  # most brackets, which hold no other
  | \[ [^#"'\n()\[\]{{}}\\]*+ \]
  | \\ \n? | [#][^\n]*+ | {STRING}
"""
END = r"(?P<end> [()\[\]{}] | \n [ \t\f]*+ )"
TO_BRACKET_OR_NEWLINE = re.compile(rf"(?: {INSIDE_A_LINE} )* {END}", re.DOTALL | re.VERBOSE)
# Passes over the lines that are indented: three in four.
TO_BRACKET_OR_TOP_LEVEL = re.compile(
    rf"(?: {INSIDE_A_LINE} | \n (?=[ \t\f\n]) )* {END}", re.DOTALL | re.VERBOSE
)
TO_NEWLINE = re.compile(
    rf"""(?: [^#"'\n]++ | [#][^\n]*+ | {STRING} )* (?: \n | . | \Z )""", re.DOTALL | re.VERBOSE
)
TOKEN = re.compile(
    rf"""\s*+ (?: [#][^\n]*+ | [a-zA-Z]{{0,3}}+ (?:{STRING}) | \w++ | . | \Z ) \s*+""", re.DOTALL | re.VERBOSE
)
INDENTATION = re.compile(r"[ \t\f]*+")
BLANK = ("", "\n", "#")  # what follows the indentation in a line without a statement
# These continue a statement that began before them: a piece that starts with one does not parse alone.
CLAUSE = re.compile(r"(?:elif|else|except|finally)\b")


class Border(NamedTuple):
    """A position between two statements, by the indentation of the one after it."""

    position: int
    indent: int
    is_before_clause: bool


def split_source(text: str, max_chars: int) -> list[str]:
    """The text in pieces, whose concatenation is the text. Only a token can be longer than max_chars."""
    if len(text) <= max_chars:
        return [text]
    lexed = text
    with suppress(UnlexableError):  # not Python: cut it as it is
        lexed = without_nested_quotes(text)  # of the same length: its positions are those in the text
    borders = list(statement_borders(lexed, 0, len(lexed), TO_BRACKET_OR_TOP_LEVEL))
    if not borders:  # a single class, say
        borders = list(statement_borders(lexed, 0, len(lexed), TO_BRACKET_OR_NEWLINE))
    cuts = cut(lexed, 0, len(lexed), borders, max_chars)
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


def cut(
    text: str, start: int, end: int, borders: list[Border], max_chars: int, piece: int | None = None
) -> Iterator[int]:
    """Where to cut text[start:end], which has these borders. piece: the start of a piece not yet ended."""
    positions = [border.position for border in outermost(borders)]
    if not positions:
        positions = ends_of(TO_NEWLINE, text, start, end) or ends_of(TOKEN, text, start, end)
    is_inner = piece is not None
    piece = start if piece is None else piece
    for unit, unit_end in pairwise([start, *positions, end]):
        if unit_end - piece <= max_chars:
            continue
        is_long = unit_end - unit > max_chars
        inner = []
        if is_long and is_inner:
            inner = [border for border in borders if unit < border.position < unit_end]
        elif is_long:  # so far only the top-level borders are known
            inner = list(statement_borders(text, unit, unit_end, TO_BRACKET_OR_NEWLINE))
        # In a block, a long statement may begin in the piece of those before it: fewer pieces start indented.
        if unit > piece and not (is_inner and inner):
            yield unit
            piece = unit
        if is_long and positions:
            yield from cut(text, unit, unit_end, inner, max_chars, piece)
            if unit_end < end:
                yield unit_end
            piece = unit_end


def outermost(borders: list[Border]) -> list[Border]:
    """Those before the least indented statements; before a clause such as `else` if there are no others."""
    for is_before_clause in (False, True):
        rank = [border for border in borders if border.is_before_clause == is_before_clause]
        if rank:
            indent = min(border.indent for border in rank)
            return [border for border in rank if border.indent == indent]
    return []


def ends_of(part: re.Pattern[str], text: str, start: int, end: int) -> list[int]:
    """The ends of the parts that make up text[start:end], without the last."""
    ends = []
    position = start
    while (match := part.match(text, position, end)) and match.end() < end:
        position = match.end()
        ends.append(position)
    return ends


def statement_borders(text: str, start: int, end: int, stops: re.Pattern[str]) -> Iterator[Border]:
    """The borders before the statements of text[start:end].

    The first statement of a block has none, nor has one that is decorated by the line before. stops:
    TO_BRACKET_OR_NEWLINE, or TO_BRACKET_OR_TOP_LEVEL for the top level alone.
    """
    depth = 0  # of open brackets
    blanks = INDENTATION.match(text, start, end)
    assert blanks is not None, "an indentation can be empty"
    first = text[blanks.end() : blanks.end() + 1]
    previous_indent = -1 if first in BLANK else len(blanks[0].expandtabs(8))
    is_decorated = first == "@"
    for match in stops.finditer(text, start, end):
        stop = match.start("end")
        mark = text[stop]
        if mark == "\n":
            position = match.end()
            first = text[position : min(position + 1, end)]
            if depth or first in BLANK:
                continue
            indent = position - stop - 1
            if text[stop + 1 : position].strip(" "):
                indent = len(text[stop + 1 : position].expandtabs(8))  # as the language reference counts them
            if indent <= previous_indent and not is_decorated:
                yield Border(stop + 1, indent, first in "ef" and CLAUSE.match(text, position) is not None)
            previous_indent, is_decorated = indent, first == "@"
        elif mark in "([{":
            depth += 1
        else:
            depth -= 1
