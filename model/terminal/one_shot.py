"""One prompt from the command line: its completions on standard output, as code or as JSON.

Three printers: StreamPrinter shows the first completion while it is written, TextPrinter prints what has to
be complete first (a filled gap, the best sample), JsonPrinter prints a record for each sample.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from generation.inspection import lint, rank
from model_cli import DONE, INTERRUPTED, UserError

if TYPE_CHECKING:
    from attribution.copies import SourceNotes
    from generation.completer import Completer
    from generation.sample import Sample
    from inference.decoding import Decoding


@dataclass(frozen=True)
class Output:
    """What is printed of the completions."""

    completion_only: bool = False
    best: bool = False
    lint: bool = False
    json: bool = False
    sources: SourceNotes | None = None


@dataclass
class Clock:
    """When writing began, and the seconds to the first text and to the end."""

    began: float
    first: float | None = None
    total: float = 0.0


def complete_once(
    completer: Completer, prompt: str, suffix: str | None, decoding: Decoding, output: Output
) -> int:
    """Complete a prompt, print the completions, and return the exit code.

    suffix: what follows the gap that the completions fill.
    """
    caveat = tell_caveat(output.sources)
    samples = completer.start(prompt, decoding, suffix, warn=note)
    is_complete_first = output.best or suffix is not None
    kind = JsonPrinter if output.json else TextPrinter if is_complete_first else StreamPrinter
    printer = kind(prompt, suffix or "", output)
    printer.begin()
    code, clock = DONE, Clock(time.perf_counter())
    try:
        for number, text in completer.write(samples, decoding):
            clock.first = clock.first or time.perf_counter() - clock.began
            printer.add(number, text)
    except KeyboardInterrupt:
        code = INTERRUPTED
        for sample in samples:
            sample.break_off()
    except UserError:
        printer.break_off()
        raise
    clock.total = time.perf_counter() - clock.began
    if suffix is not None and decoding.valid:
        for sample in samples:
            if not sample.guaranteed:
                note("no part of what was filled in makes the whole compile")
    if output.best:
        samples = [min(samples, key=lambda sample: rank(sample, suffix or ""))]
    printer.end(samples, clock)
    tell_caveat(output.sources, caveat)
    if code == INTERRUPTED:
        print("interrupted: what was written so far is above", file=sys.stderr)
    return code


class TextPrinter:
    """Prints each completion between its prompt and its suffix, then the remarks on standard error."""

    def __init__(self, prompt: str, suffix: str, output: Output) -> None:
        self.prompt, self.suffix, self.output = prompt, suffix, output

    def begin(self) -> None:
        """Before anything is written."""

    def add(self, number: int, text: str) -> None:
        """A piece of a sample's text."""

    def break_off(self) -> None:
        """End the line that was begun: an error follows."""

    def end(self, samples: list[Sample], clock: Clock) -> None:
        """Print these samples, which are finished."""
        for place, sample in enumerate(samples):
            if place:
                emit(f"# sample {place + 1} of {len(samples)}\n")
                self.prompt = self.prompt.removeprefix("\ufeff")  # a byte order mark begins a file
            self.print_sample(sample)
        self.remark(samples)

    def print_sample(self, sample: Sample) -> None:
        if self.output.completion_only:
            emit(f"{sample.text}\n")
        else:
            emit(f"{self.prompt}{sample.text}{self.suffix}" + "\n" * (not self.suffix.endswith("\n")))

    def remark(self, samples: list[Sample]) -> None:
        """Print pyflakes' findings, then the copies of training data, with the number of their sample."""
        remarks: list[tuple[Sample, object]] = []
        if self.output.lint:
            for sample in samples:
                remarks += [(sample, found) for found in lint(sample.prompt, sample.text, self.suffix)]
        if sources := self.output.sources:
            for sample in samples:
                answer = sources.answer(sample.prompt, sample.text, self.suffix)
                remarks += [(sample, line) for line in answer]
        for sample, remark in remarks:
            print(f"sample {sample.number + 1}, {remark}" if samples[1:] else remark, file=sys.stderr)


class StreamPrinter(TextPrinter):
    """Prints the prompt at once and the first sample while it is written."""

    def begin(self) -> None:
        if not self.output.completion_only:
            emit(self.prompt)

    def add(self, number: int, text: str) -> None:
        if number == 0:
            emit(text)

    def break_off(self) -> None:
        emit("\n")

    def print_sample(self, sample: Sample) -> None:
        if sample.number == 0:
            emit("\n")
        else:
            super().print_sample(sample)


class JsonPrinter(TextPrinter):
    """Prints each sample as a line of JSON."""

    def end(self, samples: list[Sample], clock: Clock) -> None:
        for sample in samples:
            record = {
                "text": self.prompt + sample.text + self.suffix,
                "completion": sample.text,
                "tokens": sample.tokens,
                "log_probability": round(sample.log_probability, 4),
                "passes": sample.window.passes,
                "ended": sample.ended,
                "seconds": round(clock.total, 4),
                "seconds_to_first_text": None if clock.first is None else round(clock.first, 4),
                "sample": sample.number,
                "guaranteed": sample.guaranteed,
            }
            if self.output.lint:
                record["lint"] = [str(found) for found in lint(sample.prompt, sample.text, self.suffix)]
            if self.output.sources:
                copies = self.output.sources.copies(sample.prompt, sample.text, self.suffix)
                record["sources"] = None if copies is None else [copy.record() for copy in copies]
            emit(json.dumps(record, ensure_ascii=False) + "\n")


def note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)


def tell_caveat(sources: SourceNotes | None, told: str = "") -> str:
    """Say why copies cannot be named, or not all of them, unless that was said before; what was said."""
    caveat = sources.caveat() if sources else ""
    if caveat != told:
        print(caveat, file=sys.stderr)
    return caveat


def emit(text: str) -> None:
    """Print the characters as UTF-8, with their own line ends, at once."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
