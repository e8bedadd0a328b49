"""The interactive prompt: code typed on a terminal -> its completion, coloured, as it is written."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoding_settings import SETTINGS, Decoding
from pretrained import Pretrained
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
from valid_code import NotPythonError

if TYPE_CHECKING:
    from completion import Completer
    from pygments.token import _TokenType

KEYS = """\
  Enter       complete the code typed so far
  Alt-Enter   begin a new line (or: Esc, then Enter); pasted lines stay lines
  Up, Down    earlier prompts, also those of other days; Ctrl-R searches them
  Ctrl-C      stop a completion and have its prompt back; clear what is typed
  Ctrl-D      leave"""

COMMANDS = {
    "/help": "this page",
    "/more": "go on where the last completion ended",
    "/retry": "another completion of the last prompt",
    "/file PATH": "complete the end of a file",
    "/save PATH": "write the last prompt and completion to a new file",
}
PROMPT = ">>> "
CONTINUATION = "... "
# Lines before the new one that colours are judged by: enough for an open docstring, quick at every length.
LINES_OF_CONTEXT = 100
# Of a file to complete, the last lines are shown.
LINES_OF_FILE = 10


class CommandError(ValueError):
    """A command that cannot be done, in words for the user."""


def converse(pretrained: Pretrained, load: Callable[[], Completer], decoding: Decoding) -> int:
    """Ask for prompts and complete them until Ctrl-D; the model is loaded while the first one is typed."""
    with ThreadPoolExecutor(1) as background:
        conversation = Conversation(pretrained, background.submit(load), decoding)
        conversation.greet()
        while conversation.turn():
            pass
    return 0


class Conversation:
    """What is remembered from one prompt to the next: the settings, the last prompt and its completions."""

    def __init__(self, pretrained: Pretrained, completer: Future[Completer], decoding: Decoding) -> None:
        self.pretrained = pretrained
        self.completer = completer
        self.decoding = decoding
        self.prompt: str | None = None
        self.text = ""  # the last prompt with its (last) completion
        self.draft = ""  # what the next prompt begins with
        self.turns = 0
        self.is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
        self.ask = input_line if self.is_dumb else editor().prompt

    def greet(self) -> None:
        config = self.pretrained.config
        million = self.pretrained.parameters / 1e6
        size = f"{million:.1f} M parameters, a context of {config.n_positions:,} tokens"
        say(f"{self.pretrained.folder}: {size}")
        say("Type some Python and press Enter to have it completed; /help, Ctrl-D leaves.")

    def turn(self) -> bool:
        """One prompt and what it asks for; False at its end, Ctrl-D."""
        try:
            typed = self.ask(PROMPT, default=self.draft)
        except (EOFError, KeyboardInterrupt) as key:
            self.draft = ""
            if self.is_dumb:
                print()
            return isinstance(key, KeyboardInterrupt)
        self.draft = ""
        try:
            if typed.startswith("/"):
                self.command(*typed.strip().partition(" ")[::2])
            elif typed:
                self.complete(typed)
        except CommandError as error:
            say(str(error))
        return True

    def command(self, name: str, argument: str) -> None:
        argument = argument.strip()
        setting = name[1:].replace("-", "_")
        if name == "/help":
            self.help()
        elif name == "/more":
            self.complete(self.last(), shown_from=self.text.rfind("\n") + 1)
        elif name == "/retry":
            self.last()
            self.complete(self.prompt or "")
        elif name == "/file":
            prompt = read_file(argument)
            self.complete(prompt, shown_from=start_of_last_lines(prompt, LINES_OF_FILE))
        elif name == "/save":
            self.save(argument)
        elif setting in SETTINGS:
            self.set(setting, argument)
        else:
            raise CommandError(f"no command {name}: /help lists them")

    def help(self) -> None:
        print(KEYS)
        for command, explanation in COMMANDS.items():
            print(f"  {command:<12}{explanation}")
        print("  Settings, with their values now:")
        for setting, (_, explanation) in SETTINGS.items():
            command = f"/{setting.replace('_', '-')} {shown(getattr(self.decoding, setting))}"
            print(f"  {command:<20} {explanation}")

    def set(self, setting: str, argument: str) -> None:
        parse, explanation = SETTINGS[setting]
        if argument:
            try:
                changed: dict[str, Any] = {setting: parse(argument)}
                self.decoding = dataclasses.replace(self.decoding, **changed)
            except argparse.ArgumentTypeError as error:
                raise CommandError(str(error)) from None
            self.turns = 0  # a seed begins anew
        say(f"{setting.replace('_', '-')} is {shown(getattr(self.decoding, setting))}: {explanation}")

    def last(self) -> str:
        if self.prompt is None:
            raise CommandError("nothing has been completed yet: type some code first")
        return self.text

    def save(self, argument: str) -> None:
        text = self.last()
        path = Path(argument).expanduser().absolute()
        if not argument:
            raise CommandError("say where: /save FILE")
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(f"{text}\n")
        except FileExistsError:
            raise CommandError(f"there is a file of that name, nothing was written: {path}") from None
        except OSError as error:
            raise CommandError(f"cannot be written ({error.strerror}): {path}") from None
        say(f"saved: {path}")

    def complete(self, prompt: str, shown_from: int = 0) -> None:
        """Show the prompt, from a place in it on, and its completion as it is written; Ctrl-C ends that."""
        screen = PlainScreen() if self.is_dumb else ColouredScreen(prompt[:shown_from])
        screen.write(prompt[shown_from:])
        started = time.monotonic()
        completions, stopped = [], False
        seed = None if self.decoding.seed is None else self.decoding.seed + self.turns * self.decoding.samples
        self.turns += 1
        try:
            completer = self.completer.result()
            decoding = dataclasses.replace(self.decoding, seed=seed)
            try:
                completions = completer.start(prompt, decoding)
            except NotPythonError as error:
                screen.finish()
                say(error.advice)
                completions = completer.start(prompt, dataclasses.replace(decoding, valid=False))
            for number, text in completer.write(completions, decoding):
                if number == 0:
                    screen.write(text)
            for number, completion in enumerate(completions[1:], start=2):
                screen.finish()
                screen.write(f"# sample {number} of {len(completions)}\n{prompt}{completion.text}")
        except KeyboardInterrupt:
            stopped = True
            self.draft = prompt if "\n" not in prompt[:shown_from] else ""
        screen.finish()
        self.prompt = prompt
        self.text = prompt + (completions[-1].text if completions else "")
        seconds = time.monotonic() - started
        tokens = sum(completion.tokens for completion in completions)
        ended = bool(completions) and all(completion.ended for completion in completions)
        how = "stopped" if stopped else "the text ends here" if ended else "/more goes on"
        say(f"{tokens} tokens in {seconds:.1f} s; {how}")


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "random" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def say(line: str) -> None:
    """A line that is not code, told apart from it as a comment is, and dim where the terminal can."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        print(f"# {line}", flush=True)
    else:
        print_formatted_text(FormattedText([("ansibrightblack", f"# {line}")]))


def read_file(argument: str) -> str:
    path = Path(argument).expanduser().absolute()
    if not argument:
        raise CommandError("say which: /file PATH")
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise CommandError(f"cannot be read ({error.strerror}): {path}") from None
    except UnicodeError as error:
        raise CommandError(f"is not UTF-8 text ({error}): {path}") from None


def start_of_last_lines(text: str, lines: int) -> int:
    """The place where the last lines of a text begin."""
    place = len(text)
    for _ in range(lines):
        place = text.rfind("\n", 0, place)
        if place < 0:
            return 0
    return place + 1


def input_line(message: str, default: str = "") -> str:
    """One line from a terminal that can do no more; what was typed before cannot be put back there."""
    del default
    return input(message)


def editor() -> PromptSession[str]:
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
        completer=command_completer(),
        complete_while_typing=False,
        prompt_continuation=CONTINUATION,
        erase_when_done=True,  # the code is shown again without marks in front, to be copied as it stands
    )


def command_completer() -> TabCompleter:
    settings = [f"/{setting.replace('_', '-')}" for setting in SETTINGS]
    names: dict[str, TabCompleter | None] = dict.fromkeys([*(c.split()[0] for c in COMMANDS), *settings])
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
