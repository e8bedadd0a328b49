"""A text that breaks off -> the short ending with which it is a program: ")", ": pass", "    pass".

The search tries what may be missing where the text ends and goes on from what the parser calls incomplete
rather than wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from open_brackets import CLOSER, Place, place_of
from python_parser import is_complete, is_viable

HALF_ESCAPE = re.compile(r"\\(?:x(?P<x>[0-9a-fA-F]?)|u(?P<u>[0-9a-fA-F]{0,3})|U(?P<U>[0-9a-fA-F]{0,7}))$")
NONLOCAL = re.compile(r"\bnonlocal\b[^\n]*$")
INDENTATION = re.compile(r"^[ \t]*(?=[^\s#])", re.MULTILINE)
OPENS_BLOCK = re.compile(r":\s*(?:#.*)?$")

# What may be missing inside a bracket, before its closing one, and in a statement; the commonest first.
# "_" is a name; "__" another one, where the first would be a duplicate.
IN_BRACKETS = (
    "|_| _|: _|=_| else _| in _| _ in _| for _ in _|= _|__| as _|_=_|_: _| _: _| else _: _| _ in _: _|'|''"
).split("|")
IN_STATEMENTS = (
    " pass|\n|_|: pass| _| in _| = _| else _| import _| as _| _ in _: pass"
    "| _: pass|: _| _(): pass|(): pass| def _(): pass| annotations|__|= _|_, _ = _"
).split("|")
AT_LINE_STARTS = ["pass", "finally: pass", "def _(): pass", "case _: pass", "except: pass", "_"]


class Search:
    """A search for an ending, with a limited number of compilations."""

    def __init__(self, flags: int, attempts: int) -> None:
        self.flags = flags
        self.attempts = attempts

    def ending(self, text: str, fills: int = 3) -> str | None:
        """The ending that makes a text complete; fills: how many more things may be missing."""
        place = place_of(text)
        if not place.brackets and not place.string and not place.is_continued:
            self.attempts -= 1
            if is_complete(text, self.flags):
                return ""
        for move, cost in moves(text, place):
            if cost > fills or self.attempts <= 0:
                continue
            after = text + move
            self.attempts -= 1
            if is_viable(after, place_of(after), self.flags):
                rest = self.ending(after, fills - cost)
                if rest is not None:
                    return move + rest
        return None


def moves(text: str, place: Place) -> Iterator[tuple[str, int]]:
    """Short continuations that bring a text nearer to its end, each with what it costs of the search."""
    if place.string:
        yield from ((end, 0) for end in string_ends(text, place.string))
    elif place.brackets:
        closer = CLOSER[place.brackets[-1][1]]
        yield from ((fill + closer, 0) for fill in IN_BRACKETS)
        yield from ((fill, 1) for fill in IN_BRACKETS if fill)
    elif place.in_comment:
        yield "\n", 0
    elif not text[text.rfind("\n") + 1 :].strip() and not place.is_continued:
        yield from ((move, 1) for move in line_moves(text))
    else:
        yield from ((move, 1) for move in IN_STATEMENTS)
        if NONLOCAL.search(text):
            yield from ((f" {name}", 1) for name in names_in(text))


def string_ends(text: str, string: tuple[int, str, str]) -> Iterator[str]:
    """Ways to end an open string, after what was cut in half inside it."""
    start, prefix, quote = string
    body = text[start + len(prefix) + len(quote) :]
    repair = ""
    if (len(body) - len(body.rstrip("\\"))) % 2:
        repair = "\\"
    elif half := HALF_ESCAPE.search(body):
        width = {"x": 2, "u": 4, "U": 8}[half.lastgroup or "x"]
        repair = "0" * (width - len(half[half.lastgroup or "x"]))
    if not quote[1:] and body.endswith("\n"):
        return
    # A triple-quoted body that ends in one or two of its quotes needs fewer, or a blank between.
    ends = [quote]
    if len(quote) == 3 and body.endswith(quote[0]):
        ends = [quote[0], quote[0] * 2, " " + quote, quote]
    if "f" not in prefix:
        yield from (repair + end for end in ends)
        return
    for fill in ["", "}", "_}", *field_ends(body)]:
        for end in ends:
            # Inside brackets the parser reads an f-string's fields late: this one is tried alone.
            if is_complete(f"async def _():\n ({text[start:]}{repair}{fill}{end})", 0):
                yield repair + fill + end


def field_ends(body: str) -> Iterator[str]:
    """Ways to end the replacement field that an f-string's body is cut in: {f(x -> ")}"."""
    field = body[max(0, body.rfind("{")) + 1 :]
    for start in sorted({body.find("{") + 1, len(body) - len(field)}):
        inner = place_of(body[start:])
        quote = inner.string[2] if inner.string else ""
        closers = "".join(CLOSER[bracket] for _, bracket in reversed(inner.brackets))
        for fill in ["", "_", "r", " else _", " in _", " _ in _", "=_", "__", ": _", " for _ in _"]:
            yield quote + fill + closers + "}"
            yield quote + fill + closers + "}}"


def line_moves(text: str) -> Iterator[str]:
    """What may follow at the beginning of a line, at each indentation that the text has or asks for."""
    typed = text[text.rfind("\n") + 1 :]
    levels = sorted(set(INDENTATION.findall(text)), key=len, reverse=True)
    last = next((line for line in reversed(text.split("\n")) if INDENTATION.match(line)), "")
    indentation = last[: len(last) - len(last.lstrip())]
    block = deeper(indentation)
    if OPENS_BLOCK.search(last):
        levels = [block, *(f"{typed}{step}" for step in (" ", "") if f"{typed}{step}" != block), *levels]
        levels = [block + " " * 4, *levels] if len(levels[0]) < len(levels[-1]) else levels
    for level in levels:
        start = level[len(typed) :] if level.startswith(typed) else "\n" + level
        yield from (start + move for move in AT_LINE_STARTS)


def deeper(indentation: str) -> str:
    """The indentation of a block inside a line with this one."""
    return indentation + ("\t" if "\t" in indentation else "    ")


def names_in(text: str) -> list[str]:
    return sorted(set(re.findall(r"[^\W\d]\w*", text)))
