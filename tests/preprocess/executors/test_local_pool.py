"""The local pool: every shard is prepared once, whatever happens to the processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import psutil
import pytest

from corpus.inventory import SourceFile
from corpus.shards import Shard, position_file, read_outcomes
from documents.prepare import Rules
from executors import local_pool
from executors.local_pool import prepare_in_workers
from preprocess_cli import UserError
from project import PROJECT

RULES = Rules(thresholds={})


def shards_in(folder: Path) -> list[Shard]:
    """Three shards of one file each."""
    shards = []
    for name in "abc":
        (folder / f"{name}.py").write_text(f"{name} = 1\n", encoding="utf-8")
        file = SourceFile("o/r", f"{name}.py", f"{name}.py", 0, 0)
        shards.append(Shard([file], folder / f"result-{name}"))
    return shards


def test_a_worker_that_dies_between_two_shards_is_replaced(tmp_path: Path) -> None:
    shards = shards_in(tmp_path)
    done = prepare_in_workers(shards, tmp_path, RULES, jobs=1)
    first = next(done)
    for process in active_children():
        process.kill()
        process.join()
    assert [shard.result for shard in (first, *done)] == [shard.result for shard in shards]
    assert all(read_outcomes(shard) for shard in shards)


def test_what_a_killed_run_left_blames_no_file(tmp_path: Path) -> None:
    shards = shards_in(tmp_path)
    position_file(shards[0]).write_text("      0\n", encoding="utf-8")
    list(prepare_in_workers(shards, tmp_path, RULES, jobs=1))
    assert not position_file(shards[0]).exists()
    assert not any(shard.failed for shard in shards)


def test_workers_that_die_at_their_start_are_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_pool, "work", os.abort)  # which takes no arguments: it raises at once
    with pytest.raises(UserError, match="die at their start"):
        list(prepare_in_workers(shards_in(tmp_path), tmp_path, RULES, jobs=1))


def test_a_result_that_cannot_be_written_is_an_error_and_no_files_fault(tmp_path: Path) -> None:
    shards = shards_in(tmp_path)
    shards[1].result = tmp_path / "missing" / "result"
    with pytest.raises(OSError, match="No such file or directory"):
        list(prepare_in_workers(shards, tmp_path, RULES, jobs=1))
    assert not any(shard.failed for shard in shards)
    assert active_children() == []


STUCK = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from corpus.shards import Shard
from documents.prepare import Rules
from executors import local_pool

def prepare_shard(shard, repos, rules):
    shard.result.write_text(str(local_pool.os.getpid()))
    time.sleep(600)

local_pool.prepare_shard = prepare_shard
if __name__ == "__main__":
    list(local_pool.prepare_in_workers([Shard([], Path("pid"))], Path(), Rules(), jobs=1))
"""


def test_a_worker_ends_with_a_process_that_is_killed_whatever_file_it_is_at(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK, encoding="utf-8")
    command = [sys.executable, "stuck.py", str(PROJECT / "preprocess")]
    with subprocess.Popen(command, cwd=tmp_path) as run:
        pid = tmp_path / "pid"
        while not (pid.exists() and pid.read_text("utf-8")):
            assert run.poll() is None
            time.sleep(0.05)
        worker = psutil.Process(int(pid.read_text("utf-8")))
        assert run.poll() is None and worker.is_running()
        run.kill()
    try:
        worker.wait(30)
    finally:
        if worker.is_running():
            worker.kill()
