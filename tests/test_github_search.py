"""Searching finds everything, politely: a stand-in keeps GitHub's rules and counts what breaks them."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import github_api
import pytest
from collection_format import FoundRepository
from github_api import GitHub, Hooks, SearchError, TokenError
from github_search import Part, Searched, search
from github_stand_in import Fault, GitHubStandIn, moment, stamp
from search_query import SearchQuery, Span

DAY = moment("2024-03-01T00:00:00Z")
QUERY = SearchQuery("language:Python")


class Waits:
    """The waits that a search asks for; long ones are only noted."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []

    def __call__(self, seconds: float, reason: str) -> None:
        self.asked.append((seconds, reason))
        is_short = seconds <= 2.5 and reason in ("GitHub's rate limit", "GitHub asks for a pause")
        time.sleep(seconds if is_short else 0)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[GitHubStandIn]:
    with GitHubStandIn(tmp_path) as github:
        yield github


def scatter(stand_in: GitHubStandIn, count: int, first: int, seconds: int, seed: int = 0) -> None:
    """Make count repositories at random moments."""
    chance = random.Random(seed)
    for number in range(count):
        stand_in.add(f"o/{seed}-{number}", stamp(first + chance.randrange(seconds)))


def find(
    stand_in: GitHubStandIn, first: int, last: int, wait: Waits | None = None, token: str | None = None
) -> tuple[set[str], list[Searched]]:
    """The names that a search of a range of seconds finds, and its finished parts."""
    names: set[str] = set()

    def on_page(repositories: list[FoundRepository]) -> None:
        names.update(repository.full_name for repository in repositories)

    github = GitHub(stand_in.url, token, Hooks(wait or Waits()))
    return names, list(search(github, QUERY, Span(first, last), on_page))


def everything(stand_in: GitHubStandIn) -> set[str]:
    return {repository["full_name"] for repository in stand_in.repositories}


def test_four_thousand_repositories_half_of_them_in_one_day_are_all_found(stand_in: GitHubStandIn) -> None:
    scatter(stand_in, 2000, DAY, 30 * 86400, seed=1)
    scatter(stand_in, 2000, DAY + 12 * 86400, 86400, seed=2)
    names, parts = find(stand_in, DAY, DAY + 30 * 86400 - 1)
    assert names == everything(stand_in)
    assert stand_in.violations == []
    assert len(stand_in.received) <= 54  # 1.1 times plain halving that keeps its probe
    assert sum(part.total for part in parts) == 4000


def test_finished_parts_cover_the_range_in_order_without_a_gap(stand_in: GitHubStandIn) -> None:
    scatter(stand_in, 2500, DAY, 86400)
    _, parts = find(stand_in, DAY, DAY + 86399)
    assert (parts[0].created.low, parts[-1].created.high) == (DAY, DAY + 86399)
    for part, following in itertools.pairwise(parts):
        assert following.created.low == part.created.high + 1


def test_a_range_without_repositories_takes_one_request(stand_in: GitHubStandIn) -> None:
    assert find(stand_in, DAY, DAY + 86399) == (
        set(),
        [Searched(Span(DAY, DAY + 86399), 0, 0, is_complete=True)],
    )
    assert len(stand_in.received) == 1


def test_a_second_with_more_than_a_thousand_is_told_apart_by_stars_and_size(stand_in: GitHubStandIn) -> None:
    for number in range(2600):
        stars = 0 if number % 2 else number
        stand_in.add(f"o/{number}", stamp(DAY), stargazers_count=stars, size=number)
    names, parts = find(stand_in, DAY, DAY)
    assert names == everything(stand_in)
    assert parts == [Searched(Span(DAY, DAY), 2600, 2600, is_complete=True)]
    assert stand_in.violations == []


def test_a_second_that_nothing_tells_apart_is_reported_as_short(stand_in: GitHubStandIn) -> None:
    for number in range(1200):
        stand_in.add(f"o/{number}", stamp(DAY))
    names, parts = find(stand_in, DAY, DAY + 9)
    assert len(names) == 1000
    assert [part for part in parts if not part.is_complete] == [
        Searched(Span(DAY, DAY), 1200, 1000, is_complete=False)
    ]
    assert stand_in.violations == []


FAULTS = {
    "a bad gateway": [Fault(502)],
    "a burst of server errors": [Fault(500), Fault(502), Fault(503), Fault(504)],
    "half a JSON body": [Fault(damage="half")],
    "a body that breaks off": [Fault(damage="truncated")],
    "a connection that is reset": [Fault(damage="reset")],
    "a page of HTML": [Fault(damage="html")],
    "incomplete results": [Fault(damage="incomplete")],
    "incomplete results for a while": [Fault(damage="incomplete")] * 5,
    "a page that shows again what the one before had": [Fault(), Fault(damage="shuffled")],
    "a burst of resets": [Fault(damage="reset")] * 3,
    "403 with retry-after": [Fault(403, {"retry-after": "1"}, "You have exceeded a secondary rate limit")],
    "429 with retry-after": [Fault(429, {"retry-after": "1"}, "Too many requests")],
    "429 with nothing": [Fault(429, {}, "Too many requests")],
    "403 with nothing": [Fault(403, {}, "You have exceeded a secondary rate limit and have been blocked")],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("good_ones_first", [0, 2])
def test_a_fault_that_passes_costs_no_repository(
    stand_in: GitHubStandIn, faults: list[Fault], good_ones_first: int
) -> None:
    scatter(stand_in, 450, DAY, 86400)
    stand_in.faults = [Fault()] * good_ones_first + list(faults)
    names, parts = find(stand_in, DAY, DAY + 86399)
    assert names == everything(stand_in)
    assert sum(part.found for part in parts) == 450
    assert stand_in.violations == []


def test_a_secondary_limit_without_a_time_is_waited_out_a_minute_and_then_longer(
    stand_in: GitHubStandIn,
) -> None:
    stand_in.faults = [Fault(403, {}, "You have exceeded a secondary rate limit")] * 3
    waits = Waits()
    find(stand_in, DAY, DAY, waits)
    assert [round(seconds) for seconds, _ in waits.asked] == [60, 120, 240]


def test_an_answer_that_takes_too_long_is_asked_for_again(
    stand_in: GitHubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github_api, "REQUEST_SECONDS", 1)
    stand_in.slow_seconds = 1.5
    stand_in.faults = [Fault(damage="slow")]
    scatter(stand_in, 5, DAY, 100)
    names, _ = find(stand_in, DAY, DAY + 99)
    assert names == everything(stand_in)


def test_a_search_that_always_runs_out_of_time_is_reported_and_not_asked_for_without_end(
    stand_in: GitHubStandIn,
) -> None:
    scatter(stand_in, 50, DAY, 7200)
    stand_in.faults = [Fault(damage="incomplete")] * 1000
    _, parts = find(stand_in, DAY, DAY + 7199)
    assert [part.is_complete for part in parts] == [False, False]
    assert len(stand_in.received) < 30


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_to_another_host(stand_in: GitHubStandIn, status: int) -> None:
    stand_in.faults = [Fault(status, {"Location": "http://localhost:1/search/repositories?q=x"})]
    with pytest.raises(SearchError, match=r"redirect.*--api-url"):
        find(stand_in, DAY, DAY, token="right-token")
    assert len(stand_in.received) == 1


@pytest.mark.parametrize("ahead", [-7200.0, 0.0, 7200.0])
def test_a_used_up_budget_is_waited_out_by_the_servers_clock(stand_in: GitHubStandIn, ahead: float) -> None:
    scatter(stand_in, 450, DAY, 86400)
    stand_in.budget, stand_in.window_seconds, stand_in.clock_ahead = 3, 1.0, ahead
    waits = Waits()
    names, _ = find(stand_in, DAY, DAY + 86399, waits)
    assert names == everything(stand_in)
    assert stand_in.violations == []
    assert waits.asked and all(0 < seconds <= 2.5 for seconds, _ in waits.asked)


def test_a_budget_that_another_program_spends_too_is_enough_in_the_end(stand_in: GitHubStandIn) -> None:
    scatter(stand_in, 450, DAY, 86400)
    stand_in.budget, stand_in.window_seconds, stand_in.spent_elsewhere = 4, 1.0, 2
    names, _ = find(stand_in, DAY, DAY + 86399)
    assert names == everything(stand_in)
    assert stand_in.violations == []


def test_the_longer_of_two_pauses_is_kept(stand_in: GitHubStandIn) -> None:
    reset = str(int(time.time()) + 90)
    both = {"retry-after": "30", "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    stand_in.faults = [Fault(403, both, "You have exceeded a secondary rate limit")]
    waits = Waits()
    find(stand_in, DAY, DAY, waits)
    assert [85 < seconds < 95 for seconds, _ in waits.asked] == [True]


def test_a_pause_that_is_asked_for_by_date_is_kept(stand_in: GitHubStandIn) -> None:
    until = formatdate(time.time() + 50, usegmt=True)
    stand_in.faults = [Fault(429, {"retry-after": until}, "Too many requests")]
    waits = Waits()
    find(stand_in, DAY, DAY, waits)
    assert [45 < seconds < 55 for seconds, _ in waits.asked] == [True]


@pytest.mark.parametrize("status", [403, 429])
def test_a_limit_is_remembered_for_the_next_run(stand_in: GitHubStandIn, status: int) -> None:
    stand_in.faults = [Fault(status, {"retry-after": "40"}, "You have exceeded a secondary rate limit")]
    remembered: list[float] = []
    list(
        search(
            GitHub(stand_in.url, None, Hooks(Waits(), remember=remembered.append)),
            QUERY,
            Span(DAY, DAY),
            lambda _: None,
        )
    )
    assert remembered == [40.0]


def test_an_answer_that_trickles_in_is_given_up_and_asked_for_again(
    stand_in: GitHubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github_api, "ANSWER_SECONDS", 1)
    scatter(stand_in, 5, DAY, 100)
    stand_in.faults, stand_in.slow_seconds = [Fault(damage="drip")], 0.4  # 1.6 s in all
    names, _ = find(stand_in, DAY, DAY + 99)
    assert names == everything(stand_in)
    assert len(stand_in.received) >= 2


def test_a_slow_answer_does_not_keep_a_run_from_ending(stand_in: GitHubStandIn) -> None:
    stand_in.faults, stand_in.slow_seconds = [Fault(damage="slow")], 30.0
    checks: list[None] = []

    def check() -> None:
        checks.append(None)
        if len(checks) == 3:
            raise KeyboardInterrupt

    github = GitHub(stand_in.url, None, Hooks(Waits(), check))
    with pytest.raises(KeyboardInterrupt):
        list(search(github, QUERY, Span(DAY, DAY), lambda _: None))


def test_a_budget_that_another_program_uses_up_is_waited_out(stand_in: GitHubStandIn) -> None:
    reset = str(int(time.time()) + 1)
    used_up = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    stand_in.faults = [Fault(status, used_up, "API rate limit exceeded") for status in (403, 429)]
    scatter(stand_in, 5, DAY, 100)
    names, _ = find(stand_in, DAY, DAY + 99)
    assert names == everything(stand_in)


def test_an_unknown_token_ends_the_search_at_once(stand_in: GitHubStandIn) -> None:
    stand_in.tokens = {"right-token"}
    with pytest.raises(TokenError) as error:
        find(stand_in, DAY, DAY, token="wrong-token")
    assert "wrong-token" not in str(error.value)
    assert len(stand_in.received) == 1


def test_the_token_goes_with_every_search(stand_in: GitHubStandIn) -> None:
    stand_in.tokens = {"right-token"}
    find(stand_in, DAY, DAY, token="right-token")
    assert stand_in.received[0].headers["authorization"].endswith("right-token")


def test_a_refusal_for_good_is_not_repeated(stand_in: GitHubStandIn) -> None:
    stand_in.faults = [Fault(422, {}, "Validation Failed")]
    with pytest.raises(SearchError, match="422 Validation Failed"):
        find(stand_in, DAY, DAY)
    assert len(stand_in.received) == 1


def test_pages_are_asked_for_in_a_stable_order_a_hundred_at_a_time(stand_in: GitHubStandIn) -> None:
    scatter(stand_in, 250, DAY, 100)
    find(stand_in, DAY, DAY + 99)
    assert [request.page for request in stand_in.received] == [1, 2, 3]
    assert all(
        "sort=updated" in request.path and "per_page=100" in request.path for request in stand_in.received
    )


@pytest.mark.parametrize(("low", "high", "parts"), [(0, 0, 2), (0, 1, 2), (5, 104, 7), (0, 2, 9)])
def test_a_span_is_cut_into_parts_that_make_it_up(low: int, high: int, parts: int) -> None:
    cut = Span(low, high).cut(parts)
    assert [number for span in cut for number in range(span.low, span.high + 1)] == list(range(low, high + 1))


def test_a_part_is_cut_down_to_single_values() -> None:
    part = Part(Span(7, 7), Span(3, 3), Span(0, 1))
    assert [smaller.size for smaller in part.cut(2000)] == [Span(0, 0), Span(1, 1)]
    assert part.cut(2000)[0].cut(2000) == []


def test_qualifiers_are_githubs_words() -> None:
    part = Part(Span(DAY, DAY), Span(1, 9), Span(10, 100_000_000))
    assert part.of("x") == "x created:2024-03-01T00:00:00Z..2024-03-01T00:00:00Z stars:1..9 size:10..*"
