"""Every repository that GitHub's search finds in a range of time, however many there are.

A search ends at 1,000 results without a word. So the range is cut into parts until each has at most 1,000; a
second that still has more is cut by stars and then by size. A part is complete when as many repositories were
listed as GitHub says there are, and it did not say that its time ran out.

Source: https://docs.github.com/en/rest/search/search and .../using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import license_names
from collection_format import FoundRepository, timestamp
from collector_error import CollectorError
from search_query import ANY_SIZE, ANY_STARS, SearchQuery, Span, ranges

MAX_RESULTS = 1_000  # of one query, whatever total_count says
PER_PAGE = 100
TARGET = 900  # results aimed at when a range is cut: repositories are not spread evenly over time
NARROWEST_INCOMPLETE = 3_600  # seconds: a search that runs out of time in an hour does so in a minute too
REQUEST_SECONDS = 20  # GitHub gives a search 10

LISTINGS = 3  # times that a part is listed until as many are found as GitHub says there are
SECONDARY_SECONDS = 60.0  # "wait at least one minute", then longer
LONGEST_PAUSE = 900.0
FAULT_PATIENCE = (
    1_800.0  # seconds of nothing but faults before giving up; shorter as long as nothing ever worked
)
FIRST_PATIENCE = 10.0
MAX_LIMITED = 20  # refusals in a row for a limit


class SearchError(CollectorError):
    """GitHub cannot be searched: what happened, and what to do."""


class TokenError(SearchError):
    """GitHub does not know the token."""


@dataclass(frozen=True)
class Part:
    """A part of what is searched: seconds of creation, and stars and size in KB where time is not enough."""

    created: Span
    stars: Span = ANY_STARS
    size: Span = ANY_SIZE

    def qualifiers(self) -> str:
        """The part in GitHub's words: "created:2024-03-01T00:00:00Z..2024-03-01T11:59:59Z"."""
        created = f"created:{timestamp(self.created.low)}..{timestamp(self.created.high)}"
        return " ".join([created, *ranges(self.stars, self.size)])

    def cut(self, total: int) -> list[Part]:
        """Smaller parts that make up this one, [] where there are none: by time, then stars, then size."""
        if self.created.low < self.created.high:
            spans = self.created.cut(max(2, ceil(total / TARGET)))
            return [replace(self, created=span) for span in spans]
        if parts := [replace(self, stars=span) for span in self.stars.cut_geometrically()]:
            return parts
        return [replace(self, size=span) for span in self.size.cut_geometrically()]


@dataclass(frozen=True)
class Page:
    """One page of results."""

    total: int
    is_incomplete: bool
    repositories: list[FoundRepository]


@dataclass(frozen=True)
class Searched:
    """A part that has been searched to its end; is_complete: GitHub has shown all that it has there."""

    created: Span
    total: int
    found: int
    is_complete: bool


class GitHub:
    """GitHub's search, one request at a time, with the one retry policy there is.

    wait(seconds, reason) pauses; it may raise to end the search. PyGithub's retrying and iterating are not
    used: they end silently at 1,000 results, trust the local clock, and give up on half a body.
    """

    def __init__(self, api_url: str, token: str | None, wait: Callable[[float, str], None]) -> None:
        from github import Auth, Github

        self.host = urlsplit(api_url).netloc
        self.requests = 0
        self._wait = wait
        self._not_before = 0.0  # by the monotonic clock
        self._has_answered = False
        github = Github(
            auth=Auth.Token(token) if token else None,
            base_url=api_url.rstrip("/"),
            retry=None,
            timeout=REQUEST_SECONDS,
            per_page=PER_PAGE,
            seconds_between_requests=None,
            user_agent="GPyT data collector",
        )
        self._requester = github.requester

    def page(self, words: str, part: Part, number: int) -> Page:
        """One page of the repositories of a part. Raises SearchError where GitHub refuses for good."""
        parameters = {
            "q": f"{words} {part.qualifiers()}",
            "sort": "updated",  # the best match is a moving order: pages would overlap and leave gaps
            "per_page": PER_PAGE,
            "page": number,
        }
        for attempt in range(LISTINGS):
            page = self._request(parameters)
            if not page.is_incomplete:
                break
            if attempt + 1 < LISTINGS:
                self._wait(2.0**attempt, "GitHub's search ran out of time")
        return page

    def _request(self, parameters: dict[str, Any]) -> Page:
        """The answer to one request, after as many waits as it takes."""
        faults, limited, first_fault = 0, 0, 0.0
        while True:
            if (seconds := self._not_before - time.monotonic()) > 0:
                self._wait(seconds, "GitHub's rate limit")
            self.requests += 1
            answer = self._ask(parameters)
            if isinstance(answer, Page):
                self._has_answered = True
                return answer
            if isinstance(answer, _Refusal):
                self._wait(*_limit_wait(answer, limited))
                limited += 1
                continue
            first_fault = first_fault or time.monotonic()
            patience = FAULT_PATIENCE if self._has_answered else FIRST_PATIENCE
            if time.monotonic() - first_fault > patience:
                raise SearchError(
                    f"{answer}, {faults + 1} times: check the network and run the same command again"
                )
            self._wait(min(2.0**faults, 60.0), answer)
            faults += 1

    def _ask(self, parameters: dict[str, Any]) -> Page | _Refusal | str:
        """One request: a page, a refusal, or in words the fault that came in its place."""
        try:
            status, headers, body = self._requester.requestJson(
                "GET", "/search/repositories", parameters=dict(parameters)
            )
            if status == 200:
                page = _parse_page(json.loads(body), self.host)
                self._note_budget(headers)
                return page
        except RuntimeError as error:  # PyGithub does not follow a redirect to another host
            raise SearchError(f"{error}: correct --api-url") from None
        except (OSError, ValueError, LookupError, TypeError) as error:  # requests' own, and half a body
            return f"no answer from {self.host} ({type(error).__name__})"
        if 300 <= status < 400:  # the token must not travel to wherever that is
            target = urlsplit(str(headers.get("location", ""))).netloc or "another address"
            raise SearchError(f"{self.host} redirects the search to {target} ({status}): correct --api-url")
        if status >= 500 or status in (202, 408):
            return f"GitHub answers {status}"
        return _Refusal(status, headers, _message_in(body))

    def _note_budget(self, headers: dict[str, Any]) -> None:
        """Remember when the next request is allowed: at once, or when a budget that is used up is renewed."""
        if headers.get("x-ratelimit-remaining") == "0" and (seconds := _until_reset(headers)) is not None:
            self._not_before = time.monotonic() + seconds


@dataclass(frozen=True)
class _Refusal:
    """Neither a page nor a passing fault: a limit, a wrong token, a query that it cannot take."""

    status: int
    headers: dict[str, Any]
    message: str


def _message_in(body: str) -> str:
    """The message of an answer that refuses: its words, or '' where there are none."""
    try:
        return str(json.loads(body)["message"])[:200]
    except (ValueError, LookupError, TypeError):
        return ""


def _limit_wait(refusal: _Refusal, limited: int) -> tuple[float, str]:
    """How long to wait after a refusal, and why; raises SearchError where waiting does not help."""
    headers, message = refusal.headers, refusal.message
    if refusal.status == 401:
        raise TokenError(f"GitHub refused the token (401 {message or 'Bad credentials'})")
    has_budget = headers.get("x-ratelimit-remaining") != "0"
    names_limit = "rate limit" in message.lower() or "abuse" in message.lower()
    is_limit = refusal.status == 429 or (
        refusal.status == 403 and (names_limit or "retry-after" in headers or not has_budget)
    )
    if not is_limit:
        raise SearchError(f"GitHub refused the search ({refusal.status} {message})")
    if limited >= MAX_LIMITED:
        raise SearchError(
            f"GitHub limited {limited} requests in a row ({message}): run the same command again later"
        )
    if str(headers.get("retry-after", "")).isdigit():
        return float(headers["retry-after"]), "GitHub asks for a pause"
    if not has_budget and (seconds := _until_reset(headers)) is not None:
        return seconds, "GitHub's rate limit"
    return min(SECONDARY_SECONDS * 2**limited, LONGEST_PAUSE), "GitHub's secondary rate limit"


def _parse_page(body: dict[str, Any], host: str) -> Page:
    """A body that is a page of results; LookupError, TypeError or ValueError for any other."""
    repositories = [_parse_repository(item, host) for item in body["items"]]
    return Page(int(body["total_count"]), bool(body["incomplete_results"]), repositories)


def _until_reset(headers: dict[str, Any]) -> float | None:
    """Seconds until the budget is renewed, by the server's own clock: the local one may be wrong."""
    try:
        reset = float(headers["x-ratelimit-reset"])
    except (KeyError, ValueError):
        return None
    try:
        now = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        now = time.time()
    return max(reset - now, 0.0) + 1.0  # both are whole seconds


def _parse_repository(item: dict[str, Any], host: str) -> FoundRepository:
    return FoundRepository(
        id=f"{host}/{item['id']}",
        full_name=item["full_name"],
        source=host,
        clone_url=item["clone_url"],
        license=license_names.from_api((item.get("license") or {}).get("spdx_id")),
        stars=item.get("stargazers_count") or 0,
        forks=item.get("forks_count") or 0,
        is_fork=bool(item.get("fork")),
        created_at=item["created_at"],
        pushed_at=item.get("pushed_at") or "",
        size_kb=item.get("size") or 0,
    )


OnPage = Callable[[list[FoundRepository]], None]


def search(github: GitHub, query: SearchQuery, created: Span, on_page: OnPage) -> Iterator[Searched]:
    """Search a range of time: every page goes to on_page, every finished part is yielded, in order."""
    parts = [Part(created, query.stars, query.size)]
    while parts:
        part = parts.pop()
        page = github.page(query.words, part, 1)
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
            page = github.page(words, part, 1)
            on_page(page.repositories)
            found |= {repository.id for repository in page.repositories}
        total, is_incomplete = page.total, page.is_incomplete
        for number in range(2, ceil(min(total, MAX_RESULTS) / PER_PAGE) + 1):
            page = github.page(words, part, number)
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
        page = github.page(words, part, 1)
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
