"""Collecting datasets from files made here: parquet, JSON lines, arrow; damage, kills, reruns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from collected_folder import COLLECTOR, files_in, rows_in
from collector_runs import kill_at_random
from hub_stand_in import HubStandIn
from project import PROJECT, STDLIB, run_script, succeed

ROWS = [
    {
        "repo_name": f"ann/r{number % 4}",
        "path": f"src/p{number}.py",
        "content": f"x = {number}\n",
        "license": "apache-2.0" if number % 4 else "mit",
    }
    for number in range(40)
]
EXPECTED = {f"ann/r{n % 4}/src/p{n}.py": f"x = {n}\n".encode() for n in range(40)}
OFFLINE = {"HF_HUB_OFFLINE": "1", "GITHUB_TOKEN": ""}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A dataset in the form that the name of the file says."""
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=7)
    elif path.suffix == ".arrow":
        with pyarrow.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def collect(work: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_script(COLLECTOR, "--dataset", *arguments, cwd=work, env=OFFLINE)


@pytest.mark.parametrize("name", ["d.parquet", "d.jsonl", "d.arrow"])
def test_rows_become_repositories_with_name_licence_and_address(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ROWS)
    result = succeed(collect(tmp_path, name))
    assert files_in(tmp_path / "repos") == EXPECTED
    columns = "id, full_name, source, clone_url, license, state, python_files, substr(fingerprint, 1, 7)"
    first = (f"dataset/{path}/ann/r0", "ann/r0", "dataset", path.as_uri(), "MIT", "fetched", 10, "sha256=")
    assert rows_in(tmp_path / "repos", columns)[0] == first
    assert "40 read" in result.stdout and "4 of 4 known" in result.stdout
    assert [each.name for each in (tmp_path / "repos").iterdir() if "rows" in each.name] == []


def test_a_second_run_reads_nothing_and_changed_files_are_read_again(tmp_path: Path) -> None:
    write(tmp_path / "d.parquet", ROWS)
    succeed(collect(tmp_path, "d.parquet", "--limit", "10"))
    assert len(files_in(tmp_path / "repos")) == 10
    assert succeed(collect(tmp_path, "d.parquet", "--limit", "7")).stdout.startswith("up to date: ")
    succeed(collect(tmp_path, "d.parquet"))
    assert files_in(tmp_path / "repos") == EXPECTED
    assert succeed(collect(tmp_path, "d.parquet")).stdout.startswith("up to date: ")
    write(tmp_path / "d.parquet", [{**row, "content": "new\n"} for row in ROWS])
    succeed(collect(tmp_path, "d.parquet"))
    assert set(files_in(tmp_path / "repos").values()) == {b"new\n"}


def test_what_is_no_python_is_counted_and_hostile_paths_stay_inside(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"repo": "ann/x", "path": "../../up.py", "code": "no\n"},
        {"repo": "ann/x", "path": "/abs.py", "code": "a = 1\n"},
        {"repo": "../../up", "path": "x.py", "code": "b = 1\n"},
        {"repo": "ann/x", "path": "y.js", "code": "no\n"},
        {"repo": "ann/x", "path": "z.py", "code": None},
        {"repo": "ann/x", "path": "/abs.py", "code": "again\n"},
    ]
    write(tmp_path / "d.jsonl", rows)
    result = succeed(collect(tmp_path, "d.jsonl"))
    assert files_in(tmp_path / "repos") == {"ann/x/abs.py": b"a = 1\n", "__/_._up/x.py": b"b = 1\n"}
    assert "left out: 1 not Python, 1 repeated, 1 without text" in result.stdout
    assert "their names have no safe place" in result.stdout and "../../up.py" in result.stdout


def test_rows_without_repository_and_path_are_numbered(tmp_path: Path) -> None:
    write(tmp_path / "d.jsonl", [{"text": f"x = {number}\n"} for number in range(3)])
    succeed(collect(tmp_path, "d.jsonl"))
    assert files_in(tmp_path / "repos") == {
        f"dataset/d/000000/{number:09}.py": f"x = {number}\n".encode() for number in range(3)
    }


def test_a_damaged_file_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data/a.parquet", ROWS[:20])
    (tmp_path / "data/b.parquet").write_bytes(b"PAR1 and nothing more")
    (tmp_path / "data/c.jsonl").write_bytes(b"\x00\xff noise\n")
    write(tmp_path / "data/d.parquet", [{"other": 1}])
    write(tmp_path / "data/e.jsonl", ROWS[20:])
    (tmp_path / "data/f.jsonl").touch()
    for _ in range(2):
        result = collect(tmp_path, "data")
        assert result.returncode == 3 and "Traceback" not in result.stderr
        named = [line for line in result.stderr.splitlines() if line.startswith("could not be taken: ")]
        assert len(named) == 3 and "left out: 1 damaged" in result.stdout
        assert "the dataset cannot be read (Parquet magic bytes not found in footer" in named[0]
        assert f": {tmp_path}/data/b.parquet: download it again" in named[0]
        assert f"no column with code: {tmp_path}/data/d.parquet: it has other" in named[1]
        assert f"line 1 (no UTF-8 text): {tmp_path}/data/c.jsonl: " in named[2]
        assert files_in(tmp_path / "repos") == EXPECTED
    plan = collect(tmp_path, "data", "--plan")
    assert plan.returncode == 3 and "content: content" in plan.stdout and "b.parquet" in plan.stderr


def test_a_broken_line_costs_itself_alone_and_is_named(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[7:7] = ["noise", '{"content": "x']
    (tmp_path / "d.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for _ in range(2):
        result = collect(tmp_path, "d.jsonl")
        assert result.returncode == 3 and files_in(tmp_path / "repos") == EXPECTED
        assert "42 read, left out: 2 damaged" in result.stdout
        words = "2 lines cannot be read, the first is line 8 (no JSON: Expecting value, character 1)"
        remedy = "download it again, or mend it"
        assert result.stderr == f"could not be taken: {words}: {tmp_path}/d.jsonl: {remedy}\n"


def test_files_of_this_machine_need_no_library_whose_threads_run_python(tmp_path: Path) -> None:
    """The threads of datasets do, and a process that ends beside one is aborted."""
    (tmp_path / "datasets.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    write(tmp_path / "d.parquet", ROWS)
    command = ("--dataset", "d.parquet")
    succeed(run_script(COLLECTOR, *command, cwd=tmp_path, env={**OFFLINE, "PYTHONPATH": str(tmp_path)}))
    assert files_in(tmp_path / "repos") == EXPECTED


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x00\xff noise\n", "error: 1 line cannot be read, the first is line 1 (no UTF-8 text): "),
        (
            b"noise\nnoise\n",
            "error: 2 lines cannot be read, the first is line 1 (no JSON: Expecting value, character 1): ",
        ),
        (b'{"a": 1}\n', "no column with code: "),
        (b'{"code": null}\n', "no Python file in this dataset (1 without text): "),
        (b"", "the dataset cannot be read (it has no rows): "),
        (b"[]", "the dataset cannot be read (it has no rows): "),
    ],
)
def test_a_dataset_that_gives_nothing_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "d.jsonl").write_bytes(content)
    result = collect(tmp_path, "d.jsonl")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert words in result.stderr and f": {tmp_path}/d.jsonl: " in result.stderr
    assert not (tmp_path / "repos").exists()


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    result = collect(tmp_path, "ann/code", "--limit", "10")
    assert result.returncode == 1 and "ann/code" in result.stderr and "hf auth login" in result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "repos").exists()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubStandIn]:
    """A hub whose dataset has two parquet files of twenty rows each."""
    (tmp_path / "hub/data").mkdir(parents=True)
    for number in range(2):
        path = tmp_path / f"hub/data/train-0000{number}-of-00002.parquet"
        write(path, ROWS[20 * number : 20 * number + 20])
    with HubStandIn(tmp_path / "hub") as server:
        yield server


def test_a_dataset_of_the_hub_is_streamed_up_to_the_limit_and_then_read_on(
    hub: HubStandIn, work: Path
) -> None:
    env = hub.environment(work.parent / "home")
    command = (COLLECTOR, "--dataset", "ann/code")
    succeed(run_script(*command, "--limit", "7", cwd=work, env=env))
    assert len(files_in(work / "repos")) == 7
    assert not any("train-00001-of-00002.parquet" in path for path in hub.received)
    result = succeed(run_script(*command, cwd=work, env=env))
    assert files_in(work / "repos") == EXPECTED and "40 read" in result.stdout
    columns = "id, full_name, source, clone_url, license, state, python_files"
    url = "https://huggingface.co/datasets/ann/code"
    first = ("dataset/ann/code/ann/r0", "ann/r0", "dataset", url, "MIT", "fetched", 10)
    assert rows_in(work / "repos", columns)[0] == first
    hub.received.clear()
    assert succeed(run_script(*command, cwd=work, env=env)).stdout.startswith("up to date: ")
    assert hub.received == []


@pytest.mark.parametrize(
    ("name", "words", "option"),
    [("ann/code", "gated dataset", ()), ("ann/none", "doesn't exist on the Hub", ("--plan",))],
)
def test_what_the_hub_does_not_give_is_one_line(
    hub: HubStandIn, work: Path, name: str, words: str, option: tuple[str, ...]
) -> None:
    hub.is_gated = True
    env = hub.environment(work.parent / "home")
    result = run_script(COLLECTOR, "--dataset", name, *option, cwd=work, env=env)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and words in result.stderr
    assert f": {name}: log in with hf auth login" in result.stderr and not (work / "repos").exists()


def test_a_process_that_has_used_datasets_ends_without_waiting_for_its_threads(tmp_path: Path) -> None:
    """What is printed arrives, the code is kept, and Python's own end, which could abort, does not happen."""
    code = (
        "import atexit, datasets, sys\n"
        "from collector_cli import end\n"
        "atexit.register(print, 'the end of Python')\n"
        "print('printed')\n"
        "print('warned', file=sys.stderr)\n"
        "end(3)\n"
    )
    (tmp_path / "datasets.py").touch()
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT / 'data_collector'}"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (3, "printed\n", "warned\n")


def test_a_plan_tells_rows_and_columns_and_takes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "d.parquet", [{"body": "x = 1\n"}] * 30)
    plan = succeed(collect(tmp_path, "d.parquet", "--columns", "content=body", "--plan", "--limit", "20"))
    assert "d: 30 rows" in plan.stdout and "content: body" in plan.stdout and "for 20 rows" in plan.stdout
    assert not (tmp_path / "repos").exists()


def test_a_run_that_is_killed_again_and_again_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    rows = [
        {"repo": f"ann/r{number % 300}", "path": f"p{number}.py", "code": f"x = {number}\n"}
        for number in range(30_000)
    ]
    write(tmp_path / "d.parquet", rows)

    def progress() -> list[tuple[str, int]]:
        with suppress(FileNotFoundError):  # the last run has just taken all
            return [(file.name, file.stat().st_size) for file in tmp_path.glob("repos/collection.db-rows-*")]
        return []

    command = ("--dataset", "d.parquet")
    kill_at_random(tmp_path, *command, env=OFFLINE, progress=progress, kills=5, seconds=2.0, seed=7)
    succeed(collect(tmp_path, "d.parquet"))
    assert files_in(tmp_path / "repos") == {
        f"{row['repo']}/{row['path']}": str(row["code"]).encode() for row in rows
    }
    assert rows_in(tmp_path / "repos", "count(*), sum(python_files)") == [(300, 30_000)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("d", "--local"), "--local and --dataset are two sources"),
        (("d", "--query", "x"), "--dataset takes no --query"),
    ],
)
def test_options_that_a_dataset_does_not_have_are_refused(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = collect(tmp_path, *arguments)
    assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1


def test_columns_belong_to_a_dataset(tmp_path: Path) -> None:
    result = run_script(COLLECTOR, "--local", "--columns", "content=x", cwd=tmp_path)
    assert result.returncode == 2 and "--columns" in result.stderr


def test_datasets_reach_the_training_data_by_repository_and_licence(tmp_path: Path) -> None:
    codes = {
        name: (STDLIB / "json" / f"{name}.py").read_text("utf-8")
        for name in ("decoder", "scanner", "encoder")
    }
    rows = [
        {
            "repo": "ben/out" if name == "encoder" else "ann/kept",
            "path": f"{name}.py",
            "code": code,
            "license": "mit",
        }
        for name, code in codes.items()
    ]
    write(tmp_path / "d.jsonl", rows)
    succeed(collect(tmp_path, "d.jsonl"))
    (tmp_path / "asked.txt").write_text("ben\n", encoding="utf-8")
    succeed(run_script("preprocess/data_cleaner.py", cwd=tmp_path))
    succeed(run_script("preprocess/data_preprocess.py", "--exclude", "asked.txt", cwd=tmp_path))
    text = (tmp_path / "data.txt").read_text("utf-8")
    assert '"repo": "ann/kept", "path": "decoder.py", "commit": "", "license": "MIT"' in text
    assert "ben/out" not in text
