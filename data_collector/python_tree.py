"""One repository's Python files on the disk: safe names, no collisions, nothing outside its folder."""

from __future__ import annotations

import errno
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

MAX_NAME_BYTES = 255  # of one component, on every file system that we know
# Of the path inside a repository: macOS refuses more than 1,024 with the folder in front.
MAX_PATH_BYTES = 700
# What a file system says of a name that it cannot have: too long (encrypted ones take 143), or no text.
REFUSED_NAMES = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}

# Names that Windows gives to devices, whatever their extension.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]')


def is_python_file(name: str) -> bool:
    """Whether a file name says Python: it ends in .py, in any case. "Setup.PY" -> True"""
    return name.lower().endswith(".py")


def safe_name(raw: str) -> str:
    """An owner's or repository's name as a folder name for any file system: "..\\x" -> "_._x".

    Not injective: whoever hands out folders has to look for collisions.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", raw)[:100] or "_"
    name = re.sub(r"^[.-]|\.$", "_", name)
    return f"_{name}" if name.split(".")[0].lower() in DEVICES else name


def _safe_component(name: str) -> str:
    """Escape what no file name should hold, percent sign and hexadecimal digits: "a\\nb.py" -> "a%0Ab.py"."""

    def escape(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))

    name = UNPRINTABLE.sub(escape, name)
    encoded = name.encode("utf-8")
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    tail = "~" + hashlib.sha256(encoded).hexdigest()[:12] + (name[-3:] if is_python_file(name) else "")
    return encoded[: MAX_NAME_BYTES - len(tail)].decode("utf-8", "ignore") + tail


def safe_path(raw: bytes | str) -> str | None:
    """The POSIX path under which a repository's file is stored, None where it would leave its folder.

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


def _shortened(path: str) -> str:
    """A path that is too long, with a hash in the place of its innermost folders: "a/.../~1f0c.../x.py"."""
    folder, _, name = path.rpartition("/")
    tail = f"~{hashlib.sha256(folder.encode('utf-8')).hexdigest()[:12]}/{name}"
    room = MAX_PATH_BYTES - len(tail.encode("utf-8"))
    kept = folder.encode("utf-8")[:room].decode("utf-8", "ignore").rpartition("/")[0]
    return f"{kept}/{tail}" if kept else tail


class PythonTree:
    """Writes the Python files of one repository into a folder that nobody else uses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = 0
        self.bytes = 0
        self.skipped: list[str] = []  # true names of files that could not be given a place
        self._taken: set[str] = set()
        self._folders: set[str] = set()

    def write(self, raw_path: bytes | str, pieces: Iterable[bytes]) -> None:
        """Store one file, which comes piece by piece; under another name where its own is unsafe or taken."""
        path = safe_path(raw_path)
        size = None if path is None else self._store(self._distinct(path), pieces)
        if size is None:
            name = raw_path if isinstance(raw_path, str) else raw_path.decode("utf-8", "backslashreplace")
            self.skipped.append(name)
            return
        self.files += 1
        self.bytes += size

    def _distinct(self, path: str) -> str:
        """The path itself, or "name~2.py" when macOS or Windows would take it for one that is there."""
        candidate, number = path, 1
        while (key := unicodedata.normalize("NFC", candidate).casefold()) in self._taken:
            number += 1
            candidate = f"{path[:-3]}~{number}{path[-3:]}"
        self._taken.add(key)
        return candidate

    def _store(self, path: str, pieces: Iterable[bytes]) -> int | None:
        """The size of the file that was written, None where the file system has no place for it."""
        destination = self.root / path
        try:
            folder = path.rpartition("/")[0]
            if folder not in self._folders:
                destination.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(folder)
            file = destination.open("xb")
        except (FileExistsError, NotADirectoryError):
            # a file and a folder of one name, which only case told apart
            return None
        except OSError as error:
            if error.errno in REFUSED_NAMES:
                return None
            raise
        with file:
            return sum(map(file.write, pieces))
