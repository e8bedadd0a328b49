"""What the collector's command line promises: wrong options named, exit codes true when nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collected_folder import COLLECTOR, files_in
from project import PROJECT, run_script


def run_unread(cwd: Path, *arguments: str, unread: str) -> subprocess.CompletedProcess[str]:
    """Run the collector with one of its outputs going to a program that has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, unread: writer}
    command = [sys.executable, str(PROJECT / COLLECTOR), "--local", *arguments]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    try:
        return subprocess.run(command, cwd=cwd, env=env, text=True, check=False, timeout=60, **outputs)  # type: ignore[call-overload,no-any-return]
    finally:
        os.close(writer)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("a = 1\n", encoding="utf-8")
    return tmp_path


def test_a_reader_that_has_seen_enough_is_no_error(work: Path) -> None:
    result = run_unread(work, "src", unread="stdout")
    assert (result.returncode, result.stderr) == (0, "")
    assert files_in(work / "repos") == {"local/src/a.py": b"a = 1\n"}


def test_gaps_are_named_and_counted_when_nobody_reads_the_report(work: Path) -> None:
    (work / "broken.zip").write_bytes(b"no archive")
    result = run_unread(work, "src", "broken.zip", unread="stdout")
    assert result.returncode == 3
    assert "broken.zip" in result.stderr and "Traceback" not in result.stderr


def test_the_collection_continues_when_nobody_reads_its_progress(work: Path) -> None:
    (work / "broken.zip").write_bytes(b"no archive")
    result = run_unread(work, "broken.zip", "src", unread="stderr")
    assert result.returncode == 3
    assert "next: " in result.stdout
    assert files_in(work / "repos") == {"local/src/a.py": b"a = 1\n"}


def test_each_source_that_cannot_be_read_gets_a_line_of_its_own(work: Path) -> None:
    for name in ("one.zip", "two.zip"):
        (work / name).write_bytes(b"no archive")
    result = run_script(COLLECTOR, "--local", "one.zip", "two.zip", cwd=work)
    assert result.returncode == 1
    assert [line.startswith("error: ") for line in result.stderr.splitlines()] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--strat-date", "2024-03-01"), "error: unknown option --strat-date: did you mean --start-date?"),
        (("--min-star=3",), None),  # an abbreviation that argparse takes
        (("--qqq",), "error: unknown option --qqq (see --help)"),
        (("repos",), "error: not an option: repos (see --help)"),
        (
            ("--limit", "some"),
            "error: argument --limit: not a whole number of at least 0: 'some' (see --help)",
        ),
        (("--jobs", "0"), "error: argument --jobs: not a whole number of at least 1: '0' (see --help)"),
        (("--max-mb", "nan"), "error: argument --max-mb: not a number of at least 0: 'nan' (see --help)"),
        ((), "error: --start-date and --end-date missing"),
    ],
)
def test_a_wrong_command_gets_one_line_and_a_pointer_to_the_help(
    tmp_path: Path, arguments: tuple[str, ...], line: str | None
) -> None:
    result = run_script(COLLECTOR, *arguments, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "(see --help)" in result.stderr
    assert line is None or result.stderr.startswith(line)
