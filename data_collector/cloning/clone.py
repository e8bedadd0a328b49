"""One repository -> its Python files: a shallow clone, whole or partial, tried again after passing faults.

The clone is bare and nothing is ever checked out: the commit's tree is read, the Python files in it are
fetched in one request, and we write them. So hooks, filters, attributes, links and submodules have no effect,
and a checkout that fails half way cannot pass for a repository without Python.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cloning.bounded_clone import CLONE_BYTES, PYTHON_FILES, BareRepository, TreeFile
from cloning.failures import CloneError, CloneStopped, TooLargeError
from cloning.git_environment import is_loopback
from cloning.orphan_reaper import OrphanReaper
from collection import licenses as license_names
from collection.repos_folder import PythonTree, is_python_file

# Below this a whole shallow clone is cheaper than a partial one, which takes one more round trip: on 60 small
# repositories partial clones moved 0.59 times the bytes with 1.67 times the requests.
PARTIAL_CLONE_KB = 1_000
# GitHub reports size 0 for new repositories: one that sends more than this is fetched in part after all.
WHOLE_CLONE_BYTES = 8_000_000

TRIES = 3
PAUSES = (2.0, 10.0)  # before the second and the third try


@dataclass(frozen=True)
class Clone:
    """The result of fetching one repository."""

    commit: str
    license: str
    files: int
    bytes: int
    skipped: tuple[str, ...]  # Python files whose names have no safe place
    renamed: Mapping[str, str] = field(default_factory=dict)  # stored path -> true path, where they differ
    moved_to: str = ""  # the address to which the server led, if it was another one


def check_clone_url(url: str) -> None:
    """Raise CloneError unless url is https (or http on this machine) and carries no password."""
    parts = urlsplit(url)
    is_allowed = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    if not is_allowed or not parts.hostname or "@" in parts.netloc or re.search(r"[\x00-\x20]", url):
        raise CloneError("gone", f"not an https address: {url!r}")


class Cloner:
    """Fetches repositories, each into its own folder; one cloner serves many threads."""

    def __init__(self, stop: threading.Event, wait: Callable[[float], bool] | None = None) -> None:
        self._stop = stop
        self._wait = wait or stop.wait
        self._reaper = OrphanReaper()

    def close(self) -> None:
        """End, after all clones have."""
        self._reaper.close()

    def fetch(self, url: str, folder: Path, *, size_kb: int, license: str, ref: str = "") -> Clone:  # noqa: A002
        """Write the Python files of url's default branch, or of ref, into the new folder/files.

        Passing faults are tried again. Raises CloneError, CloneStopped if stop is set, OSError if the disk is
        full.
        """
        check_clone_url(url)
        is_partial = size_kb >= PARTIAL_CLONE_KB
        pauses = list(PAUSES[: TRIES - 1])
        while True:
            pause = 0.0
            try:
                return self._fetch_once(url, folder, is_partial, license, ref)
            except CloneError as error:
                if self._stop.is_set():
                    raise CloneStopped from None
                if isinstance(error, TooLargeError) and not is_partial:
                    is_partial = True
                elif error.state == "gone" or not pauses:
                    raise
                else:
                    pause = pauses.pop(0)
            for leftover in list(folder.iterdir()):
                shutil.rmtree(leftover, ignore_errors=True)
            if self._wait(pause):
                raise CloneStopped

    def _fetch_once(self, url: str, folder: Path, is_partial: bool, known_license: str, ref: str) -> Clone:
        repository = BareRepository(folder, url, self._stop, self._reaper)
        max_bytes = CLONE_BYTES if is_partial else WHOLE_CLONE_BYTES
        commit = repository.clone(is_partial=is_partial, max_bytes=max_bytes, ref=ref)
        tree = PythonTree(folder / "files")
        tree.root.mkdir()
        if commit is None:
            return Clone("", known_license, 0, 0, (), moved_to=repository.moved_to)
        python, licenses = _wanted(repository.tree(commit), is_license_wanted=not known_license)
        if is_partial and (python or licenses):
            repository.fetch_blobs([*python, *licenses])
        for file, pieces in repository.contents(python):
            tree.write(file.path, pieces)
        if tree.files + len(tree.skipped) != len(python):
            raise CloneError("failed", f"{tree.files} of {len(python)} Python files arrived")
        found_license = known_license or _license_in(pieces for _, pieces in repository.contents(licenses))
        shutil.rmtree(repository.folder)
        return Clone(
            commit,
            found_license,
            tree.files,
            tree.bytes,
            tuple(tree.skipped),
            tree.renamed,
            repository.moved_to,
        )


def _wanted(files: Iterator[TreeFile], *, is_license_wanted: bool) -> tuple[list[TreeFile], list[TreeFile]]:
    """The Python files of a commit, and the licence files at its top."""
    python, licenses = [], []
    for file in files:
        if is_python_file(file.path[-3:].decode("ascii", "replace")):
            python.append(file)
        elif is_license_wanted and _is_license(file.path):
            licenses.append(file)
        if len(python) > PYTHON_FILES:
            raise TooLargeError(f"{PYTHON_FILES:,} Python files")
    return python, licenses


def _is_license(path: bytes) -> bool:
    return b"/" not in path and bool(license_names.LICENSE_FILE.match(path.decode("utf-8", "replace")))


def _license_in(texts: Iterable[Iterator[bytes]]) -> str:
    beginnings = (next(pieces, b"")[: license_names.MAX_LICENSE_BYTES] for pieces in texts)
    return license_names.from_texts(text.decode("utf-8", "replace") for text in beginnings)
