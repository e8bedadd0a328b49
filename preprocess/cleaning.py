"""A folder tree -> only its Python files, without ever leaving the tree.

Every step is made relative to the descriptor of an open folder, and none is opened through a link: a folder
that is swapped for a link while this runs is not followed. File systems mounted inside are left alone.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from inventory import DATABASE, SKIPPED_AT_ROOT, is_python_name

GIT = ".git"
FOLDERS = "empty folders"
LINKS = "links"
SPECIAL = "special files"  # pipes, sockets, devices
NO_SUFFIX = "no suffix"
DEPTH_MOST = 200  # each level costs a descriptor, of which there are often 1,024, and three calls of 1,000

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Cleaning:
    """What a run deletes and leaves. In a dry run nothing is deleted, and listed is called instead."""

    listed: Callable[[str], None] | None = None
    deleted: Counter[str] = field(default_factory=Counter)  # by suffix or kind
    freed: Counter[str] = field(default_factory=Counter)  # bytes, likewise, in a dry run
    python_files: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # path, reason

    def clean(self, root: int) -> None:
        """Clean the open folder root, which itself stays, as does the collector's record in it."""
        device = os.fstat(root).st_dev
        for entry in self.entries_of(root):
            if not (entry.name.startswith(DATABASE) and entry.is_file(follow_symlinks=False)):
                half_collected = entry.name == SKIPPED_AT_ROOT
                self.visit_all(root, [entry], "", device, 1, with_python=half_collected)

    def visit_all(
        self,
        folder: int,
        entries: list[os.DirEntry[str]],
        parent: str,
        device: int,
        depth: int,
        with_python: bool,
    ) -> bool:
        """Clean entries of an open folder; whether any of them is still there."""
        is_left = False
        for entry in entries:
            if not with_python and is_python_name(entry.name) and entry.is_file(follow_symlinks=False):
                self.python_files += 1
                is_left = True
            elif self.visit(folder, entry, parent, device, depth, with_python):
                is_left = True
        return is_left

    def visit(
        self, folder: int, entry: os.DirEntry[str], parent: str, device: int, depth: int, with_python: bool
    ) -> bool:
        """Delete an entry of an open folder, or clean it if it is one; whether it is still there."""
        name = entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                return self.visit_folder(folder, name, f"{parent}{name}", device, depth, with_python)
            if self.listed is None:
                os.unlink(name, dir_fd=folder)
                self.deleted[kind_of(entry)] += 1
            else:
                self.list_file(entry, f"{parent}{name}")
        except FileNotFoundError:
            return False
        except OSError as error:
            self.failures.append((f"{parent}{name}", error.strerror or str(error)))
            return True
        return False

    def visit_folder(
        self, parent: int, name: str, path: str, device: int, depth: int, with_python: bool
    ) -> bool:
        """Clean a folder and delete it if nothing is left in it; whether it is still there."""
        if depth > DEPTH_MOST:
            raise OSError(f"nested more than {DEPTH_MOST} levels deep")
        folder = os.open(name, OPEN_FOLDER, dir_fd=parent)
        try:
            status = os.fstat(folder)
            if status.st_dev != device:
                raise OSError("another file system is mounted here")
            if self.listed is None and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                os.fchmod(folder, status.st_mode | stat.S_IRWXU)
            with_python = with_python or name == GIT
            entries = self.entries_of(folder)
            is_left = self.visit_all(folder, entries, f"{path}/", device, depth + 1, with_python)
        finally:
            os.close(folder)
        if is_left:
            return True
        if self.listed is None:
            os.rmdir(name, dir_fd=parent)
        self.deleted[FOLDERS] += 1
        if self.listed:
            self.listed(f"{path}/")
        return False

    def list_file(self, entry: os.DirEntry[str], path: str) -> None:
        """Count and name a file that would go. A size is a call more for each: nobody waits for it here."""
        assert self.listed is not None, "only a dry run lists"
        status = entry.stat(follow_symlinks=False)
        kind = kind_of(entry)
        self.deleted[kind] += 1
        # Another name of the same file keeps its bytes on the disk.
        self.freed[kind] += status.st_size if status.st_nlink == 1 else 0
        self.listed(path)

    def entries_of(self, folder: int) -> list[os.DirEntry[str]]:
        """All entries of an open folder, listed before the first is deleted; by name where they are shown."""
        with os.scandir(folder) as listing:
            entries = list(listing)
        return sorted(entries, key=lambda entry: entry.name) if self.listed else entries


def kind_of(entry: os.DirEntry[str]) -> str:
    """What a file is counted as: its suffix in small letters, or what it is if not a regular file."""
    if not entry.is_file(follow_symlinks=False):
        return LINKS if entry.is_symlink() else SPECIAL
    name = entry.name
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else NO_SUFFIX
