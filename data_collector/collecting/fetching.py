"""Fetching what waits: several clones at once, each recorded when its folder is complete.

Most faults pass. What failed after the tries of its Cloner, within seconds, is tried again when all else is
done and after a pause. Only then is it named.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cloning.clone import Clone, Cloner
from cloning.failures import CircuitBreaker, CloneError, CloneStopped
from collecting.report import clock_in, duration
from collection.record import Collection, PendingRepository
from collection.request import Request
from collector_cli import plural

QUEUE = 500  # repositories taken from the record at a time
LATE_PAUSES = (10.0, 60.0)  # seconds, when all else is done, before what failed is tried once more


@dataclass
class Counts:
    """What a run has done so far."""

    fetched: int = 0
    empty: int = 0
    bytes: int = 0
    failures: set[str] = field(default_factory=set)  # ids

    @property
    def done(self) -> int:
        return self.fetched + self.empty + len(self.failures)


class Fetching:
    """The clones of one run. limit: repositories to fetch, 0 = all.

    say prints a line now, note lines that stay; on_moved is told of an address to which a server has led.
    """

    def __init__(
        self,
        collection: Collection,
        request: Request,
        *,
        jobs: int,
        limit: int,
        stop: threading.Event,
        say: Callable[[str], None],
        note: Callable[[list[str]], None],
        on_moved: Callable[[PendingRepository, str], None] = lambda *_: None,
    ) -> None:
        self.counts = Counts()
        self._on_moved = on_moved
        self._collection = collection
        self._request = request
        self._jobs = jobs
        self._limit = limit
        self._stop = stop
        self._say = say
        self._note = note
        self._queue: deque[PendingRepository] = deque()
        self._running: dict[Future[Clone], PendingRepository] = {}
        self._breaker = CircuitBreaker()
        self._late: dict[str, str] = {}  # what failed and waits for the others: id -> its name, and why
        self._late_tries: Counter[str] = Counter()
        self._late_at = 0.0  # by the monotonic clock: when they are tried again, 0 = the others are not done

    def run(self, search_task: Future[None], show: Callable[[], None]) -> None:
        """Fetch until the limit is reached, or the search has ended and all is fetched; then set stop."""
        with closing(Cloner(self._stop)) as cloner, ThreadPoolExecutor(self._jobs, "clone") as threads:

            def start(repository: PendingRepository) -> Future[Clone]:
                return threads.submit(self._fetch_one, cloner, repository)

            try:
                while True:
                    has_search_ended = search_task.done()
                    if has_search_ended:
                        search_task.result()  # raises what ended it
                    is_drained = self._start_clones(start, has_search_ended)
                    if not self._running:
                        if self._is_enough() or (is_drained and has_search_ended and not self._late):
                            return
                        if is_drained and self._late and (has_search_ended or self._is_search_waiting()):
                            self._try_late_ones()
                    self._record_finished()
                    show()
            finally:
                self._stop.set()

    def expect_several_hosts(self) -> None:
        """One host that is down says nothing of the others."""
        self._breaker.disable()

    def waiting(self) -> str:
        """What is done about an outage, or until when failed repositories wait; '' if neither."""
        if self._late_at:
            pause = max(self._late_at - time.monotonic(), 0.0)
            return f"waiting until {clock_in(pause)}: {self._late_ones()} tried again"
        if not self._breaker.is_open:
            return ""
        pause = self._breaker.resume_at - time.monotonic()
        until = f"waiting until {clock_in(pause)}" if pause > 0 else "trying again"
        return f"{until}: clones get no answer"

    def _is_enough(self, running: int = 0) -> bool:
        """Whether the limit is reached, running clones included."""
        return (
            bool(self._limit)
            and self._collection.tally.count(self._request, "fetched") + running >= self._limit
        )

    def _is_search_waiting(self) -> bool:
        """Whether the search has found enough for the limit and goes on only if some of it cannot be had."""
        tally = self._collection.tally
        return bool(self._limit) and tally.count(self._request, "found", "fetched") >= self._limit

    def _try_late_ones(self) -> None:
        """After a pause, let the repositories that failed wait for a clone like all others."""
        if not self._late_at:
            pause = LATE_PAUSES[min(self._late_tries[id_] for id_ in self._late) - 1]
            self._late_at = time.monotonic() + pause
            self._note([f"could not be fetched yet: {line}" for line in self._late.values()])
            self._say(f"{self._late_ones()} tried again: waiting {duration(pause)}, until {clock_in(pause)}")
        elif time.monotonic() >= self._late_at:
            self._late.clear()
            self._late_at = 0.0

    def _late_ones(self) -> str:
        """ "1 repository that failed is", "3 repositories that failed are" """
        return plural(len(self._late), "repository that failed is", "repositories that failed are")

    def _start_clones(
        self, start: Callable[[PendingRepository], Future[Clone]], has_search_ended: bool
    ) -> bool:
        """Start as many clones as allowed; whether the record has no more to start."""
        while self._has_room():
            repository = self._next()
            if repository is None:
                return True
            if self._breaker.is_open and has_search_ended and repository.id in self._breaker.failed:
                self._breaker.disable()  # everything that is left has been tried
            self._running[start(repository)] = repository
        return False

    def _has_room(self) -> bool:
        """Whether one more clone may start; in an outage one at a time, to see whether it is over."""
        running = len(self._running)
        if self._is_enough(running):
            return False
        if self._breaker.is_open:
            return running == 0 and time.monotonic() >= self._breaker.resume_at
        return running < self._jobs

    def _next(self) -> PendingRepository | None:
        """A repository that waits and is not being fetched; the record is read many at a time."""
        if not self._queue:
            busy = {*self._late, *(repository.id for repository in self._running.values())}
            waiting = self._collection.pending(self._request, QUEUE + len(busy))
            self._queue.extend(repository for repository in waiting if repository.id not in busy)
        return self._queue.popleft() if self._queue else None

    def _fetch_one(self, cloner: Cloner, repository: PendingRepository) -> Clone:
        """Fetch one repository into its place; it counts once it is recorded."""
        folder = self._collection.folder.new_partial()
        try:
            url, size_kb, ref = repository.clone_url, repository.size_kb, repository.ref
            clone = cloner.fetch(url, folder, size_kb=size_kb, license=repository.license, ref=ref)
            if clone.files:
                self._collection.folder.place(folder / "files", repository.folder)
            else:  # an older copy may have had some
                self._collection.folder.remove(repository.folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return clone

    def _record_finished(self) -> None:
        """Wait a moment for clones to finish, and record those that have."""
        if not self._running:  # give the search time to find something, or the host to come back
            self._stop.wait(0.2)
            return
        for future in wait(self._running, timeout=0.2, return_when=FIRST_COMPLETED).done:
            repository = self._running.pop(future)
            try:
                self._record_clone(repository, future.result())
            except CloneError as error:
                self._record_failure(repository, error)
            except CloneStopped:
                pass

    def _record_state(self, id_: str, state: str, reason: str) -> None:
        """Record a failure: state is "found" if the repository waits again."""
        self._collection.record_failure(id_, state, reason)
        (self.counts.failures.discard if state == "found" else self.counts.failures.add)(id_)

    def _record_clone(self, repository: PendingRepository, clone: Clone) -> None:
        self._collection.record_fetched(
            repository.id,
            clone.commit,
            clone.license,
            clone.files,
            clone.bytes,
            skipped=clone.skipped,
            renamed=clone.renamed,
        )
        if clone.moved_to:
            self._on_moved(repository, clone.moved_to)
        self._breaker.record_answer()
        self.counts.fetched += bool(clone.files)
        self.counts.empty += not clone.files
        self.counts.bytes += clone.bytes

    def _record_failure(self, repository: PendingRepository, error: CloneError) -> None:
        """Record why a repository could not be fetched; it waits again in an outage, or if a try is left."""
        is_late = error.state == "failed" and self._late_tries[repository.id] < len(LATE_PAUSES)
        self._record_state(repository.id, "found" if is_late else error.state, str(error))
        if is_late:
            self._late[repository.id] = f"{repository.full_name}: {error}"
            self._late_tries[repository.id] += 1
        if not error.is_outage:
            self._breaker.record_answer()
            return
        waiting = self._breaker.record_failure(repository.id)
        for id_ in waiting:
            self._record_state(id_, "found", str(error))
            if id_ in self._late:  # the breaker pauses for it
                del self._late[id_]
                self._late_tries[id_] -= 1
        self._breaker.check(str(error))
        if waiting:
            host = urlsplit(repository.clone_url).hostname
            pause = self._breaker.resume_at - time.monotonic()
            self._say(f"{host} does not answer: waiting {duration(pause)}, until {clock_in(pause)}")
