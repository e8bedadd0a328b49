"""Which files are held out of training: whole repositories, about 5 % of the bytes, by a hash of their names.

A hash, not a draw: a repository stays on its side whatever else is collected, so long as the share allows it,
and two people who collect the same repository agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b

SHARE = 0.05  # of the bytes: enough to measure on, little enough not to be missed
SHARE_MOST = 0.06  # one that would take the sum above it is passed over
SHARE_LEAST = 0.01  # below it, whole repositories do not do: too little to measure on
REPOSITORIES_LEAST = 3


def held_out_files(files: Sequence[tuple[str, str, int]]) -> set[int]:
    """From (repository, path, bytes) of each file: the positions of those to hold out.

    By file, not by repository, where there are fewer than three repositories or none of them is small enough.
    Never empty when there are two files or more; never all of them.
    """
    total = sum(size for _, _, size in files)
    by_repository: Counter[str] = Counter()
    for repo, _, size in files:
        by_repository[repo] += size
    if len(by_repository) >= REPOSITORIES_LEAST:
        small = {repo: size for repo, size in by_repository.items() if size <= SHARE * total}
        chosen = first_by_hash(small, total)
        if sum(small[repo] for repo in chosen) >= SHARE_LEAST * total:
            return {number for number, (repo, _, _) in enumerate(files) if repo in chosen}
    by_file = {f"{repo}\0{path}": size for repo, path, size in files}
    chosen = first_by_hash(by_file, total)
    if not chosen and len(files) > 1:
        chosen = {min(by_file, key=lambda name: (by_file[name], name))}
    return {number for number, (repo, path, _) in enumerate(files) if f"{repo}\0{path}" in chosen}


def first_by_hash(sizes: Mapping[str, int], total: int) -> set[str]:
    """The names that come first in the order of their hashes and together make up about 5 % of the total."""
    chosen: set[str] = set()
    held_out = 0
    for name in sorted(sizes, key=lambda name: blake2b(name.encode()).digest()):
        if held_out >= SHARE * total:
            break
        if held_out + sizes[name] <= SHARE_MOST * total:
            chosen.add(name)
            held_out += sizes[name]
    return chosen
