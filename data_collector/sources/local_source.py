"""A source that is no git server, treated as a repository: what it is, and how the collection takes it.

Files are copied, never linked: nothing that happens in repos/ later can touch the originals.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from collection.record import Collection, LocalRecord
from collection.repos_folder import PythonTree
from collector_cli import UserError

# (path inside a source, the file's bytes piece by piece), to be read in order
Contents = Iterator[tuple[bytes | str, Iterable[bytes]]]


class LocalSourceError(UserError):
    """A source of this machine that cannot be read: what happened, where, what to do."""


@dataclass
class Gaps:
    """What a run over this machine has not taken, a line for each.

    unreadable: what should have been taken (exit code 3). left_out: what does not count, such as files that
    git does not track.
    """

    unreadable: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, path: Path | str, error: OSError) -> None:
        """A file or folder that the operating system does not let us read."""
        self.unreadable.append(f"{path} ({error.strerror or error})")


@dataclass(frozen=True)
class LocalFile:
    """A Python file of a source: its path inside (POSIX), where it lies, and what shows a change."""

    name: str
    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def at(cls, name: str, path: Path) -> LocalFile | None:
        """The file as it is now; None if it is gone or not a regular file (a link is followed).

        Raises OSError if it may not be looked at.
        """
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(name, path, status.st_size, status.st_mtime_ns) if path.is_file() else None


@dataclass(frozen=True)
class LocalSource:
    """A folder, git repository or archive of this machine, or a package, installed or of an index.

    contents yields (path inside, its bytes piece by piece) of each Python file; license and commit are looked
    up only when the source is taken. whole_bytes is the size of one that is cut to fit into --max-mb.
    """

    kind: Literal["installed", "local", "pypi", "dataset"]
    name: str
    id: str
    url: str
    fingerprint: str
    contents: Callable[[], Contents]
    license: Callable[[], str]
    commit: Callable[[], str]
    whole_bytes: int = 0
    is_cut: bool = False
    owner: str = ""  # of a repository of a dataset; others are known by their kind

    @property
    def full_name(self) -> str:
        return f"{self.owner or self.kind}/{self.name}"


def fingerprint(files: Iterable[LocalFile], *more: str) -> str:
    """A hash of the files' names, sizes and times: it changes when any of them does."""
    lines = [*more, *(f"{file.name}\t{file.size}\t{file.mtime_ns}" for file in files)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_files(files: Iterable[LocalFile], gaps: Gaps) -> Contents:
    """(path inside, [bytes]) of each file; one that cannot be read is named in gaps."""
    for file in files:
        try:
            yield os.fsencode(file.name), [file.path.read_bytes()]
        except OSError as error:
            gaps.add(file.path, error)


@dataclass(frozen=True)
class TakenSource:
    """What one source contributed."""

    source: LocalSource
    full_name: str
    license: str
    files: int
    bytes: int
    skipped: tuple[str, ...]  # files whose names have no safe place


def take(source: LocalSource, collection: Collection, gaps: Gaps) -> TakenSource:
    """Copy a source's Python files into the collection, in place of an older copy.

    One of which a file could not be read is taken again by the next run. Raises LocalSourceError if there is
    nothing to take; an older copy then stays.
    """
    prepared = collection.folder.new_partial() / "files"
    try:
        return _take(source, collection, gaps, prepared)
    finally:
        shutil.rmtree(prepared.parent, ignore_errors=True)


def _take(source: LocalSource, collection: Collection, gaps: Gaps, prepared: Path) -> TakenSource:
    prepared.mkdir()
    tree, before = PythonTree(prepared), len(gaps.unreadable)
    for name, pieces in source.contents():
        tree.write(name, pieces)
    if not tree.files and source.kind != "pypi":  # a package may be all data or machine code
        where = source.id.partition("/")[2]
        raise LocalSourceError(f"no Python file in it that can be taken: {where}: leave it out")
    license_id = source.license()
    is_whole = len(gaps.unreadable) == before
    record = LocalRecord(
        id=source.id,
        full_name=source.full_name,
        source=source.kind,
        clone_url=source.url,
        commit_sha=source.commit(),
        license=license_id,
        python_files=tree.files,
        python_bytes=tree.bytes,
        fingerprint=source.fingerprint if is_whole else "",
    )
    full_name = collection.record_local(record, prepared, tree.renamed)
    return TakenSource(source, full_name, record.license, tree.files, tree.bytes, tuple(tree.skipped))
