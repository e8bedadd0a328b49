"""The collector as people run it: dates, tokens, limits, interruptions, reruns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from collected_folder import COLLECTOR, files_in, rows_in
from collector_runs import NO_TOKEN, TOKEN, add_repository
from git_stand_in import Tree, make_repository, wait_until
from github_answers import license_named
from github_stand_in import Fault, GitHubStandIn, moment, stamp
from project import PROJECT, run_script, succeed

TRUE_PATHS = "paths JOIN repositories ON repositories.id = repository_id"  # as stage 3 reads them
DAYS = ("--start-date", "2024-03-01", "--end-date", "2024-03-02")


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubStandIn]:
    """Ten repositories of two files each, made in two days; every second one is cloned in part."""
    with GitHubStandIn(tmp_path / "git") as server:
        for number in range(10):
            name = f"ann/r{number}"
            tree: Tree = {"a.py": f"a = {number}\n".encode(), "pkg/b.py": b"b = 1\n", "big.bin": b"\0" * 100}
            created = stamp(moment("2024-03-01T00:00:00Z") + number * 17_000)
            size = 5000 if number % 2 else 10
            add_repository(server, name, created, tree, size=size, stargazers_count=number)
        yield server


def collect(
    github: GitHubStandIn, cwd: Path, *arguments: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    everything = ("--api-url", github.url, *(arguments or DAYS))
    return run_script(COLLECTOR, *everything, cwd=cwd, env={**NO_TOKEN, **(env or {})})


def contents(repos: Path) -> dict[str, str]:
    return {name: content.decode("utf-8") for name, content in files_in(repos).items()}


def expected(count: int = 10) -> dict[str, str]:
    files = {f"ann/r{number}/a.py": f"a = {number}\n" for number in range(count)}
    return files | {f"ann/r{number}/pkg/b.py": "b = 1\n" for number in range(count)}


def test_the_repositories_of_the_days_are_found_cloned_and_recorded(
    github: GitHubStandIn, work: Path
) -> None:
    result = succeed(collect(github, work))
    assert contents(work / "repos") == expected()
    recorded = rows_in(
        work / "repos", "full_name, folder, state, stars, python_files, python_bytes, length(commit_sha)"
    )
    assert recorded[3] == ("ann/r3", "ann/r3", "fetched", 3, 2, 12, 40)
    assert len(recorded) == 10
    assert "10 repositories" in result.stdout
    assert str(work / "repos") in result.stdout
    assert "preprocess/data_cleaner.py" in result.stdout
    assert github.violations == []


def test_the_record_has_the_columns_of_the_contract(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work))
    names = [str(row[1]) for row in rows_in(work / "repos", "*", "pragma_table_info('repositories')")]
    contract = (
        "id full_name source clone_url folder commit_sha license stars forks is_fork created_at pushed_at"
        " size_kb state error python_files python_bytes fetched_at"
    ).split()
    assert names[: len(contract)] == contract
    assert rows_in(work / "repos", "count(*)", "windows") != [(0,)]


def test_only_the_days_that_are_asked_for_are_collected_both_included(
    github: GitHubStandIn, work: Path
) -> None:
    for name, created in {
        "bob/before": "2024-02-29T23:59:59Z",
        "bob/first": "2024-03-01T00:00:00Z",
        "bob/last": "2024-03-02T23:59:59Z",
        "bob/after": "2024-03-03T00:00:00Z",
    }.items():
        make_repository(github.git_root / f"{name}.git", {"x.py": b"x = 1\n"})
        github.add(name, created)
    succeed(collect(github, work))
    assert {path.name for path in (work / "repos/bob").iterdir()} == {"first", "last"}


def test_a_second_run_makes_no_request_and_changes_nothing(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work))
    before = rows_in(work / "repos", "*"), len(github.received), len(github.git_requests)
    result = succeed(collect(github, work))
    assert result.stdout.startswith("up to date: ")
    assert (rows_in(work / "repos", "*"), len(github.received), len(github.git_requests)) == before


def test_refresh_searches_again_and_fetches_only_what_is_new(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work))
    make_repository(github.git_root / "bob/new.git", {"x.py": b"x = 1\n"})
    github.add("bob/new", "2024-03-01T05:00:00Z")
    github.git_requests.clear()
    succeed(collect(github, work, *DAYS, "--refresh"))
    assert contents(work / "repos") == expected() | {"bob/new/x.py": "x = 1\n"}
    assert all(request.path.startswith("/bob/new.git/") for request in github.git_requests)


def test_a_longer_range_searches_only_what_was_not_searched(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "--start-date", "2024-03-01", "--end-date", "2024-03-01"))
    succeed(collect(github, work))
    queries = [request.query.split("created:")[1] for request in github.received]
    assert queries == [
        "2024-03-01T00:00:00Z..2024-03-01T23:59:59Z",
        "2024-03-02T00:00:00Z..2024-03-02T23:59:59Z",
    ]
    assert contents(work / "repos") == expected()


def test_a_limit_is_kept_and_a_larger_one_goes_on_from_there(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, *DAYS, "--limit", "3"))
    assert contents(work / "repos") == expected(3)
    assert succeed(collect(github, work, *DAYS, "--limit", "3")).stdout.startswith("up to date: ")
    succeed(collect(github, work, *DAYS, "--limit", "5", "--jobs", "1"))
    assert contents(work / "repos") == expected(5)


def test_what_could_not_be_had_is_named_and_tried_again_when_asked(github: GitHubStandIn, work: Path) -> None:
    github.add("bob/gone", "2024-03-01T05:00:00Z")
    github.add("bob/ftp", "2024-03-01T05:00:00Z", clone_url="ftp://example.org/x.git")
    result = collect(github, work)
    assert result.returncode == 3
    assert "bob/gone: not found" in result.stderr and "bob/ftp: not an https address" in result.stderr
    assert contents(work / "repos") == expected()
    again = collect(github, work)
    assert again.returncode == 3 and again.stdout.startswith("up to date: ") and "bob/gone" in again.stderr
    make_repository(github.git_root / "bob/gone.git", {"x.py": b"x = 1\n"})
    retried = collect(github, work, *DAYS, "--retry-failed")
    assert retried.returncode == 3 and "bob/gone" not in retried.stderr
    assert contents(work / "repos") == expected() | {"bob/gone/x.py": "x = 1\n"}


def test_a_repository_without_python_is_nothing_missing(github: GitHubStandIn, work: Path) -> None:
    make_repository(github.git_root / "bob/none.git", {"README": b"nothing here\n"})
    github.add("bob/none", "2024-03-01T05:00:00Z")
    result = succeed(collect(github, work))
    assert "1 holds no Python file" in result.stdout
    assert not (work / "repos/bob").exists()


def test_a_second_that_is_not_shown_whole_is_reported_by_name(github: GitHubStandIn, work: Path) -> None:
    # one second, one name: nothing to clone, so that only the search counts
    for number in range(1001):
        github.add(f"many/{number}", "2024-03-09T12:00:00Z", clone_url="no")
    result = collect(github, work, "--start-date", "2024-03-09", "--end-date", "2024-03-09")
    assert result.returncode == 3
    assert "2024-03-09T12:00:00Z to 2024-03-09T12:00:00Z: 1,000 of 1,001" in result.stderr


def test_names_that_no_file_system_takes_get_safe_folders_and_keep_their_names(
    github: GitHubStandIn, work: Path
) -> None:
    make_repository(github.git_root / "eve/x.git", {"x.py": b"x = 1\n"})
    url = f"{github.url}/eve/x.git"
    for name in ("../../up", "eve/..", "eve/X", "eve/x", "eve/con", "eve/\x1b[31mred"):
        github.add(name, "2024-03-01T05:00:00Z", clone_url=url)
    result = succeed(collect(github, work))
    folders = {str(name): str(folder) for name, folder in rows_in(work / "repos", "full_name, folder")}
    assert sorted([folders["eve/X"], folders["eve/x"]], key=len) in (
        ["eve/X", "eve/x~2"],
        ["eve/x", "eve/X~2"],
    )
    assert folders["eve/.."] == "eve/__"
    assert folders["eve/con"] == "eve/_con"
    assert folders["eve/\x1b[31mred"] == "eve/__31mred"
    assert folders["../../up"] == "__/_._up"
    for folder in folders.values():
        assert (work / "repos" / folder).resolve().is_relative_to(work / "repos")
    assert "\x1b" not in result.stdout + result.stderr


def test_files_without_a_safe_place_are_named_by_every_run(github: GitHubStandIn, work: Path) -> None:
    make_repository(
        github.git_root / "eve/x.git", {"x.py": b"x = 1\n", "../up.py": b"no", ".git/y.py": b"no"}
    )
    github.add("eve/x", "2024-03-01T05:00:00Z")
    for _ in range(2):
        result = collect(github, work)
        assert result.returncode == 3
        assert "eve/x: 2 left out" in result.stderr and "../up.py" in result.stderr
    assert contents(work / "repos") == expected() | {"eve/x/x.py": "x = 1\n"}


def test_the_record_knows_the_true_path_of_each_file_whose_name_was_changed(
    github: GitHubStandIn, work: Path
) -> None:
    make_repository(github.git_root / "eve/x.git", {"x.py": b"", "a:b/c?.py": b"", "caf\udce9.py": b""})
    github.add("eve/x", "2024-03-01T05:00:00Z")
    succeed(collect(github, work))
    assert rows_in(work / "repos", "full_name, stored_path, true_path", TRUE_PATHS) == [
        ("eve/x", "a%3Ab/c%3F.py", "a:b/c?.py"),
        ("eve/x", "caf%E9.py", "caf\\xe9.py"),
    ]


def test_a_terminal_shows_how_far_it_is_and_what_it_waits_for(github: GitHubStandIn, work: Path) -> None:
    github.faults = [Fault(429, {"retry-after": "2"}, "Too many requests")]
    github.before_git = lambda _: time.sleep(0.2)
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, PROJECT / COLLECTOR, "--api-url", github.url, *DAYS],
        cwd=work,
        env={**os.environ, **NO_TOKEN},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=its_end,
    )
    os.close(its_end)
    shown = ""
    with suppress(OSError):  # reading ends with an error once the collector has ended
        while piece := os.read(terminal, 10_000):
            shown += piece.decode("utf-8")
    os.close(terminal)
    assert process.communicate(timeout=60) and process.returncode == 0
    assert re.search(r"waiting until \d\d:\d\d:\d\d: GitHub asks for a pause [^\x1b]*found 0", shown)
    assert re.search(r"\d[^\x1b]* left · found 10 · fetched [1-9] · \d+ bytes · \d\.\d/s", shown)


def test_a_pipe_gets_plain_lines(github: GitHubStandIn, work: Path) -> None:
    github.faults = [Fault(403, {"retry-after": "5"}, "You have exceeded a secondary rate limit")]
    result = succeed(collect(github, work))
    assert re.search(r"^GitHub asks for a pause: waiting 5.0 s, until \d\d:\d\d:\d\d$", result.stderr, re.M)
    assert "\r" not in result.stderr and "\x1b" not in result.stderr


def test_without_dates_and_without_a_terminal_the_options_are_named(
    github: GitHubStandIn, work: Path
) -> None:
    result = run_script(COLLECTOR, cwd=work)
    assert result.returncode == 2
    assert "--start-date" in result.stderr and "--end-date" in result.stderr and "--local" in result.stderr
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-03-02", "2024-03-01"),
        ("2024-02-30", "2024-03-01"),
        ("2024-03-01", "2999-01-01"),
        ("2024-03-01", "9999-12-31T23:59:59-10:00"),
        ("0001-01-01T00:00:00+10:00", "2024-03-01"),
        ("soon", "later"),
    ],
)
def test_impossible_dates_are_refused_before_any_request(
    github: GitHubStandIn, work: Path, start: str, end: str
) -> None:
    result = collect(github, work, "--start-date", start, "--end-date", end)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert github.received == [] and list(work.iterdir()) == []


def test_on_a_terminal_the_dates_are_asked_for(github: GitHubStandIn, work: Path) -> None:
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, PROJECT / COLLECTOR, "--api-url", github.url],
        cwd=work,
        env={**os.environ, **NO_TOKEN},
        stdin=its_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(its_end)
    os.write(terminal, b"2024-03-02\n2024-03-01\n2024-03-01\n2024-03-02\n")  # the first answers are no range
    process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 0
    assert contents(work / "repos") == expected()


def test_a_token_is_taken_from_the_option_then_the_file_then_the_variable(
    github: GitHubStandIn, work: Path
) -> None:
    (work / "token.txt").write_text("token-of-the-file\n", encoding="utf-8")
    (work / "mine").write_text("token-of-the-option\r\n", encoding="utf-8")
    variable = {"GITHUB_TOKEN": "token-of-the-variable"}
    succeed(collect(github, work, *DAYS, "--token-file", "mine", env=variable))
    succeed(collect(github, work, *DAYS, "--refresh", env=variable))
    (work / "token.txt").unlink()
    succeed(collect(github, work, *DAYS, "--refresh", env=variable))
    last = collect(github, work, *DAYS, "--refresh")
    assert "no token" in succeed(last).stderr
    sent = [request.headers.get("authorization", "").split(" ")[-1] for request in github.received]
    assert sent == ["token-of-the-option", "token-of-the-file", "token-of-the-variable", ""]


def test_the_example_is_a_form_to_be_filled_in(github: GitHubStandIn, work: Path) -> None:
    form = (PROJECT / "token.txt.example").read_text("utf-8")
    (work / "token.txt").write_text(form, encoding="utf-8")
    assert "make one at" in collect(github, work).stderr
    *explanation, placeholder = form.splitlines()
    assert all(line.startswith("#") for line in explanation)
    (work / "token.txt").write_text(form.replace(placeholder, TOKEN), encoding="utf-8")
    succeed(collect(github, work))
    assert github.received[0].headers["authorization"].split(" ")[-1] == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two words here",
        "two\nlines-of-it",
        "ghp_replace_this_line_with_your_own_GitHub_token",
        "tökén-tökén",
    ],
)
def test_what_cannot_be_a_token_is_refused_without_showing_it(
    github: GitHubStandIn, work: Path, text: str
) -> None:
    (work / "token.txt").write_text(text, encoding="utf-8")
    result = collect(github, work)
    assert result.returncode == 1
    assert str(work / "token.txt") in result.stderr and result.stderr.count("\n") == 1
    assert not text or text not in result.stderr
    assert github.received == [] and not (work / "repos").exists()


def test_a_wrong_token_gets_one_clear_line_and_touches_nothing(github: GitHubStandIn, work: Path) -> None:
    github.tokens = {"another"}
    (work / "token.txt").write_text(TOKEN, encoding="utf-8")
    result = collect(github, work)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "401" in errors[0] and str(work / "token.txt") in errors[0] and "settings" in errors[0]
    assert "Traceback" not in result.stderr and TOKEN not in result.stderr + result.stdout
    assert len(github.received) == 1
    assert not (work / "repos").exists()


def test_a_token_that_is_revoked_on_the_way_stops_the_run_and_keeps_what_was_found(
    github: GitHubStandIn, work: Path
) -> None:
    (work / "token.txt").write_text(TOKEN, encoding="utf-8")
    succeed(collect(github, work, "--start-date", "2024-03-01", "--end-date", "2024-03-01"))
    before = contents(work / "repos")
    github.tokens = set()
    assert collect(github, work).returncode == 1
    assert contents(work / "repos") == before != {}


def test_a_token_that_is_revoked_while_clones_run_stops_them_and_keeps_what_is_done(
    github: GitHubStandIn, work: Path
) -> None:
    for number in range(950):  # pages enough for the first clones to be done before the last
        github.add(
            f"many/{number}", "2024-03-01T01:00:00Z", clone_url="no", updated_at="2020-01-01T00:00:00Z"
        )
    github.faults, github.slow_seconds = [Fault(damage="slow")] * 10, 0.3
    (work / "token.txt").write_text(TOKEN, encoding="utf-8")

    def before(path: str) -> Fault | None:
        if (work / "repos/ann/r0").is_dir():
            github.tokens = set()
        return Fault(damage="stall") if "/r5.git" in path else None

    github.before_git = before
    result = collect(github, work)
    assert result.returncode == 1 and "401" in result.stderr and "Traceback" not in result.stderr
    assert [request.headers["authorization"] for request in github.received][-1].endswith(TOKEN)
    kept = names_in(work / "repos")
    assert "ann/r0" in kept and "ann/r5" not in kept
    github.tokens, github.before_git = None, None
    github.git_requests.clear()
    assert collect(github, work).returncode == 3  # the many cannot be had
    assert contents(work / "repos") == expected()
    assert kept & {request.path.split(".git/")[0].strip("/") for request in github.git_requests} == set()


def test_the_token_reaches_the_api_alone(github: GitHubStandIn, work: Path) -> None:
    (work / "token.txt").write_text(TOKEN, encoding="utf-8")
    stalled: list[str] = []

    def before(path: str) -> Fault | None:
        stalled.append(path)
        time.sleep(0.3)
        return Fault(404) if "/r3.git" in path else None

    github.before_git = before
    (work / ".gitconfig").write_text("[credential]\n\thelper = store\n", encoding="utf-8")
    process = start(
        github, work, env={"GITHUB_TOKEN": TOKEN + "2", "GH_TOKEN": TOKEN + "3", "HOME": str(work)}
    )
    seen = ""
    while process.poll() is None:
        for pid in filter(str.isdigit, (path.name for path in Path("/proc").iterdir())):
            seen += _of_process(pid, "cmdline")
            if int(pid) != process.pid and "git" in _of_process(pid, "comm"):
                seen += _of_process(pid, "environ") if f"{work}" in _of_process(pid, "environ") else ""
        for folder, _, names in os.walk(work):  # unlike rglob it is not irritated by what vanishes meanwhile
            seen += _read(Path(folder, "config")) if "config" in names else ""
    stdout, stderr = process.communicate()
    for trace in ("git\0clone", "GIT_TERMINAL_PROMPT", "repositoryformatversion"):
        assert trace in seen, "nothing was observed"
    assert TOKEN not in seen + stdout + stderr
    assert [request for request in github.git_requests if TOKEN in str(request.headers)] == []
    for path in work.rglob("*"):
        if path.is_file() and path.name != "token.txt":
            assert TOKEN.encode() not in path.read_bytes(), path


def _of_process(pid: str, name: str) -> str:
    return _read(Path("/proc", pid, name))


def _read(path: Path) -> str:
    """A text that may vanish while it is read; then ''."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def start(github: GitHubStandIn, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROJECT / COLLECTOR), "--api-url", github.url, *DAYS, "--jobs", "2"]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **NO_TOKEN, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("clone_requests", [0, 1, 3, 8, 14, 20])
def test_a_killed_run_is_finished_by_the_next_without_repeating_what_was_done(
    github: GitHubStandIn, work: Path, clone_requests: int
) -> None:
    process = start(github, work)
    wait_until(lambda: len(github.git_requests) >= clone_requests and bool(github.received))
    process.kill()
    process.communicate()
    done = {name for name, state in rows_in(work / "repos", "full_name, state") if state == "fetched"}
    github.git_requests.clear()
    succeed(collect(github, work))
    assert contents(work / "repos") == expected()
    again = {request.path.split(".git/")[0].strip("/") for request in github.git_requests}
    assert again & done == set()
    assert [path.name for path in (work / "repos").iterdir() if path.name.startswith(".")] == []


def test_no_git_outlives_a_killed_collector(github: GitHubStandIn, work: Path) -> None:
    github.before_git = lambda _: Fault(damage="stall")
    process = start(github, work)
    wait_until(lambda: len(github.git_requests) >= 2)
    process.kill()
    process.communicate()
    wait_until(lambda: not _gits_below(work))


def _gits_below(folder: Path) -> list[str]:
    """The command lines of processes that name a folder below this one."""
    lines = (_of_process(path.name, "cmdline") for path in Path("/proc").glob("[0-9]*"))
    return [line for line in lines if f"{folder}/repos/.partial" in line]


@pytest.mark.parametrize("pauses", [(), (0.0,), (0.005,), (0.02,), (0.1, 0.02)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_clones_and_keeps_what_was_fetched(
    github: GitHubStandIn, work: Path, number: signal.Signals, pauses: tuple[float, ...]
) -> None:
    """Once, or again while the first one is being obeyed."""
    github.before_git = lambda path: Fault(damage="stall") if "/r5.git" in path else None
    process = start(github, work)
    wait_until(lambda: any("/r5.git" in request.path for request in github.git_requests))
    process.send_signal(number)
    for pause in pauses:
        time.sleep(pause)
        process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in stderr and "continues from here" in stderr
    github.before_git = None
    succeed(collect(github, work))
    assert contents(work / "repos") == expected()


def test_two_collectors_do_not_share_a_folder(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work))
    with (work / "repos/collection.db-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = collect(github, work, *DAYS, "--refresh")
    assert result.returncode == 1
    assert "another collector" in result.stderr


@pytest.mark.parametrize("arguments", [DAYS, ("--local",)])
def test_a_folder_that_somebody_else_filled_is_left_alone(
    github: GitHubStandIn, work: Path, arguments: tuple[str, ...]
) -> None:
    (work / "repos").mkdir()
    (work / "repos/mine.py").write_text("mine", encoding="utf-8")
    result = collect(github, work, *arguments)
    assert result.returncode == 1
    assert str(work / "repos") in result.stderr
    assert contents(work) == {"repos/mine.py": "mine"}


@pytest.mark.parametrize("database", [b"", b"no database at all, but long enough to be read as one" * 100])
def test_a_record_that_is_none_is_left_alone(github: GitHubStandIn, work: Path, database: bytes) -> None:
    (work / "repos").mkdir()
    (work / "repos/collection.db").write_bytes(database)
    (work / "repos/mine.py").write_text("mine", encoding="utf-8")
    result = collect(github, work)
    assert "Traceback" not in result.stderr
    assert (work / "repos/mine.py").read_text("utf-8") == "mine"
    assert result.returncode == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "ftp://127.0.0.1",
        "https://",
        "https://me:s3cret@example.org",
        "https://me:s3cret/x@example.org",
        "https://[::1",
        "https://h:port",
    ],
)
def test_the_api_is_asked_over_https_alone(work: Path, url: str) -> None:
    result = run_script(COLLECTOR, "--api-url", url, *DAYS, cwd=work, env=NO_TOKEN)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "s3cret" not in result.stderr
    assert "--api-url" in result.stderr and list(work.iterdir()) == []


def test_without_git_the_remedy_is_named(github: GitHubStandIn, work: Path) -> None:
    result = collect(github, work, env={"PATH": str(work)})
    assert result.returncode == 1
    assert "install it" in result.stderr and list(work.iterdir()) == []


def test_eight_clones_at_a_time_overlap(github: GitHubStandIn, work: Path) -> None:
    running, most = [0], [0]

    def before(_: str) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.1)
        running[0] -= 1

    github.before_git = before
    succeed(collect(github, work))
    assert 4 <= most[0] <= 8


def names_in(repos: Path) -> set[str]:
    return {str(name) for name, state in rows_in(repos, "full_name, state") if state == "fetched"}


def test_only_repositories_that_the_qualifiers_ask_for_are_collected(
    github: GitHubStandIn, work: Path
) -> None:
    for repository in github.repositories[4:8]:
        repository["license"] = license_named("MIT" if repository["id"] % 2 else "Apache-2.0")
    github.repositories[5]["fork"] = True
    options = ("--min-stars", "5", "--max-repo-mb", "4", "--license", "permissive", "--query", "stars:<8")
    succeed(collect(github, work, *DAYS, *options))
    assert names_in(work / "repos") == {"ann/r6"}  # r5, r7 are large
    succeed(collect(github, work, *DAYS, "--license", "mit,apache-2.0", "--include-forks"))
    assert names_in(work / "repos") == {"ann/r4", "ann/r5", "ann/r6", "ann/r7"}


def test_searches_that_overlap_fetch_a_repository_once_and_each_knows_its_own(
    github: GitHubStandIn, work: Path
) -> None:
    succeed(collect(github, work, *DAYS, "--min-stars", "8"))
    github.git_requests.clear()
    result = succeed(collect(github, work, *DAYS, "--min-stars", "7"))
    assert "3 repositories" in result.stdout
    assert {request.path.split(".git/")[0] for request in github.git_requests} == {"/ann/r7"}
    again = succeed(collect(github, work, *DAYS, "--min-stars", "8"))
    assert "2 repositories" in again.stdout and again.stdout.startswith("up to date: ")


@pytest.mark.parametrize(
    "options",
    [
        ("--query", "created:>2024-01-01"),
        ("--license", "apache2"),
        ("--min-stars", "-1"),
        ("--plan", "--limit", "3"),
        ("--local", "--plan"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_request(
    github: GitHubStandIn, work: Path, options: tuple[str, ...]
) -> None:
    result = collect(github, work, *(() if "--local" in options else DAYS), *options)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert github.received == [] and list(work.iterdir()) == []


def test_a_plan_finds_and_records_and_a_later_run_goes_on_from_there(
    github: GitHubStandIn, work: Path
) -> None:
    plan = succeed(collect(github, work, *DAYS, "--plan")).stdout
    assert "2024-03-01" in plan and "2024-03-02" in plan and "10 repositories wait" in plan
    assert github.git_requests == []
    searches = len(github.received)
    assert succeed(collect(github, work, *DAYS, "--plan")).stdout == plan
    succeed(collect(github, work))
    assert len(github.received) == searches
    assert contents(work / "repos") == expected()
    assert "nothing is left to fetch" in succeed(collect(github, work, *DAYS, "--plan")).stdout


@pytest.mark.parametrize("columns", [40, 80])
def test_a_plan_fits_the_terminal(github: GitHubStandIn, work: Path, columns: int) -> None:
    plan = succeed(collect(github, work, *DAYS, "--plan", env={"COLUMNS": str(columns)})).stdout
    lines = [line for line in plan.splitlines() if not line.startswith(("recorded in ", "next: "))]
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("together ") for line in lines)


def test_a_range_may_begin_and_end_in_the_middle_of_a_day(github: GitHubStandIn, work: Path) -> None:
    first, last = "2024-03-01T04:43:20Z", "2024-03-01T10:26:40+01:00"  # of r1 and r2: 17,000 s apart
    succeed(collect(github, work, "--start-date", first, "--end-date", last))
    assert names_in(work / "repos") == {"ann/r1", "ann/r2"}


def test_refresh_takes_again_what_was_pushed_to_since(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work))
    path = github.git_root / "ann/r3.git"
    parent = (path / "refs/heads/main").read_text("utf-8").strip()
    commit = make_repository(path, {"a.py": b"a = 'new'\n"}, parent=parent)
    github.repositories[3]["pushed_at"] = "2024-06-01T00:00:00Z"
    github.git_requests.clear()
    succeed(collect(github, work, *DAYS, "--refresh"))
    changed = {**expected(), "ann/r3/a.py": "a = 'new'\n"}
    del changed["ann/r3/pkg/b.py"]
    assert contents(work / "repos") == changed
    assert {request.path.split(".git/")[0] for request in github.git_requests} == {"/ann/r3"}
    assert ("ann/r3", commit) in rows_in(work / "repos", "full_name, commit_sha")


def test_a_name_that_went_to_another_repository_stays_with_the_new_one(
    github: GitHubStandIn, work: Path
) -> None:
    succeed(collect(github, work))
    make_repository(github.git_root / "ann/other.git", {"x.py": b"x = 1\n"})
    url = f"{github.url}/ann/other.git"
    github.add("ann/r3", "2024-03-02T01:00:00Z", clone_url=url)
    github.repositories[3]["full_name"] = "ann/renamed"
    github.add("ann/r4", "2024-03-02T02:00:00Z", clone_url=url)
    github.repositories.pop(4)  # r4 is deleted, and made again
    succeed(collect(github, work, *DAYS, "--refresh"))
    folders = {str(name): str(folder) for name, folder in rows_in(work / "repos", "full_name, folder")}
    assert folders["ann/renamed"] == "ann/r3" and folders["ann/r3"] == "ann/r3~2"
    assert folders["ann/r4~5"] == "ann/r4" and folders["ann/r4"] == "ann/r4~2"


def test_a_second_that_is_short_is_searched_again_when_asked(github: GitHubStandIn, work: Path) -> None:
    for number in range(1001):
        github.add(f"many/{number}", "2024-03-09T12:00:00Z", clone_url="no")
    day = ("--start-date", "2024-03-09", "--end-date", "2024-03-09", "--plan")
    assert collect(github, work, *day).returncode == 3
    github.repositories.pop(10)  # the one that was not shown
    github.received.clear()
    again = collect(github, work, *day, "--retry-failed")
    assert again.returncode == 0 and "1,000 repositories wait" in again.stdout
    assert all("12:00:00Z..2024-03-09T12:00:00Z" in request.query for request in github.received)
