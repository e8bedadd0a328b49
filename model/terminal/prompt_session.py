"""The interactive prompt: code is typed on a terminal and completed below, in colour, while it is written."""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from generation.inspection import SHOWN_TOKENS, top_tokens
from inference.decoding import SETTINGS, Decoding, number_between
from model_cli import plural
from pretrained.load import Pretrained
from python_syntax.judge import as_python_reads
from terminal.screen import (
    ColouredScreen,
    PlainScreen,
    Screen,
    editor,
    input_line,
    is_plain,
    say,
    start_of_last_lines,
    table_row,
    wrapped,
)

if TYPE_CHECKING:
    from attribution.copies import SourceNotes
    from generation.completer import Completer
    from generation.sample import Sample

KEYS = {
    "Enter": "complete the code typed so far",
    "Alt-Enter": "begin a new line (or: Esc, then Enter); pasted lines stay lines",
    "Up, Down": "earlier prompts, also those of other days; Ctrl-R searches them",
    "Ctrl-C": "stop a completion and have its prompt back; clear what is typed",
    "Ctrl-D": "leave (or: exit, quit)",
}

COMMANDS = {
    "/help": "this page",
    "/more": "continue where the last completion ended",
    "/retry": "another completion of the last prompt",
    "/file PATH": "complete the end of a file",
    "/sources": "which parts of the last completion are copied from the training data, and whose they are",
    "/why N": "the N likeliest tokens at each step of the last completion (default: 5)",
    "/save PATH": "write the last prompt and completion to a new file",
}
LEAVE = ("exit", "quit", "exit()", "quit()", "/exit", "/quit")
PROMPT = ">>> "
LINES_OF_FILE = 10  # of a file to complete so many are shown: the last ones


class CommandError(ValueError):
    """A command that cannot be done, in words for the user."""


def converse(
    pretrained: Pretrained,
    load: Callable[[Callable[[str], None]], Completer],
    decoding: Decoding,
    *,
    sources: bool = False,
) -> int:
    """Ask for prompts and complete them until Ctrl-D; the model is loaded while the first one is typed.

    load: is given a function that takes what the user should know before the model is ready.
    sources: whether to say so if copies of the training data cannot be named, as --sources asks for.
    """
    with ThreadPoolExecutor(1) as background:
        notes: SimpleQueue[str] = SimpleQueue()
        completer = background.submit(load, notes.put)
        conversation = Conversation(pretrained, completer, notes, decoding, sources=sources)
        conversation.greet()
        while conversation.turn():
            pass
    return 0


class Conversation:
    """What stays from one prompt to the next: the settings, the last prompt and its completions."""

    def __init__(
        self,
        pretrained: Pretrained,
        completer: Future[Completer],
        notes: SimpleQueue[str],
        decoding: Decoding,
        *,
        sources: bool = False,
    ) -> None:
        self.pretrained = pretrained
        self.completer = completer
        self.notes = notes  # while the completer is loaded
        self.decoding = decoding
        self.prompt: str | None = None
        self.samples: list[Sample] = []  # the last prompt's
        self.asked_for_sources = sources
        self.draft = ""  # what the next prompt begins with
        self.turns = 0
        self.is_plain = is_plain()
        self.ask = input_line if self.is_plain else editor(COMMANDS).prompt

    def greet(self) -> None:
        config = self.pretrained.config
        million = self.pretrained.config.parameters / 1e6
        size = f"{million:.1f} M parameters, a context of {config.block_size:,} tokens"
        say(f"{self.pretrained.folder}: {size}")
        say("Type some Python and press Enter to have it completed; /help, Ctrl-D leaves.")

    def turn(self) -> bool:
        """Ask for one prompt and do what it says; False if that is to leave."""
        try:
            typed = self.ask(PROMPT, default=self.draft)
        except (EOFError, KeyboardInterrupt) as key:
            self.draft = ""
            if self.is_plain:
                print()
            return isinstance(key, KeyboardInterrupt)
        self.draft = ""
        if typed.strip() in LEAVE:
            return False
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
            text = self.last_text()
            self.complete(text, shown_from=text.rfind("\n") + 1)
        elif name == "/retry":
            self.complete(self.last_prompt())
        elif name == "/file":
            prompt = read_file(argument)
            self.complete(prompt, shown_from=start_of_last_lines(prompt, LINES_OF_FILE))
        elif name == "/sources":
            prompt = self.last_prompt()
            answer = self.sources.answer(prompt, self.last_text().removeprefix(prompt))
            for line in filter(None, [*answer, self.sources.caveat()]):
                say(line)
        elif name == "/why":
            self.why(argument)
        elif name == "/save":
            save_new(argument, f"{self.last_text()}\n")
        elif setting in SETTINGS:
            self.set(setting, argument)
        else:
            raise CommandError(f"no command {name}: {nearest_command(name)}")

    def help(self) -> None:
        for key, explanation in KEYS.items():
            print(table_row(key, explanation, 12))
        for command, explanation in COMMANDS.items():
            print(table_row(command, explanation, 12))
        print("  Settings, with their present values:")
        for setting, (_, explanation) in SETTINGS.items():
            command = f"/{setting.replace('_', '-')} {in_words(getattr(self.decoding, setting))}"
            print(table_row(command, explanation, 23))

    def set(self, setting: str, argument: str) -> None:
        parse, explanation = SETTINGS[setting]
        if argument:
            try:
                changed: dict[str, Any] = {setting: parse(argument)}
                self.decoding = dataclasses.replace(self.decoding, **changed)
            except argparse.ArgumentTypeError as error:
                raise CommandError(str(error)) from None
            self.turns = 0  # a seed begins anew
        say(f"{setting.replace('_', '-')} is {in_words(getattr(self.decoding, setting))}: {explanation}")

    def last_prompt(self) -> str:
        if self.prompt is None:
            raise CommandError("nothing has been completed yet: type some code first")
        return self.prompt

    def last_text(self) -> str:
        """The last prompt with its (last) completion."""
        return self.last_prompt() + (self.samples[-1].text if self.samples else "")

    def why(self, argument: str) -> None:
        """Show the tokens that the model found likeliest, a line for each that was written."""
        try:
            count = int(number_between(int, 1, 100)(argument)) if argument else SHOWN_TOKENS
        except argparse.ArgumentTypeError as error:
            raise CommandError(f"{error}: /why 10") from None
        if self.last_text() == self.last_prompt():
            raise CommandError("nothing was written after that prompt")
        say("what the model expected at each token (temperature 1); [taken]; · blank, ↵ new line")
        try:
            completer = self.completer.result()
            for line in top_tokens(completer.model, completer.vocabulary, self.samples[-1], count):
                whole = re.sub(r"(?<=\S) (?=\S)", "\xa0", line)  # a token stays with its share
                print(wrapped(whole, indent=6).replace("\xa0", " "), flush=True)
        except KeyboardInterrupt:
            say("stopped")

    def complete(self, prompt: str, shown_from: int = 0) -> None:
        """Show the prompt, from a place in it on, and its completion as it is written; Ctrl-C ends that."""
        screen = PlainScreen() if self.is_plain else ColouredScreen(prompt[:shown_from])
        screen.write(prompt[shown_from:])
        started = time.monotonic()
        self.prompt, self.samples = prompt, []
        is_stopped = False
        try:
            completer = self.loaded(screen, prompt)
            started = time.monotonic()
            for text in self.write(completer, prompt, screen):
                screen.write(text)
        except KeyboardInterrupt:
            is_stopped = True
            self.draft = prompt if "\n" not in prompt[:shown_from] else ""
        screen.finish()
        tokens = sum(sample.tokens for sample in self.samples)
        has_ended = bool(self.samples) and all(sample.ended for sample in self.samples)
        how = "stopped" if is_stopped else "the text ends here" if has_ended else "/more continues"
        say(f"{plural(tokens, 'token')} in {time.monotonic() - started:.1f} s; {how}")
        self.name_sources(prompt)

    def loaded(self, screen: Screen, prompt: str) -> Completer:
        """The completer. If that takes a while and there is something to know about it, it is said."""
        while not self.completer.done():
            if not self.notes.empty():
                remark(screen, self.notes.get(), prompt)
            wait([self.completer], timeout=0.05)
        return self.completer.result()

    def write(self, completer: Completer, prompt: str, screen: Screen) -> Iterator[str]:
        """The text of the first sample as it is written, then the other samples with their prompts."""
        first_seed, turn = self.decoding.seed, self.turns
        seed = None if first_seed is None else first_seed + turn * self.decoding.samples
        self.turns += 1
        decoding = dataclasses.replace(self.decoding, seed=seed)
        self.samples = completer.start(prompt, decoding, warn=lambda advice: remark(screen, advice, prompt))
        yield from (text for number, text in completer.write(self.samples, decoding) if number == 0)
        for sample in self.samples[1:]:
            screen.finish()
            yield f"# sample {sample.number + 1} of {len(self.samples)}\n{prompt}{sample.text}"

    @cached_property
    def sources(self) -> SourceNotes:
        from attribution.copies import SourceNotes  # 9 ms, not needed before the first completion

        return SourceNotes(self.pretrained.folder, self.pretrained.vocabulary)

    def name_sources(self, prompt: str) -> None:
        """Say which parts of the completions are copied from the training data."""
        known_problem = self.sources.problem
        for sample in self.samples:
            for line in self.sources.lines(prompt, sample.text):
                say(f"sample {sample.number + 1}, {line}" if self.samples[1:] else line)
        # A model of another program has no index: only those who ask for sources are told so.
        if self.sources.problem != known_problem and (self.asked_for_sources or self.sources.has_index):
            say(self.sources.caveat())


def remark(screen: Screen, line: str, prompt: str) -> None:
    """Say something on a line of its own, then show the prompt's last line again, which is continued."""
    screen.finish()
    say(line)
    screen.write(prompt[prompt.rfind("\n") + 1 :])


def nearest_command(name: str) -> str:
    """What to type instead of a command that is not there."""
    import difflib  # only after a mistake

    known = [command.split()[0] for command in COMMANDS]
    known += [f"/{setting.replace('_', '-')}" for setting in SETTINGS]
    near = difflib.get_close_matches(name.replace("_", "-"), known, 1)
    return f"did you mean {near[0]}?" if near else "/help lists them"


def in_words(value: object) -> str:
    """A setting's value: True -> "on", None -> "random"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "random" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def save_new(argument: str, text: str) -> None:
    """Write a file that is not there yet."""
    path = Path(argument).expanduser().absolute()
    if not argument:
        raise CommandError("say where: /save FILE")
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise CommandError(f"there is a file of that name, nothing was written: {path}") from None
    except OSError as error:
        raise CommandError(f"cannot be written ({error.strerror}): {path}") from None
    say(f"saved: {path}")


def read_file(argument: str) -> str:
    path = Path(argument).expanduser().absolute()
    if not argument:
        raise CommandError("say which: /file PATH")
    try:
        return as_python_reads(path.read_bytes().decode())
    except OSError as error:
        raise CommandError(f"cannot be read ({error.strerror}): {path}") from None
    except UnicodeError as error:
        raise CommandError(f"is not UTF-8 text ({error}): {path}") from None
