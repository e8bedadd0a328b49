"""All pairs of similar files, from every shingle of every file: what near_duplicates.py estimates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corpus.near_duplicates import ALONE, UNCERTAIN, bands_in_common
from documents.fingerprints import jaccard

Pairs = dict[tuple[int, int], float]  # (smaller number, larger number) -> similarity


def similar_pairs(shingles: Sequence[NDArray[np.uint64]], threshold: float) -> Pairs:
    """The pairs whose exact Jaccard similarity is at least the threshold. shingles: a set of each file.

    Memory and time grow with the pairs of files that share a shingle, counted once for each shingle.
    """
    sizes = np.array([len(each) for each in shingles])
    owners = np.repeat(np.arange(len(shingles)), sizes)
    order = np.argsort(np.concatenate(shingles), kind="stable")
    ranked = np.concatenate(shingles)[order]
    begins = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    group = np.empty(len(order), np.int64)
    group[order] = np.repeat(np.arange(len(begins)), np.diff([*begins, len(order)]))
    ends = np.append(begins[1:], len(order))
    holders = owners[order]
    pairs: Pairs = {}
    position = 0
    for file, size in enumerate(sizes):
        own = group[position : position + size]
        position += size
        shared = own[ends[own] - begins[own] > 1]
        if not len(shared):
            continue
        others = np.concatenate([holders[begins[each] : ends[each]] for each in shared])
        common = np.bincount(others, minlength=len(sizes))[:file]
        similarity = common / (size + sizes[:file] - common)
        for other in np.flatnonzero(similarity >= threshold):
            pairs[int(other), file] = float(similarity[other])
    return pairs


def found_pairs(
    signatures: NDArray[np.uint32], shingles: Sequence[NDArray[np.uint64]], threshold: float
) -> Pairs:
    """The pairs that the stage finds: equal in a band, and similar by estimate or, if uncertain, exactly."""
    groups, _, _ = bands_in_common(signatures)
    pairs: Pairs = {}
    for band in groups:
        order = np.argsort(band, kind="stable")
        order = order[band[order] != ALONE]
        for members in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            for place, file in enumerate(members):
                estimates = (signatures[members[:place]] == signatures[file]).mean(axis=1)
                for other in np.flatnonzero(estimates >= threshold - UNCERTAIN):
                    pair = int(members[other]), int(file)
                    similarity = float(estimates[other])
                    if pair not in pairs and similarity < threshold + UNCERTAIN:
                        similarity = jaccard(*(shingles[each] for each in pair))
                    if similarity >= threshold:
                        pairs[pair] = similarity
    return pairs


def losers_by_pairs(number: int, pairs: Pairs) -> set[int]:
    """The files to drop if each is compared with the better ones that are kept; the best file comes first."""
    better: dict[int, list[int]] = {}
    for first, second in pairs:
        better.setdefault(second, []).append(first)
    losers: set[int] = set()
    for file in range(number):
        if any(other not in losers for other in better.get(file, ())):
            losers.add(file)
    return losers
