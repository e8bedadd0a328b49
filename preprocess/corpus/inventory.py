"""repos/ -> every Python file in it, with what the collector's record says about its repository.

A Python file is a regular file whose name ends in .py, in any case. Links, devices and pipes are not opened.
"""

from __future__ import annotations

import heapq
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from preprocess_cli import UserError

DATABASE = "collection.db"
PYTHON_SUFFIXES = (".py", ".PY", ".Py", ".pY")
SKIPPED_AT_ROOT = ".partial"  # where the collector prepares what is not complete yet
FILES_IN_MEMORY = 20_000  # 7 MB
NEWLINE = "\n"
SKIPPED_ANYWHERE = ".git"  # has no source, but a file for each branch, whose name may end in .py


@dataclass(frozen=True, slots=True)
class Repository:
    """What is known about a repository; empty or 0 if no collector recorded it."""

    name: str
    commit: str = ""
    license: str = ""
    stars: int = 0
    forks: int = 0
    created_at: str = ""

    def rank(self) -> tuple[object, ...]:
        """The most stars first, then the most forks, then the oldest."""
        return (-self.stars, -self.forks, self.created_at or "9999", self.name)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A Python file as it was found. location: where it is in repos/; path: its true name in the repository.

    Of several folders of repositories, locations are absolute: repos / location is the file in any case.

    The two differ where the collector had to change a name: "a:b.py" lies in repos/ as "a%3Ab.py".
    """

    repo: str
    path: str
    location: str
    size: int
    mtime_ns: int


class SourceFiles:
    """Files by repository, path and location: any number of them in the memory of some thousands.

    append each, then sort, then go through them or take one by its number. What exceeds a few thousand is in
    nameless files of TMPDIR, 200 bytes for each.
    """

    def __init__(self, most: int = FILES_IN_MEMORY) -> None:
        self.most = most
        self.waiting: list[SourceFile] = []
        self.runs: list[BinaryIO] = []
        self.number = self.bytes = 0
        self.lines: BinaryIO | None = None  # all of them in order, if they are too many for memory
        self.starts: BinaryIO | None = None  # where the line of each file begins, 8 bytes each

    def append(self, file: SourceFile) -> None:
        self.waiting.append(file)
        self.number += 1
        self.bytes += file.size
        if len(self.waiting) == self.most:
            self.runs.append(TemporaryFile())  # noqa: SIM115  # it lives as long as this object
            self.runs[-1].writelines(map(line_of, sorted(self.waiting, key=by_name)))
            self.waiting = []

    def sort(self) -> None:
        self.waiting.sort(key=by_name)
        if not self.runs:
            return
        self.lines, self.starts = TemporaryFile(), TemporaryFile()  # noqa: SIM115
        position = 0
        for run in self.runs:
            run.seek(0)
        for line in heapq.merge(*self.runs, map(line_of, self.waiting), key=json.loads):
            self.lines.write(line)
            self.starts.write(position.to_bytes(8, "little"))
            position += len(line)
        self.lines.flush()
        self.starts.flush()
        for run in self.runs:
            run.close()
        self.runs, self.waiting = [], []

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[SourceFile]:
        if self.lines is None:
            return iter(self.waiting)
        return self.from_disk(self.lines)

    def from_disk(self, lines: BinaryIO) -> Iterator[SourceFile]:
        with open(os.dup(lines.fileno()), "rb") as again:  # noqa: PTH123  # a descriptor has no path
            position = 0  # the descriptors share theirs, and several may go through the files at once
            while block := os.pread(again.fileno(), 1 << 18, position):
                whole = block[: block.rindex(b"\n")]
                position += len(whole) + 1
                # All at once: a call of the parser costs as much as what it parses here.
                for fields in json.loads(f"[{whole.decode().replace(NEWLINE, ',')}]"):
                    yield SourceFile(*fields)

    def __getitem__(self, number: int) -> SourceFile:
        if self.lines is None or self.starts is None:
            return self.waiting[number]
        start = int.from_bytes(os.pread(self.starts.fileno(), 8, 8 * number), "little")
        line = b""
        while b"\n" not in line:
            line += os.pread(self.lines.fileno(), 4096, start + len(line))
        return file_of(line[: line.index(b"\n")])


def by_name(file: SourceFile) -> tuple[str, str, str]:
    return file.repo, file.path, file.location


def line_of(file: SourceFile) -> bytes:
    """As lists, lines are in the order of names: size and time come last, and only tell twins apart."""
    return json.dumps([file.repo, file.path, file.location, file.size, file.mtime_ns]).encode() + b"\n"


def file_of(line: bytes) -> SourceFile:
    """
    >>> file_of(line_of(SourceFile("o/r", "a.py", "o/r/\\udcff.py", 1, 2))).location
    'o/r/\\udcff.py'
    """
    return SourceFile(*json.loads(line))


@dataclass(slots=True)
class Inventory:
    """The Python files of a folder of repositories."""

    repositories: dict[str, Repository] = field(default_factory=dict)  # by name
    files: SourceFiles = field(default_factory=SourceFiles)  # by repository, then path
    special: list[str] = field(default_factory=list)  # links and the like that are named as Python files
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # folders and files, with the reason
    repeated: set[str] = field(default_factory=set)  # names of repositories that an earlier folder has too


def take_inventory(folders: Sequence[Path]) -> Inventory:
    """All Python files in these folders of repositories; locations are absolute if there are several.

    Of a repository that is in several of them, as two collectors may have found it, the first one counts.
    Raises UserError if there are none, or a record cannot be read.
    """
    inventory = Inventory()
    for number, folder in enumerate(folders):
        if not folder.is_dir():
            what = "this is not a folder" if folder.exists() else "there is no such folder"
            raise UserError(
                f"{what}: {folder.absolute()}: run: python data_collector/data_collector.py --local"
            )
        if folder.resolve() in (other.resolve() for other in folders[:number]):
            raise UserError(f"this folder is named twice: {folder.absolute()}: name it once")
        _add_folder(folder, inventory, "" if len(folders) == 1 else f"{folder.absolute()}/")
    if not inventory.files:
        raise UserError(
            f"there is no Python file in it: {folders[0].absolute()}: "
            "run: python data_collector/data_collector.py --local"
        )
    inventory.files.sort()
    return inventory


def _add_folder(repos: Path, inventory: Inventory, before: str) -> None:
    """Add the files of a folder. before: what its locations begin with."""
    recorded, earlier = read_record(repos), set(inventory.repositories)
    for location, entry in walk(repos, inventory):
        folder, path = repository_and_path(location, repos)
        repository = recorded.repositories.get(folder.casefold()) or Repository(as_text(folder))
        if repository.name in earlier:
            inventory.repeated.add(repository.name)
            continue
        inventory.repositories[repository.name] = repository
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:  # it was deleted after it was listed
            inventory.unreadable.append((as_text(location), error.strerror or str(error)))
            continue
        true_path = recorded.true_paths.get((folder.casefold(), path)) or as_text(path)
        inventory.files.append(
            SourceFile(repository.name, true_path, before + location, status.st_size, status.st_mtime_ns)
        )


def walk(repos: Path, inventory: Inventory) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(location, entry) of every Python file; what cannot be read is noted in the inventory."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(repos / folder) as listing:
                entries = list(listing)
        except OSError as error:
            inventory.unreadable.append((as_text(folder or "."), error.strerror or str(error)))
            continue
        for entry in entries:
            location = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name != SKIPPED_ANYWHERE and location != SKIPPED_AT_ROOT:
                    folders.append(location)
            elif is_python_name(entry.name):
                if entry.is_file(follow_symlinks=False):
                    yield location, entry
                else:
                    inventory.special.append(as_text(location))


def landmark(folder: Path) -> tuple[Path, Path, int]:
    """(folder, a Python file in it, its size): who sees that file sees this folder. Without one, itself."""
    for location, entry in walk(folder, Inventory()):
        with suppress(OSError):  # deleted since
            return folder, folder / location, entry.stat(follow_symlinks=False).st_size
    return folder, folder, 0


def is_python_name(name: str) -> bool:
    return name.endswith(PYTHON_SUFFIXES)


def repository_and_path(location: str, repos: Path) -> tuple[str, str]:
    """The folder of the repository (two levels, as the collector makes them) and the path inside it.

    >>> repository_and_path("psf/requests/src/api.py", Path("repos"))
    ('psf/requests', 'src/api.py')
    >>> repository_and_path("scripts/make.py", Path("repos"))
    ('scripts', 'make.py')
    """
    *folders, name = location.split("/")
    repository = "/".join(folders[:2]) or repos.resolve().name
    return repository, "/".join([*folders[2:], name])


def as_text(location: str) -> str:
    r"""A file name as text that can be encoded: bytes that are not UTF-8 are spelt out, such as \xff."""
    return os.fsencode(location).decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class Record:
    """What the collector's record says, by folders of repositories.

    Folders are case folded, because a file system may give the repositories of "Ann" and "ann" one folder.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    true_paths: dict[tuple[str, str], str] = field(default_factory=dict)  # by folder and path in it


def read_record(repos: Path) -> Record:
    """The record in repos/, an empty one if no collector made it. Raises UserError if it cannot be read."""
    path = repos / DATABASE
    record = Record()
    if not path.is_file():
        return record
    names: set[str] = set()
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT folder, full_name, commit_sha, license, stars, forks, created_at"
                " FROM repositories WHERE folder != '' ORDER BY folder"
            ).fetchall()
            renamed: list[tuple[str, str, str]] = []
            # earlier versions of the collector did not record true paths
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'paths'").fetchone():
                renamed = database.execute(
                    "SELECT folder, stored_path, true_path"
                    " FROM paths JOIN repositories ON repositories.id = paths.repository_id"
                ).fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise UserError(
            f"the collector's record cannot be read ({error}): {path.absolute()}: "
            "run: python data_collector/data_collector.py --local"
        ) from None
    for folder, name, *known in rows:
        # Two sources may have one name, such as two local folders; their folders differ.
        record.repositories[folder.casefold()] = Repository(folder if name in names else name, *known)
        names.add(name)
    record.true_paths = {(folder.casefold(), stored): true for folder, stored, true in renamed}
    return record
