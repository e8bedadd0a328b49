"""The local pool: every shard is prepared once, whatever happens to the processes."""

from __future__ import annotations

import os
from multiprocessing import active_children
from pathlib import Path

import pytest

from corpus.inventory import SourceFile
from corpus.shards import Shard, position_file, read_outcomes
from documents.prepare import Rules
from executors import local_pool
from executors.local_pool import prepare_in_workers
from preprocess_cli import UserError

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
