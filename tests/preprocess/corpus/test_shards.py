"""Batches of files: what is in one, what is kept of it on disk, and at which file a process died."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from corpus import shards
from corpus.inventory import SourceFile
from corpus.shards import (
    Shard,
    ShardPlan,
    forget_position,
    position_of,
    prepare_shard,
    read_outcomes,
)
from documents.filters import Finding
from documents.prepare import Prepared, Rules

RULES = Rules(thresholds={})


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x = 1\n", encoding="utf-8")


def source_file(repo: str, path: str) -> SourceFile:
    return SourceFile(repo, path, f"{repo}/{path}", 0, 0)


def test_shards_hold_files_of_one_repository_each(tmp_path: Path) -> None:
    files = [source_file("a/a", f"{number:03}.py") for number in range(300)] + [source_file("b/b", "0.py")]
    shards = list(ShardPlan(files, tmp_path, "digest"))
    assert [len(shard.files) for shard in shards] == [256, 44, 1]
    assert len({shard.result for shard in shards}) == 3


def test_a_file_that_cannot_be_read_is_a_named_gap(tmp_path: Path) -> None:
    shard = Shard([source_file("o/r", "gone.py"), source_file("o/r", "there.py")], tmp_path / "result.jsonl")
    write(tmp_path / "files" / "o" / "r" / "there.py")
    prepare_shard(shard, tmp_path / "files", RULES)
    outcomes = read_outcomes(shard)
    assert outcomes is not None
    assert outcomes[0].finding is not None and outcomes[0].finding.rule == "unreadable"
    assert outcomes[1].finding is None


def shard_of_four(folder: Path) -> Shard:
    files = [source_file("o/r", f"{name}.py") for name in "abcd"]
    for file in files:
        write(folder / "files" / file.location)
    return Shard(files, folder / "result", [0, 1, 2, 3])


def test_while_a_shard_is_prepared_its_position_is_beside_the_result_and_afterwards_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, seen = shard_of_four(tmp_path), []

    def prepared(file: Path, rules: Rules, path: str) -> Prepared:
        seen.append((position_of(shard), path))
        return Prepared(["x = 1\n"], "digest")

    monkeypatch.setattr(shards, "prepare_file", prepared)
    prepare_shard(shard, tmp_path / "files", RULES)
    assert seen == [(0, "a.py"), (1, "b.py"), (2, "c.py"), (3, "d.py")]
    assert position_of(shard) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "result"]


def die_at_the_third_file(shard: Shard, repos: Path) -> None:
    def prepared(file: Path, rules: Rules, path: str) -> Prepared:
        if path == "c.py":
            os._exit(139)
        return Prepared(["x = 1\n"], "digest")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "prepare_file", prepared)
        prepare_shard(shard, repos, RULES)


def test_the_position_outlives_the_process_and_is_forgotten_before_the_next_attempt(tmp_path: Path) -> None:
    shard = shard_of_four(tmp_path)
    process = multiprocessing.get_context("fork").Process(
        target=die_at_the_third_file, args=(shard, tmp_path / "files")
    )
    process.start()
    process.join()
    assert process.exitcode == 139
    assert position_of(shard) == 2
    assert read_outcomes(shard) is None
    forget_position(shard)
    assert position_of(shard) is None


def test_a_file_that_failed_before_is_not_opened_again(tmp_path: Path) -> None:
    shard = shard_of_four(tmp_path)
    shard.failed[1] = Finding("crashed")
    prepare_shard(shard, tmp_path / "files", RULES)
    outcomes = read_outcomes(shard)
    assert outcomes is not None
    assert [outcome.finding and outcome.finding.rule for outcome in outcomes] == [None, "crashed", None, None]
