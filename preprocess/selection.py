"""Which of the files that can be kept by themselves are kept: by licence, and of copies the best alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from deduplication import duplicates
from filters import Finding
from inventory import Inventory, Repository, SourceFile
from licences import PERMISSIVE, is_allowed
from shards import SIGNATURE_BYTES, Outcome, Shard, read_signatures, read_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR_DUPLICATE = "near_duplicate"
SIMILAR = 0.7  # SantaCoder, The Stack: word 5-grams, Jaccard 0.7

REMEMBERED = 200  # files, while they are compared word by word

FOLDED_PERMISSIVE = frozenset(name.casefold() for name in PERMISSIVE)


@dataclass(frozen=True, slots=True)
class Choice:
    """The options that decide between files."""

    licences: frozenset[str] | None = None  # folded; None: any
    similar: float | None = (
        SIMILAR  # from which similarity on a file is a copy; None: only when it is the same
    )


def select(
    inventory: Inventory, shards: Sequence[Shard], outcomes: Sequence[Outcome], choice: Choice
) -> list[Finding | None]:
    """For each file what drops it, or None. outcomes: of all files of the inventory, in its order."""
    findings = [outcome.finding for outcome in outcomes]
    for number, (file, outcome) in enumerate(zip(inventory.files, outcomes, strict=True)):
        licence = licence_of(inventory.repositories[file.repo], outcome)
        is_wanted = choice.licences is None or is_allowed_cached(licence, choice.licences)
        if findings[number] is None and not is_wanted:
            findings[number] = Finding("license", detail=licence or "unknown")
    kept = [number for number, finding in enumerate(findings) if finding is None]
    ranks = {number: rank(inventory, outcomes, number) for number in kept}
    copies = duplicates((number, outcomes[number].digest, ranks[number]) for number in kept)
    for loser, winner in copies.items():
        findings[loser] = Finding("duplicate", detail=name_of(inventory.files[winner]))
    if choice.similar is not None:
        best_first = sorted((number for number in kept if number not in copies), key=ranks.__getitem__)
        similar = similar_files(shards, outcomes, best_first, choice.similar)
        for loser, finding in similar.items():
            findings[loser] = Finding(
                NEAR_DUPLICATE, finding[1], choice.similar, name_of(inventory.files[finding[0]])
            )
        for loser, winner in copies.items():
            if winner in similar:  # which is not kept either
                findings[loser] = findings[winner]
    return findings


def similar_files(
    shards: Sequence[Shard], outcomes: Sequence[Outcome], best_first: Sequence[int], threshold: float
) -> dict[int, tuple[int, float]]:
    """Each of these files that is similar to a better one: that one, and how similar it is."""
    signed = [number for number in best_first if outcomes[number].is_signed]
    if len(signed) < 2:
        return {}
    from near_duplicates import near_duplicates
    from signatures import jaccard, shingles

    files = sorted(signed)
    rows = {number: row for row, number in enumerate(files)}
    shard_of = {number: shard for shard in shards for number in shard.numbers if number in rows}

    @lru_cache(maxsize=REMEMBERED)
    def shingles_of(row: int) -> NDArray[np.uint64]:
        shard = shard_of[files[row]]
        of_shard = [outcomes[number] for number in shard.numbers]
        return shingles(read_text(shard, of_shard, shard.numbers.index(files[row])))

    losers = near_duplicates(
        signatures_of(shards, outcomes, rows),
        [rows[number] for number in signed],
        threshold,
        lambda first, second: jaccard(shingles_of(first), shingles_of(second)),
    )
    return {files[row]: (files[near.winner], round(near.similarity, 4)) for row, near in losers.items()}


def signatures_of(
    shards: Sequence[Shard], outcomes: Sequence[Outcome], rows: dict[int, int]
) -> NDArray[np.uint32]:
    """The signatures (n, 256) of the files with a row."""
    import numpy as np

    signatures = np.empty((len(rows), SIGNATURE_BYTES // 4), "<u4")
    for shard in shards:
        of_shard = [outcomes[number] for number in shard.numbers]
        blob = np.frombuffer(read_signatures(shard, of_shard), "<u4").reshape(-1, SIGNATURE_BYTES // 4)
        signed = (number for number in shard.numbers if outcomes[number].is_signed)
        for signature, number in zip(blob, signed, strict=True):
            if number in rows:
                signatures[rows[number]] = signature
    return signatures


def licence_of(repository: Repository, outcome: Outcome) -> str:
    """The licence of a file: what its own header says goes before what is known of its repository."""
    return outcome.licence or repository.license


def rank(inventory: Inventory, outcomes: Sequence[Outcome], number: int) -> tuple[object, ...]:
    """The file of the least rank has the best right to be called the origin of what several have.

    Source: BigCode's near-deduplication keeps by licence, then stars, then forks, then age.
    """
    file = inventory.files[number]
    repository = inventory.repositories[file.repo]
    return (licence_rank(licence_of(repository, outcomes[number])), *repository.rank(), file.path)


@cache
def licence_rank(licence: str) -> int:
    """0 for a permissive licence, 1 for another, 2 for none."""
    return 0 if is_allowed(licence, FOLDED_PERMISSIVE) else 1 if licence else 2


@cache
def is_allowed_cached(licence: str, licences: frozenset[str]) -> bool:
    return is_allowed(licence, licences)


def name_of(file: SourceFile) -> str:
    return f"{file.repo}/{file.path}"
