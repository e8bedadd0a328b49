"""A search finds every repository of a range, cut into windows that GitHub shows whole."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from collection.request import Span
from github_stand_in import Fault, GitHubStandIn, stamp
from search.date_windows import Searched, Window, most_starred
from search.github_api import GitHub, Hooks
from stand_in_search import DAY, QUERY, Waits, everything, find, scatter


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[GitHubStandIn]:
    with GitHubStandIn(tmp_path) as github:
        yield github


def test_four_thousand_repositories_half_of_them_in_one_day_are_all_found(stand_in: GitHubStandIn) -> None:
    scatter(stand_in, 2000, DAY, 30 * 86400, seed=1)
    scatter(stand_in, 2000, DAY + 12 * 86400, 86400, seed=2)
    names, windows = find(stand_in, DAY, DAY + 30 * 86400 - 1)
    assert names == everything(stand_in)
    assert stand_in.violations == []
    assert len(stand_in.received) <= 54  # 1.1 times plain halving that keeps its probe
    assert sum(window.total for window in windows) == 4000


def test_finished_windows_cover_the_range_in_order_without_a_gap(stand_in: GitHubStandIn) -> None:
    scatter(stand_in, 2500, DAY, 86400)
    _, windows = find(stand_in, DAY, DAY + 86399)
    assert (windows[0].created.low, windows[-1].created.high) == (DAY, DAY + 86399)
    for window, following in itertools.pairwise(windows):
        assert following.created.low == window.created.high + 1


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
    names, windows = find(stand_in, DAY, DAY)
    assert names == everything(stand_in)
    assert windows == [Searched(Span(DAY, DAY), 2600, 2600, is_complete=True)]
    assert stand_in.violations == []


def test_a_second_that_nothing_tells_apart_is_reported_as_short(stand_in: GitHubStandIn) -> None:
    for number in range(1200):
        stand_in.add(f"o/{number}", stamp(DAY))
    names, windows = find(stand_in, DAY, DAY + 9)
    assert len(names) == 1000
    assert [window for window in windows if not window.is_complete] == [
        Searched(Span(DAY, DAY), 1200, 1000, is_complete=False)
    ]
    assert stand_in.violations == []


def test_a_search_that_always_runs_out_of_time_is_reported_and_not_asked_for_without_end(
    stand_in: GitHubStandIn,
) -> None:
    scatter(stand_in, 50, DAY, 7200)
    stand_in.faults = [Fault(damage="incomplete")] * 1000
    _, windows = find(stand_in, DAY, DAY + 7199)
    assert [window.is_complete for window in windows] == [False, False]
    assert len(stand_in.received) < 30


def test_pages_are_asked_for_in_a_stable_order_a_hundred_at_a_time(stand_in: GitHubStandIn) -> None:
    scatter(stand_in, 250, DAY, 100)
    find(stand_in, DAY, DAY + 99)
    assert [request.page for request in stand_in.received] == [1, 2, 3]
    assert all(
        "sort=updated" in request.path and "per_page=100" in request.path for request in stand_in.received
    )


@pytest.mark.parametrize(("low", "high", "windows"), [(0, 0, 2), (0, 1, 2), (5, 104, 7), (0, 2, 9)])
def test_a_span_is_cut_into_windows_that_make_it_up(low: int, high: int, windows: int) -> None:
    cut = Span(low, high).cut(windows)
    assert [number for span in cut for number in range(span.low, span.high + 1)] == list(range(low, high + 1))


def test_a_part_is_cut_down_to_single_values() -> None:
    window = Window(Span(7, 7), Span(3, 3), Span(0, 1))
    assert [smaller.size for smaller in window.cut(2000)] == [Span(0, 0), Span(1, 1)]
    assert window.cut(2000)[0].cut(2000) == []


def test_qualifiers_are_githubs_words() -> None:
    window = Window(Span(DAY, DAY), Span(1, 9), Span(10, 100_000_000))
    assert window.of("x") == "x created:2024-03-01T00:00:00Z..2024-03-01T00:00:00Z stars:1..9 size:10..*"


@pytest.mark.parametrize("count", [1, 100, 999, 1000, 1001, 2300, 5000])
def test_the_most_starred_are_found_beyond_the_thousand_that_a_listing_shows(
    tmp_path: Path, count: int
) -> None:
    """2,500 repositories, 1,200 of which have the same number of stars."""
    chance = random.Random(4)
    with GitHubStandIn(tmp_path) as stand_in:
        for number in range(2_500):
            stars = 7 if number < 1_200 else chance.randrange(0, 400)
            stand_in.add(f"o/{number}", stamp(DAY + number * 100), stargazers_count=stars)
        github = GitHub(stand_in.url, None, Hooks(Waits()))
        found = most_starred(github, QUERY, Span(DAY, DAY + 10**6), count)
        every = sorted((each["stargazers_count"] for each in stand_in.repositories), reverse=True)
        assert [each.stars for each in found] == every[:count]
        assert len({each.id for each in found}) == min(count, 2_500)
        assert stand_in.violations == [] and github.requests <= 10 + count / 60
