"""Requests take turns: fairly, within bounds, each ending alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attribution.copies import Copy, Source, SourceNotes
from generation.completer import load_engine
from inference.cpu_engine import CpuEngine
from inference.decoding import Decoding
from pretrained.load import read_pretrained
from serving.completing import ServingCompleter
from serving.prompt_cache import PromptCache
from serving.stops import Stops
from serving.worker import (
    CONTINUES_ALONE,
    MOST_WAITING,
    End,
    Event,
    Failure,
    Finish,
    Job,
    Piece,
    QueueFullError,
    Task,
    Worker,
)
from tiny_model import save_endless_model

Happened = list[tuple[int, Event]]


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> ServingCompleter:
    pretrained = read_pretrained(save_endless_model(tmp_path_factory.mktemp("endless")))
    engine = load_engine(pretrained, "cpu")
    return ServingCompleter(engine, pretrained.vocabulary, PromptCache(1 << 24), fills_in=False)


class PlantedSources(SourceNotes):
    """Finds the first four characters of every text in a file, whatever they are."""

    def __init__(self) -> None:
        pass

    def copies(self, prompt: str, completion: str, suffix: str = "") -> list[Copy] | None:
        files = [Source("octo/cat", "src/cat.py", "1a2b", "MIT"), Source("octo/dog", "dog.py", "", "")]
        return [Copy(0, 2, 0, 4, files, 3)]


@pytest.fixture
def worker(completer: ServingCompleter) -> Iterator[Worker]:
    made = Worker(completer, PlantedSources())
    yield made
    made.close()
    if made.thread.is_alive():
        made.thread.join(20)
    assert not made.thread.is_alive()


def task(tokens: int = 8, prompt: str = "x = 1", **options: Any) -> Task:
    settings = {name: options.pop(name) for name in ("samples", "valid", "seed") if name in options}
    decoding = Decoding(max_new_tokens=tokens, scores=True, **{"valid": False, "seed": 1, **settings})
    return Task(prompt, decoding, **options)


def run(worker: Worker, *tasks: Task) -> Happened:
    """All events until the last task is done, in their order."""
    happened: queue.Queue[tuple[int, Event]] = queue.Queue()
    worker.submit(list(tasks), lambda number, event: happened.put((number, event)))
    if not worker.thread.is_alive():
        worker.start()
    found: Happened = []
    while sum(isinstance(event, Finish | Failure) for _, event in found) < len(tasks):
        found.append(happened.get(timeout=60))
    return found


def order_of_ends(happened: Happened) -> list[int]:
    return [number for number, event in happened if isinstance(event, Finish)]


def test_a_task_ends_with_its_text_its_end_and_what_it_cost(worker: Worker) -> None:
    *pieces, (_, end), (_, finish) = run(worker, task())
    assert pieces and all(isinstance(event, Piece) for _, event in pieces)
    assert isinstance(end, End) and (end.reason, end.valid, end.tokens) == ("length", None, 8)
    assert isinstance(finish, Finish) and finish.tokens == 8 and finish.note == ""


def test_a_short_request_does_not_wait_for_a_long_one(worker: Worker) -> None:
    assert order_of_ends(run(worker, task(400), task(4))) == [1, 0]


def test_requests_that_are_alike_end_in_the_order_they_came(worker: Worker) -> None:
    assert order_of_ends(run(worker, *[task(6, f"x = {n}") for n in range(40)])) == list(range(40))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows and eight tokens a turn: the same as sixteen and sixty-four, in less time."""
    monkeypatch.setattr("serving.worker.MOST_ROWS", 4)
    monkeypatch.setattr("serving.worker.QUANTUM", 8)


@pytest.mark.usefixtures("narrow")
def test_a_short_request_does_not_wait_for_more_long_ones_than_fit(worker: Worker) -> None:
    """Each of those gives way after its share, so the short one begins before any of them ends."""
    assert order_of_ends(run(worker, *[task(60, f"x = {n}") for n in range(6)], task(4)))[0] == 6


@pytest.mark.usefixtures("narrow")
def test_giving_way_changes_no_text(worker: Worker) -> None:
    def texts(happened: Happened) -> dict[int, str]:
        found: dict[int, str] = {}
        for number, event in happened:
            if isinstance(event, Piece):
                found[number] = found.get(number, "") + event.text
        return found

    tasks = [task(30, f"x = {n}", seed=n, samples=1 + n % 2) for n in range(9)]
    together = texts(run(worker, *tasks))
    for number in (0, 5, 8):
        assert texts(run(worker, tasks[number]))[0] == together[number]


def test_a_request_for_many_samples_gets_no_more_tokens_than_one_for_one(worker: Worker) -> None:
    happened = run(worker, task(30, samples=8), task(100))
    ends = [number for number, event in happened if isinstance(event, End)]
    assert ends[0] == 1, "a hundred tokens of the one pass before thirty of each of the eight"


def test_the_queue_is_bounded(worker: Worker) -> None:
    worker.submit([task()] * MOST_WAITING, lambda *_: None)
    with pytest.raises(QueueFullError):
        worker.submit([task()], lambda *_: None)


def test_who_has_gone_makes_room(worker: Worker) -> None:
    jobs = worker.submit([task()] * MOST_WAITING, lambda *_: None)
    for job in jobs[10:20]:
        job.cancel()
    worker.submit([task()] * 10, lambda *_: None)
    for job in jobs:
        job.cancel()


def test_long_prompts_that_wait_are_bounded_together(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.worker.MOST_WAITING_CHARACTERS", 100)
    worker.submit([task(prompt="x" * 200)], lambda *_: None)
    with pytest.raises(QueueFullError):
        worker.submit([task()], lambda *_: None)


def test_a_cancelled_request_stops_at_its_next_token(worker: Worker) -> None:
    began, happened = threading.Event(), []

    def put(_: int, event: Event) -> None:
        happened.append(event)
        began.set()

    [job] = worker.submit([task(100_000)], put)
    worker.start()
    assert began.wait(30)
    job.cancel()
    run(worker, task(2))
    count = len(happened)
    run(worker, task(2))
    assert len(happened) == count and job not in worker.running


def test_a_fault_in_one_request_leaves_the_others_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = ServingCompleter.begin

    def fail(self: ServingCompleter, prompt: str, *rest: Any) -> Any:
        if prompt == "bad":
            raise ZeroDivisionError("by zero")
        return begin(self, prompt, *rest)

    monkeypatch.setattr(ServingCompleter, "begin", fail)
    happened = run(worker, task(4), task(4, "bad"), task(4))
    failures = [(number, event) for number, event in happened if isinstance(event, Failure)]
    assert failures == [(1, Failure("internal error", 500))]
    assert sorted(order_of_ends(happened)) == [0, 2]
    line = capsys.readouterr().err
    assert line == "error: a request failed: ZeroDivisionError: by zero: please report it\n"


def test_weights_that_are_no_numbers_are_said_without_a_path(tmp_path: Path) -> None:
    pretrained = read_pretrained(save_endless_model(tmp_path))
    engine = load_engine(pretrained, "cpu")
    assert isinstance(engine, CpuEngine)
    engine.weights["wte.weight"][:] = np.nan
    broken = ServingCompleter(engine, pretrained.vocabulary, PromptCache(0), fills_in=False)
    worker = Worker(broken, PlantedSources())
    [(_, event)] = run(worker, task(prompt="x = 1 + 2 + 3"))
    assert event == Failure("the model's weights are not finite numbers", 500)
    worker.close()


def test_closing_ends_everything_with_a_reason(completer: ServingCompleter) -> None:
    worker, happened = Worker(completer, PlantedSources()), []
    worker.submit([task(100_000)] * 40, lambda _, event: happened.append(event))
    worker.start()
    time.sleep(0.3)
    worker.close()
    worker.thread.join(20)
    assert happened.count(Failure("the server is stopping", 503)) == 40
    with pytest.raises(QueueFullError):
        worker.submit([task()], lambda *_: None)


def test_what_is_copied_is_named_with_its_place_in_the_text(worker: Worker) -> None:
    [end] = [event for _, event in run(worker, task(sources=True)) if isinstance(event, End)]
    named = {"repo": "octo/cat", "path": "src/cat.py", "license": "MIT", "others": 4}
    assert end.sources == [{"offset": 0, "length": 4, **named}]
    [end] = [event for _, event in run(worker, task()) if isinstance(event, End)]
    assert end.sources is None


def test_that_a_model_fills_no_gaps_is_said_once(worker: Worker, capsys: pytest.CaptureFixture[str]) -> None:
    question = replace(task(valid=True), prompt="def f(x):\n    y = ", suffix="\n    return y\n")
    notes = [event.note for _, event in run(worker, question, question) if isinstance(event, Finish)]
    assert notes == [CONTINUES_ALONE, ""]
    assert capsys.readouterr().err == f"note: {CONTINUES_ALONE}\n"


@pytest.mark.parametrize("seed", range(6))
def test_before_a_suffix_nothing_is_sent_that_is_dropped_in_the_end(worker: Worker, seed: int) -> None:
    prompt, suffix = "class A:\n    def f(self):\n", "\n    def g(self):\n        pass\n"
    happened = run(worker, replace(task(40, prompt, valid=True, seed=seed), suffix=suffix))
    [end] = [event for _, event in happened if isinstance(event, End)]
    sent = "".join(event.text for _, event in happened if isinstance(event, Piece))
    assert sent == end.text
    if end.valid:
        compile(prompt + sent + suffix, "filled", "exec")


def test_the_time_for_writing_ends_a_text_after_a_line(worker: Worker) -> None:
    stops = Stops(milliseconds=1)
    happened = run(worker, task(3000, stops=stops, prompt="import os\n", seed=2))
    [end] = [event for _, event in happened if isinstance(event, End)]
    assert end.tokens < 300 and end.reason == "length"


def test_a_job_that_only_warms_reads_its_prompt(worker: Worker, completer: ServingCompleter) -> None:
    prompt = "warm = [1, 2, 3, 4, 5, 6]"
    run(worker, task(0, prompt, warms=True))
    *_, (_, finish) = run(worker, task(2, prompt))
    assert isinstance(finish, Finish)
    assert finish.known_tokens == finish.prompt_tokens - 1


def test_a_job_knows_how_many_rows_it_takes() -> None:
    assert Job(task(samples=5), lambda _: None).rows == 5
