"""What was held out of a model stays held out of every model that goes on from it.

provenance.json names it: whole repositories, or single files of repositories that are in both splits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from token_dataset import TokenDataset, TokenSplit


@dataclass(frozen=True)
class HeldOutNames:
    """Repositories, and (repository, path) of files."""

    repositories: frozenset[str] = frozenset()
    files: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: HeldOutNames) -> HeldOutNames:
        return HeldOutNames(self.repositories | other.repositories, self.files | other.files)

    @property
    def record(self) -> dict[str, Any]:
        """The names as provenance.json has them."""
        return {
            "repositories": sorted(self.repositories),
            "files": [list(file) for file in sorted(self.files)],
        }


def names_of_record(record: dict[str, Any]) -> HeldOutNames:
    """The names that a provenance.json has, none where it says nothing."""
    held_out = record.get("held_out") or {}
    files = frozenset((repository, path) for repository, path in held_out.get("files", []))
    return HeldOutNames(frozenset(held_out.get("repositories", [])), files)


def names_of_dataset(dataset: TokenDataset) -> HeldOutNames:
    """What this corpus holds out: repositories of which nothing is learnt, and files of the others."""
    train, held_out = dataset.train, dataset.held_out
    learnt = {train.repositories[number] for number in np.unique(train.repository)}
    watched = {int(number) for number in np.unique(held_out.repository)}
    shared = {number for number in watched if held_out.repositories[number] in learnt}
    files: frozenset[tuple[str, str]] = frozenset()
    if shared:  # the paths of a large corpus are read only where they are needed
        documents = zip(held_out.repository.tolist(), held_out.paths, strict=True)
        files = frozenset((held_out.repositories[n], path) for n, path in documents if n in shared)
    return HeldOutNames(frozenset(held_out.repositories[number] for number in watched - shared), files)


def leave_out(dataset: TokenDataset, names: HeldOutNames) -> tuple[TokenDataset, int]:
    """The dataset without those training documents that the names hold out, and how many these were."""
    train = dataset.train
    documents = zip(_repositories(train), train.paths, strict=True)
    held_out = np.array([file[0] in names.repositories or file in names.files for file in documents], bool)
    if not held_out.any():
        return dataset, 0
    kept = replace(train, kept=np.flatnonzero(~held_out))
    return replace(dataset, train=kept), int(held_out.sum())


def _repositories(split: TokenSplit) -> list[str]:
    return [split.repositories[number] for number in split.repository.tolist()]
