"""Where in a Python text does its end lie: inside which brackets, in a string, a comment, a continued line?

Reads the text by its lexemes alone, whatever it means: the parser is asked elsewhere (valid_code.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

LEXEME = re.compile(
    r"""(?P<prefix>[rRbBuUfF]{0,2})(?P<quote>'''|\"\"\"|'|\") | \w+ | (?P<bracket>[()\[\]{}])
    | (?P<comment>\#[^\n]*+) | \\\n | [^\w'"()\[\]{}\#\\]++ | \\""",
    re.VERBOSE,
)
# What decides where the end lies, after whatever does not.
NOTABLE = re.compile(r"[^'\"()\[\]{}#\\]*+(?P<mark>'''|\"\"\"|['\"()\[\]{}#\\])")
PREFIX = re.compile(r"(?<![^\W])[rRbBuUfF]{1,2}\Z")
REST_OF_STRING = {
    "'": re.compile(r"(?:[^'\\\n]++|\\.)*'", re.DOTALL),
    '"': re.compile(r'(?:[^"\\\n]++|\\.)*"', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]++|\\.|'(?!''))*'''", re.DOTALL),
    '"""': re.compile(r'(?:[^"\\]++|\\.|"(?!""))*"""', re.DOTALL),
}
CLOSER = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Place:
    """What a text ends in: brackets and perhaps a string that are still open, by where they begin."""

    brackets: tuple[tuple[int, str], ...]
    string: tuple[int, str, str] | None = None  # place, prefix, quote
    in_comment: bool = False
    is_continued: bool = False  # by a backslash at the end of the line

    @property
    def opened_at(self) -> int | None:
        if self.brackets:
            return self.brackets[0][0]
        return self.string[0] if self.string else None


@lru_cache(maxsize=64)  # the judge's parts ask about the same text one after the other
def place_of(text: str) -> Place:
    """place_of("f(a, [b, 'c") -> brackets ((1, "("), (5, "[")), string (9, "", "'")"""
    brackets: list[tuple[int, str]] = []
    position, is_continued = 0, False
    while found := NOTABLE.match(text, position):
        start, position = found.span("mark")
        mark = found["mark"]
        if mark in CLOSER:
            brackets.append((start, mark))
        elif mark in ")]}":
            if brackets:
                brackets.pop()
        elif mark == "\\":
            is_continued = text[position:] == "\n"
            position += text.startswith("\n", position)
        elif mark == "#":
            position = text.find("\n", position)
            if position < 0:
                return Place(tuple(brackets), in_comment=True)
        else:
            prefix = PREFIX.search(text, max(0, start - 3), start)
            rest = REST_OF_STRING[mark].match(text, position)
            if rest is None:
                opened = (prefix.start(), prefix[0].lower(), mark) if prefix else (start, "", mark)
                return Place(tuple(brackets), opened)
            position = rest.end()
    return Place(tuple(brackets), is_continued=is_continued)


def logical_line_starts(text: str) -> list[int]:
    """Where the lines begin that no bracket, string or backslash joins to the ones before them.

    logical_line_starts("x = 1\\nf(a,\\n  b") -> [0, 6]
    """
    depth, position, starts = 0, 0, [0]
    while found := LEXEME.match(text, position):
        position = found.end()
        if found["quote"]:
            rest = REST_OF_STRING[found["quote"]].match(text, position)
            if rest is None:
                break
            position = rest.end()
        elif found["bracket"]:
            depth = max(0, depth + (1 if found["bracket"] in CLOSER else -1))
        elif not depth and found[0] != "\\\n" and "\n" in found[0]:
            starts += [found.start() + place.end() for place in re.finditer("\n", found[0])]
    return starts


def start_of_logical_line(text: str) -> int:
    """start_of_logical_line("x = 1\\nf(a,\\n  b") -> 6"""
    return logical_line_starts(text)[-1]


def closers(place: Place) -> str:
    """The brackets that close what is open, innermost first: "])" after "f([1" """
    return "".join(CLOSER[bracket] for _, bracket in reversed(place.brackets))


def continues_nothing(text: str) -> bool:
    """Whether a text ends in a backslash and an empty line: right, but wrong without the line's end."""
    words = text.rstrip(" \t\f\n")
    return words.endswith("\\") and "\n" in text[len(words) + 1 :] and place_of(words + "\n").is_continued
