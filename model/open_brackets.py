"""Where in a Python text does its end lie: inside which brackets, in a string, a comment, a continued line?

Reads the text by its lexemes alone, whatever it means: the parser is asked elsewhere (valid_code.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LEXEME = re.compile(
    r"""(?P<prefix>[rRbBuUfF]{0,2})(?P<quote>'''|\"\"\"|'|\") | \w+ | (?P<bracket>[()\[\]{}])
    | (?P<comment>\#[^\n]*+) | \\\n | [^\w'"()\[\]{}\#\\]++ | \\""",
    re.VERBOSE,
)
REST_OF_STRING = {
    "'": re.compile(r"(?:[^'\\\n]|\\.)*+'", re.DOTALL),
    '"': re.compile(r'(?:[^"\\\n]|\\.)*+"', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]|\\.|'(?!''))*+'''", re.DOTALL),
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*+"""', re.DOTALL),
}
CLOSER = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Place:
    """What a text ends in: brackets and perhaps a string that are still open, by where they begin."""

    brackets: list[tuple[int, str]]
    string: tuple[int, str, str] | None = None  # place, prefix, quote
    in_comment: bool = False
    is_continued: bool = False  # by a backslash at the end of the line

    @property
    def opened_at(self) -> int | None:
        if self.brackets:
            return self.brackets[0][0]
        return self.string[0] if self.string else None


def place_of(text: str) -> Place:
    """place_of("f(a, [b, 'c") -> brackets [(1, "("), (5, "[")], string (9, "", "'")"""
    brackets: list[tuple[int, str]] = []
    position, last = 0, None
    while found := LEXEME.match(text, position):
        last, position = found, found.end()
        if found["quote"]:
            rest = REST_OF_STRING[found["quote"]].match(text, position)
            if rest is None:
                return Place(brackets, (found.start(), found["prefix"].lower(), found["quote"]))
            position = rest.end()
        elif found["bracket"] in CLOSER:
            brackets.append((found.start(), found["bracket"]))
        elif found["bracket"] and brackets:
            brackets.pop()
    in_comment = last is not None and last["comment"] is not None
    return Place(brackets, None, in_comment, is_continued=last is not None and last[0] == "\\\n")


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
