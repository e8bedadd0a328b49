"""What near_duplicates.py finds, with the signatures on disk and in as little memory as one says.

A file is dropped if it is similar to a better one that is kept, as there. That is decided in rounds. Each
band of each signature is a record (key, rank) in one of many partitions, where the files that agree in a band
stand side by side, the best first. In a round each partition pairs the first few of a group, its leaders,
with all behind them; the pairs are verified, and whoever is known to be similar to a kept file leaves its
groups. So do the leaders. The first round has one leader a group: of a thousand copies 999 go at once,
without a square of comparisons. Then there are twice as many each time, until no group is left. At last each
dropped file is compared with all kept ones of its groups, to name the one that is most similar.

Every step is a list of tasks (function, arguments) on files of one folder, for whatever process sees it.
Source: the rounds are those of Blelloch, Fineman and Shun 2012, "Greedy sequential maximal independent set
and matching are parallel on average"; the partitions are those of every large deduplication by MinHash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.near_duplicates import BANDS, ROWS, UNCERTAIN, NearDuplicate, band_keys
from corpus.record_files import (
    SORTING,
    WORD,
    Bits,
    PartitionWriter,
    Records,
    blocks_of,
    empty,
    partition_of,
    rows_at,
    sorted_blocks,
    without_repetition,
)
from documents.fingerprints import PERMUTATIONS, SIGNATURE_BYTES

ROW_BITS = 36  # of a rank, the lowest: 69 billion files
ROW_MASK = np.uint64((1 << ROW_BITS) - 1)
SIGNATURES, RANKS = "signatures", "ranks"  # the input: (n, 256) numbers of 32 bits, (n,) ranks of 64
PAIRS_AT_ONCE = 8192  # of which the signatures are in memory: 16 MB
DISK_SHARE = 16  # pairs of a round, times the memory: they wait on disk
MOST_PARTITIONS = 4096
FEWEST_ROWS = 20_000  # a task of fewer is over before it has begun

Task = tuple[Callable[..., Any], tuple[Any, ...]]
Run = Callable[[Iterable[Task]], Iterable[tuple[int, Any]]]


@dataclass(frozen=True)
class Means:
    """What may be used to find copies: who runs tasks; bytes of memory for each of them, for this process."""

    run: Run
    memory: int
    here: int


@dataclass(frozen=True)
class Work:
    """Where the input is, the folder of this work, what decides, how the work is divided.

    exact: see near_duplicates.py.
    """

    inputs: Path
    folder: Path
    rows: int
    threshold: float
    exact: Callable[[int, int], float]
    memory: int  # bytes, of each task
    partitions: int

    def path(self, name: str, *numbers: int) -> Path:
        return self.folder / "-".join([name, *map(str, numbers)])

    def part_of(self, ranks: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The partition for what is found about a file: files that lie side by side are in the same one."""
        return (ranks & ROW_MASK) * np.uint64(self.partitions) // np.uint64(self.rows)


def run_here(tasks: Iterable[Task]) -> Iterator[tuple[int, Any]]:
    """The plainest runner: one task after the other, in this process."""
    for position, (function, arguments) in enumerate(tasks):
        yield position, function(*arguments)


def near_duplicates_on_disk(
    folder: Path,
    rows: int,
    threshold: float,
    exact: Callable[[int, int], float],
    means: Means,
    partitions: int | None = None,
) -> Iterator[tuple[int, NearDuplicate]]:
    """(row to drop, what is kept instead), by row. folder: with the signatures and ranks of all rows.

    The lowest rank is the best; its lowest 36 bits are the row. Memory counts beside the interpreter. In the
    meantime some 700 bytes a row are in a folder beside the input.
    """
    memory = means.memory
    per_task = memory // 2 // SORTING
    needed = max(rows * BANDS * 2 * WORD // per_task, rows // FEWEST_ROWS) + 1
    number = partitions or min(needed, MOST_PARTITIONS)
    with TemporaryDirectory(prefix="partitions-", dir=folder) as name:
        work = Work(folder, Path(name), rows, threshold, exact, memory, number)
        yield from decide_and_name(work, means)


def decide_and_name(work: Work, means: Means) -> Iterator[tuple[int, NearDuplicate]]:
    run = means.run
    every = range(work.partitions)
    chunk = max(1, min(work.memory // 2 // SORTING // (BANDS * 2 * WORD), work.rows // work.partitions + 1))
    chunks = range(0, work.rows, chunk)
    done(run((write_bands, (work, first, min(first + chunk, work.rows))) for first in chunks))
    members = sum(done(run((group, (work, number, chunks)) for number in every)))
    for path in work.folder.glob("bands-*"):
        path.unlink()

    fates, leaders, turn, undecided = Fates(work.rows), 1, 0, 0
    while True:
        fates.dropped.write(work.path("dropped"))
        tasks = ((propose, (work, number, turn, leaders)) for number in every)
        left = done(run(tasks)) if members else []
        members = sum(left)
        done(run((verify, (work, number, turn)) for number in every) if left else [])
        fates.open = Bits(work.rows)
        for number in every if members else ():
            for block in blocks_of(work.path("groups", number, turn + 1), 2, 1 << 16):
                fates.open.add(block[:, 1] & ROW_MASK)
        pairs = similar_pairs_of(work, turn, bool(left), means.here)
        undecided = write_blocks(work.path("undecided", turn + 1), fates.decide(pairs))
        for path in work.folder.glob(f"*-{turn}" if turn else "pairs-*"):
            path.unlink()
        if not members and not undecided:
            break
        most = work.memory * DISK_SHARE // (2 * WORD) // max(1, members)
        leaders, turn = max(1, min(2 * leaders, most)), turn + 1

    fates.dropped.write(work.path("dropped"))
    done(run((propose_kept, (work, number)) for number in every))
    done(run((name_best, (work, number)) for number in every))
    for number in every:
        for block in blocks_of(work.path("named", number), 3, 1 << 16):
            for row, winner, bits in zip(*block.T, strict=True):
                yield int(row), NearDuplicate(int(winner), float(bits.view(np.float64)))


def done(results: Iterable[tuple[int, Any]]) -> list[Any]:
    """The results of all tasks, in any order."""
    return [result for _, result in results]


# Tasks: the bands, and who has one in common


def write_bands(work: Work, first: int, end: int) -> None:
    """The bands of some rows, as (key, rank), in the partitions of their keys."""
    ranks = np.fromfile(work.inputs / RANKS, "<u8", end - first, offset=WORD * first)
    with PartitionWriter(work.path("bands", first), 2, work.partitions, work.memory // 2) as writer:
        for start in range(first, end, PAIRS_AT_ONCE):
            number = min(PAIRS_AT_ONCE, end - start)
            signatures = np.fromfile(
                work.inputs / SIGNATURES, "<u4", number * PERMUTATIONS, offset=SIGNATURE_BYTES * start
            ).reshape(-1, PERMUTATIONS)
            of_these = ranks[start - first : start - first + number]
            for band in range(BANDS):
                columns = signatures[:, band * ROWS : (band + 1) * ROWS]
                numbered = np.column_stack([columns, np.full(number, band, np.uint32)])
                keys = band_keys(numbered)
                which = (keys >> np.uint64(32)) * np.uint64(work.partitions) >> np.uint64(32)
                writer.add(np.column_stack([keys, of_these]), which)


def group(work: Work, number: int, chunks: Sequence[int]) -> int:
    """The groups of at least two in a partition, the best member first; how many members they have."""
    most = max(1, work.memory // 2 // SORTING // (2 * WORD))
    bands = partition_of([work.path("bands", first) for first in chunks], 2, number, most)
    groups = with_company(sorted_blocks(bands, 2, work.folder, work.memory // 2))
    return write_blocks(work.path("groups", number, 0), groups)


def with_company(blocks: Iterable[Records]) -> Iterator[Records]:
    """The records of sorted blocks that share their first number with another."""
    last = empty(2)  # the record before, if it is not yet known to have company
    shared: int | None = None  # the first number of the last group, if that has company
    for block in blocks:
        if not len(block):
            continue
        records = np.concatenate([last, block])
        keys = records[:, 0]
        same = keys[1:] == keys[:-1]
        has_company = np.zeros(len(records), bool)
        has_company[1:] |= same
        has_company[:-1] |= same
        if shared is not None:
            has_company |= keys == np.uint64(shared)
        last = empty(2) if has_company[-1] else records[-1:]
        shared = int(keys[-1]) if has_company[-1] else None
        yield records[has_company]


def write_blocks(path: Path, blocks: Iterable[Records]) -> int:
    """Write the records of all blocks; how many they are."""
    number = 0
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        for block in blocks:
            block.tofile(file)
            number += len(block)
    partial.replace(path)
    return number


# Tasks: a round


def propose(work: Work, number: int, turn: int, leaders: int) -> int:
    """Pair the first members of each group with all behind them; the members of the next round's groups."""
    groups = blocks_of(work.path("groups", number, turn), 2, work.memory // 16 // SORTING // (2 * WORD) + 1)
    dropped = Bits.read(work.path("dropped"))

    def behind() -> Iterator[Records]:
        first = empty(2)  # the members of the last group that may lead its next ones
        for block in groups:
            records = np.concatenate([first, block[~dropped[block[:, 1] & ROW_MASK]]])
            if not len(records):
                continue
            starts = starts_of_groups(records[:, 0])
            places = np.arange(len(records)) - starts
            at = np.arange(len(first), len(records))
            for place in range(min(leaders, int(places.max()))):
                at = at[places[at] > place]
                pairs = np.column_stack([records[at, 1], records[starts[at] + place, 1]])
                writer.add(pairs, work.part_of(pairs[:, 0]))
            follows = places >= leaders
            follows[: len(first)] = False
            yield records[follows]
            first = records[starts[-1] : starts[-1] + leaders]

    with PartitionWriter(work.path("pairs", number), 2, work.partitions, work.memory // 2) as writer:
        return write_blocks(work.path("groups", number, turn + 1), with_company(behind()))


def starts_of_groups(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each record of sorted ones the position of the first with its key."""
    positions = np.arange(len(keys))
    positions[1:][keys[1:] == keys[:-1]] = 0
    return np.maximum.accumulate(positions)


def verify(work: Work, number: int, turn: int) -> None:
    """The pairs of a partition of files that are similar."""
    write_blocks(work.path("similar", number, turn), similar_only(work, number))


def similar_only(work: Work, number: int) -> Iterator[Records]:
    for pairs, estimates in estimated(work, "pairs", number):
        is_similar = estimates >= work.threshold + UNCERTAIN
        for place in np.flatnonzero(~is_similar & (estimates >= work.threshold - UNCERTAIN)):
            worse, better = (int(rank & ROW_MASK) for rank in pairs[place])
            is_similar[place] = work.exact(worse, better) >= work.threshold
        yield pairs[is_similar]


def estimated(work: Work, name: str, number: int) -> Iterator[tuple[Records, NDArray[np.float64]]]:
    """The different pairs (worse, better) of a partition in order, and how similar their signatures are."""
    paths = [work.path(name, each) for each in range(work.partitions)]
    most = max(1, work.memory // 2 // SORTING // (2 * WORD))
    blocks = sorted_blocks(partition_of(paths, 2, number, most), 2, work.folder, work.memory // 2)
    for block in without_repetition(blocks):
        for start in range(0, len(block), PAIRS_AT_ONCE):
            pairs = block[start : start + PAIRS_AT_ONCE]
            rows, where = np.unique(pairs & ROW_MASK, return_inverse=True)
            signatures = rows_at(work.inputs / SIGNATURES, rows, SIGNATURE_BYTES).view("<u4")
            where = where.reshape(pairs.shape)
            yield pairs, (signatures[where[:, 0]] == signatures[where[:, 1]]).mean(axis=1)


class Fates:
    """What is known of each row: it is dropped, open while it is in a group, or waiting for a better one."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.dropped, self.open, self.waiting = Bits(rows), Bits(rows), Bits(rows)

    def decide(self, similar: Iterator[tuple[int, int]]) -> Iterator[Records]:
        """Drop whatever is similar to a kept row; the pairs that cannot be decided yet.

        similar: (worse, better) by rank, so that the better one is decided before the worse one.
        """
        self.waiting = Bits(self.rows)
        mask = int(ROW_MASK)
        undecided: list[tuple[int, int]] = []
        for worse, pairs in groupby(similar, key=lambda pair: pair[0]):
            row = worse & mask
            if self.dropped.has(row):
                continue
            unknown = []
            for _, better in pairs:
                other = better & mask
                if self.open.has(other) or self.waiting.has(other):
                    if not self.dropped.has(other):
                        unknown.append((worse, better))
                elif not self.dropped.has(other):
                    self.dropped.set(row)
                    break
            else:
                if unknown:
                    self.waiting.set(row)
                    undecided += unknown
            if len(undecided) >= PAIRS_AT_ONCE:
                yield np.array(undecided, np.uint64)
                undecided = []
        yield np.array(undecided, np.uint64).reshape(-1, 2)


def similar_pairs_of(work: Work, turn: int, is_new: bool, memory: int) -> Iterator[tuple[int, int]]:
    """All pairs that may decide something, by rank: those of this round and what is left of earlier ones."""
    paths = [work.path("similar", number, turn) for number in range(work.partitions)] if is_new else []
    if turn:
        paths.append(work.path("undecided", turn))
    most = max(1, memory // 4 // SORTING // (2 * WORD))
    blocks = (block for path in paths for block in blocks_of(path, 2, most))
    for block in sorted_blocks(blocks, 2, work.folder, memory // 2):
        yield from zip(*(column.tolist() for column in block.T), strict=True)


# Tasks: who is kept instead


def propose_kept(work: Work, number: int) -> None:
    """Pair each dropped file of a group with the better ones that are kept."""
    dropped = Bits.read(work.path("dropped"))
    most = work.memory // 16 // SORTING // (2 * WORD) + 1
    kept = empty(2)  # of the last group
    with PartitionWriter(work.path("kept", number), 2, work.partitions, work.memory // 2) as writer:
        for block in blocks_of(work.path("groups", number, 0), 2, most):
            records = np.concatenate([kept, block])
            is_dropped = dropped[records[:, 1] & ROW_MASK]
            order = np.lexsort([records[:, 1], is_dropped, records[:, 0]])  # of each group the kept first
            records, is_dropped = records[order], is_dropped[order]
            starts = starts_of_groups(records[:, 0])
            kept_of = np.zeros(len(records), np.int64)
            np.add.at(kept_of, starts, ~is_dropped)
            at = np.flatnonzero(is_dropped)
            for place in range(int(kept_of.max(initial=0))):
                at = at[kept_of[starts[at]] > place]
                pairs = np.column_stack([records[at, 1], records[starts[at] + place, 1]])
                pairs = pairs[pairs[:, 1] < pairs[:, 0]]
                writer.add(pairs, work.part_of(pairs[:, 0]))
            kept = records[(records[:, 0] == records[-1, 0]) & ~is_dropped]


def name_best(work: Work, number: int) -> None:
    """(row, row that is kept instead, similarity) of each dropped file of a partition, by row."""
    named: list[tuple[int, int, int]] = []
    for worse, candidates in groupby(near_enough(work, number), key=lambda each: each[0]):
        for _, minus, better in sorted(candidates):
            similarity = -minus
            if similarity < work.threshold + UNCERTAIN:
                similarity = work.exact(worse, better)
            if similarity >= work.threshold:
                named.append((worse, better, int(np.float64(similarity).view(np.uint64))))
                break
    write_blocks(work.path("named", number), [np.array(sorted(named), np.uint64)])


def near_enough(work: Work, number: int) -> Iterator[tuple[int, float, int]]:
    """(row, -estimate, row of a kept one) of the pairs that may be similar, by rank of the first."""
    for pairs, estimates in estimated(work, "kept", number):
        near = estimates >= work.threshold - UNCERTAIN
        rows = (pairs[near] & ROW_MASK).tolist()
        for (worse, better), estimate in zip(rows, estimates[near].tolist(), strict=True):
            yield worse, -estimate, better
