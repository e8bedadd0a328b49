"""On disk as in memory: the same files are dropped for the same better ones, in however little memory."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpus.near_duplicates import NearDuplicate, near_duplicates
from corpus.partitioned_duplicates import (
    RANKS,
    ROW_BITS,
    SIGNATURES,
    Means,
    Task,
    near_duplicates_on_disk,
    run_here,
    with_company,
)
from corpus.record_files import PartitionWriter, in_order, partition_of, sorted_blocks, without_repetition
from documents.fingerprints import PERMUTATIONS

THRESHOLD = 0.7


def doubtful(one: int, other: int) -> float:
    """A similarity near the threshold, on one side of it or the other: the same for both orders."""
    return 0.6 + random.Random(min(one, other) * 100_003 + max(one, other)).random() / 5


def families(seed: int, number: int, of: int, changes: float) -> NDArray[np.uint32]:
    """Signatures (number, 256) of `of` families, whose members differ in up to this share of the numbers."""
    rng = np.random.default_rng(seed)
    founders = rng.integers(0, 1 << 32, (of, PERMUTATIONS), np.uint32)
    rows = founders[rng.integers(0, of, number)]
    shares = rng.uniform(0, changes, (number, 1))
    return np.where(
        rng.random(rows.shape) < shares, rng.integers(0, 1 << 32, rows.shape, np.uint32), rows
    ).astype(np.uint32)


def on_disk(
    signatures: NDArray[np.uint32], order: list[int], memory: int, partitions: int
) -> dict[int, NearDuplicate]:
    """The losers by the partitioned way; nothing but the input may be left of it."""
    ranks = np.empty(len(order), np.uint64)
    ranks[order] = np.arange(len(order), dtype=np.uint64)
    ranks = ranks << np.uint64(ROW_BITS) | np.arange(len(order), dtype=np.uint64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signatures.astype("<u4").tofile(folder / SIGNATURES)
        ranks.tofile(folder / RANKS)
        found = list(
            near_duplicates_on_disk(
                folder, len(order), THRESHOLD, doubtful, Means(run_here, memory, memory), partitions
            )
        )
        assert {path.name for path in folder.iterdir()} == {SIGNATURES, RANKS}
    assert [row for row, _ in found] == sorted({row for row, _ in found})
    return dict(found)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    number=st.integers(2, 120),
    of=st.integers(1, 30),
    changes=st.sampled_from([0.05, 0.2, 0.4, 0.6, 0.9]),
    memory=st.sampled_from([30_000, 200_000, 1 << 26]),
    partitions=st.sampled_from([1, 2, 7]),
    rng=st.randoms(use_true_random=False),
)
def test_the_same_files_are_dropped_for_the_same_better_ones(
    seed: int, number: int, of: int, changes: float, memory: int, partitions: int, rng: random.Random
) -> None:
    signatures = families(seed, number, of, changes)
    order = list(range(number))
    rng.shuffle(order)
    expected = near_duplicates(signatures, order, THRESHOLD, doubtful)
    assert on_disk(signatures, order, memory, partitions) == expected


@pytest.mark.parametrize("seed", range(3))
def test_five_thousand_files_in_five_hundred_families(seed: int) -> None:
    signatures = families(seed, 5000, 500, 0.5)
    order = list(range(5000))
    random.Random(seed).shuffle(order)
    expected = near_duplicates(signatures, order, THRESHOLD, doubtful)
    assert 1000 < len(expected) < 4900
    assert on_disk(signatures, order, 1 << 20, 5) == expected


def test_many_that_share_a_band_and_are_not_similar_are_all_kept() -> None:
    """A phrase that everybody has: a group whose every member is compared with every other."""
    signatures = np.random.default_rng(1).integers(0, 1 << 32, (700, PERMUTATIONS), np.uint32)
    signatures[:, :6] = 7
    assert on_disk(signatures, list(range(700)), 1 << 20, 3) == {}


def test_a_thousand_copies_take_no_square_of_comparisons(tmp_path: Path) -> None:
    signatures = families(3, 4000, 1, 0.04)
    compared = 0

    def exact(one: int, other: int) -> float:
        raise AssertionError("they are certainly similar")

    signatures.astype("<u4").tofile(tmp_path / SIGNATURES)
    (np.arange(4000, dtype=np.uint64) * np.uint64((1 << ROW_BITS) + 1)).tofile(tmp_path / RANKS)

    def counting(tasks: Iterable[Task]) -> Iterator[tuple[int, Any]]:
        nonlocal compared
        for position, (function, arguments) in enumerate(tasks):
            yield position, function(*arguments)
            compared += sum(path.stat().st_size // 16 for path in tmp_path.glob("partitions-*/pairs-?"))

    found = dict(
        near_duplicates_on_disk(tmp_path, 4000, THRESHOLD, exact, Means(counting, 1 << 24, 1 << 24), 1)
    )
    assert len(found) == 3999 and {near.winner for near in found.values()} == {0}
    assert 0 < compared < 4000 * 42 * 10


def test_nothing_and_one_file_have_no_duplicates() -> None:
    assert on_disk(families(0, 1, 1, 0.1), [0], 1 << 20, 1) == {}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=300), st.integers(80, 5000))
def test_records_come_sorted_by_runs_as_in_memory(rows: list[tuple[int, int]], memory: int) -> None:
    records = np.array(rows, np.uint64).reshape(-1, 2)
    with tempfile.TemporaryDirectory() as name:
        blocks = list(sorted_blocks(np.array_split(records, len(records) // 7 + 1), 2, Path(name), memory))
        assert not list(Path(name).iterdir())
    together = np.concatenate([np.empty((0, 2), np.uint64), *blocks])
    assert together.tolist() == sorted(map(list, rows)) == in_order(records).tolist()
    once = [row.tolist() for block in without_repetition(blocks) for row in block]
    assert once == sorted(map(list, set(rows)))
    keys = [key for key, _ in rows]
    with_others = [row.tolist() for block in with_company(blocks) for row in block]
    assert with_others == sorted([key, other] for key, other in rows if keys.count(key) > 1)


def test_partitions_hold_what_was_written_to_them_and_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = rng.integers(0, 100, (1000, 2), np.uint64)
    which = records[:, 0] % np.uint64(3)
    for name, memory in (("small", 500), ("large", 1 << 20)):
        with PartitionWriter(tmp_path / name, 2, 3, memory) as writer:
            for at in range(0, 1000, 50):
                writer.add(records[at : at + 50], which[at : at + 50])
    for number in range(3):
        paths = [tmp_path / "small", tmp_path / "large"]
        found = np.concatenate(list(partition_of(paths, 2, number, 17)))
        expected = records[which == number]
        assert in_order(found).tolist() == in_order(np.concatenate([expected, expected])).tolist()
    with pytest.raises(OSError), PartitionWriter(tmp_path / "failed", 2, 3, 500):
        raise OSError("the disk is full")
    assert not list(tmp_path.glob("failed*"))
