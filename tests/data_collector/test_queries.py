"""Searches without dates, and the most starred repositories of a search."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collected_folder import COLLECTOR, files_in, rows_in
from collector_runs import NO_TOKEN, add_repository
from git_stand_in import Tree
from github_answers import license_named
from github_stand_in import Fault, GitHubStandIn
from project import run_script, succeed

YEARS = ("2008-02-03", "2012-05-06", "2016-07-08", "2019-01-02", "2024-03-01")


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubStandIn]:
    """Five repositories of five years; the later, the fewer stars, but for the last one."""
    with GitHubStandIn(tmp_path / "git") as server:
        for number, day in enumerate(YEARS):
            tree: Tree = {"a.py": f"a = {number}\n".encode()}
            stars = 100 if number == 4 else 50 - number
            more = {
                "license": license_named("MIT" if number % 2 else "Apache-2.0"),
                "stargazers_count": stars,
            }
            add_repository(server, f"ann/r{number}", f"{day}T10:00:00Z", tree, **more)
        yield server


def collect(github: GitHubStandIn, work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script(COLLECTOR, "--api-url", github.url, *arguments, cwd=work, env=NO_TOKEN)


def names(work: Path) -> set[str]:
    return {str(name) for name, state in rows_in(work / "repos", "full_name, state") if state == "fetched"}


def test_a_query_without_dates_searches_from_the_first_day_of_github_to_today(
    github: GitHubStandIn, work: Path
) -> None:
    succeed(collect(github, work, "--query", "org:ann stars:>10"))
    assert names(work) == {f"ann/r{number}" for number in range(5)}
    assert "created:2007-10-01T00:00:00Z.." in github.received[0].query
    assert "org:ann" in github.received[0].query and "stars:11..*" in github.received[0].query
    github.git_requests.clear()
    searched = len(github.received)
    succeed(collect(github, work, "--query", "org:ann stars:>10"))
    assert github.git_requests == [] and len(github.received) <= searched + 1  # GitHub's last hour again


def test_one_date_is_enough_beside_a_query(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "--query", "org:ann", "--start-date", "2016-01-01"))
    assert names(work) == {"ann/r2", "ann/r3", "ann/r4"}


def test_a_plan_of_many_years_has_a_row_for_each_and_says_what_it_cost(
    github: GitHubStandIn, work: Path
) -> None:
    for number in range(1_100):
        github.add(
            f"many/{number}", f"20{10 + number % 14}-{1 + number % 12:02}-15T10:00:00Z", clone_url="no"
        )
    result = succeed(collect(github, work, "--query", "parser", "--plan"))
    rows = [line.split()[0] for line in result.stdout.splitlines() if line[:2] == "20"]
    assert rows == sorted({day[:4] for day in YEARS} | {str(year) for year in range(2010, 2024)})
    assert "1,105 repositories wait" in result.stdout
    assert "GitHub counts 1,105 repositories: about 12 searches, 1 min 12 s" in result.stderr
    assert " searches in " in result.stderr and github.git_requests == []


def test_sorting_takes_the_most_starred_and_fetches_those(github: GitHubStandIn, work: Path) -> None:
    result = succeed(collect(github, work, "--sort", "stars", "--limit", "3"))
    assert names(work) == {"ann/r4", "ann/r0", "ann/r1"}
    assert "3 repositories (1 search)" in result.stdout
    before = len(github.received), len(github.git_requests)
    assert succeed(collect(github, work, "--sort", "stars", "--limit", "3")).stdout.startswith("up to date: ")
    assert (len(github.received), len(github.git_requests)) == before
    github.git_requests.clear()
    succeed(collect(github, work, "--sort", "stars", "--limit", "4"))
    assert {request.path.split(".git/")[0] for request in github.git_requests} == {"/ann/r2"}


def test_sorting_and_licences_take_the_most_starred_of_all_of_them(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "--sort", "stars", "--limit", "2", "--license", "mit,apache-2.0"))
    assert names(work) == {"ann/r4", "ann/r0"}
    succeed(collect(github, work, "--sort", "stars", "--limit", "2", "--license", "mit", "--query", "x"))
    assert names(work) == {"ann/r4", "ann/r0", "ann/r1", "ann/r3"}


def test_sorting_within_dates_and_planning_it(github: GitHubStandIn, work: Path) -> None:
    options = ("--sort", "stars", "--limit", "2", "--start-date", "2008-01-01", "--end-date", "2016-12-31")
    plan = succeed(collect(github, work, *options, "--plan"))
    assert "2 repositories wait" in plan.stdout and github.git_requests == []
    succeed(collect(github, work, *options))
    assert names(work) == {"ann/r0", "ann/r1"}


def test_refresh_ranks_again(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "--sort", "stars", "--limit", "1"))
    github.repositories[3]["stargazers_count"] = 500
    result = succeed(collect(github, work, "--sort", "stars", "--limit", "1", "--refresh"))
    assert "1 repository" in result.stdout and names(work) == {"ann/r4", "ann/r3"}
    assert files_in(work / "repos")["ann/r3/a.py"] == b"a = 3\n"


def test_one_of_the_most_starred_that_cannot_be_had_is_named(github: GitHubStandIn, work: Path) -> None:
    github.before_git = lambda path: Fault(404) if "/r4.git" in path else None
    result = collect(github, work, "--sort", "stars", "--limit", "2")
    assert result.returncode == 3 and "ann/r4: not found" in result.stderr and names(work) == {"ann/r0"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sort", "stars"), "--sort needs a --limit"),
        (("--sort", "stars", "--limit", "5001"), "--sort needs a --limit of at most 5,000"),
        (("--sort", "age", "--limit", "5"), "invalid choice"),
        (("--query", "sort:stars"), "--sort stars --limit N"),
        (("--query", "x", "--end-date", "2001-01-01", "--start-date", "2024-01-01"), "is after the end"),
        (("--min-stars", "5"), "--start-date and --end-date missing"),
    ],
)
def test_what_cannot_be_sorted_or_searched_is_refused(
    github: GitHubStandIn, work: Path, options: tuple[str, ...], words: str
) -> None:
    result = collect(github, work, *options)
    assert result.returncode == 2 and words in result.stderr and github.received == []
