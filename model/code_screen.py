"""A terminal's lines: code, coloured as it is written where the terminal can, and remarks about it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from prompt_toolkit import print_formatted_text
from prompt_toolkit.application.current import get_app_session
from prompt_toolkit.formatted_text import FormattedText, PygmentsTokens
from prompt_toolkit.utils import get_cwidth
from pygments.lexers.python import PythonLexer

if TYPE_CHECKING:
    from pygments.token import _TokenType

# Lines before the new one that colours are judged by: enough for an open docstring, quick at every length.
LINES_OF_CONTEXT = 100


def say(line: str) -> None:
    """A line that is not code, told apart from it as a comment is, and dim where the terminal can."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        print(f"# {line}", flush=True)
    else:
        print_formatted_text(FormattedText([("ansibrightblack", f"# {line}")]))


def start_of_last_lines(text: str, lines: int) -> int:
    """The place where the last lines of a text begin."""
    place = len(text)
    for _ in range(lines):
        place = text.rfind("\n", 0, place)
        if place < 0:
            return 0
    return place + 1


class PlainScreen:
    """Characters as they come, for terminals without colours or cursor."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def finish(self) -> None:
        self.write("\n")


class ColouredScreen:
    """Text as it comes, each line coloured as soon as it is whole: half a word has no colour yet."""

    def __init__(self, before: str = "") -> None:
        """before: the text that precedes what is shown; what colour a line has depends on it."""
        self.finished = before  # whole lines
        self.line = ""  # the line that the cursor is on
        self.lexer = PythonLexer(stripnl=False, ensurenl=False)
        self.output = get_app_session().output

    def write(self, text: str) -> None:
        *whole, rest = (self.line + text).split("\n")
        for line in whole:
            self.replace_line(line, end="\n")
            self.finished += line + "\n"
            self.line = ""
        if rest.startswith(self.line):
            self.output.write(rest[len(self.line) :])
            self.output.flush()
        self.line = rest

    def finish(self) -> None:
        self.write("\n")

    def replace_line(self, line: str, end: str) -> None:
        """Put the coloured line in place of the one that the cursor is on, over as many rows as it takes."""
        columns = self.output.get_size().columns
        rows = max(0, get_cwidth(self.line) - 1) // max(1, columns)
        if rows:
            self.output.cursor_up(rows)
        self.output.write_raw("\r")
        self.output.erase_down()
        self.output.flush()
        print_formatted_text(PygmentsTokens(self.coloured(line)), end=end)

    def coloured(self, line: str) -> list[tuple[_TokenType, str]]:
        """The line's tokens with their kinds, which the lines before it decide (an open docstring)."""
        context = self.finished[start_of_last_lines(self.finished, LINES_OF_CONTEXT) :]
        tokens: list[tuple[_TokenType, str]] = []
        place = 0
        for kind, text in self.lexer.get_tokens(context + line):
            visible = text[max(0, len(context) - place) :]
            place += len(text)
            if visible:
                tokens.append((kind, visible))
        return tokens
