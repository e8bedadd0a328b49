"""Where prompts are typed: a line editor for Python, or a bare line where the terminal can do no more."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from decoding_settings import SETTINGS
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer as TabCompleter
from prompt_toolkit.completion import NestedCompleter, PathCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.python import PythonLexer

CONTINUATION = "... "


def input_line(message: str, default: str = "") -> str:
    """One line from a terminal that can do no more; what was typed before cannot be put back there."""
    del default
    return input(message)


def editor(commands: Iterable[str]) -> PromptSession[str]:
    """A line editor for Python: coloured, several lines, with a history that later runs remember."""
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
        erase_when_done=True,  # the code is shown again without marks in front, to be copied as it stands
    )


def command_completer(commands: Iterable[str]) -> TabCompleter:
    settings = [f"/{setting.replace('_', '-')}" for setting in SETTINGS]
    names: dict[str, TabCompleter | None] = dict.fromkeys([*(c.split()[0] for c in commands), *settings])
    return NestedCompleter({**names, "/file": PathCompleter(), "/save": PathCompleter()})


def open_history() -> History:
    """~/.local/state/gpyt/history (XDG_STATE_HOME), for its owner alone; in memory where that fails."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "gpyt" / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.open("ab").close()
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)
