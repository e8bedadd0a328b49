"""The train/held-out split: whole repositories, about 5 % of the bytes, by a hash of their names.

Because it is a hash and not a random draw, a repository stays on its side whatever else is collected, as long
as the share allows it, and two people who collect the same repository agree. Where the first few are large,
small ones join them, so the score of a model does not hang on the style of three or four repositories.

A file of its own: every score of a model depends on this rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b

SHARE = 0.05  # of the bytes: enough to measure on, too little to be missed in training
LARGEST_SHARE = 0.06  # a repository that would make the sum larger is skipped
SMALLEST_SHARE = 0.01  # less is too little to measure on: then the split is by file
FEWEST_REPOSITORIES = 3
ENOUGH = 12  # repositories to measure on, or a quarter of all
FEWEST_BYTES = 8192  # of a small one that joins them: less tells too little


@dataclass(frozen=True)
class HeldOut:
    """What is held out: all files of some repositories, or some files, as "repository\\0path"."""

    repositories: Set[str] = frozenset()
    files: Set[str] = frozenset()

    def has(self, repo: str, path: str) -> bool:
        return repo in self.repositories or (bool(self.files) and f"{repo}\0{path}" in self.files)


def choose_held_out(files: Iterable[tuple[str, str, int]], train_on: Sequence[str] = ()) -> HeldOut:
    """What to hold out, from (repository, path, bytes) of each file, which are gone through twice.

    By file, not by repository, if there are fewer than three repositories or none of them is small enough:
    then the names of all are in memory. Never empty if there are two files or more; never all of them.
    train_on: patterns of repositories that are never held out, nor files of theirs if there are others.
    """
    by_repository: Counter[str] = Counter()
    for repo, _, size in files:
        by_repository[repo] += size
    total = by_repository.total()
    if len(by_repository) >= FEWEST_REPOSITORIES:
        small = {
            repo: size
            for repo, size in by_repository.items()
            if size <= SHARE * total and not has_name(repo, train_on)
        }
        chosen = first_by_hash(small, total)
        chosen |= small_ones(small, total, chosen, min(ENOUGH, len(by_repository) // 4) - len(chosen))
        if sum(small[repo] for repo in chosen) >= SMALLEST_SHARE * total:
            return HeldOut(repositories=chosen)
    others = any(not has_name(repo, train_on) for repo in by_repository)
    by_file = {
        f"{repo}\0{path}": size for repo, path, size in files if not (others and has_name(repo, train_on))
    }
    chosen = first_by_hash(by_file, total)
    if not chosen and (len(by_file) > 1 or (by_file and len(by_repository) > 1)):
        chosen = {min(by_file, key=lambda name: (by_file[name], name))}
    return HeldOut(files=chosen)


def has_name(repo: str, patterns: Sequence[str]) -> bool:
    """Whether a repository is meant by one of these patterns of fnmatch."""
    return any(fnmatchcase(repo, pattern) for pattern in patterns)


def first_by_hash(sizes: Mapping[str, int], total: int) -> set[str]:
    """The first names in the order of their hashes that together make up about 5 % of the total."""
    chosen: set[str] = set()
    held_out = 0
    for name in sorted(sizes, key=_by_hash):
        if held_out >= SHARE * total:
            break
        if held_out + sizes[name] <= LARGEST_SHARE * total:
            chosen.add(name)
            held_out += sizes[name]
    return chosen


def small_ones(sizes: Mapping[str, int], total: int, chosen: set[str], missing: int) -> set[str]:
    """As many more as are missing, by their hashes, each with its part of what is left of 6 %."""
    joining: set[str] = set()
    left = LARGEST_SHARE * total - sum(sizes[name] for name in chosen)
    for name in sorted(sizes.keys() - chosen, key=_by_hash):
        if len(joining) >= missing:
            break
        if FEWEST_BYTES <= sizes[name] <= left / (missing - len(joining)):
            joining.add(name)
            left -= sizes[name]
    return joining


def _by_hash(name: str) -> bytes:
    return blake2b(name.encode()).digest()
