"""The folder repos/: one collector at a time, and repositories that appear in one step when complete.

A repository is made in `repos/.partial` and moved to its place; a kill in between costs it again.
"""

from __future__ import annotations

import fcntl
import shutil
import threading
import time
from pathlib import Path
from typing import IO

from collector_error import CollectorError

DATABASE = "collection.db"
LOCK = "collection.db-lock"
PARTIAL = ".partial"


class CollectionError(CollectorError):
    """A folder that cannot be collected into: what happened, where, what to do."""


class ReposFolder:
    """The folder, held by one process and usable from all its threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mutex = threading.Lock()
        self._partial_number = 0
        database = root / DATABASE
        self.is_new = not database.exists() or database.stat().st_size == 0
        self._was_made = not root.exists()
        if self.is_new and root.exists() and (not root.is_dir() or self._has_other_files()):
            raise CollectionError(
                f"this folder was not made by the collector and is not empty: {root}: "
                "give another one with --repos FOLDER"
            )
        root.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()

    def _has_other_files(self) -> bool:
        """Whether there is more than what a collector leaves that is killed as it begins."""
        return any(not path.name.startswith(DATABASE) for path in self.root.iterdir())

    def _take_lock(self) -> IO[str]:
        lock = (self.root / LOCK).open("a", encoding="utf-8")
        try:
            # The kernel lets go of it when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise CollectionError(
                f"another collector is at work on {self.root}: wait for it, or give another --repos FOLDER"
            ) from None
        return lock

    def new_partial(self) -> Path:
        """A fresh folder in which one repository can be prepared."""
        with self._mutex:
            self._partial_number += 1
            # The number of seconds keeps it apart from one that a killed run's git may still write to.
            folder = self.root / PARTIAL / f"{time.time_ns()}-{self._partial_number}"
        folder.mkdir(parents=True)
        return folder

    def place(self, prepared: Path, folder: str) -> None:
        """Move a prepared repository to its place in one step; an older copy gives way."""
        destination = self.root / folder
        if destination.exists():
            self.remove(folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        prepared.rename(destination)

    def remove(self, folder: str) -> None:
        """Take a repository's folder away in one step, then delete it at leisure."""
        if (self.root / folder).exists():
            old = self.new_partial() / "old"
            (self.root / folder).rename(old)
            shutil.rmtree(old.parent, ignore_errors=True)

    def remove_partial(self) -> None:
        """Delete what a killed run had begun."""
        shutil.rmtree(self.root / PARTIAL, ignore_errors=True)

    def close(self, *, is_unused: bool) -> None:
        """Let go of the folder; one that is new and unused leaves no trace."""
        self.remove_partial()
        if is_unused:
            (self.root / DATABASE).unlink(missing_ok=True)
            (self.root / LOCK).unlink(missing_ok=True)
            if self._was_made:
                self.root.rmdir()
        self._lock.close()
