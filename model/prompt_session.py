"""The interactive prompt: code typed on a terminal -> its completion, coloured, as it is written."""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_screen import ColouredScreen, PlainScreen, say, start_of_last_lines
from decoding_settings import SETTINGS, Decoding
from footnotes import Footnotes
from likeliest import Written, explain
from line_editor import editor, input_line
from pretrained import Pretrained
from valid_code import NotPythonError

if TYPE_CHECKING:
    from completion import Completer

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
    "/sources": "which parts of the last completion stand in the training data, and whose they are",
    "/why": "the five likeliest tokens at each step of the last completion",
    "/save PATH": "write the last prompt and completion to a new file",
}
PROMPT = ">>> "
# Of a file to complete, the last lines are shown.
LINES_OF_FILE = 10


class CommandError(ValueError):
    """A command that cannot be done, in words for the user."""


def converse(
    pretrained: Pretrained, load: Callable[[], Completer], decoding: Decoding, *, sources: bool = False
) -> int:
    """Ask for prompts and complete them until Ctrl-D; the model is loaded while the first one is typed.

    sources: whether copies of the training data were asked for, so that it is said where none can be found.
    """
    with ThreadPoolExecutor(1) as background:
        conversation = Conversation(pretrained, background.submit(load), decoding, sources=sources)
        conversation.greet()
        while conversation.turn():
            pass
    return 0


class Conversation:
    """What is remembered from one prompt to the next: the settings, the last prompt and its completions."""

    def __init__(
        self,
        pretrained: Pretrained,
        completer: Future[Completer],
        decoding: Decoding,
        *,
        sources: bool = False,
    ) -> None:
        self.pretrained = pretrained
        self.completer = completer
        self.decoding = decoding
        self.prompt: str | None = None
        self.text = ""  # the last prompt with its (last) completion
        self.explained: Written | None = None  # what /why speaks of
        self.footnotes = Footnotes(pretrained, asked=sources)
        self.draft = ""  # what the next prompt begins with
        self.turns = 0
        self.is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
        self.ask = input_line if self.is_dumb else editor(COMMANDS).prompt

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
        elif name == "/sources":
            text = self.last()[len(self.prompt or "") :]
            for line in self.footnotes.answer(self.prompt or "", text):
                say(line)
        elif name == "/why":
            self.why()
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

    def why(self) -> None:
        """Show what else the model thought of, a line a token."""
        self.last()
        if self.explained is None or not self.explained.completion.text:
            raise CommandError("nothing was written after that prompt")
        say("what the model expected, of all tokens (temperature 1); [taken]; · blank, ↵ new line")
        try:
            for line in explain(self.completer.result(), self.explained):
                print(line, flush=True)
        except KeyboardInterrupt:
            say("stopped")

    def complete(self, prompt: str, shown_from: int = 0) -> None:
        """Show the prompt, from a place in it on, and its completion as it is written; Ctrl-C ends that."""
        screen = PlainScreen() if self.is_dumb else ColouredScreen(prompt[:shown_from])
        screen.write(prompt[shown_from:])
        started = time.monotonic()
        completions, stopped = [], False
        self.explained = None
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
            self.explained = Written(completions[-1], len(completions[-1].ids), len(completions[-1].owed))
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
        for number, completion in enumerate(completions, start=1):
            for line in self.footnotes.notes(prompt, completion.text):
                say(f"sample {number}, {line}" if completions[1:] else line)


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "random" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


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
