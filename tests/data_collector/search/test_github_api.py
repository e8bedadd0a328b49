"""Searching is polite: a stand-in keeps GitHub's rules, injects faults, and counts what breaks a rule."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from collection.request import Span
from github_stand_in import Fault, GitHubStandIn
from search import github_api
from search.date_windows import search
from search.github_api import GitHub, Hooks, SearchError, TokenError
from stand_in_search import DAY, QUERY, Waits, everything, find, scatter


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[GitHubStandIn]:
    with GitHubStandIn(tmp_path) as github:
        yield github


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
    names, windows = find(stand_in, DAY, DAY + 86399)
    assert names == everything(stand_in)
    assert sum(window.found for window in windows) == 450
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
