"""Searching and fetching at the same time: one search, several clones, one record."""

from __future__ import annotations

import calendar
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from clone_error import CloneError, CloneStopped
from clone_outage import CloneOutage
from collecting_progress import Progress, duration, megabytes
from collection import Collection
from collection_format import FoundRepository, PendingRepository, Request, Tally, timestamp
from github_api import GitHub, Hooks
from github_search import search
from repo_cloning import Clone, Cloner
from search_query import SearchQuery, Span

QUEUE = 500  # repositories taken from the record at a time
# A search finds a new repository only after a while, and GitHub does not say how long that takes: the last
# hour is searched again by the next run.
INDEX_SECONDS = 3_600


class _SearchStopped(Exception):  # noqa: N818 - no error: there is enough, or the run ends
    """The search is not needed any more."""


def seconds_of(moment: str) -> int:
    """ "1970-01-01T00:01:00Z" -> 60"""
    return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))


def unsearched(created: Span, searched: Iterable[Span]) -> list[Span]:
    """What is left of a range of time: 0..99 without 0..9 and 50..59, in order -> 10..49, 60..99"""
    gaps, start = [], created.low
    for span in searched:
        if span.low > start:
            gaps.append(Span(start, min(span.low - 1, created.high)))
        start = max(start, span.high + 1)
    if start <= created.high:
        gaps.append(Span(start, created.high))
    return [gap for gap in gaps if gap.low <= gap.high]


def clock_in(seconds: float) -> str:
    """The time of day so many seconds from now: "16:04:30" """
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))


@dataclass
class _Counts:
    done: int = 0
    fetched: int = 0
    bytes: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Options:
    """How a request is answered: limit 0 = everything; refetch takes again what was pushed to since."""

    jobs: int = 8
    limit: int = 0
    refetch: bool = False
    is_plan: bool = False


class GitHubCollecting:
    """One run of the collector over one request."""

    def __init__(self, collection: Collection, request: Request, options: Options) -> None:
        self._collection = collection
        self._request = request
        self._options = options
        self._stop = threading.Event()
        self._progress = Progress()
        self._waiting = ""
        self._started = time.monotonic()
        self._queue: deque[PendingRepository] = deque()
        self.counts = _Counts()
        self.requests = 0
        self._outage = CloneOutage()

    def gaps(self, query: SearchQuery) -> list[Span]:
        """The parts of the request that have not been searched for one of its queries."""
        request = self._request
        created = Span(seconds_of(request.first_second), seconds_of(request.last_second))
        one = Request(request.source, (query,), request.first_second, request.last_second)
        windows = self._collection.searched(one)
        return unsearched(created, (Span(seconds_of(first), seconds_of(last)) for first, last in windows))

    def is_up_to_date(self) -> bool:
        """Whether nothing is left to search, or to fetch unless it is only planned."""
        if self._options.limit and self._tallied("fetched") >= self._options.limit:
            return True
        is_done = self._options.is_plan or not self._collection.pending(self._request, 1)
        return is_done and not self.has_to_search()

    def has_to_search(self) -> bool:
        """Whether a part of the request has not been searched."""
        return any(self.gaps(query) for query in self._request.queries)

    def run(self, api_url: str, token: str | None) -> None:
        """Search what is unsearched and fetch what is found; what was done until a SearchError is kept."""
        source = self._request.source
        remember = partial(self._collection.record_pause, source)
        github = GitHub(api_url, token, Hooks(self._wait, self._check_stop, remember))
        if left := self._collection.pause_left(source):
            github.hold(left)
        jobs = self._options.jobs
        with (
            closing(Cloner(self._stop)) as cloner,
            ThreadPoolExecutor(1, "search") as searcher,
            ThreadPoolExecutor(jobs, "clone") as cloners,
        ):
            searching = searcher.submit(self.search_with, github)
            try:
                if self._options.is_plan:
                    self._follow(searching)
                else:
                    self._fetch(searching, cloner, cloners)
            finally:
                self._stop.set()
                self._progress.end()
                self.requests = github.requests

    def search_with(self, github: GitHub) -> None:
        """Search what is unsearched."""
        try:
            for query in self._request.queries:
                for gap in self.gaps(query):
                    self._search_gap(github, query, gap)
        except _SearchStopped:
            return

    def _search_gap(self, github: GitHub, query: SearchQuery, gap: Span) -> None:
        def on_page(repositories: list[FoundRepository]) -> None:
            self._check_stop()
            self._collection.record_found(repositories, self._request, query, refetch=self._options.refetch)
            while self._options.limit and not self._stop.is_set() and self._is_enough():
                self._stop.wait(0.2)

        for part in search(github, query, gap, on_page):
            self._check_stop()
            last = min(part.created.high, int((github.server_time or time.time()) - INDEX_SECONDS))
            if last >= part.created.low:
                span = timestamp(part.created.low), timestamp(last)
                counts = part.total, part.found, part.is_complete
                self._collection.record_window(self._request, query, span, counts)

    def _is_enough(self) -> bool:
        """Whether the limit is reached once everything that is found is also fetched."""
        return self._tallied("found", "fetched") >= self._options.limit

    def _follow(self, searching: Future[None]) -> None:
        """Watch the search alone."""
        while not searching.done():
            wait([searching], timeout=0.2)
            self._progress.show(self._state)
        searching.result()

    def _wait(self, seconds: float, reason: str) -> None:
        self._waiting = f"waiting until {clock_in(seconds)}: {reason}"
        if seconds >= 4:
            self._progress.say(f"{reason}: waiting {duration(seconds)}, until {clock_in(seconds)}")
        self._stop.wait(seconds)
        self._waiting = ""
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _SearchStopped

    def _fetch(self, searching: Future[None], cloner: Cloner, cloners: ThreadPoolExecutor) -> None:
        running: dict[Future[Clone], PendingRepository] = {}
        limit = self._options.limit
        while True:
            has_search_ended = searching.done()
            if has_search_ended:
                searching.result()
            is_drained = False
            while not is_drained and self._has_room(len(running)):
                if repository := self._next(running.values()):
                    if has_search_ended and repository.id in self._outage.failed:
                        self._outage.give_up()  # nothing is left that has not been tried
                    running[cloners.submit(self._fetch_one, cloner, repository)] = repository
                else:
                    is_drained = True
            is_enough = limit and self._tallied("fetched") >= limit
            if not running and (is_enough or (is_drained and has_search_ended)):
                return
            if running:
                finished = wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done
            else:  # the search is given time to find something, or the host to come back
                finished = set()
                self._stop.wait(0.2)
            for future in finished:
                self._record(running.pop(future), future)
            self._progress.show(self._state)

    def _has_room(self, running: int) -> bool:
        """Whether one more clone may begin; in an outage one at a time, to see whether it is over."""
        limit = self._options.limit
        if limit and self._tallied("fetched") + running >= limit:
            return False
        if self._outage.is_on:
            return running == 0 and time.monotonic() >= self._outage.resume_at
        return running < self._options.jobs

    def _next(self, running: Iterable[PendingRepository]) -> PendingRepository | None:
        """A repository that waits and is not being fetched; the record is read many at a time."""
        if not self._queue:
            underway = {repository.id for repository in running}
            waiting = self._collection.pending(self._request, QUEUE + len(underway))
            self._queue.extend(repository for repository in waiting if repository.id not in underway)
        return self._queue.popleft() if self._queue else None

    def _fetch_one(self, cloner: Cloner, repository: PendingRepository) -> Clone:
        """Fetch one repository into its place; it counts once it is recorded."""
        folder = self._collection.folder.new_partial()
        try:
            clone = cloner.fetch(
                repository.clone_url, folder, size_kb=repository.size_kb, license=repository.license
            )
            if clone.files:
                self._collection.folder.place(folder / "files", repository.folder)
            else:  # an older copy may have had some
                self._collection.folder.remove(repository.folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return clone

    def _record(self, repository: PendingRepository, future: Future[Clone]) -> None:
        try:
            clone = future.result()
        except CloneError as error:
            self._record_failure(repository, error)
            return
        except CloneStopped:
            return
        self._collection.record_fetched(
            repository.id, clone.commit, clone.license, clone.files, clone.bytes, clone.skipped
        )
        self._outage.note_success()
        self.counts.done += 1
        self.counts.fetched += bool(clone.files)
        self.counts.bytes += clone.bytes

    def _record_failure(self, repository: PendingRepository, error: CloneError) -> None:
        """Record why a repository could not be had; in an outage it goes on waiting."""
        self._collection.record_failure(repository.id, error.state, str(error))
        self.counts.done += 1
        self.counts.failed += 1
        if not error.is_outage:
            self._outage.note_success()
            return
        waiting = self._outage.note_fault(repository.id)
        for id_ in waiting:
            self._collection.record_failure(id_, "found", str(error))
        self.counts.done -= len(waiting)
        self.counts.failed -= len(waiting)
        self._outage.check(str(error))
        if waiting:
            host = urlsplit(repository.clone_url).hostname
            pause = self._outage.resume_at - time.monotonic()
            self._progress.say(f"{host} does not answer: waiting {duration(pause)}, until {clock_in(pause)}")

    def _outage_state(self) -> str:
        pause = self._outage.resume_at - time.monotonic()
        until = f"waiting until {clock_in(pause)}" if pause > 0 else "trying again"
        return f"{until}: clones get no answer" if self._outage.is_on else ""

    def _tallied(self, *states: str) -> int:
        """How many repositories of the request are in these states."""
        tally = self._collection.tally(self._request)
        return sum(tally.get(state, Tally()).repositories for state in states)

    def _state(self) -> str:
        """ "found 1,200 · fetched 310 · failed 2 · 18.3 MB · 2.1/s · 7 min 4 s left" """
        tally = self._collection.tally(self._request)
        found = sum(part.repositories for part in tally.values())
        if self._options.is_plan:
            return " · ".join(filter(None, [f"found {found:,}", self._waiting]))
        rate = self.counts.done / (time.monotonic() - self._started)
        left = tally.get("found", Tally()).repositories
        if self._options.limit:
            left = min(left, self._options.limit - self._tallied("fetched"))
        parts = [
            f"found {found:,}",
            f"fetched {self.counts.fetched:,}",
            f"failed {self.counts.failed:,}" if self.counts.failed else "",
            megabytes(self.counts.bytes),
            f"{rate:.1f}/s",
            f"{duration(left / rate)} left" if rate and left > 0 else "",
            self._outage_state(),
            self._waiting,
        ]
        return " · ".join(filter(None, parts))
