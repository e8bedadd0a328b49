"""Which kind of Python each byte of a text is: keyword, operator, a name that is new or was there before, ...

By CPython's own `tokenize`, so the classes are those of the language. A string that is a statement of its own
is a docstring. From Python 3.12 on `tokenize` takes f-strings apart; here they are strings on all versions.
"""

from __future__ import annotations

import builtins
import io
import keyword
import re
import token
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "blank",
    "newline",
    "indentation",
    "keyword",
    "builtin",
    "new name",
    "seen name",
    "new attribute",
    "seen attribute",
    "operator",
    "number",
    "string",
    "docstring",
    "comment",
    "not Python",  # from the place on where tokenize gives up
    "end of file",  # the closing <|endoftext|>, which has no byte
)
NUMBER_OF = {name: number for number, name in enumerate(CLASSES)}

BUILTINS = frozenset(dir(builtins))
INDENTATION = re.compile(rb"^[ \t\f]+", re.MULTILINE)
NEWLINE_BYTE = 10

STARTS = frozenset(getattr(token, name, -1) for name in ("FSTRING_START", "TSTRING_START"))
ENDS = frozenset(getattr(token, name, -1) for name in ("FSTRING_END", "TSTRING_END"))
LAYOUT = frozenset((token.NEWLINE, token.INDENT, token.DEDENT, tokenize.NL, token.ENDMARKER, token.ENCODING))


@dataclass(frozen=True)
class Labels:
    """The class of each byte of a text, and where its names lie."""

    classes: NDArray[np.uint8]  # (bytes,) index into CLASSES
    names: NDArray[np.int64]  # (N, 2) first byte and the one behind the last, attributes included


@dataclass(frozen=True)
class Lexeme:
    """A token of Python and its place in bytes."""

    kind: int
    text: str
    start: int
    end: int


def label(text: bytes) -> Labels:
    """The classes of a text's bytes.

    label(b"x = x.y") -> new name, blank, operator, blank, seen name, operator, new attribute
    """
    classes = np.zeros(len(text), np.uint8)  # blank
    classes[np.frombuffer(text, np.uint8) == NEWLINE_BYTE] = NUMBER_OF["newline"]
    for blanks in INDENTATION.finditer(text):
        classes[blanks.start() : blanks.end()] = NUMBER_OF["indentation"]
    names: list[tuple[int, int]] = []
    seen: set[str] = set()
    before = Lexeme(token.NEWLINE, "", 0, 0)
    statement: Lexeme | None = None  # a string that begins a logical line, while nothing follows it there
    reached = 0
    try:
        for lexeme in lexemes(text):
            if statement is not None and lexeme.kind == token.NEWLINE:
                classes[statement.start : statement.end] = NUMBER_OF["docstring"]
            if lexeme.kind != tokenize.NL:
                statement = None
            if lexeme.kind == token.STRING and before.kind in LAYOUT:
                statement = lexeme
            if lexeme.kind not in LAYOUT:
                classes[lexeme.start : lexeme.end] = NUMBER_OF[class_of(lexeme, before, seen)]
            if lexeme.kind == token.NAME and not keyword.iskeyword(lexeme.text):
                names.append((lexeme.start, lexeme.end))
                seen.add(lexeme.text)
            if lexeme.kind not in (tokenize.NL, token.COMMENT):
                before = lexeme
            reached = max(reached, lexeme.end)
    except (tokenize.TokenError, SyntaxError):
        classes[reached:] = NUMBER_OF["not Python"]
    return Labels(classes, np.array(names, np.int64).reshape(-1, 2))


def class_of(lexeme: Lexeme, before: Lexeme, seen: set[str]) -> str:
    """The class of a token that is not layout, after the token before it and the names seen so far."""
    if lexeme.kind == token.NAME:
        if keyword.iskeyword(lexeme.text):
            return "keyword"
        age = "seen" if lexeme.text in seen else "new"
        if before.text == ".":
            return f"{age} attribute"
        return "builtin" if lexeme.text in BUILTINS else f"{age} name"
    kinds = {token.NUMBER: "number", token.STRING: "string", token.COMMENT: "comment", token.OP: "operator"}
    return kinds.get(lexeme.kind, "not Python")


def lexemes(text: bytes) -> Iterator[Lexeme]:
    """The tokens of a text with their places in bytes; an f-string is one.

    Raises: TokenError or SyntaxError where the text is no longer Python.
    """
    lines = text.splitlines(keepends=True) if b"\r" not in text and b"\f" not in text else split_lines(text)
    starts = np.cumsum([0, *map(len, lines)]).tolist()
    decoded = [line.decode("utf-8", "surrogateescape") for line in lines]
    is_ascii = [len(line) == len(shown) for line, shown in zip(lines, decoded, strict=True)]

    def place(position: tuple[int, int]) -> int:
        row, column = position[0] - 1, position[1]
        if row >= len(lines):
            return len(text)
        shift = column if is_ascii[row] else len(decoded[row][:column].encode("utf-8", "surrogateescape"))
        return min(int(starts[row]) + shift, len(text))

    depth, begin = 0, 0
    for found in tokenize.generate_tokens(io.StringIO("".join(decoded), newline="").readline):
        if found.type in STARTS:
            begin = place(found.start) if not depth else begin
            depth += 1
        elif found.type in ENDS:
            depth -= 1
            if not depth:
                yield Lexeme(token.STRING, "", begin, place(found.end))
        elif not depth:
            yield Lexeme(found.type, found.string, place(found.start), place(found.end))


def split_lines(text: bytes) -> list[bytes]:
    r"""The lines as io.StringIO gives them with newline="": only \n, \r and \r\n end one."""
    return re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)
