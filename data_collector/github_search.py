"""Every repository that GitHub's search finds in a range of time, however many there are.

A search ends at 1,000 results without a word. So the range is cut into parts until each has at most 1,000; a
second that still has more is cut by stars and then by size. A part is complete when as many repositories were
listed as GitHub says there are, and it did not say that its time ran out.

Source: https://docs.github.com/en/rest/search/search
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil

from collection_format import FoundRepository, timestamp
from github_api import PER_PAGE, GitHub, Page
from search_query import ANY_SIZE, ANY_STARS, SearchQuery, Span, ranges

MAX_RESULTS = 1_000  # of one query, whatever total_count says
TARGET = 900  # results aimed at when a range is cut: repositories are not spread evenly over time
NARROWEST_INCOMPLETE = 3_600  # seconds: a search that runs out of time in an hour does so in a minute too
LISTINGS = 3  # times that a part is listed until as many are found as GitHub says there are


@dataclass(frozen=True)
class Part:
    """A part of what is searched: seconds of creation, and stars and size in KB where time is not enough."""

    created: Span
    stars: Span = ANY_STARS
    size: Span = ANY_SIZE

    def of(self, words: str) -> str:
        """What of a query is in this part: "words created:2024-03-01T00:00:00Z..2024-03-01T11:59:59Z"."""
        created = f"created:{timestamp(self.created.low)}..{timestamp(self.created.high)}"
        return " ".join([words, created, *ranges(self.stars, self.size)])

    def cut(self, total: int) -> list[Part]:
        """Smaller parts that make up this one, [] where there are none: by time, then stars, then size."""
        if self.created.low < self.created.high:
            spans = self.created.cut(max(2, ceil(total / TARGET)))
            return [replace(self, created=span) for span in spans]
        if parts := [replace(self, stars=span) for span in self.stars.cut_geometrically()]:
            return parts
        return [replace(self, size=span) for span in self.size.cut_geometrically()]


@dataclass(frozen=True)
class Searched:
    """A part that has been searched to its end; is_complete: GitHub has shown all that it has there."""

    created: Span
    total: int
    found: int
    is_complete: bool


OnPage = Callable[[list[FoundRepository]], None]


def search(github: GitHub, query: SearchQuery, created: Span, on_page: OnPage) -> Iterator[Searched]:
    """Search a range of time: every page goes to on_page, every finished part is yielded, in order."""
    parts = [Part(created, query.stars, query.size)]
    while parts:
        part = parts.pop()
        page = github.page(part.of(query.words), 1)
        on_page(page.repositories)
        seconds = part.created.high - part.created.low + 1
        is_too_much = page.total > MAX_RESULTS
        if (is_too_much and seconds > 1) or (page.is_incomplete and seconds > NARROWEST_INCOMPLETE):
            parts += reversed(part.cut(page.total))
        elif is_too_much:
            yield _list_second(github, query.words, part, page, on_page)
        else:
            yield _list_part(github, query.words, part, page, on_page)[0]


def _list_part(
    github: GitHub, words: str, part: Part, page: Page, on_page: OnPage
) -> tuple[Searched, set[str]]:
    """All repositories of a part of at most 1,000, whose first page is there, and their ids."""
    found = {repository.id for repository in page.repositories}
    for listing in range(LISTINGS):
        if listing:  # results moved between the pages, or GitHub counts what it does not show
            page = github.page(part.of(words), 1)
            on_page(page.repositories)
            found |= {repository.id for repository in page.repositories}
        total, is_incomplete = page.total, page.is_incomplete
        for number in range(2, ceil(min(total, MAX_RESULTS) / PER_PAGE) + 1):
            page = github.page(part.of(words), number)
            on_page(page.repositories)
            found |= {repository.id for repository in page.repositories}
            is_incomplete |= page.is_incomplete
        if len(found) >= total and not is_incomplete:
            break
    is_complete = len(found) >= total and not is_incomplete
    return Searched(part.created, max(total, len(found)), len(found), is_complete), found


def _list_second(github: GitHub, words: str, second: Part, first_page: Page, on_page: OnPage) -> Searched:
    """As many repositories of a second with more than 1,000 as stars and size can tell apart."""
    found = {repository.id for repository in first_page.repositories}
    parts = list(reversed(second.cut(first_page.total)))
    is_complete = True
    while parts:
        part = parts.pop()
        page = github.page(part.of(words), 1)
        on_page(page.repositories)
        smaller = part.cut(page.total) if page.total > MAX_RESULTS else []
        if smaller:
            parts += reversed(smaller)
        else:
            searched, ids = _list_part(github, words, part, page, on_page)
            found |= ids
            is_complete &= searched.is_complete
    total = max(first_page.total, len(found))
    return Searched(second.created, total, len(found), is_complete and len(found) >= total)
