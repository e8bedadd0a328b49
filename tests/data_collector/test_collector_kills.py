"""SIGKILL at any moment costs at most the clones in flight: the result is that of an undisturbed run."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from git_stand_in import make_repository
from github_stand_in import GitHubStandIn, moment, stamp
from project import PROJECT

REPOSITORIES = 30
JOBS = 4
COLLECTOR = PROJECT / "data_collector/data_collector.py"
FIRST = moment("2024-03-01T00:00:00Z")
DAYS = ("--start-date", "2024-03-01", "--end-date", "2024-03-05")


def fill(github: GitHubStandIn, root: Path) -> None:
    """Thirty repositories in five days, of every fate: cloned whole and in part, empty, gone, hostile."""
    for number in range(REPOSITORIES):
        name = f"o{number % 3}/r{number}"
        if number % 10 != 7:  # those are gone
            tree: dict[str, bytes | tuple[str, bytes]] = {
                f"m{n}.py": f"x = {n}\n".encode() for n in range(number % 5)
            }
            make_repository(root / f"{name}.git", {**tree, "data.bin": b"\0" * 50, "../up.py": b"no\n"})
        github.add(name, stamp(FIRST + number * 14_000), size=5000 if number % 2 else 10)


def run(github: GitHubStandIn, repos: Path, *more: str) -> subprocess.Popen[bytes]:
    options = ["--api-url", github.url, "--repos", str(repos), "--jobs", str(JOBS), *more]
    return subprocess.Popen(
        [sys.executable, str(COLLECTOR), *DAYS, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "GITHUB_TOKEN": ""},
    )


def state(repos: Path) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]], dict[str, bytes]]:
    """Everything that a run leaves behind, its times apart: repositories, sub-ranges, files."""
    database = sqlite3.connect(repos / "collection.db")
    try:
        columns = [row[1] for row in database.execute("PRAGMA table_info(repositories)")]
        lasting = ", ".join(column for column in columns if column != "fetched_at")
        repositories = database.execute(f"SELECT {lasting} FROM repositories ORDER BY id").fetchall()  # noqa: S608
        windows = database.execute(
            "SELECT first_second, last_second, total, found, is_complete FROM windows ORDER BY first_second"
        ).fetchall()
    finally:
        database.close()
    files = [
        path for path in repos.rglob("*") if path.is_file() and not path.name.startswith("collection.db")
    ]
    return repositories, windows, {str(path.relative_to(repos)): path.read_bytes() for path in files}


def clones(github: GitHubStandIn) -> Counter[str]:
    """How often each repository's clone was begun."""
    paths = (request.path for request in github.git_requests)
    return Counter(path.split(".git/info/refs")[0] for path in paths if "/info/refs" in path)


def kill_and_finish(github: GitHubStandIn, repos: Path, moments: list[float]) -> None:
    """Kill a run after each of these times, in seconds from its first request, then let one end."""
    for after in moments:
        before = len(github.received) + len(github.git_requests)
        process = run(github, repos)
        while process.poll() is None and len(github.received) + len(github.git_requests) == before:
            time.sleep(0.002)
        time.sleep(after)
        process.kill()
        process.wait()
    last = run(github, repos)
    assert last.wait(timeout=120) == 3  # some are gone, and ../up.py has no place


def check_against_an_undisturbed_run(tmp_path: Path, kills: int, seed: int) -> None:
    with GitHubStandIn(tmp_path / "git") as github:
        fill(github, tmp_path / "git")
        github.before_git = lambda _: time.sleep(0.02)
        assert run(github, tmp_path / "undisturbed").wait(timeout=120) == 3
        once = clones(github)
        github.git_requests.clear()
        github.received.clear()
        chance = random.Random(seed)
        kill_and_finish(github, tmp_path / "killed", [chance.random() * 0.6 for _ in range(kills)])
        assert state(tmp_path / "killed") == state(tmp_path / "undisturbed")
        repeated = sum((clones(github) - once).values())
        # A partial clone asks for its refs twice; so may each of the clones that a kill caught.
        assert repeated <= 2 * JOBS * kills
        again = len(github.received)
        assert run(github, tmp_path / "killed").wait(timeout=60) == 3
        assert len(github.received) == again


def test_a_run_that_is_killed_again_and_again_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    check_against_an_undisturbed_run(tmp_path, kills=4, seed=1)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_run_that_is_killed_at_many_more_moments_ends_the_same(tmp_path: Path, seed: int) -> None:
    check_against_an_undisturbed_run(tmp_path, kills=12, seed=seed)


def test_sub_ranges_that_are_finished_are_not_searched_again_after_a_kill(tmp_path: Path) -> None:
    with GitHubStandIn(tmp_path) as github:
        for number in range(2500):
            github.add(f"o/{number}", stamp(FIRST + number * 170), clone_url="no")
        searched: list[tuple[str, str]] = []
        for requests in (6, 13, 10_000):
            github.received.clear()
            process = run(github, tmp_path / "repos", "--plan")
            while process.poll() is None and len(github.received) < requests:
                time.sleep(0.001)
            process.kill()
            process.wait()
            for request in github.received:
                first, last = request.query.split("created:")[1].split("..")
                assert not any(low <= last and first <= high for low, high in searched)
            searched = [(str(row[0]), str(row[1])) for row in state(tmp_path / "repos")[1]]
        assert process.returncode == 0
        assert len(state(tmp_path / "repos")[0]) == 2500
