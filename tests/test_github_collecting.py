"""Searching and fetching together: outages, clocks, and limits that outlive a run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import clone_outage
import pytest
import repo_cloning
from clone_outage import CloneOutage, OutageError
from collection import Collection
from collection_format import Request
from git_stand_in import make_repository
from github_collecting import INDEX_SECONDS, GitHubCollecting, Options, unsearched
from github_stand_in import Fault, GitHubStandIn, stamp
from search_query import SearchQuery, Span

QUERY = SearchQuery("language:Python")
COUNT = 12


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubStandIn]:
    with GitHubStandIn(tmp_path / "git") as server:
        for number in range(COUNT):
            make_repository(tmp_path / f"git/ann/r{number}.git", {"a.py": b"a = 1\n"})
            server.add(f"ann/r{number}", f"2024-03-01T00:00:{number:02}Z")
        yield server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repo_cloning, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(clone_outage, "IN_A_ROW", 5)
    monkeypatch.setattr(clone_outage, "FIRST_PAUSE", 0.1)


def request_for(github: GitHubStandIn, first: str, last: str) -> Request:
    return Request(urlsplit(github.url).netloc, (QUERY,), first, last)


def collect(
    github: GitHubStandIn, collection: Collection, request: Request, **options: bool
) -> GitHubCollecting:
    run = GitHubCollecting(collection, request, Options(jobs=2, **options))
    run.run(github.url, None)
    return run


def states(collection: Collection, request: Request) -> Counter[str]:
    return Counter({state: tally.repositories for state, tally in collection.tally(request).items()})


def test_a_host_that_answers_no_clone_ends_the_run_and_everything_goes_on_waiting(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    github.before_git = lambda _: Fault(503)
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        with pytest.raises(OutageError, match="5 repositories in a row"):
            collect(github, collection, request)
        assert states(collection, request) == {"found": COUNT}
        github.before_git = None
        collect(github, collection, request)
        assert states(collection, request) == {"fetched": COUNT}


def test_an_outage_on_the_way_is_waited_out_and_costs_no_repository(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    out = [24]  # git requests that fail, after a first clone that worked; each clone is tried three times

    def before(_: str) -> Fault | None:
        if not out[0] or not (tmp_path / "repos/ann/r0").is_dir():
            return None
        out[0] -= 1
        return Fault(502)

    github.before_git = before
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        run = collect(github, collection, request)
        assert states(collection, request) == {"fetched": COUNT}
    assert (run.counts.fetched, run.counts.failed) == (COUNT, 0)
    assert out == [0]


def test_single_repositories_that_fail_are_no_outage(github: GitHubStandIn, tmp_path: Path) -> None:
    broken = [f"/r{number}.git" for number in (1, 2, 3, 4, 6, 7, 8, 9)]
    github.before_git = lambda path: Fault(500) if any(name in path for name in broken) else None
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        collect(github, collection, request)
        assert states(collection, request) == {"fetched": 4, "failed": 8}


def test_an_outage_that_lasts_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    outage = CloneOutage()
    outage.note_success()
    waiting = [outage.note_fault(str(number)) for number in range(6)]
    assert waiting == [[], [], [], [], ["0", "1", "2", "3", "4"], ["5"]]
    outage.check("error: 502")
    monkeypatch.setattr(clone_outage, "FAULT_PATIENCE", -1.0)
    with pytest.raises(OutageError, match="error: 502"):
        outage.check("error: 502")


@pytest.mark.parametrize("ahead", [0.0, -86_400.0, 86_400.0])
def test_the_last_hour_by_githubs_clock_is_searched_again_by_the_next_run(
    github: GitHubStandIn, tmp_path: Path, ahead: float
) -> None:
    github.clock_ahead = ahead
    now = int(time.time() + ahead)
    request = request_for(github, stamp(now - 7200), stamp(now))
    with Collection(tmp_path / "repos") as collection:
        run = collect(github, collection, request)
        (gap,) = run.gaps(QUERY)
        assert abs(gap.low - (now - INDEX_SECONDS)) < 60 and gap.high == now
        make_repository(tmp_path / "git/bob/late.git", {"b.py": b"b = 1\n"})
        github.add("bob/late", stamp(now - 600))
        collect(github, collection, request)
        assert states(collection, request) == {"fetched": 1}
    assert len(github.received) == 2


def test_a_range_that_is_past_is_searched_once(github: GitHubStandIn, tmp_path: Path) -> None:
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        run = collect(github, collection, request)
        assert run.gaps(QUERY) == [] and run.is_up_to_date()


def test_a_limit_that_a_killed_run_met_is_kept_by_the_next(github: GitHubStandIn, tmp_path: Path) -> None:
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        collection.record_pause(request.source, 1.5)
    started = time.time()
    with Collection(tmp_path / "repos") as collection:
        collect(github, collection, request)
    assert github.received[0].at - started >= 1.4


def test_a_repository_that_has_lost_its_python_leaves_the_folder(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        collect(github, collection, request)
        path = tmp_path / "git/ann/r3.git"
        parent = (path / "refs/heads/main").read_text("utf-8").strip()
        make_repository(path, {"README": b"nothing left\n"}, parent=parent)
        github.repositories[3]["pushed_at"] = "2024-06-01T00:00:00Z"
        collection.forget_windows(request)
        collect(github, collection, request, refetch=True)
        assert states(collection, request) == {"fetched": COUNT - 1, "empty": 1}
    assert not (tmp_path / "repos/ann/r3").exists()


def test_what_is_unsearched_is_what_no_sub_range_covers() -> None:
    assert unsearched(Span(0, 99), [Span(0, 9), Span(50, 59)]) == [Span(10, 49), Span(60, 99)]
