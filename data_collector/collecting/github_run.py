"""One run over a request to GitHub or over a list: what finds repositories, several clones, one record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from math import ceil
from urllib.parse import urlsplit

from collecting.fetching import Fetching
from collecting.report import Progress, clock_in, duration, size_text
from collection.record import Collection, PendingRepository
from collection.request import Request, SearchQuery, Span, seconds_of, timestamp
from collection.search_record import LISTED, FoundRepository, ListedRepository
from collection.status import Tally
from search.date_windows import MAX_RESULTS, most_starred, search
from search.github_api import PER_PAGE, GitHub, Hooks, RefusedError
from sources.repository_list import RepositoryList, listed_at

# A search finds a new repository only after a while, and GitHub does not say how long that takes: the next
# run searches the last hour again.
INDEX_SECONDS = 3_600


class _SearchStopped(Exception):  # noqa: N818 - not an error: there is enough, or the run ends
    """The search is not needed any more."""


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


@dataclass(frozen=True)
class Options:
    """How a request is answered: limit 0 = everything; refetch takes again what was pushed to since."""

    jobs: int = 8
    limit: int = 0
    refetch: bool = False
    is_plan: bool = False


class Finding:
    """What finds the repositories of one run, beside its clones: the part that asks GitHub's API."""

    def __init__(
        self,
        collection: Collection,
        request: Request,
        options: Options,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self.waiting = ""  # for what, and until when
        self.has_token = False
        self._collection = collection
        self._request = request
        self._options = options
        self._stop = stop
        self._say = say

    def is_needed(self) -> bool:
        """Whether something is left to find."""
        raise NotImplementedError

    def find(self, github: GitHub) -> None:
        """Record what is to be fetched."""
        raise NotImplementedError

    def search(self, github: GitHub) -> None:
        """Find what is not found yet, until that is done or the run stops."""
        try:
            self.find(github)
        except _SearchStopped:
            return

    def connect(self, api_url: str, token: str | None) -> GitHub:
        """GitHub's API, which keeps to the pauses that earlier runs were asked for."""
        self.has_token = token is not None
        source = self._request.source
        remember = partial(self._collection.searches.record_pause, source)
        github = GitHub(api_url, token, Hooks(self._wait, self._check_stop, remember))
        if left := self._collection.searches.pause_left(source):
            github.hold(left)
        return github

    def _wait(self, seconds: float, reason: str) -> None:
        self.waiting = f"waiting until {clock_in(seconds)}: {reason}"
        if seconds >= 4:
            self._say(f"{reason}: waiting {duration(seconds)}, until {clock_in(seconds)}")
        self._stop.wait(seconds)
        self.waiting = ""
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _SearchStopped


class Listing(Finding):
    """The entries of a list. With a token GitHub is asked for the licence, stars and size of its own."""

    rest: Sequence[ListedRepository] = ()  # that is not entered yet
    is_asking = False

    def enter_known(self, listed: Sequence[ListedRepository], *, is_asking: bool) -> None:
        """Enter what the record knows at once, so that a finished list sends no request."""
        self.is_asking = is_asking
        self.rest = self._collection.lists.enter(
            listed, self._request, refetch=self._options.refetch, only_known=True
        )

    def is_needed(self) -> bool:
        return bool(self.rest)

    def find(self, github: GitHub) -> None:
        is_asked = {each.key for each in self.rest if each.name and self.is_asking}
        plain = [each for each in self.rest if each.key not in is_asked]
        self._collection.lists.enter(plain, self._request, refetch=False, only_known=False)
        for each in self.rest:
            if each.key in is_asked:
                self._check_stop()
                self._ask(github, each)

    def _ask(self, github: GitHub, listed: ListedRepository) -> None:
        lists, searches = self._collection.lists, self._collection.searches
        try:
            found = github.repository(listed.name)
        except RefusedError as error:
            reason = "not found: deleted, renamed or private" if error.status == 404 else str(error)
            lists.enter_missing(listed, self._request, reason)
        else:
            lists.enter_found(listed, found, searches, self._request)


class Ranking(Finding):
    """The first repositories by stars: a few searches, and recorded when they are done."""

    queries: Sequence[SearchQuery] = ()  # of which the request's own query names all
    count = 0

    def is_needed(self) -> bool:
        return not any(self._collection.searches.searched(self._request))

    def find(self, github: GitHub) -> None:
        request = self._request
        created = Span(seconds_of(request.first_second), seconds_of(request.last_second))
        found: dict[str, FoundRepository] = {}
        for query in self.queries:
            found |= {each.id: each for each in most_starred(github, query, created, self.count)}
        first = sorted(found.values(), key=lambda each: (-each.stars, each.created_at, each.id))[: self.count]
        self._collection.searches.record_ranking(first, request, refetch=self._options.refetch)


class Searching(Finding):
    """The search of one run: the parts of its request that no run has searched."""

    def gaps(self, query: SearchQuery) -> list[Span]:
        """The parts of the request that have not been searched for one of its queries."""
        request = self._request
        created = Span(seconds_of(request.first_second), seconds_of(request.last_second))
        one = Request(request.source, (query,), request.first_second, request.last_second)
        windows = self._collection.searches.searched(one)
        return unsearched(created, (Span(seconds_of(first), seconds_of(last)) for first, last in windows))

    def is_needed(self) -> bool:
        """Whether a part of the request has not been searched."""
        return any(self.gaps(query) for query in self._request.queries)

    def find(self, github: GitHub) -> None:
        for query in self._request.queries:
            for gap in self.gaps(query):
                self._search_gap(github, query, gap)

    def _search_gap(self, github: GitHub, query: SearchQuery, gap: Span) -> None:
        def on_page(repositories: list[FoundRepository]) -> None:
            self._check_stop()
            searches = self._collection.searches
            searches.record_page(repositories, self._request, query, refetch=self._options.refetch)
            while self._options.limit and not self._stop.is_set() and self._is_enough():
                self._stop.wait(0.2)

        for window in search(github, query, gap, on_page, self._expect):
            self._check_stop()
            last = min(window.created.high, int((github.server_time or time.time()) - INDEX_SECONDS))
            if last >= window.created.low:
                span = timestamp(window.created.low), timestamp(last)
                counts = window.total, window.found, window.is_complete
                self._collection.searches.record_window(self._request, query, span, counts)

    def _expect(self, total: int) -> None:
        """Say what a search over many years will cost, as soon as GitHub has counted."""
        if total > MAX_RESULTS:
            searches = ceil(total / PER_PAGE)
            minutes = searches / (30 if self.has_token else 10)
            self._say(
                f"GitHub counts {total:,} repositories: about {searches:,} searches, {duration(60 * minutes)}"
            )

    def _is_enough(self) -> bool:
        """Whether the limit is reached once everything found is also fetched."""
        return self._collection.tally.count(self._request, "found", "fetched") >= self._options.limit


class Run:
    """One run of the collector over one request: what finds repositories, and several clones."""

    _finding: type[Finding]

    def __init__(self, collection: Collection, request: Request, options: Options) -> None:
        self.requests = 0  # that the search has sent
        self._collection = collection
        self._request = request
        self._options = options
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._progress = Progress()
        say = self._progress.say
        self.searching: Finding = self._finding(collection, request, options, self._stop, say)
        self.fetching = Fetching(
            collection,
            request,
            jobs=options.jobs,
            limit=options.limit,
            stop=self._stop,
            say=say,
            note=self._progress.note,
            on_moved=self._record_moved,
        )

    def is_up_to_date(self) -> bool:
        """Whether everything is searched and, unless this is a plan, fetched."""
        limit = self._options.limit
        if limit and self._collection.tally.count(self._request, "fetched") >= limit:
            return True
        is_done = self._options.is_plan or not self._collection.pending(self._request, 1)
        return is_done and not self.searching.is_needed()

    def run(self, api_url: str, token: str | None) -> None:
        """Search what is unsearched and fetch what is found; what was done before a SearchError is kept."""
        github = self.searching.connect(api_url, token)
        with ThreadPoolExecutor(1, "search") as searcher:
            search_task = searcher.submit(self.searching.search, github)
            try:
                if self._options.is_plan:
                    self._follow(search_task)
                else:
                    self.fetching.run(search_task, partial(self._progress.show, self._state))
            finally:
                self._stop.set()
                self._progress.end()
                self.requests = github.requests

    def _follow(self, search_task: Future[None]) -> None:
        """Show the progress of a search without clones."""
        while not search_task.done():
            wait([search_task], timeout=0.2)
            self._progress.show(self._state)
        search_task.result()

    def _state(self) -> str:
        """ "7 min 4 s left · found 1,200 · fetched 310 · failed 2 · 18.3 MB · 2.1/s" """
        tally = self._collection.tally.of(self._request)
        found = sum(part.repositories for part in tally.values())
        if self._options.is_plan:
            return " · ".join(filter(None, [self.searching.waiting, f"found {found:,}"]))
        counts = self.fetching.counts
        rate = counts.done / (time.monotonic() - self._started)
        left = tally.get("found", Tally()).repositories
        if self._options.limit:
            left = min(left, self._options.limit - tally.get("fetched", Tally()).repositories)
        parts = [
            f"{duration(left / rate)} left" if rate and left > 0 else "",
            self.fetching.waiting(),
            self.searching.waiting,
            f"found {found:,}",
            f"fetched {counts.fetched:,}",
            f"failed {len(counts.failures):,}" if counts.failures else "",
            size_text(counts.bytes),
            f"{rate:.1f}/s",
        ]
        return " · ".join(filter(None, parts))

    def _record_moved(self, repository: PendingRepository, address: str) -> None:
        """A server has led to another address. A search finds the new name of a repository by itself."""


class GitHubRun(Run):
    """One run of the collector over what a search finds."""

    _finding = Searching
    searching: Searching


class RankedRun(Run):
    """One run of the collector over the first repositories by stars."""

    _finding = Ranking
    searching: Ranking


class ListRun(Run):
    """One run of the collector over one list."""

    _finding = Listing
    searching: Listing

    def __init__(
        self, collection: Collection, request: Request, options: Options, listed: RepositoryList, web_url: str
    ) -> None:
        super().__init__(collection, request, options)
        self.moved: list[str] = []  # a line for each repository that has another address now
        self._web_url = web_url
        if len({urlsplit(each.url).netloc for each in listed.repositories}) > 1:
            self.fetching.expect_several_hosts()

    def _record_moved(self, repository: PendingRepository, address: str) -> None:
        listed = listed_at(address, self._web_url)
        if listed is None or not repository.id.startswith(f"{LISTED}/"):
            return
        if self._collection.lists.record_moved(repository.id, listed):
            self._collection.folder.remove(repository.folder)
        if listed.full_name != repository.full_name:
            self.moved.append(f"{repository.full_name} is {listed.full_name} now")
