"""The thread that owns the model: requests wait in a queue, and those that have begun advance in turn.

Fair means: a request waits behind those that came before it, but for a share of their tokens only. Up to
MOST_ROWS samples are being written; in each round every request gets one token, one with n samples a token of
each in every n-th round. One that had QUANTUM tokens while others wait goes to the end of the queue. What the
model has read for it stays in the prompt cache, so going on costs a copy.

The model reads one row after the other: at the sizes that a processor trains, reading rows together gains
nothing over that (benchmarks/LOG.md).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from generation.completer import Writing
from generation.inspection import rank
from generation.sample import stop_at
from generation.trace import Trace
from model_cli import UserError, warn
from python_syntax.endings import shared_length

if TYPE_CHECKING:
    from attribution.copies import SourceNotes
    from generation.sample import Sample
    from generation.trace import Refusal, TracedToken
    from inference.decoding import Decoding
    from serving.completing import Begun, ServingCompleter
    from serving.stops import Stops

MOST_ROWS = 16  # samples that are being written: each has its keys and values, 6 MB at 5 M parameters
MOST_WAITING = 1000  # requests: ten seconds of a hundred in a second
MOST_WAITING_CHARACTERS = 1 << 26  # of their prompts: 64 MB
QUANTUM = 64  # tokens: most completions in an editor are shorter
CONTINUES_ALONE = (
    "this model was trained to continue code, not to fill in gaps: it does not see what follows the cursor, "
    "and stops where that goes on (train one with --fim-rate 0.5)"
)


@dataclass(frozen=True)
class Task:
    """One prompt to complete."""

    prompt: str
    decoding: Decoding
    suffix: str = ""
    stops: Stops | None = None
    logprobs: int | None = None  # name so many of the likeliest tokens; None: no tokens at all
    rejected: bool = False
    sources: bool = False
    best: bool = False  # rank the samples
    warms: bool = False  # read the prompt and write nothing: it will be asked about soon


@dataclass(frozen=True)
class Piece:
    """More of a sample's text, and what belongs to it."""

    sample: int
    text: str
    tokens: list[TracedToken]
    refusals: list[Refusal]


@dataclass(frozen=True)
class End:
    """A sample is whole."""

    sample: int
    reason: str  # "stop" or "length"
    word: str  # the stop string that ended it
    valid: bool | None  # None: it was not judged
    score: float | None  # nats per token, of what the model wrote
    sources: list[dict[str, Any]] | None
    tokens: int
    text: str  # all of it: pieces that went out before may hold lines that did not fit what follows
    rank: int | None = None


@dataclass(frozen=True)
class Finish:
    """A task is done: what it cost, and what the user should know."""

    note: str
    prompt_tokens: int
    known_tokens: int  # of the prompt, whose keys and values were kept
    tokens: int
    read_seconds: float
    write_seconds: float


@dataclass(frozen=True)
class Failure:
    """A task ended without an answer."""

    message: str
    status: int = 500


Event = Piece | End | Finish | Failure


class QueueFullError(Exception):
    """More waits than will be answered soon."""


@dataclass(eq=False)
class Job:
    """A task on its way. `put` takes its events; it is called by the worker's thread."""

    task: Task
    put: Callable[[Event], None]
    is_cancelled: bool = False
    stops: Stops | None = None
    begun: Begun | None = None
    writing: Writing | None = None
    shown: list[int] = field(default_factory=list)  # characters, by sample
    searched: list[int] = field(default_factory=list)  # characters that were searched for what ends them
    words: dict[int, str] = field(default_factory=dict)  # the stop string that ended a sample
    ends: dict[int, End] = field(default_factory=dict)
    credit: int = 0
    written: int = 0  # tokens since its turn came
    known: int = 0
    read_seconds: float = 0.0
    first_token: float = 0.0

    @property
    def rows(self) -> int:
        return self.task.decoding.samples

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.is_cancelled = True

    def stop(self) -> None:
        """End the samples that have reached what the request wants them to end at."""
        stops = self.stops
        if stops is None or self.begun is None:
            return
        is_late = stops.milliseconds is not None and (
            time.perf_counter() - self.first_token > stops.milliseconds / 1000
        )
        for number, sample in enumerate(self.begun.samples):
            if number in self.ends:
                continue
            found = stops.find(sample.written, self.searched[number])
            self.searched[number] = len(sample.written)
            if found and found.place < len(sample.text if sample.finished else sample.written):
                self.words[number] = found.word
                stop_at(sample, found.place, is_exact=found.is_exact)
            elif is_late and not sample.finished and "\n" in sample.written:
                sample.finish()

    def hand_out(self, sources: SourceNotes) -> None:
        """Send what is new of each sample's text, and the end of those that are whole."""
        assert self.begun, "it has begun"
        for number, sample in enumerate(self.begun.samples):
            if number in self.ends or (sample.gap and not sample.finished):
                continue  # lines that do not fit before the suffix are dropped at the end
            text = sample.text
            if sample.finished:
                kept = shared_length(text, sample.written)
            else:
                kept = len(text) - (self.stops.held(text) if self.stops else 0)
                text = text[:kept]
            tokens: list[TracedToken] = []
            refusals: list[Refusal] = []
            if sample.trace and (len(text) > self.shown[number] or sample.finished):
                tokens, refusals = sample.trace.hand_out(kept, is_finished=sample.finished)
            if len(text) > self.shown[number] or tokens or refusals:
                self.put(Piece(number, text[self.shown[number] :], tokens, refusals))
                self.shown[number] = len(text)
            if sample.finished:
                self.ends[number] = self.end_of(sample, sources)
                if not self.task.best:
                    self.put(self.ends[number])

    def end_of(self, sample: Sample, sources: SourceNotes) -> End:
        score = sample.log_probability / sample.tokens if sample.tokens else math.nan
        return End(
            sample.number,
            "stop" if sample.ended else "length",
            self.words.get(sample.number, ""),
            None if sample.guard is None else sample.guaranteed,
            score if math.isfinite(score) else None,
            copies_in(sample, self.task.suffix, sources) if self.task.sources else None,
            sample.tokens,
            sample.text,
        )

    def rank(self) -> None:
        """Send the ends of all samples, with their ranks."""
        assert self.begun, "it has begun"
        order = sorted(self.begun.samples, key=lambda sample: rank(sample, self.task.suffix))
        for place, sample in enumerate(order):
            self.put(replace(self.ends[sample.number], rank=place))


class Worker:
    """Takes tasks from any thread, and completes them in its own."""

    def __init__(self, completer: ServingCompleter, sources: SourceNotes) -> None:
        self.completer = completer
        self.sources = sources
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.changed = threading.Condition()
        self.has_told = False  # that this model fills no gaps
        self.is_closing = False
        self.thread = threading.Thread(target=self.run, name="model", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def submit(self, tasks: list[Task], put: Callable[[int, Event], None]) -> list[Job]:
        """Let tasks wait for their turn; `put` takes their events, with the number of the task.

        Raises:
            QueueFullError: too many wait already.
        """
        jobs = [
            Job(task, lambda event, number=number: put(number, event))  # type: ignore[misc]
            for number, task in enumerate(tasks)
        ]
        with self.changed:
            self.waiting = deque(job for job in self.waiting if not job.is_cancelled)
            characters = sum(len(job.task.prompt) for job in self.waiting)
            if len(self.waiting) + len(jobs) > MOST_WAITING or characters > MOST_WAITING_CHARACTERS:
                raise QueueFullError(len(self.waiting))
            if self.is_closing:
                raise QueueFullError(0)
            self.waiting.extend(jobs)
            self.changed.notify()
        return jobs

    def close(self) -> None:
        """End everything that waits or runs, at its next token."""
        with self.changed:
            self.is_closing = True
            self.changed.notify()

    def run(self) -> None:
        """Rounds without end: one request may begin, and each that has begun advances."""
        while self.may_go_on():
            with self.changed:
                job = self.next_to_begin()
            if job is not None:
                self.attempt(job, self.begin)
            for job in list(self.running):
                self.attempt(job, self.advance)
        for job in [*self.running, *self.waiting]:
            job.put(Failure("the server is stopping", 503))

    def may_go_on(self) -> bool:
        """Wait for something to do; False if the server is stopping."""
        with self.changed:
            while not (self.waiting or self.running or self.is_closing):
                self.changed.wait()
            return not self.is_closing

    def next_to_begin(self) -> Job | None:
        """The first in the queue that somebody still waits for, if there is room for it."""
        while self.waiting and self.waiting[0].is_cancelled:
            self.waiting.popleft()
        rows = sum(job.rows for job in self.running)
        if not self.waiting or (self.running and rows + self.waiting[0].rows > MOST_ROWS):
            return None
        return self.waiting.popleft()

    def attempt(self, job: Job, action: Callable[[Job], None]) -> None:
        """Do something for a job; what goes wrong is its answer, and the others go on."""
        try:
            action(job)
        except UserError as error:
            self.fail(job, str(error).partition(":")[0])
        except Exception as error:  # noqa: BLE001 (a fault in one request must not end the others)
            warn(f"error: a request failed: {type(error).__name__}: {error}: please report it")
            self.fail(job, "internal error")

    def fail(self, job: Job, message: str) -> None:
        if job in self.running:
            self.running.remove(job)
        job.put(Failure(message))

    def begin(self, job: Job) -> None:
        """Read a job's prompt, or what it had written when it was put back."""
        task, started = job.task, time.perf_counter()
        if job.begun is None:
            vocabulary = self.completer.vocabulary
            is_traced = task.rejected or task.logprobs is not None

            def trace() -> Trace | None:
                return Trace(vocabulary, task.logprobs, refusals=task.rejected) if is_traced else None

            job.begun = self.completer.begin(task.prompt, task.suffix, task.decoding, trace)
            job.stops = task.stops
            if task.stops and self.completer.fills_in:  # the model sees what follows
                job.stops = replace(task.stops, follows="")
            job.shown, job.searched = [0] * job.rows, [0] * job.rows
            if task.warms:
                cache = self.completer.model.new_cache(1, self.completer.model.config.block_size)
                sample = job.begun.samples[0]
                self.completer.read_row(sample.ids, cache, 0)
                self.completer.leave(sample, cache, 0)
            job.writing = Writing(self.completer, job.begun.samples, task.decoding)
            job.known = self.completer.known if job.writing.unfinished or task.warms else 0
            job.read_seconds = time.perf_counter() - started
        else:
            job.writing = Writing(self.completer, job.begun.samples, task.decoding)
        job.written = job.credit = 0
        self.running.append(job)
        if not job.writing.unfinished:
            job.hand_out(self.sources)
            self.finish(job)

    def advance(self, job: Job) -> None:
        """A token for each of a job's samples, if it is its turn."""
        writing = job.writing
        assert writing, "a running job is being written"
        if job.is_cancelled:
            self.put_away(job)
            return
        job.credit += 1
        if job.credit < len(writing.unfinished):
            return
        job.credit = 0
        writing.step()
        job.written += 1
        job.first_token = job.first_token or time.perf_counter()
        job.stop()
        job.hand_out(self.sources)
        writing.drop_finished()
        if not writing.unfinished:
            self.finish(job)
        elif job.written >= QUANTUM and self.waiting:
            self.put_away(job)
            with self.changed:
                self.waiting.append(job)

    def put_away(self, job: Job) -> None:
        """Free a job's row of keys and values; they stay in the prompt cache as long as there is room."""
        assert job.writing, "a running job is being written"
        job.writing.leave()
        job.writing = None
        self.running.remove(job)

    def finish(self, job: Job) -> None:
        assert job.begun, "it has begun"
        self.running.remove(job)
        samples = job.begun.samples
        if job.task.best:
            job.rank()
        note = job.begun.note
        if job.task.suffix and not (self.completer.fills_in or self.has_told):
            self.has_told, note = True, note or CONTINUES_ALONE
            warn(f"note: {CONTINUES_ALONE}")
        now = time.perf_counter()
        job.put(
            Finish(
                note,
                samples[0].prompt_ids,
                job.known,
                sum(sample.tokens for sample in samples),
                job.read_seconds,
                now - job.first_token if job.first_token else 0.0,
            )
        )
        job.writing = None


def copies_in(sample: Sample, suffix: str, sources: SourceNotes) -> list[dict[str, Any]] | None:
    """The parts of a sample that stand in the training data; None if that cannot be said."""
    copies = sources.copies(sample.prompt, sample.text, suffix)
    if copies is None:
        return None
    return [
        {
            "offset": copy.start_character,
            "length": copy.end_character - copy.start_character,
            "repo": copy.sources[0].repo,
            "path": copy.sources[0].path,
            "license": copy.sources[0].license,
            "others": len(copy.sources) - 1 + copy.others,
        }
        for copy in copies
    ]
