"""A stranger's repository as a bare clone: bounded in time, bytes and files, never checked out.

Memory is bounded too: trees and files are read as streams, because a repository of a few kilobytes can unfold
to billions of paths.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from cloning.failures import NO_SERVER, CloneError, CloneStopped, TooLargeError, classify
from cloning.git_environment import git_environment, is_loopback
from cloning.orphan_reaper import OrphanReaper

if TYPE_CHECKING:
    from git import Git

# The bounds of one clone. Beyond the first it failed, beyond the others the repository is left for good.
CLONE_SECONDS = 600
CLONE_BYTES = 2_000_000_000  # on the disk, and again of Python files
TREE_ENTRIES = 5_000_000  # Chromium has 500,000
PYTHON_FILES = 300_000  # the largest collections of generated clients have 100,000

NO_SUCH_REF = r"couldn't find remote ref|not our ref|unadvertised object|invalid refspec"
MOVED = re.compile(r"^warning: redirecting to (\S+)$", re.MULTILINE)

CHUNK = 1_000_000  # bytes of a file that are in memory at a time


@dataclass(frozen=True)
class TreeFile:
    """A regular file of a commit: its blob's id and its path as git has it."""

    blob: str
    path: bytes


class BareRepository:
    """A bare clone in folder/git; one bound on time and size holds for everything that git does in it."""

    def __init__(self, folder: Path, url: str, stop: threading.Event, reaper: OrphanReaper) -> None:
        self.folder = folder / "git"
        self._home = folder / "home"
        self._home.mkdir()
        self._url = url
        self._stop = stop
        self._reaper = reaper
        self._deadline = time.monotonic() + CLONE_SECONDS
        self._stderr = b""  # of the last command
        self.moved_to = ""  # another address to which the server led
        self._environment = git_environment(self._home, allow_http=is_loopback(urlsplit(url).hostname))

    def clone(self, *, is_partial: bool, max_bytes: int = CLONE_BYTES, ref: str = "") -> str | None:
        """Clone the default branch and return its commit, None for a repository without commits.

        ref: a commit, tag or branch to clone instead.
        """
        if ref:
            return self._clone_at(ref, is_partial, max_bytes)
        # Without --quiet: git then says where a renamed repository is now.
        options = ["--bare", "--depth=1", "--single-branch", "--no-tags"]
        options += ["--filter=blob:none"] if is_partial else []
        clone = ["clone", *options, "--", self._url, str(self.folder)]
        self._run(clone, cwd=self.folder.parent, max_bytes=max_bytes)
        return self._commit() or self._fetch_any_branch(is_partial, max_bytes)

    def _clone_at(self, ref: str, is_partial: bool, max_bytes: int) -> str | None:
        """Clone one commit, tag or branch; CloneError if there is no such."""
        self._run(["init", "--quiet", "--bare", "--", str(self.folder)], cwd=self.folder.parent)
        self._run(["remote", "add", "--", "origin", self._url])
        options = ["--depth=1", "--no-tags", "--recurse-submodules=no"]
        options += ["--filter=blob:none"] if is_partial else []
        try:
            fetch = ["fetch", *options, "origin", f"+{ref}:refs/tags/collected"]
            self._run(fetch, max_bytes=max_bytes)
        except CloneError as error:
            if re.search(NO_SUCH_REF, str(error)):
                whole = "" if re.fullmatch("[0-9a-f]{40}", ref) else " (a commit needs all of its 40 digits)"
                raise CloneError("gone", f"no such commit, tag or branch: {ref}{whole}") from None
            raise
        return self._commit()

    def _fetch_any_branch(self, is_partial: bool, max_bytes: int) -> str | None:
        """Without a default branch: the commit of main, master or the first branch by name."""
        trace = {"GIT_TRACE_PACKET": "1"}
        lines = self._run(["ls-remote", "--heads", "--quiet", "origin"], more=trace).decode(
            "utf-8", "replace"
        )
        if b"packet:" not in self._stderr:  # git takes a web page for a repository without commits
            raise CloneError("gone", NO_SERVER)
        names = sorted(line.partition("\t")[2] for line in lines.splitlines())
        usual = [name for name in ("refs/heads/main", "refs/heads/master") if name in names]
        for name in [*usual, *names][:1]:
            options = ["--quiet", "--depth=1", "--no-tags", "--recurse-submodules=no"]
            options += ["--filter=blob:none"] if is_partial else []
            fetch = ["fetch", *options, "origin", f"+{name}:refs/heads/default"]
            self._run(fetch, max_bytes=max_bytes)
        return self._commit()

    def _commit(self) -> str | None:
        commit = self._run(["rev-list", "--max-count=1", "--all"]).decode("ascii").strip()
        return commit or None

    def tree(self, commit: str) -> Iterator[TreeFile]:
        """The regular files of a commit, without links and submodules."""
        with self._process(["ls-tree", "-r", "-z", "--full-tree", commit], self.folder) as process:
            assert process.stdout is not None and process.stderr is not None, "ls-tree writes into pipes"
            for number, entry in enumerate(_records(process.stdout)):
                if number >= TREE_ENTRIES:
                    raise TooLargeError(f"{TREE_ENTRIES:,} files")
                described, _, path = entry.partition(b"\t")
                if described.startswith(b"100"):
                    yield TreeFile(described.split(b" ")[2].decode("ascii"), path)
            complaint = process.stderr.read()
            self._check_success(process.wait(), complaint)

    def fetch_blobs(self, files: list[TreeFile]) -> None:
        """Fetch these files' contents, all in one request."""
        with self._list_of(files) as blobs:
            options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no"]
            self._run(["fetch", *options, "--filter=blob:none", "--stdin", "origin"], stdin=blobs)

    def contents(self, files: list[TreeFile]) -> Iterator[tuple[TreeFile, Iterator[bytes]]]:
        """Each file with its bytes piece by piece, in order; pieces left unread are skipped."""
        if not files:
            return
        with (
            self._list_of(files) as blobs,
            self._process(["cat-file", "--batch"], self.folder, blobs) as process,
        ):
            assert process.stdout is not None, "cat-file writes into a pipe"
            left = CLONE_BYTES
            for file in files:
                described = process.stdout.readline().split()
                if len(described) != 3:
                    raise CloneError("failed", f"a file did not arrive: {file.path!r}")
                left -= int(described[2])
                if left < 0:
                    raise TooLargeError(f"{CLONE_BYTES // 1_000_000} MB of Python files")
                pieces = _pieces(process.stdout, file, int(described[2]))
                yield file, pieces
                for _ in pieces:
                    pass
                process.stdout.read(1)

    @contextmanager
    def _list_of(self, files: list[TreeFile]) -> Iterator[BinaryIO]:
        with tempfile.TemporaryFile(dir=self._home) as blobs:
            blobs.writelines(f"{file.blob}\n".encode("ascii") for file in files)
            blobs.seek(0)
            yield cast("BinaryIO", blobs)

    def _run(
        self,
        arguments: list[str],
        cwd: Path | None = None,
        stdin: BinaryIO | None = None,
        max_bytes: int = CLONE_BYTES,
        more: Mapping[str, str] | None = None,
    ) -> bytes:
        """A git command's output; raises CloneError if it fails, takes too long or grows too large.

        more: variables for it beside the usual ones.
        """
        with self._process(arguments, cwd or self.folder, stdin, more) as process:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    self._check_size(max_bytes)
            self._check_success(process.returncode, stderr)
        self._stderr = stderr
        if moved := MOVED.search(stderr.decode("utf-8", "replace")):
            self.moved_to = moved[1]
        return stdout

    def _check_success(self, returncode: int, stderr: bytes) -> None:
        if returncode != 0 and time.monotonic() < self._deadline and not self._stop.is_set():
            raise classify(stderr.decode("utf-8", "replace"))

    @contextmanager
    def _process(
        self,
        arguments: list[str],
        cwd: Path,
        stdin: BinaryIO | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A running git; killed with all that it started if time is up, the run stops, or on any error."""
        # GitPython ends a process when its handle is collected, so the handle lives as long as this function.
        handle = _git_in(cwd).execute(
            ["git", *arguments],
            as_process=True,
            istream=stdin,
            env={**self._environment, **(more or {})},
            start_new_session=True,
        )
        process = cast("subprocess.Popen[bytes]", cast("Any", handle).proc)
        self._reaper.watch(process.pid)
        ended = threading.Event()
        watch = threading.Thread(target=self._kill_in_time, args=(process, ended), daemon=True)
        watch.start()
        try:
            yield process
        finally:
            ended.set()
            _kill_group(process)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            process.wait()
            self._reaper.forget(process.pid)
            watch.join()
        if self._stop.is_set():
            raise CloneStopped
        if time.monotonic() >= self._deadline:
            raise CloneError("failed", f"not finished after {CLONE_SECONDS} s")

    def _kill_in_time(self, process: subprocess.Popen[bytes], ended: threading.Event) -> None:
        while not ended.wait(0.2):
            if self._stop.is_set() or time.monotonic() >= self._deadline:
                _kill_group(process)
                return

    def _check_size(self, max_bytes: int) -> None:
        size = 0
        with suppress(OSError):  # git moves its files meanwhile
            size = sum(path.stat().st_size for path in self.folder.glob("objects/pack/*"))
        if size > max_bytes:
            raise TooLargeError(f"{max_bytes // 1_000_000} MB")


def _records(stream: IO[bytes]) -> Iterator[bytes]:
    """The records of a stream, each ended by a NUL byte."""
    rest = b""
    while chunk := stream.read(CHUNK):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
        if len(rest) > CHUNK:
            raise TooLargeError(f"{CHUNK:,} bytes in a path")


def _pieces(stream: IO[bytes], file: TreeFile, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, CHUNK))
        if not piece:
            raise CloneError("failed", f"a file arrived in part: {file.path!r}")
        size -= len(piece)
        yield piece


def _git_in(folder: Path) -> Git:
    from git import Git

    return Git(folder)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill git and its helpers (git-remote-https, index-pack), which form a session of their own."""
    if process.poll() is None:  # still running: the number is its own
        os.killpg(process.pid, signal.SIGKILL)
