"""repos/ -> every Python file in it, with what the collector's record says about its repository.

A Python file is a regular file whose name ends in .py, in any case. Links, devices and pipes are not opened.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DATABASE = "collection.db"
PYTHON_SUFFIXES = (".py", ".PY", ".Py", ".pY")
SKIPPED_AT_ROOT = ".partial"  # where the collector prepares what is not complete yet
SKIPPED_ANYWHERE = ".git"  # holds no source, but a file for each branch, whose name may end in .py


class InventoryError(ValueError):
    """A folder of repositories that cannot be read: what is wrong, where, what to do."""


@dataclass(frozen=True, slots=True)
class Repository:
    """What is known about a repository; empty or 0 where no collector recorded it."""

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
    """A Python file as it was found. location, relative to repos/, opens it; path is what it is called."""

    repo: str
    path: str
    location: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Inventory:
    """Everything that a folder of repositories holds for us."""

    repositories: dict[str, Repository] = field(default_factory=dict)  # by name
    files: list[SourceFile] = field(default_factory=list)  # by repository, then path
    special: list[str] = field(default_factory=list)  # links and the like that are named as Python files
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # folders and files, with the reason


def take_inventory(repos: Path) -> Inventory:
    """Everything in repos/. Raises InventoryError."""
    if not repos.is_dir():
        what = "this is not a folder" if repos.exists() else "there is no such folder"
        raise InventoryError(
            f"{what}: {repos.absolute()}: run: python data_collector/data_collector.py --local"
        )
    recorded = read_record(repos)
    inventory = Inventory()
    for location, entry in walk(repos, inventory):
        folder, path = repository_and_path(location, repos)
        repository = recorded.get(folder.casefold()) or Repository(as_text(folder))
        inventory.repositories[repository.name] = repository
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:  # it went away since it was listed
            inventory.unreadable.append((as_text(location), error.strerror or str(error)))
            continue
        inventory.files.append(
            SourceFile(repository.name, as_text(path), location, status.st_size, status.st_mtime_ns)
        )
    if not inventory.files:
        raise InventoryError(
            f"there is no Python file in it: {repos.absolute()}: "
            "run: python data_collector/data_collector.py --local"
        )
    inventory.files.sort(key=lambda file: (file.repo, file.path, file.location))
    return inventory


def walk(repos: Path, inventory: Inventory) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(location, entry) of every Python file; what cannot be taken is noted in the inventory."""
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


def read_record(repos: Path) -> dict[str, Repository]:
    """From the folder of each repository in the collector's record, case folded, to what is known about it.

    Folded, because a file system may give the repositories of "Ann" and "ann" one folder.
    """
    path = repos / DATABASE
    if not path.is_file():
        return {}
    record: dict[str, Repository] = {}
    names: set[str] = set()
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT folder, full_name, commit_sha, license, stars, forks, created_at"
                " FROM repositories WHERE folder != '' ORDER BY folder"
            ).fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise InventoryError(
            f"the collector's record cannot be read ({error}): {path.absolute()}: "
            "run: python data_collector/data_collector.py --local"
        ) from None
    for folder, name, *known in rows:
        # Two sources may have one name, such as two local folders; their folders differ.
        record[folder.casefold()] = Repository(folder if name in names else name, *known)
        names.add(name)
    return record
