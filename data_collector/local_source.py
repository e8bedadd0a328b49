"""Sources of this machine, each a repository like any other: what one is, and how it is taken.

Files are copied, never linked: whatever later happens in repos/ does not touch the originals.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from collection import Collection
from collection_format import LocalRecord
from collector_error import CollectorError
from python_tree import PythonTree

# (path inside a source, the file's bytes piece by piece), to be read in order
Contents = Iterator[tuple[bytes | str, Iterable[bytes]]]


class LocalSourceError(CollectorError):
    """A source of this machine that cannot be read: what happened, where, what to do."""


@dataclass(frozen=True)
class LocalFile:
    """A Python file of a source: its path inside (POSIX), where it lies, and what tells of a change."""

    name: str
    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def at(cls, name: str, path: Path) -> LocalFile | None:
        """The file as it is now, None if it is gone or no regular file (a link is followed)."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(name, path, status.st_size, status.st_mtime_ns) if path.is_file() else None


@dataclass(frozen=True)
class LocalSource:
    """A package, folder, git repository or archive of this machine.

    contents yields (path inside, its bytes piece by piece) of each of its Python files; license and commit
    are looked for only when the source is taken. whole_bytes is its size before anything was left out.
    """

    kind: Literal["installed", "local"]
    name: str
    id: str
    url: str
    fingerprint: str
    contents: Callable[[], Contents]
    license: Callable[[], str]
    commit: Callable[[], str]
    whole_bytes: int
    is_cut: bool = False


def fingerprint(files: Iterable[LocalFile], *more: str) -> str:
    """What changes when any of the files does: a hash of their names, sizes and times."""
    lines = [*more, *(f"{file.name}\t{file.size}\t{file.mtime_ns}" for file in files)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_files(files: Iterable[LocalFile], unreadable: list[str]) -> Contents:
    """(path inside, [bytes]) of each file; the paths of those that cannot be read are added to unreadable."""
    for file in files:
        try:
            yield os.fsencode(file.name), [file.path.read_bytes()]
        except OSError as error:
            unreadable.append(f"{file.path} ({error.strerror})")


@dataclass(frozen=True)
class TakenSource:
    """What one source contributed."""

    source: LocalSource
    full_name: str
    license: str
    files: int
    bytes: int
    skipped: tuple[str, ...]  # files whose names have no safe place


def take(source: LocalSource, collection: Collection) -> TakenSource:
    """Copy a source's Python files into the collection, in the place of an older copy."""
    prepared = collection.folder.new_partial() / "files"
    prepared.mkdir()
    tree = PythonTree(prepared)
    for name, pieces in source.contents():
        tree.write(name, pieces)
    record = LocalRecord(
        id=source.id,
        full_name=f"{source.kind}/{source.name}",
        source=source.kind,
        clone_url=source.url,
        commit_sha=source.commit(),
        license=source.license(),
        python_files=tree.files,
        python_bytes=tree.bytes,
        fingerprint=source.fingerprint,
    )
    full_name = collection.record_local(record, prepared)
    prepared.parent.rmdir()
    return TakenSource(source, full_name, record.license, tree.files, tree.bytes, tuple(tree.skipped))
