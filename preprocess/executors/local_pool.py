"""Shards prepared by several processes of this machine, which may crash or hang on other people's code.

When a worker dies, its shard is given out again. The position file beside the shard's result
(corpus/shards.py) says at which file: one at which two workers died is left out with that reason. If they
were killed, as by a system that has no memory left, it counts as unreadable, which the next run tries again.
A worker that stays at one file for too long is killed, and that file is left out.

Why not pebble or concurrent.futures: their limits are for a task, and a task here is a shard of up to 256
files. The limit, and the reason in the ledger, have to be for one file.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for_futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

from corpus.shards import UNREADABLE, Shard, forget_position, position_of, prepare_shard
from documents.filters import Finding
from documents.prepare import Rules
from preprocess_cli import UserError

Task = tuple[Callable[..., Any], tuple[Any, ...]]

FILE_SECONDS = 60  # a file of a megabyte, the largest that the filters let through, takes less than one
MOST_DEATHS = 2  # at one file: the first may be an accident, such as too little memory
KILLED = "each process at it was killed, perhaps for want of memory"
SECONDS_TO_END = 5  # for a worker whose pipe is closed: only then is it known what ended it

# A new interpreter each: a fork would copy locks and threads in whatever state they are.
PROCESSES = get_context("spawn")


class Worker:
    """A process, the shard that it has, and since when it has been at the same file."""

    def __init__(self, repos: Path, rules: Rules) -> None:
        self.connection, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=work, args=(theirs, repos, rules), daemon=True)
        self.process.start()
        theirs.close()
        self.shard: Shard | None = None
        self.seen_at: int | None = None
        self.seen_since = time.monotonic()

    def give(self, shard: Shard) -> None:
        forget_position(shard)
        self.shard, self.seen_at = shard, None
        with suppress(
            BrokenPipeError
        ):  # it has died: its end of the pipe is closed, which is noticed as always
            self.connection.send(shard)

    def is_stuck(self) -> bool:
        """Whether it has been at the same file for too long."""
        position = position_of(self.shard) if self.shard else None
        if position is None or position != self.seen_at:
            self.seen_at, self.seen_since = position, time.monotonic()
        return time.monotonic() - self.seen_since > FILE_SECONDS

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def work(connection: Connection, repos: Path, rules: Rules) -> None:
    """A worker's loop, until it is given no more shards."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that gives out the shards
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        while True:
            shard = connection.recv()
            try:
                prepare_shard(shard, repos, rules)
            except OSError as error:  # a full disk: the file is not the cause
                connection.send(error)
            except MemoryError:  # a limit of this process: the same as what the system does without one
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def end_with_parent() -> None:
    """Wait for the end of the process that gives out the shards, however it comes, and end this one."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def prepare_in_workers(
    shards: Iterable[Shard], repos: Path, rules: Rules, jobs: int, kept: list[Worker] | None = None
) -> Iterator[Shard]:
    """Prepare all shards; each one as soon as it is done.

    kept: workers of the same repos and rules from an earlier call, which outlive this one too. Raises
    UserError if workers die without being at any file, OSError if a result cannot be written.
    """
    coming = iter(shards)
    waiting: deque[Shard] = deque()
    deaths: Counter[tuple[Path, int | None]] = Counter()
    workers = [] if kept is None else kept
    try:
        while True:
            waiting.extend(islice(coming, max(0, jobs - len(waiting))))
            if not waiting and not any(worker.shard for worker in workers):
                return
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
                    if worker.connection in ready:
                        worker.process.join(SECONDS_TO_END)
                    workers.remove(worker)
                    worker.end()
                    if worker.shard:
                        waiting.appendleft(blame(worker, worker.shard, deaths))
    finally:
        for worker in [] if kept is not None else workers:
            worker.end()


def is_done(worker: Worker) -> bool:
    """Whether a worker whose connection is ready has finished its shard: it may have died instead.

    Raises OSError if it could not write the result.
    """
    try:
        error: OSError | None = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return False
    if error is not None:
        raise error
    return True


def blame(worker: Worker, shard: Shard, deaths: Counter[tuple[Path, int | None]]) -> Shard:
    """The shard to be given out again, without the file that ended the worker if that is certain."""
    position = position_of(shard)
    deaths[shard.result, position] += 1
    if position is not None and time.monotonic() - worker.seen_since > FILE_SECONDS:
        shard.failed[position] = Finding("time_limit", None, FILE_SECONDS, "seconds for one file")
    elif deaths[shard.result, position] >= MOST_DEATHS:
        if position is None:
            raise UserError(
                "the worker processes die at their start: try fewer of them: "
                "python preprocess/data_preprocess.py --jobs 1"
            )
        if worker.process.exitcode == -signal.SIGKILL:
            shard.failed[position] = Finding(UNREADABLE, detail=KILLED)
        else:
            shard.failed[position] = Finding("crashed", detail="the interpreter died of it")
    return shard


WORKERS: dict[str, list[Worker]] = {}  # of this process, by what they work on: at most one list


def prepare_in_kept_worker(shard: Shard, repos: Path, rules: Rules) -> None:
    """Prepare a shard in a worker of this process, which stays for the next one. Raises as above."""
    key = repr((repos, rules))
    if key not in WORKERS:
        for worker in WORKERS.pop(next(iter(WORKERS), ""), []):
            worker.end()
    with BareMain():
        list(prepare_in_workers([shard], repos, rules, 1, WORKERS.setdefault(key, [])))


class BareMain:
    """In it, a process that is spawned does not run the file of this one again: it may be Ray's, and slow."""

    def __enter__(self) -> None:
        self.main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")

    def __exit__(self, *_: object) -> None:
        sys.modules["__main__"] = self.main


def run_in_processes(tasks: Iterable[Task], jobs: int) -> Iterator[tuple[int, Any]]:
    """(position, result) of each task, as soon as it is done: what is ours alone, and does not crash.

    Raises what a task raised, and UserError if a process was killed.
    """
    coming = enumerate(tasks)
    running: dict[Future[Any], int] = {}
    with ProcessPoolExecutor(jobs, PROCESSES, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            while True:
                for position, (function, arguments) in islice(coming, jobs + 1 - len(running)):
                    running[pool.submit(function, *arguments)] = position
                if not running:
                    return
                for future in wait_for_futures(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise UserError(
                "a process was killed while copies were found, perhaps for want of memory: give each less: "
                "python preprocess/data_preprocess.py --memory 1"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
