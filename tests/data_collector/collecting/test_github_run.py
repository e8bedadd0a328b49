"""Searching and fetching together: outages, clocks, and limits that outlive a run."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cloning import clone as clone_module
from cloning import failures
from cloning.failures import OutageError
from cloning.git_environment import CONFIGURATION
from collecting import fetching
from collecting.github_run import INDEX_SECONDS, GitHubRun, ListRun, Options, unsearched
from collection.record import Collection
from collection.request import Request, SearchQuery, Span
from git_stand_in import make_repository
from github_stand_in import Fault, GitHubStandIn, stamp
from sources.repository_list import parse_list

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
    monkeypatch.setattr(clone_module, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(failures, "TRIP_AFTER", 5)
    monkeypatch.setattr(failures, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(fetching, "LATE_PAUSES", (0.2, 0.2))
    monkeypatch.setitem(CONFIGURATION, "http.lowSpeedTime", "1")


def request_for(github: GitHubStandIn, first: str, last: str) -> Request:
    return Request(urlsplit(github.url).netloc, (QUERY,), first, last)


def collect(github: GitHubStandIn, collection: Collection, request: Request, **options: int) -> GitHubRun:
    run = GitHubRun(collection, request, Options(jobs=2, **options))  # type: ignore[arg-type]
    run.run(github.url, None)
    return run


def states(collection: Collection, request: Request) -> Counter[str]:
    return Counter({state: tally.repositories for state, tally in collection.tally.of(request).items()})


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
    assert (run.fetching.counts.fetched, run.fetching.counts.failures) == (COUNT, set())
    assert out == [0]


def test_single_repositories_that_fail_are_no_outage(github: GitHubStandIn, tmp_path: Path) -> None:
    broken = [f"/r{number}.git" for number in (1, 2, 3, 4, 6, 7, 8, 9)]
    github.before_git = lambda path: Fault(500) if any(name in path for name in broken) else None
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        collect(github, collection, request)
        assert states(collection, request) == {"fetched": 4, "failed": 8}


def refs_asked_for(github: GitHubStandIn) -> list[str]:
    """The repositories whose clone was begun, in order."""
    paths = (request.path.split("/") for request in github.git_requests)
    return [path[2].removesuffix(".git") for path in paths if path[3] == "info"]


@pytest.mark.parametrize("damage", ["reset", "stall", "truncated"])
def test_faults_that_pass_name_no_repository(github: GitHubStandIn, tmp_path: Path, damage: str) -> None:
    """Each of two repositories needs more tries than a clone has, and fails while the others are fetched."""
    left = {"r2": 2 if damage == "stall" else 8, "r5": 4}

    def before(path: str) -> Fault | None:
        name = path.split("/")[2].removesuffix(".git")
        if not left.get(name) or (tmp_path / f"repos/ann/{name}").exists():
            return None
        left[name] -= 1
        return Fault(damage=damage)

    github.before_git = before
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        run = collect(github, collection, request)
        assert states(collection, request) == {"fetched": COUNT}
    assert (run.fetching.counts.fetched, run.fetching.counts.failures) == (COUNT, set())
    assert set(refs_asked_for(github)[-1:]) <= {"r2", "r5"} and left == {"r2": 0, "r5": 0}


def test_a_repository_that_fails_at_each_late_try_is_named(github: GitHubStandIn, tmp_path: Path) -> None:
    github.before_git = lambda path: Fault(damage="reset") if "/r2.git" in path else None
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        run = collect(github, collection, request)
        assert states(collection, request) == {"fetched": COUNT - 1, "failed": 1}
    assert len(run.fetching.counts.failures) == 1
    asked = refs_asked_for(github)
    assert asked.count("r2") == clone_module.TRIES * 3
    assert asked[-6:] == ["r2"] * 6, "the late tries come when all others are done"


@pytest.mark.parametrize("on_terminal", [False, True])
def test_what_failed_and_why_is_said_while_it_waits(
    github: GitHubStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    on_terminal: bool,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_terminal)
    github.before_git = lambda path: Fault(500) if "/r2.git" in path or "/r5.git" in path else None
    url = github.url
    listed = parse_list("".join(f"ann/r{number}\n" for number in range(8)), url)
    with Collection(tmp_path / "repos") as collection:
        run = ListRun(collection, listed.request(), Options(jobs=2), listed, url)
        run.searching.enter_known(listed.repositories, is_asking=False)
        run.run(url, None)
        assert states(collection, listed.request()) == {"fetched": 6, "failed": 2}
    lines = re.sub(r"\r(\x1b\[\dA)?\x1b\[J", "\n", capsys.readouterr().err).splitlines()
    for name in ("ann/r2", "ann/r5"):
        words = f"could not be fetched yet: {name}: unable to access '{url}/{name}.git/'"
        assert len([line for line in lines if line.startswith(words) and "error: 500" in line]) == 2
    if not on_terminal:
        (first, _) = [number for number, line in enumerate(lines) if "that failed are tried again" in line]
        assert lines[first - 1].startswith("could not be fetched yet: ")


def test_a_search_that_waits_for_a_limit_gets_its_late_tries(github: GitHubStandIn, tmp_path: Path) -> None:
    github.before_git = lambda path: Fault(damage="reset") if "/r2.git" in path else None
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        collect(github, collection, request, limit=COUNT)
        assert states(collection, request) == {"fetched": COUNT - 1, "failed": 1}


@pytest.mark.parametrize("ahead", [0.0, -86_400.0, 86_400.0])
def test_the_last_hour_by_githubs_clock_is_searched_again_by_the_next_run(
    github: GitHubStandIn, tmp_path: Path, ahead: float
) -> None:
    github.clock_ahead = ahead
    now = int(time.time() + ahead)
    request = request_for(github, stamp(now - 7200), stamp(now))
    with Collection(tmp_path / "repos") as collection:
        run = collect(github, collection, request)
        (gap,) = run.searching.gaps(QUERY)
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
        assert run.searching.gaps(QUERY) == [] and run.is_up_to_date()


def test_a_limit_that_a_killed_run_met_is_kept_by_the_next(github: GitHubStandIn, tmp_path: Path) -> None:
    request = request_for(github, "2024-03-01T00:00:00Z", "2024-03-01T23:59:59Z")
    with Collection(tmp_path / "repos") as collection:
        collection.searches.record_pause(request.source, 1.5)
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
        collection.searches.forget(request)
        collect(github, collection, request, refetch=True)
        assert states(collection, request) == {"fetched": COUNT - 1, "empty": 1}
    assert not (tmp_path / "repos/ann/r3").exists()


def test_what_is_unsearched_is_what_no_sub_range_covers() -> None:
    assert unsearched(Span(0, 99), [Span(0, 9), Span(50, 59)]) == [Span(10, 49), Span(60, 99)]
