"""Several collectors of one range of dates: each its part, together everything, and one corpus of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from collected_folder import COLLECTOR, rows_in
from collection.request import DateRange, DateRangeError, parse_range
from git_stand_in import make_repository
from github_stand_in import GitHubStandIn, moment, stamp
from project import PROJECT, run_script, succeed

DAYS = ("--start-date", "2024-03-01", "--end-date", "2024-03-04")
COUNT = 12


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubStandIn]:
    """Twelve repositories in four days, three a day."""
    with GitHubStandIn(tmp_path / "git") as server:
        for number in range(COUNT):
            name = f"ann/r{number}"
            source = f"def function_{number}(argument: int) -> int:\n    return argument + {number * 1001}\n"
            make_repository(tmp_path / "git" / f"{name}.git", {"a.py": source.encode()})
            server.add(name, stamp(moment("2024-03-01T00:00:00Z") + number * 8 * 3600))
        yield server


def start(github: GitHubStandIn, folder: Path, part: str, repos: str) -> subprocess.Popen[str]:
    options = [*DAYS, "--part", part, "--repos", repos, "--api-url", github.url]
    return subprocess.Popen(
        [sys.executable, str(PROJECT / COLLECTOR), *options],
        cwd=folder,
        env={**os.environ, "GITHUB_TOKEN": "github_pat_shared"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def names(repos: Path) -> set[str]:
    return {str(row[0]) for row in rows_in(repos, "full_name")}


def test_parts_are_neighbours_and_make_up_the_whole() -> None:
    span = parse_range("2024-03-01", "2024-03-07")
    for parts in (1, 2, 3, 4, 7, 50):
        cut = [span.part(number, parts) for number in range(1, parts + 1)]
        assert (cut[0].first, cut[-1].last) == (span.first, span.last)
        for before, after in pairwise(cut):
            assert after.first - before.last == timedelta(seconds=1)
        lengths = [(each.last - each.first).total_seconds() for each in cut]
        assert max(lengths) - min(lengths) <= 1
    assert span.part(2, 7) == parse_range("2024-03-02", "2024-03-02")


def test_a_part_that_has_not_begun_or_has_no_second_is_an_error() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    with pytest.raises(DateRangeError, match="part 4/4 begins later than now"):
        DateRange(now - timedelta(hours=1), now + timedelta(hours=23)).part(4, 4)
    with pytest.raises(DateRangeError, match="fewer seconds than parts"):
        DateRange(now, now).part(1, 2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--part", "3/2", *DAYS), "argument --part: not a part such as 2/4: '3/2'"),
        (("--part", "0/2", *DAYS), "argument --part: not a part such as 2/4: '0/2'"),
        (("--part", "1/2"), "--part takes both dates"),
        (("--part", "1/2", "--query", "org:psf"), "--part takes both dates"),
        (("--part", "1/2", *DAYS, "--sort", "stars", "--limit", "5"), "--part takes both dates"),
        (("--part", "1/2", "--local"), "--local takes no --part"),
    ],
)
def test_what_cannot_be_cut_is_said_before_anything_is_asked(
    options: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    result = run_script(COLLECTOR, *options, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith(f"error: {complaint}")
    assert result.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_two_collectors_at_once_share_a_token_and_make_no_search_twice(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    github.budget, github.window_seconds = 2, 2.0  # neither can search without the other's leave
    work = tmp_path / "work"
    work.mkdir()
    collectors = [start(github, work, f"{number}/2", f"repos{number}") for number in (1, 2)]
    said = [collector.communicate(timeout=120)[0] for collector in collectors]
    assert [collector.returncode for collector in collectors] == [0, 0], said
    found = [names(work / f"repos{number}") for number in (1, 2)]
    assert found == [{f"ann/r{n}" for n in range(6)}, {f"ann/r{n}" for n in range(6, COUNT)}]
    searches = [(each.query, each.page) for each in github.received if "created" in each.query]
    refused = len(searches) - len(set(searches))
    assert refused <= 4, "a refusal is waited out, not repeated at once"


def test_the_stages_after_it_take_both_folders_as_one(github: GitHubStandIn, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for number in (1, 2):
        collector = start(github, work, f"{number}/2", f"repos{number}")
        assert collector.communicate(timeout=120) and collector.returncode == 0
    whole = succeed(run_script(COLLECTOR, *DAYS, "--api-url", github.url, cwd=work, env={"GITHUB_TOKEN": ""}))
    assert "12 repositories" in whole.stdout
    both = ("--repos", "repos1", "repos2")
    cleaned = succeed(run_script("preprocess/data_cleaner.py", *both, cwd=work)).stdout.splitlines()
    command = f"python {PROJECT / 'preprocess/data_preprocess.py'} --repos repos1 repos2"
    assert cleaned[-1] == f"next: {command}"
    keep = ("--threshold", "near_empty=off", "--threshold", "near_duplicate=off", "--jobs", "1")
    preprocess = "preprocess/data_preprocess.py"
    succeed(run_script(preprocess, *keep, *both, "--output", "both.txt", cwd=work))
    succeed(run_script(preprocess, *keep, "--output", "whole.txt", cwd=work))
    assert (work / "both.txt").read_bytes() == (work / "whole.txt").read_bytes()
    assert (work / "both.ledger.jsonl").read_bytes() == (work / "whole.ledger.jsonl").read_bytes()
    again = succeed(run_script(preprocess, *keep, *both, "--output", "both.txt", cwd=work))
    assert again.stdout.startswith("up to date: ")
    explained = succeed(run_script(preprocess, "--output", "both.txt", "--explain", "ann/r7/a.py", cwd=work))
    assert explained.stdout.startswith("ann/r7/a.py: kept")

    asked = work / "asked.txt"
    asked.write_text("ann/r7\n", encoding="utf-8")
    succeed(run_script(preprocess, *keep, *both, "--output", "both.txt", "--exclude", asked, cwd=work))
    assert b'"ann/r7"' not in (work / "both.txt").read_bytes()


def test_a_repository_in_two_folders_is_taken_from_the_first(tmp_path: Path) -> None:
    for folder, text in (("one", "x = 1"), ("two", "x = 2")):
        path = tmp_path / folder / "ann/tool/a.py"
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\ny = 'some more text to keep'\n", encoding="utf-8")
    (tmp_path / "two/ann/other").mkdir()
    (tmp_path / "two/ann/other/b.py").write_text("z = 'some other text to keep here'\n", encoding="utf-8")
    result = succeed(run_script("preprocess/data_preprocess.py", "--repos", "one", "two", cwd=tmp_path))
    assert "1 repository is in several folders: the first one counts" in result.stderr
    text = (tmp_path / "data.txt").read_text("utf-8")
    assert "x = 1" in text and "x = 2" not in text and "ann/other" in text


def test_a_folder_that_is_missing_or_named_twice_is_one_line_and_nothing_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "one/ann/tool").mkdir(parents=True)
    (tmp_path / "one/ann/tool/a.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "one/ann/tool/notes.md").write_text("mine\n", encoding="utf-8")
    for script, options in (
        ("preprocess/data_preprocess.py", ("--repos", "one", "none")),
        ("preprocess/data_preprocess.py", ("--repos", "one", "./one")),
        ("preprocess/data_cleaner.py", ("--yes", "--repos", "one", "none")),
    ):
        result = run_script(script, *options, cwd=tmp_path)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert (tmp_path / "one/ann/tool/notes.md").is_file()
