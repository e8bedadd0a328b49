"""A prompt and its completions on standard output: as code that can be saved as it is, or as JSON."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from completion import Completer
from continuation import Continuation
from decoding_settings import Decoding
from fill_in import fitting
from lint import lint
from valid_code import NotPythonError

if TYPE_CHECKING:
    from attribution import Attribution, Copy


@dataclass(frozen=True)
class Output:
    """What is printed of the completions."""

    completion_only: bool = False
    best: bool = False
    lint: bool = False
    json: bool = False
    sources: bool = False  # and these are where they are looked up, if anywhere:
    attribution: Attribution | None = None


@dataclass
class Clock:
    """When writing began, and the seconds to the first text and to the end."""

    began: float
    first: float | None = None
    total: float = 0.0


def complete_once(
    completer: Completer, prompt: str, suffix: str | None, decoding: Decoding, output: Output
) -> int:
    """Print the prompt and each completion: the first as it is written where nothing must be known before."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends this as it ends cat
    completions, is_guarded = start(completer, prompt, suffix, decoding)
    shown = "" if output.completion_only else prompt
    is_streamed = not (output.json or output.best or suffix is not None)
    if is_streamed:
        emit(shown)
    code, clock = 0, Clock(time.perf_counter())
    try:
        for number, text in completer.write(completions, decoding):
            clock.first = clock.first or time.perf_counter() - clock.began
            if number == 0 and is_streamed:
                emit(text)
    except KeyboardInterrupt:
        code = 130
    clock.total = time.perf_counter() - clock.began
    texts = [completion.text for completion in completions]
    guaranteed = [is_guarded] * len(texts)
    if suffix is not None and decoding.valid:
        fits = [fill(prompt, text, suffix) for text in texts]
        texts = [text if fit is None else fit for text, fit in zip(texts, fits, strict=True)]
        guaranteed = [fit is not None for fit in fits]
    order = list(range(len(texts)))
    if output.best:
        order = [min(order, key=lambda number: rank(prompt, texts[number], suffix, completions[number]))]
    if output.json:
        for number in order:
            record = describe(prompt, texts[number], suffix, completions[number], clock)
            record |= {"sample": number, "guaranteed": guaranteed[number]}
            if output.lint:
                record["lint"] = [str(finding) for finding in findings(prompt, texts[number], suffix)]
            if output.sources:
                copies = copies_in(output.attribution, prompt, texts[number], suffix)
                record["sources"] = None if copies is None else [copy.record() for copy in copies]
            emit(json.dumps(record, ensure_ascii=False) + "\n")
    else:
        for place, number in enumerate(order):
            if place:
                emit(f"# sample {place + 1} of {len(order)}\n")
            streamed = is_streamed and number == 0
            after = suffix or "" if not output.completion_only else ""
            end = "" if after.endswith("\n") else "\n"
            emit("\n" if streamed else f"{shown}{texts[number]}{after}{end}")
    if output.lint and not output.json:
        for number in order:
            for finding in findings(prompt, texts[number], suffix):
                print(f"sample {number + 1}, {finding}" if order[1:] else finding, file=sys.stderr)
    if output.sources and not output.json:
        for number in order:
            for line in told(output.attribution, prompt, texts[number], suffix):
                print(f"sample {number + 1}, {line}" if order[1:] else line, file=sys.stderr)
    if code:
        print("interrupted: what was written so far is above", file=sys.stderr)
    return code


def start(
    completer: Completer, prompt: str, suffix: str | None, decoding: Decoding
) -> tuple[list[Continuation], bool]:
    """The samples before their first token, and whether they are held to valid Python."""
    try:
        return completer.start(prompt, decoding, suffix), decoding.valid
    except NotPythonError as error:
        print(f"note: {error.advice}", file=sys.stderr)
        return completer.start(prompt, dataclasses.replace(decoding, valid=False), suffix), False


def fill(prompt: str, middle: str, suffix: str) -> str | None:
    """The middle as far as it makes the whole compile; None, with a note, where nothing does."""
    fit = fitting(prompt, middle, suffix)
    if fit is None:
        print("note: no part of what was filled in makes the whole compile", file=sys.stderr)
    return fit


def findings(prompt: str, text: str, suffix: str | None) -> list[Any]:
    end = text.count("\n") + prompt.count("\n") + 1
    return [f for f in lint(f"{prompt}{text}{suffix or ''}\n", len(prompt)) if f.line <= end]


def copies_in(
    attribution: Attribution | None, prompt: str, text: str, suffix: str | None
) -> list[Copy] | None:
    """The parts that the training data has; None where nobody knows, which has been said."""
    from copied_runs import SourceIndexError

    try:
        return attribution.copies(prompt, text, suffix or "") if attribution else None
    except SourceIndexError as error:
        print(f"note: {error}", file=sys.stderr)
        return None


def told(attribution: Attribution | None, prompt: str, text: str, suffix: str | None) -> list[str]:
    """The same in lines for the user."""
    from attribution import NOTHING, in_words

    copies = copies_in(attribution, prompt, text, suffix)
    if copies is None:
        return []
    return [f"copied: {in_words(copy, prompt, text)}" for copy in copies] or [NOTHING]


def rank(prompt: str, text: str, suffix: str | None, completion: Continuation) -> tuple[int, int, float]:
    """What the best sample has least of: nothing at all, findings, surprise a token."""
    surprise = -completion.log_probability / max(1, completion.tokens)
    return int(not text.strip()), len(findings(prompt, text, suffix)), surprise


def describe(
    prompt: str, text: str, suffix: str | None, completion: Continuation, clock: Clock
) -> dict[str, Any]:
    return {
        "text": prompt + text + (suffix or ""),
        "completion": text,
        "tokens": completion.tokens,
        "log_probability": round(completion.log_probability, 4),
        "passes": completion.passes,
        "ended": completion.ended,
        "seconds": round(clock.total, 4),
        "seconds_to_first_text": None if clock.first is None else round(clock.first, 4),
    }


def emit(text: str) -> None:
    """Print the characters as UTF-8, with the line ends they have, at once."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
