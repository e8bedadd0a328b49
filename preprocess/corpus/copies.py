"""Which files are copies of a better one, equal or almost, for any number of files: what decides is on disk.

A rank is one number of 64 bits: the lower, the better the file. The licence comes first, then the place of
its repository among all, then the file's own number: files come sorted by path. So records can be sorted by
rank, and the rank says which file it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from struct import Struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from corpus.near_duplicates import NearDuplicate, near_duplicates
from corpus.partitioned_duplicates import (
    RANKS,
    ROW_BITS,
    SIGNATURES,
    Means,
    near_duplicates_on_disk,
    starts_of_groups,
    write_blocks,
)
from corpus.record_files import Records, blocks_of, empty, sorted_blocks
from corpus.shards import SIGNATURE_BYTES, Outcome, Shard, outcomes_in, read_signatures, read_text
from documents.fingerprints import PERMUTATIONS, jaccard, shingles

REPOSITORY_BITS = 26  # 67 million repositories; the two bits above are the licence's
MEMORY_OF_A_FILE = 2200  # bytes of near_duplicates.py: twice the signature, and its groups
EQUAL = 0.0  # instead of a similarity, for a copy that differs in blanks alone
EQUALS, NEAR, COPIES = "equals", "near", "copies"
PLACES, RESULTS = "places", "results"  # where the text of a row is: (number, result, position); their names
NAME_BYTES = 32  # of a result
PLACE = Struct("<3Q")
BLOCK = 1 << 14  # records at once where nothing is sorted
TEXTS_REMEMBERED = 200  # while files are compared word by word
RESULTS_REMEMBERED = 50

# The rank of a file, from its shard, its position there and its outcome; None if it is dropped by itself.
RankOf = Callable[[Shard, int, Outcome], int | None]


def rank_of(license_place: int, repository_place: int, number: int) -> int:
    return (license_place << REPOSITORY_BITS | repository_place) << ROW_BITS | number


@dataclass(frozen=True)
class Copies:
    """The files to drop for better ones that are kept, on disk."""

    folder: Path

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        """(number, number of the better one, similarity or EQUAL) by number."""
        for block in blocks_of(self.folder / COPIES, 3, BLOCK):
            similarities = block[:, 2].copy().view(np.float64)
            yield from zip(*block[:, :2].T.tolist(), similarities.tolist(), strict=True)


def find_copies(
    shards: Iterable[Shard],
    rank: RankOf,
    prepared: Path,
    folder: Path,
    similar: float | None,
    means: Means,
) -> Copies:
    """Of equal files and of similar ones the best stays. Raises UserError if a result is gone.

    prepared: where the results of the shards are. folder: for what exceeds the memory.
    """
    memory = means.here
    digests = in_blocks(digests_of(shards, rank), 3)
    equals = losers_of_equals(sorted_blocks(digests, 3, folder, memory // 2))
    write_blocks(folder / EQUALS, sorted_blocks(equals, 2, folder, memory // 4))
    near: Iterable[tuple[int, int, float]] = ()
    if similar is not None:
        rows = write_rows(shards, rank, folder)
        near = near_copies(prepared, folder, rows, similar, means)
    write_blocks(folder / NEAR, in_blocks(((n, winner, bits_of(s)) for n, winner, s in near), 3))
    turned = (block[:, ::-1] for block in blocks_of(folder / EQUALS, 2, BLOCK))
    by_winner = sorted_blocks(turned, 2, folder, memory // 4)
    together = chain(in_blocks(equals_of_losers(by_winner, folder), 3), blocks_of(folder / NEAR, 3, BLOCK))
    write_blocks(folder / COPIES, sorted_blocks(together, 3, folder, memory // 4))
    for name in (SIGNATURES, RANKS, PLACES, RESULTS, EQUALS, NEAR):
        (folder / name).unlink(missing_ok=True)
    return Copies(folder)


def in_blocks(records: Iterable[tuple[int, ...]], columns: int) -> Iterator[Records]:
    coming = iter(records)
    while block := list(islice(coming, BLOCK)):
        yield np.array(block, np.uint64).reshape(-1, columns)


def bits_of(similarity: float) -> int:
    return int(np.float64(similarity).view(np.uint64))


# Equal files


def digests_of(shards: Iterable[Shard], rank: RankOf) -> Iterator[tuple[int, int, int]]:
    """(digest, digest, rank) of each file that may be kept, its digest of 128 bits as two numbers."""
    for shard in shards:
        for position, outcome in enumerate(outcomes_in(shard)):
            place = rank(shard, position, outcome)
            if place is not None:
                yield int(outcome.digest[:16], 16), int(outcome.digest[16:], 16), place


def losers_of_equals(by_digest: Iterable[Records]) -> Iterator[Records]:
    """(number, number of the best of the same digest) of all but the best, from sorted digests."""
    best = empty(3)
    mask = np.uint64((1 << ROW_BITS) - 1)
    for block in by_digest:
        records = np.concatenate([best, block])
        same = np.zeros(len(records), bool)
        same[1:] = (records[1:, :2] == records[:-1, :2]).all(axis=1)
        starts = starts_of_groups(np.cumsum(~same).astype(np.uint64))
        losers = np.flatnonzero(same)
        yield np.column_stack([records[losers, 2], records[starts[losers], 2]]) & mask
        best = records[starts[-1:]]


def equals_of_losers(by_winner: Iterable[Records], folder: Path) -> Iterator[tuple[int, int, int]]:
    """(number, winner, bits of EQUAL) of (winner, number); if the winner is dropped too, for what it is."""
    near = (tuple(row) for block in blocks_of(folder / NEAR, 3, BLOCK) for row in block.tolist())
    current = next(near, None)
    for block in by_winner:
        for winner, number in block.tolist():
            while current is not None and current[0] < winner:
                current = next(near, None)
            if current is not None and current[0] == winner:
                yield number, current[1], current[2]
            else:
                yield number, winner, bits_of(EQUAL)


# Similar files


def write_rows(shards: Iterable[Shard], rank: RankOf, folder: Path) -> int:
    """Write the signature, the rank and the place of each file that has a signature; how many have one."""
    equals = (number for block in blocks_of(folder / EQUALS, 2, BLOCK) for number in block[:, 0].tolist())
    copy = next(equals, None)
    row = 0
    with (
        (folder / SIGNATURES).open("wb") as signatures,
        (folder / RANKS).open("wb") as ranks,
        (folder / PLACES).open("wb") as places,
        (folder / RESULTS).open("wb") as results,
    ):
        for index, shard in enumerate(shards):
            outcomes = outcomes_in(shard)
            blob = memoryview(read_signatures(shard, outcomes))
            results.write(shard.result.name.encode().ljust(NAME_BYTES))
            signed = 0
            for position, outcome in enumerate(outcomes):
                if not outcome.is_signed:
                    continue
                own = blob[SIGNATURE_BYTES * signed : SIGNATURE_BYTES * (signed + 1)]
                signed += 1
                number, place = shard.numbers[position], rank(shard, position, outcome)
                while copy is not None and copy < number:
                    copy = next(equals, None)
                if place is None or copy == number:
                    continue
                signatures.write(own)
                ranks.write((place >> ROW_BITS << ROW_BITS | row).to_bytes(8, "little"))
                places.write(PLACE.pack(number, index, position))
                row += 1
    return row


def near_copies(
    prepared: Path, folder: Path, rows: int, threshold: float, means: Means
) -> Iterator[tuple[int, int, float]]:
    """(number, number of the better one, similarity) by number."""
    if rows < 2:
        return
    exact = ExactSimilarity(prepared, folder)
    found: Iterable[tuple[int, NearDuplicate]]
    if rows * MEMORY_OF_A_FILE <= means.here:
        signatures = np.fromfile(folder / SIGNATURES, "<u4").reshape(-1, PERMUTATIONS)
        best_first = np.argsort(np.fromfile(folder / RANKS, "<u8")).tolist()
        found = sorted(near_duplicates(signatures, best_first, threshold, exact).items())
    else:
        found = near_duplicates_on_disk(folder, rows, threshold, exact, means)
    with (folder / PLACES).open("rb") as places:
        for row, near in found:
            yield place_of(places, row)[0], place_of(places, near.winner)[0], near.similarity


def place_of(places: BinaryIO, row: int) -> tuple[int, int, int]:
    """The number of a row's file, the number of its result, and its position there."""
    number, result, position = PLACE.unpack(os.pread(places.fileno(), PLACE.size, PLACE.size * row))
    return number, result, position


@dataclass(frozen=True)
class ExactSimilarity:
    """How similar the files of two rows are, word by word, from what the shards have of them."""

    prepared: Path
    folder: Path

    def __call__(self, one: int, other: int) -> float:
        return jaccard(shingles_of(self, one), shingles_of(self, other))


@lru_cache(maxsize=TEXTS_REMEMBERED)
def shingles_of(texts: ExactSimilarity, row: int) -> NDArray[np.uint64]:
    with (texts.folder / PLACES).open("rb") as places:
        _, result, position = place_of(places, row)
    shard, outcomes = result_of(texts, result)
    return shingles(read_text(shard, outcomes, position))


@lru_cache(maxsize=RESULTS_REMEMBERED)
def result_of(texts: ExactSimilarity, number: int) -> tuple[Shard, list[Outcome]]:
    with (texts.folder / RESULTS).open("rb") as names:
        name = os.pread(names.fileno(), NAME_BYTES, NAME_BYTES * number).decode().rstrip()
    shard = Shard([], texts.prepared / name)
    return shard, outcomes_in(shard)
