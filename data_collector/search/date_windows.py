"""Every repository that GitHub's search finds in a range of time, however many there are.

A search silently ends at 1,000 results. So the range is cut into windows of at most 1,000 each; a second that
still has more is cut by stars and then by size. A window is complete if as many repositories were listed as
GitHub counts, and GitHub did not report that its time ran out.

Source: https://docs.github.com/en/rest/search/search
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil

from collection.request import ANY_SIZE, ANY_STARS, SearchQuery, Span, ranges, timestamp
from collection.search_record import FoundRepository
from search.github_api import PER_PAGE, GitHub, Page

MAX_RESULTS = 1_000  # of one query, even if total_count is larger
TARGET = 900  # results to aim at in each window: repositories are not spread evenly over time
NARROWEST_INCOMPLETE = 3_600  # seconds: a search that runs out of time in an hour does so in a minute too
LISTINGS = 3  # of one window at most, until as many are found as GitHub counts


@dataclass(frozen=True)
class Window:
    """Seconds of creation, and stars and size in KB for a second with too many repositories."""

    created: Span
    stars: Span = ANY_STARS
    size: Span = ANY_SIZE

    def of(self, words: str) -> str:
        """The query for this window: "words created:2024-03-01T00:00:00Z..2024-03-01T11:59:59Z"."""
        created = f"created:{timestamp(self.created.low)}..{timestamp(self.created.high)}"
        return " ".join([words, created, *ranges(self.stars, self.size)])

    def cut(self, total: int) -> list[Window]:
        """The same in smaller windows, by time, then stars, then size; [] if it cannot be cut."""
        if self.created.low < self.created.high:
            spans = self.created.cut(max(2, ceil(total / TARGET)))
            return [replace(self, created=span) for span in spans]
        if windows := [replace(self, stars=span) for span in self.stars.cut_geometrically()]:
            return windows
        return [replace(self, size=span) for span in self.size.cut_geometrically()]


@dataclass(frozen=True)
class Searched:
    """A window that has been searched to its end; is_complete: GitHub has shown all it has there."""

    created: Span
    total: int
    found: int
    is_complete: bool


OnPage = Callable[[list[FoundRepository]], None]


def search(
    github: GitHub,
    query: SearchQuery,
    created: Span,
    on_page: OnPage,
    on_total: Callable[[int], None] = lambda _: None,
) -> Iterator[Searched]:
    """Search a range of time: every page goes to on_page, every finished window is yielded, in order.

    on_total is told at the beginning how many repositories GitHub counts in all.
    """
    windows = [Window(created, query.stars, query.size)]
    is_first = True
    while windows:
        window = windows.pop()
        page = github.page(window.of(query.words), 1)
        if is_first:
            on_total(page.total)
        is_first = False
        on_page(page.repositories)
        seconds = window.created.high - window.created.low + 1
        is_too_much = page.total > MAX_RESULTS
        if (is_too_much and seconds > 1) or (page.is_incomplete and seconds > NARROWEST_INCOMPLETE):
            windows += reversed(window.cut(page.total))
        elif is_too_much:
            yield _list_second(github, query.words, window, page, on_page)
        else:
            yield _list_window(github, query.words, window, page, on_page)[0]


def _list_window(
    github: GitHub, words: str, window: Window, page: Page, on_page: OnPage
) -> tuple[Searched, set[str]]:
    """All repositories of a window of at most 1,000, whose first page is given, and their ids."""
    found = {repository.id for repository in page.repositories}
    for listing in range(LISTINGS):
        if listing:  # results moved between the pages, or GitHub counts some that it does not show
            page = github.page(window.of(words), 1)
            on_page(page.repositories)
            found |= {repository.id for repository in page.repositories}
        total, is_incomplete = page.total, page.is_incomplete
        for number in range(2, ceil(min(total, MAX_RESULTS) / PER_PAGE) + 1):
            page = github.page(window.of(words), number)
            on_page(page.repositories)
            found |= {repository.id for repository in page.repositories}
            is_incomplete |= page.is_incomplete
        if len(found) >= total and not is_incomplete:
            break
    is_complete = len(found) >= total and not is_incomplete
    return Searched(window.created, max(total, len(found)), len(found), is_complete), found


def _list_second(github: GitHub, words: str, second: Window, first_page: Page, on_page: OnPage) -> Searched:
    """As many repositories of a second with more than 1,000 as stars and size can separate."""
    found = {repository.id for repository in first_page.repositories}
    windows = list(reversed(second.cut(first_page.total)))
    is_complete = True
    while windows:
        window = windows.pop()
        page = github.page(window.of(words), 1)
        on_page(page.repositories)
        smaller = window.cut(page.total) if page.total > MAX_RESULTS else []
        if smaller:
            windows += reversed(smaller)
        else:
            searched, ids = _list_window(github, words, window, page, on_page)
            found |= ids
            is_complete &= searched.is_complete
    total = max(first_page.total, len(found))
    return Searched(second.created, total, len(found), is_complete and len(found) >= total)


def most_starred(github: GitHub, query: SearchQuery, created: Span, count: int) -> list[FoundRepository]:
    """The repositories of a query with the most stars, count of them at most, the first ones first.

    A listing ends at 1,000; the next one begins where it ended, at the same number of stars. If more than
    1,000 have that number, all of these are searched by date.
    """
    found: dict[str, FoundRepository] = {}

    def note(repositories: list[FoundRepository]) -> None:
        found.update((each.id, each) for each in repositories)

    high = query.stars.high
    while len(found) < count and high >= query.stars.low:
        window = Window(created, Span(query.stars.low, high), query.size)
        lowest = high
        for number in range(1, MAX_RESULTS // PER_PAGE + 1):
            page = github.page(window.of(query.words), number, sort="stars")
            note(page.repositories)
            lowest = min([lowest, *(each.stars for each in page.repositories)])
            if len(found) >= count or number * PER_PAGE >= page.total:
                return _ranked(found)[:count]
        if lowest < high:
            high = lowest
            continue
        for _ in search(github, SearchQuery(query.words, Span(high, high), query.size), created, note):
            if len(found) >= count:
                break
        high -= 1
    return _ranked(found)[:count]


def _ranked(found: dict[str, FoundRepository]) -> list[FoundRepository]:
    return sorted(found.values(), key=lambda each: (-each.stars, each.created_at, each.id))
