"""Find files that are almost the same, without comparing all pairs: MinHash with locality-sensitive hashing.

A signature is cut into 42 bands of 6 numbers. Two files are compared only if they agree in a whole band. Two
of similarity 0.7 do with a probability of 0.995, two of 0.5 with 0.48, two of 0.2 with 0.003. If the estimate
is too close to the threshold to be trusted, the files themselves are compared.
Source: Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from documents.fingerprints import PERMUTATIONS

BANDS = 42  # 32 bands of 8 numbers, as many have it, miss one pair in seven at 0.7
ROWS = PERMUTATIONS // BANDS
# Three standard errors: an estimate nearer to the threshold may be on its wrong side.
UNCERTAIN = 0.09
ALONE = -1  # in a band that no other file has


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """The file that is kept instead of another, and how similar the two are."""

    winner: int
    similarity: float


def near_duplicates(
    signatures: NDArray[np.uint32],
    order: Iterable[int],
    threshold: float,
    exact: Callable[[int, int], float],
) -> dict[int, NearDuplicate]:
    """Each row to drop -> what is kept instead. signatures: (n, 256). order: the rows, the best file first.

    Each file is compared with the better ones that are kept. So no two files are kept that were found
    similar, and each dropped file is similar to the kept one that it names. exact: the similarity of the
    files of two rows. Besides the signatures this needs some 340 bytes a file, and time in proportion to the
    number of files, however similar they are.
    """
    groups, members, starts = bands_in_common(signatures)
    filled = np.zeros(len(starts), np.int64)  # how many kept members each group has, at its start
    has_company = (groups != ALONE).any(axis=0)
    losers: dict[int, NearDuplicate] = {}
    for row in order:
        if not has_company[row]:
            continue
        own = groups[:, row]
        own = own[own != ALONE]
        ends = starts[own] + filled[own]
        better = [members[start:end] for start, end in zip(starts[own], ends, strict=True) if end > start]
        if better:
            candidates = np.unique(np.concatenate(better))
            estimates = (signatures[candidates] == signatures[row]).mean(axis=1)
            if near := most_similar(row, candidates, estimates, threshold, exact):
                losers[row] = near
                continue
        members[ends] = row
        filled[own] += 1
    return losers


def most_similar(
    row: int,
    candidates: NDArray[np.int32],
    estimates: NDArray[np.float64],
    threshold: float,
    exact: Callable[[int, int], float],
) -> NearDuplicate | None:
    """The first candidate, by estimated similarity, that is certainly similar enough."""
    for place in np.argsort(-estimates, kind="stable"):
        candidate, similarity = int(candidates[place]), float(estimates[place])
        if similarity < threshold - UNCERTAIN:
            return None
        if similarity < threshold + UNCERTAIN:
            similarity = exact(row, candidate)
        if similarity >= threshold:
            return NearDuplicate(candidate, similarity)
    return None


def bands_in_common(
    signatures: NDArray[np.uint32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Which files agree in a whole band: the groups of at least two files, numbered through all bands.

    groups (42, n): the group of each file in each band, or ALONE. members: room for the files of all groups,
    one group after the other. starts: where each group's room begins.
    """
    number = len(signatures)
    groups = np.full((BANDS, number), ALONE, np.int32)
    sizes: list[NDArray[np.int64]] = []
    known = 0
    for band in range(BANDS):
        rows = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        _, which, counts = np.unique(band_keys(rows), return_inverse=True, return_counts=True)
        shared = counts > 1
        numbers = np.full(len(counts), ALONE, np.int32)
        numbers[shared] = known + np.arange(shared.sum(), dtype=np.int32)
        groups[band] = numbers[which]
        sizes.append(counts[shared])
        known += int(shared.sum())
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
    return groups, np.zeros(int(starts[-1]), np.int32), starts[:-1]


def band_keys(rows: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """A hash of each row (n, 6). A collision costs one comparison, no more."""
    keys = np.zeros(len(rows), np.uint64)
    for column in range(rows.shape[1]):
        keys = (keys ^ rows[:, column]) * np.uint64(0x100000001B3)  # FNV-1a, by numbers instead of bytes
        keys ^= keys >> np.uint64(32)
    return keys
