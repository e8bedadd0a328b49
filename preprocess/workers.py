"""Shards prepared by several processes at once, which may die or hang on what strangers wrote.

A worker says in shared memory which file it is at. When it dies, its shard is given out again; the file at
which two workers died is left out with that reason. One that stays at a file for too long is ended, likewise.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from filters import Finding
from preparation import Rules
from shards import Shard, prepare_shard

FILE_SECONDS = 60  # a file of a megabyte, the most that the filters let through, takes less than one
DEATHS_MOST = 2  # at one file: the first may have been an accident, such as want of memory elsewhere
NOT_AT_A_FILE = -1

# A new interpreter each: a fork would copy locks and threads in whatever state they are.
PROCESSES = get_context("spawn")


class WorkerError(RuntimeError):
    """Workers that die without being at any file."""


class Worker:
    """A process, the shard that it has, and since when it has been at which file."""

    def __init__(self, repos: Path, rules: Rules) -> None:
        self.position: Synchronized[int] = PROCESSES.Value("q", NOT_AT_A_FILE)
        self.connection, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=work, args=(theirs, self.position, repos, rules), daemon=True)
        self.process.start()
        theirs.close()
        self.shard: Shard | None = None
        self.seen_at = NOT_AT_A_FILE
        self.seen_since = time.monotonic()

    def give(self, shard: Shard) -> None:
        self.shard = shard
        self.position.value = self.seen_at = NOT_AT_A_FILE
        self.connection.send(shard)

    def is_stuck(self) -> bool:
        """Whether it has been at the same file for too long."""
        if self.shard is None or self.position.value == NOT_AT_A_FILE or self.position.value != self.seen_at:
            self.seen_at, self.seen_since = self.position.value, time.monotonic()
        return time.monotonic() - self.seen_since > FILE_SECONDS

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def work(connection: Connection, position: Synchronized[int], repos: Path, rules: Rules) -> None:
    """What a worker does until nobody gives it a shard any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who gives out the work

    def announce(number: int) -> None:
        position.value = number

    try:
        while True:
            shard = connection.recv()
            try:
                prepare_shard(shard, repos, rules, announce)
            except OSError as error:  # a full disk: no file is to blame
                connection.send(error)
            else:
                connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def prepare_in_workers(shards: Sequence[Shard], repos: Path, rules: Rules, jobs: int) -> Iterator[Shard]:
    """Prepare all shards; each one as soon as it is done.

    Raises WorkerError, and OSError where a result cannot be written.
    """
    waiting = deque(shards)
    deaths: Counter[tuple[Path, int]] = Counter()
    workers: list[Worker] = []
    try:
        while waiting or any(worker.shard for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(Worker(repos, rules))
            for worker in workers:
                if waiting and worker.shard is None:
                    worker.give(waiting.popleft())
            ready = wait([worker.connection for worker in workers], timeout=1)
            for worker in list(workers):
                if worker.connection in ready and worker.shard and is_done(worker):
                    yield worker.shard
                    worker.shard = None
                elif worker.connection in ready or worker.is_stuck():
                    workers.remove(worker)
                    worker.end()
                    if worker.shard:
                        waiting.appendleft(blame(worker, worker.shard, deaths))
    finally:
        for worker in workers:
            worker.end()


def is_done(worker: Worker) -> bool:
    """Whether a worker that has something to say says that it is done: it may have died instead.

    Raises OSError where it could not write what it did.
    """
    try:
        error: OSError | None = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return False
    if error is not None:
        raise error
    return True


def blame(worker: Worker, shard: Shard, deaths: Counter[tuple[Path, int]]) -> Shard:
    """The shard to be given out again, without the file that ended the worker if that is certain."""
    position = worker.position.value
    deaths[shard.result, position] += 1
    if time.monotonic() - worker.seen_since > FILE_SECONDS and position != NOT_AT_A_FILE:
        shard.failed[position] = Finding("time_limit", None, FILE_SECONDS, "seconds for one file")
    elif deaths[shard.result, position] >= DEATHS_MOST:
        if position == NOT_AT_A_FILE:
            raise WorkerError("the worker processes die at their start")
        shard.failed[position] = Finding("crashed", detail="the interpreter died of it")
    return shard
