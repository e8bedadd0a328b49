"""GitHub's search of repositories, and what it knows of one, a request at a time, within its rate limits.

A limit is waited out by the server's clock, a passing fault is tried again, and no request leaves while
GitHub forbids it.

Source: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api and
.../best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import email.utils
import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from collection import licenses as license_names
from collection.search_record import FoundRepository
from collector_cli import UserError

if TYPE_CHECKING:
    from github.Requester import Requester

Answer = TypeVar("Answer")

PER_PAGE = 100
REQUEST_SECONDS = 20  # between two bytes; GitHub gives a search 10
ANSWER_SECONDS = 60  # for a whole answer, however slowly it arrives

ATTEMPTS = 3  # at a page for which GitHub's own time ran out
SECONDARY_SECONDS = 60.0  # "wait at least one minute", then longer
LONGEST_PAUSE = 900.0
# Seconds of faults in a row before giving up: hours once a search has worked, a few before.
FAULT_PATIENCE = 10_800.0
FIRST_PATIENCE = 10.0
MAX_LIMITED = 20  # refusals in a row because of a limit


class SearchError(UserError):
    """GitHub cannot be searched: what happened, and what to do."""


class TokenError(SearchError):
    """GitHub refused the token."""


class RefusedError(SearchError):
    """GitHub refused this request, and would refuse it again; status is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"GitHub refused the search ({status} {message})")
        self.status = status


@dataclass(frozen=True)
class Page:
    """One page of results."""

    total: int
    is_incomplete: bool
    repositories: list[FoundRepository]


@dataclass(frozen=True)
class Hooks:
    """What a search calls while it works.

    wait(seconds, reason) pauses, check() is called several times a second; both may raise to end the search.
    remember(seconds) is told for how long from now GitHub forbids the next request.
    """

    wait: Callable[[float, str], None]
    check: Callable[[], None] = lambda: None
    remember: Callable[[float], None] = lambda _: None


class GitHub:
    """GitHub's search, with one policy for retries.

    PyGithub sends the requests; its own retries and iteration are off: they end silently at 1,000 results,
    trust the local clock, and give up on half a body.
    """

    def __init__(self, api_url: str, token: str | None, hooks: Hooks) -> None:
        self.host = urlsplit(api_url).netloc
        self.requests = 0
        self.server_time: float | None = None  # of the last answer, by GitHub's own clock
        self._api_url = api_url.rstrip("/")
        self._token = token
        self._hooks = hooks
        self._not_before = 0.0  # by the monotonic clock
        self._has_answered = False
        self._requester = self._connect()

    def _connect(self) -> Requester:
        from github import Auth, Github

        return Github(
            auth=Auth.Token(self._token) if self._token else None,
            base_url=self._api_url,
            retry=None,
            timeout=REQUEST_SECONDS,
            per_page=PER_PAGE,
            seconds_between_requests=None,
            user_agent="GPyT data collector",
        ).requester

    def hold(self, seconds: float) -> None:
        """Send no request for so many seconds."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)
        self._hooks.remember(seconds)

    def page(self, query: str, number: int, sort: str = "updated") -> Page:
        """One page of what a query finds. Raises SearchError if GitHub refuses for good."""
        parameters = {
            "q": query,
            "sort": sort,  # the order of best matches changes: pages would overlap and leave gaps
            "per_page": PER_PAGE,
            "page": number,
        }
        for attempt in range(ATTEMPTS):
            page = self._request("/search/repositories", parameters, _parse_page)
            if not page.is_incomplete:
                break
            if attempt + 1 < ATTEMPTS:
                self._hooks.wait(2.0**attempt, "GitHub's search ran out of time")
        return page

    def repository(self, full_name: str) -> FoundRepository:
        """What GitHub knows of a repository, by its old name too. Raises RefusedError if it shows none."""
        return self._request(f"/repos/{full_name}", {}, _parse_repository)

    def _request(
        self, path: str, parameters: dict[str, Any], parse: Callable[[dict[str, Any], str], Answer]
    ) -> Answer:
        """The answer to one request, after as many waits as needed."""
        faults, limited, first_fault, reason = 0, 0, 0.0, "GitHub's rate limit"
        while True:
            if (seconds := self._not_before - time.monotonic()) > 0:
                self._hooks.wait(seconds, reason)
            self._not_before, reason = 0.0, "GitHub's rate limit"
            self.requests += 1
            answer = self._ask(path, parameters, parse)
            if not isinstance(answer, _Refusal | str):
                self._has_answered = True
                return answer
            if isinstance(answer, _Refusal):
                seconds, reason = _limit_wait(answer, limited)
                self.hold(seconds)
                limited += 1
                continue
            first_fault = first_fault or time.monotonic()
            patience = FAULT_PATIENCE if self._has_answered else FIRST_PATIENCE
            if time.monotonic() - first_fault > patience:
                raise SearchError(
                    f"{answer}, {faults + 1} times: check the network and run the same command again"
                )
            self._hooks.wait(min(2.0**faults, 60.0), answer)
            faults += 1

    def _ask(
        self, path: str, parameters: dict[str, Any], parse: Callable[[dict[str, Any], str], Answer]
    ) -> Answer | _Refusal | str:
        """One request: its parsed answer, a refusal, or a passing fault in words."""
        try:
            status, headers, body = self._exchange(path, parameters)
            self.server_time = _date_of(headers)
            if status == 200:
                answer = parse(json.loads(body), self.host)
                self._note_budget(headers)
                return answer
        except TimeoutError:
            return f"no complete answer from {self.host} in {ANSWER_SECONDS} s"
        except RuntimeError as error:  # PyGithub follows no redirect to another host
            raise SearchError(f"{error}: correct --api-url") from None
        except (OSError, ValueError, LookupError, TypeError) as error:  # of requests, and half a body
            return f"no answer from {self.host} ({type(error).__name__})"
        if 300 <= status < 400:  # the token must not travel there
            target = urlsplit(str(headers.get("location", ""))).netloc or "another address"
            raise SearchError(f"{self.host} redirects the search to {target} ({status}): correct --api-url")
        if status >= 500 or status in (202, 408):
            return f"GitHub answers {status}"
        return _Refusal(status, headers, _message_in(body))

    def _exchange(self, path: str, parameters: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
        """Status, headers and body of one request; TimeoutError if it takes longer than ANSWER_SECONDS.

        It runs in a thread of its own: a slow answer cannot keep the run from ending.
        """
        answers: queue.SimpleQueue[tuple[int, dict[str, Any], str] | Exception] = queue.SimpleQueue()
        requester = self._requester

        def ask() -> None:
            try:
                answers.put(requester.requestJson("GET", path, parameters=dict(parameters)))
            except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
                answers.put(error)

        threading.Thread(target=ask, daemon=True, name="request").start()
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            self._hooks.check()
            try:
                answer = answers.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(answer, Exception):
                raise answer
            return answer
        self._requester = self._connect()  # the old one may still be reading its answer
        raise TimeoutError

    def _note_budget(self, headers: dict[str, Any]) -> None:
        """If the budget is used up, send no request until it is renewed."""
        if headers.get("x-ratelimit-remaining") == "0" and (seconds := _until_reset(headers)) is not None:
            self.hold(seconds)


@dataclass(frozen=True)
class _Refusal:
    """Neither a page nor a passing fault: a limit, a wrong token, a query that GitHub cannot take."""

    status: int
    headers: dict[str, Any]
    message: str


def _message_in(body: str) -> str:
    """The message of a refusal, '' if it has none."""
    try:
        return str(json.loads(body)["message"])[:200]
    except (ValueError, LookupError, TypeError):
        return ""


def _limit_wait(refusal: _Refusal, limited: int) -> tuple[float, str]:
    """How long to wait after a refusal, and why; SearchError if waiting does not help."""
    headers, message = refusal.headers, refusal.message
    if refusal.status == 401:
        raise TokenError(f"GitHub refused the token (401 {message or 'Bad credentials'})")
    has_budget = headers.get("x-ratelimit-remaining") != "0"
    names_limit = "rate limit" in message.lower() or "abuse" in message.lower()
    is_limit = refusal.status == 429 or (
        refusal.status == 403 and (names_limit or "retry-after" in headers or not has_budget)
    )
    if not is_limit:
        raise RefusedError(refusal.status, message)
    if limited >= MAX_LIMITED:
        raise SearchError(
            f"GitHub limited {limited} requests in a row ({message}): run the same command again later"
        )
    pause = _retry_after(headers)
    reset = None if has_budget else _until_reset(headers)
    if pause is not None:
        return max(pause, reset or 0.0), "GitHub asks for a pause"
    if reset is not None:
        return reset, "GitHub's rate limit"
    return min(SECONDARY_SECONDS * 2**limited, LONGEST_PAUSE), "GitHub's secondary rate limit"


def _date_of(headers: dict[str, Any]) -> float | None:
    """The server's own time, in seconds since 1970."""
    try:
        return email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None


def _now_at_server(headers: dict[str, Any]) -> float:
    """The server's time if the headers tell it: the local clock may be wrong."""
    now = _date_of(headers)
    return time.time() if now is None else now


def _until_reset(headers: dict[str, Any]) -> float | None:
    """Seconds until the budget is renewed."""
    try:
        reset = float(headers["x-ratelimit-reset"])
    except (KeyError, ValueError):
        return None
    return max(reset - _now_at_server(headers), 0.0) + 1.0  # both are whole seconds


def _retry_after(headers: dict[str, Any]) -> float | None:
    """The pause that GitHub asks for, in seconds; by RFC 9110 a proxy may write a date instead."""
    text = str(headers.get("retry-after", ""))
    if text.isdecimal():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
    return max(until - _now_at_server(headers), 0.0) + 1.0


def _parse_page(body: dict[str, Any], host: str) -> Page:
    """A body as a page of results; LookupError, TypeError or ValueError if it is none."""
    repositories = [_parse_repository(item, host) for item in body["items"]]
    return Page(int(body["total_count"]), bool(body["incomplete_results"]), repositories)


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
