"""The same file in several places -> the best of its copies.

Two files are the same when they differ in comments and blanks alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeVar

Key = TypeVar("Key")
BLANKS = b" \t\n\f"


def content_digest(text: str) -> str:
    """What two copies of a file share, whatever their blanks: 32 hexadecimal digits.

    16 bytes: among a billion different files two are taken for one with a probability of 1e-21.
    """
    return blake2b(text.encode().translate(None, BLANKS), digest_size=16).hexdigest()


def duplicates(files: Iterable[tuple[Key, str, tuple[object, ...]]]) -> dict[Key, Key]:
    """From (file, digest, rank) of each file: each one to drop -> the copy of the least rank, which stays.

    >>> duplicates([("a", "1", (2,)), ("b", "1", (1,)), ("c", "2", (1,))])
    {'a': 'b'}
    """
    best: dict[str, tuple[tuple[object, ...], Key]] = {}
    losers: list[tuple[Key, str]] = []
    for key, digest, rank in files:
        if digest not in best:
            best[digest] = rank, key
        elif rank < best[digest][0]:
            losers.append((best[digest][1], digest))
            best[digest] = rank, key
        else:
            losers.append((key, digest))
    return {key: best[digest][1] for key, digest in losers}
