"""The terminal of the interactive prompt: a line editor that reads code, a screen that shows it in colour.

Terminals that cannot move the cursor get plain lines instead of both.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.application.current import get_app_session
from prompt_toolkit.completion import Completer as TabCompleter
from prompt_toolkit.completion import NestedCompleter, PathCompleter
from prompt_toolkit.formatted_text import FormattedText, PygmentsTokens
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.utils import get_cwidth
from pygments.lexers.python import PythonLexer

from inference.decoding import SETTINGS

if TYPE_CHECKING:
    from pygments.token import _TokenType

CONTINUATION = "... "
# Lines before the new one that decide its colours: enough for an open docstring, fast for texts of any length
LINES_OF_CONTEXT = 100


def is_plain() -> bool:
    """Whether the terminal knows neither colours nor a cursor that moves."""
    return os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")


def input_line(message: str, default: str = "") -> str:
    """One line from a plain terminal, which cannot show the default for editing."""
    del default
    return input(message)


def editor(commands: Iterable[str]) -> PromptSession[str]:
    """A line editor for Python: in colour, several lines, with a history that later runs remember."""
    keys = KeyBindings()

    @keys.add("enter")
    def submit(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        before = event.current_buffer.document.current_line_before_cursor
        indentation = before[: len(before) - len(before.lstrip())]
        event.current_buffer.insert_text("\n" + indentation + "    " * before.rstrip().endswith(":"))

    @keys.add("tab")
    def indent_or_complete(event: KeyPressEvent) -> None:
        if event.current_buffer.text.startswith("/"):
            event.current_buffer.complete_next()
        else:
            event.current_buffer.insert_text("    ")

    return PromptSession(
        lexer=PygmentsLexer(PythonLexer),
        history=open_history(),
        multiline=True,
        key_bindings=keys,
        completer=command_completer(commands),
        complete_while_typing=False,
        prompt_continuation=CONTINUATION,
        erase_when_done=True,  # the code is shown again without ">>>", ready to be copied
    )


def command_completer(commands: Iterable[str]) -> TabCompleter:
    settings = [f"/{setting.replace('_', '-')}" for setting in SETTINGS]
    names: dict[str, TabCompleter | None] = dict.fromkeys([*(c.split()[0] for c in commands), *settings])
    return NestedCompleter({**names, "/file": PathCompleter(), "/save": PathCompleter()})


def open_history() -> History:
    """~/.local/state/gpyt/history (XDG_STATE_HOME), readable by its owner alone; in memory if that fails."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "gpyt" / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.open("ab").close()
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def say(line: str) -> None:
    """Print a line that is not code: as a comment that fits the terminal, and dim if that can be."""
    comment = wrapped(f"# {line}", mark="# ")
    if is_plain():
        print(comment, flush=True)
    else:
        print_formatted_text(FormattedText([("ansibrightblack", comment)]))


def wrapped(line: str, indent: int = 0, mark: str = "") -> str:
    """A line in lines that fit the terminal; the later ones are indented or begin with the mark."""
    before = mark or " " * indent
    return textwrap.fill(
        line, columns(), subsequent_indent=before, break_long_words=False, break_on_hyphens=False
    )


def columns() -> int:
    """The characters that a line may have, without a last one that some terminals wrap."""
    return max(20, shutil.get_terminal_size().columns - 1)


def table_row(left: str, right: str, width: int) -> str:
    """ "  /more       continue ...": in lines that fit the terminal, one below the other if it is narrow."""
    if columns() < 3 * width:
        return f"  {left}\n{wrapped(' ' * 6 + right, indent=6)}"
    return wrapped(f"  {left:<{width}}{right}", indent=width + 2)


def start_of_last_lines(text: str, lines: int) -> int:
    """Where the last so many lines of a text begin."""
    place = len(text)
    for _ in range(lines):
        place = text.rfind("\n", 0, place)
        if place < 0:
            return 0
    return place + 1


class Screen(Protocol):
    """Where code is shown while it is written."""

    def write(self, text: str) -> None: ...

    def finish(self) -> None: ...


class PlainScreen:
    """Characters as they come, for terminals without colours or cursor."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def finish(self) -> None:
        self.write("\n")


class ColouredScreen:
    """Text as it comes; a line gets its colours when it is whole, because half a word has none yet."""

    def __init__(self, before: str = "") -> None:
        """before: the text before what is shown, on which the colours depend."""
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
        """Replace the line that the cursor is on, all its rows, by the coloured line."""
        columns = self.output.get_size().columns
        rows = max(0, get_cwidth(self.line) - 1) // max(1, columns)
        if rows:
            self.output.cursor_up(rows)
        self.output.write_raw("\r")
        self.output.erase_down()
        self.output.flush()
        print_formatted_text(PygmentsTokens(self.coloured(line)), end=end)

    def coloured(self, line: str) -> list[tuple[_TokenType, str]]:
        """The line's tokens with their kinds, which depend on the lines before it (an open docstring)."""
        context = self.finished[start_of_last_lines(self.finished, LINES_OF_CONTEXT) :]
        tokens: list[tuple[_TokenType, str]] = []
        place = 0
        for kind, text in self.lexer.get_tokens(context + line):
            visible = text[max(0, len(context) - place) :]
            place += len(text)
            if visible:
                tokens.append((kind, visible))
        return tokens
