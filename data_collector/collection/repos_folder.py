"""The folder repos/: one collector at a time, repositories that appear when complete, names that are safe.

A repository is made in `repos/.partial` and then moved to its place in one step. A kill in between costs only
the work on that one. Strangers' file names are changed where needed: each fits every file system and lies
inside its repository's folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from collector_cli import UserError

DATABASE = "collection.db"
LOCK = "collection.db-lock"
PARTIAL = ".partial"

MAX_NAME_BYTES = 255  # of one component, on every common file system
# Of the path inside a repository: macOS refuses whole paths of more than 1,024.
MAX_PATH_BYTES = 700
# How a file system refuses a name: too long (encrypted ones take 143 bytes), or not text.
REFUSED_NAMES = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}

# Names of devices on Windows, with any extension.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]')


class CollectionError(UserError):
    """A folder that the collector cannot use: what happened, where, what to do."""


class ReposFolder:
    """The folder, locked by one process and usable from all its threads."""

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
        """Whether there is more than the files that a collector leaves if it is killed at its start."""
        return any(not path.name.startswith(DATABASE) for path in self.root.iterdir())

    def _take_lock(self) -> IO[str]:
        lock = (self.root / LOCK).open("a", encoding="utf-8")
        try:
            # The kernel releases it when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise CollectionError(
                f"another collector is at work: {self.root}: wait for it, or give another --repos FOLDER"
            ) from None
        return lock

    def new_partial(self) -> Path:
        """A fresh folder in which one repository can be prepared."""
        with self._mutex:
            self._partial_number += 1
            # The time keeps it apart from a folder that the git of a killed run may still write to.
            folder = self.root / PARTIAL / f"{time.time_ns()}-{self._partial_number}"
        folder.mkdir(parents=True)
        return folder

    def place(self, prepared: Path, folder: str) -> None:
        """Move a prepared repository to its place in one step; an older copy is removed first."""
        destination = self.root / folder
        if destination.exists():
            self.remove(folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        prepared.rename(destination)

    def remove(self, folder: str) -> None:
        """Take a repository's folder away in one step, then delete it file by file."""
        if (self.root / folder).exists():
            old = self.new_partial() / "old"
            (self.root / folder).rename(old)
            shutil.rmtree(old.parent, ignore_errors=True)

    def remove_partial(self) -> None:
        """Delete what a killed run left unfinished."""
        shutil.rmtree(self.root / PARTIAL, ignore_errors=True)

    def close(self, *, is_unused: bool) -> None:
        """Unlock the folder; remove a new one in which nothing was recorded."""
        self.remove_partial()
        if is_unused:
            (self.root / DATABASE).unlink(missing_ok=True)
            (self.root / LOCK).unlink(missing_ok=True)
            if self._was_made:
                self.root.rmdir()
        self._lock.close()


def is_python_file(name: str) -> bool:
    """Whether a file name ends in .py, in any case: "Setup.PY" -> True"""
    return name.lower().endswith(".py")


def safe_name(raw: str) -> str:
    """An owner's or repository's name as a folder name for any file system: "..\\x" -> "_._x".

    Two names may become one: free_folder keeps them apart.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", raw)[:100] or "_"
    name = re.sub(r"^[.-]|\.$", "_", name)
    return f"_{name}" if name.split(".")[0].lower() in DEVICES else name


def free_folder(full_name: str, is_taken: Callable[[str], bool]) -> str:
    """A folder that no other repository has: "Ann/x" -> "Ann/x", or "Ann/x~2" if "ann/X" is there."""
    owner, _, name = full_name.partition("/")
    base = f"{safe_name(owner)}/{safe_name(name)}"
    folder, number = base, 1
    while is_taken(folder):
        number += 1
        folder = f"{base}~{number}"
    return folder


def _safe_component(name: str) -> str:
    """A name with unsafe characters as percent sign and hexadecimal digits: "a\\nb.py" -> "a%0Ab.py"."""

    def escape(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))

    name = UNPRINTABLE.sub(escape, name)
    encoded = name.encode("utf-8")
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    tail = "~" + hashlib.sha256(encoded).hexdigest()[:12] + (name[-3:] if is_python_file(name) else "")
    return encoded[: MAX_NAME_BYTES - len(tail)].decode("utf-8", "ignore") + tail


def safe_path(raw: bytes | str) -> str | None:
    """The POSIX path under which a repository's file is stored, None if it would leave its folder.

    >>> safe_path(b"src/caf\\xe9.py"), safe_path("../x.py"), safe_path(".git/x.py")
    ('src/caf%E9.py', None, None)
    """
    path = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    components = path.split("/")
    for component in components:
        if component in ("", ".", "..") or component.lower().rstrip(". ") in (".git", "git~1"):
            return None
    safe = "/".join(map(_safe_component, components))
    return safe if len(safe.encode("utf-8")) <= MAX_PATH_BYTES else _shortened(safe)


def path_as_text(raw: bytes | str) -> str:
    r"""A path as its repository has it, as text: a byte that is not UTF-8 is spelt out, such as \xe9."""
    raw = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


def _shortened(path: str) -> str:
    """A path that is too long, with a hash in place of its innermost folders: "a/.../~1f0c.../x.py"."""
    folder, _, name = path.rpartition("/")
    tail = f"~{hashlib.sha256(folder.encode('utf-8')).hexdigest()[:12]}/{name}"
    room = MAX_PATH_BYTES - len(tail.encode("utf-8"))
    kept = folder.encode("utf-8")[:room].decode("utf-8", "ignore").rpartition("/")[0]
    return f"{kept}/{tail}" if kept else tail


class PythonTree:
    """Writes the Python files of one repository into a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = 0
        self.bytes = 0
        self.skipped: list[str] = []  # true paths of files that have no safe place
        self.renamed: dict[str, str] = {}  # stored path -> true path, where they differ
        self._taken: set[str] = set()
        self._known_as: set[str] = set()  # the path of each file as later stages see it
        self._folders: set[str] = set()

    def write(self, raw_path: bytes | str, pieces: Iterable[bytes]) -> None:
        """Store one file, which comes piece by piece, under another name if its own is unsafe or taken."""
        path, true_path = safe_path(raw_path), path_as_text(raw_path)
        stored_path = self._distinct(path) if path is not None else None
        size = None if stored_path is None else self._store(stored_path, pieces)
        if stored_path is None or size is None:
            self.skipped.append(true_path)
            return
        self.files += 1
        self.bytes += size
        if true_path in self._known_as:  # an archive may hold one name twice
            true_path = stored_path
        self._known_as.add(true_path)
        if true_path != stored_path:
            self.renamed[stored_path] = true_path

    def _distinct(self, path: str) -> str:
        """The path itself, or "name~2.py" if macOS or Windows would confuse it with one that is there."""
        candidate, number = path, 1
        while (key := unicodedata.normalize("NFC", candidate).casefold()) in self._taken:
            number += 1
            candidate = f"{path[:-3]}~{number}{path[-3:]}"
        self._taken.add(key)
        return candidate

    def _store(self, path: str, pieces: Iterable[bytes]) -> int | None:
        """The size of the written file, None if the file system refuses it."""
        destination = self.root / path
        try:
            folder = path.rpartition("/")[0]
            if folder not in self._folders:
                destination.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(folder)
            file = destination.open("xb")
        except (FileExistsError, NotADirectoryError):
            # a file and a folder whose names differ only in case
            return None
        except OSError as error:
            if error.errno in REFUSED_NAMES:
                return None
            raise
        with file:
            return sum(map(file.write, pieces))
