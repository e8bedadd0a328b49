"""A stranger's repository as a bare clone: read by git, bounded in time and size, never checked out.

What one process may hold in memory is bounded too: trees and files are read as streams, because a repository
of a few kilobytes can unfold to billions of paths.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from clone_error import CloneError, CloneStopped, TooLargeError, classify
from safe_git import git_environment
from survivor_guard import SurvivorGuard

if TYPE_CHECKING:
    from git import Git

CLONE_SECONDS = 600
CLONE_BYTES = 2_000_000_000  # on the disk, and again of Python files
TREE_ENTRIES = 5_000_000  # Chromium has 500,000
CHUNK = 1_000_000  # bytes of a file that are in memory at a time


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine: "127.0.0.1" -> True"""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class TreeFile:
    """A regular file of a commit: its blob's id and its path as git has it."""

    blob: str
    path: bytes


class BareRepository:
    """A bare clone in folder/git, with a common bound on time and size for all that git does in it."""

    def __init__(self, folder: Path, url: str, stop: threading.Event, guard: SurvivorGuard) -> None:
        self.folder = folder / "git"
        self._home = folder / "home"
        self._home.mkdir()
        self._url = url
        self._stop = stop
        self._guard = guard
        self._deadline = time.monotonic() + CLONE_SECONDS
        self._environment = git_environment(self._home, allow_http=is_loopback(urlsplit(url).hostname))

    def clone(self, *, is_partial: bool, max_bytes: int = CLONE_BYTES) -> str | None:
        """Clone the default branch and return its commit, None in a repository without any."""
        options = ["--quiet", "--bare", "--depth=1", "--single-branch", "--no-tags"]
        options += ["--filter=blob:none"] if is_partial else []
        clone = ["clone", *options, "--", self._url, str(self.folder)]
        self._run(clone, cwd=self.folder.parent, max_bytes=max_bytes)
        return self._commit() or self._fetch_any_branch(is_partial, max_bytes)

    def _fetch_any_branch(self, is_partial: bool, max_bytes: int) -> str | None:
        """Where the default branch is missing: the commit of main, master or the first one by name."""
        lines = self._run(["ls-remote", "--heads", "--quiet", "origin"]).decode("utf-8", "replace")
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
        """The regular files of a commit: no links, no submodules."""
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
        """Have the server send these files' contents, all in one request."""
        with self._list_of(files) as blobs:
            options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no"]
            self._run(["fetch", *options, "--filter=blob:none", "--stdin", "origin"], stdin=blobs)

    def contents(self, files: list[TreeFile]) -> Iterator[tuple[TreeFile, Iterator[bytes]]]:
        """Each file with its bytes piece by piece, in order; what is not read of one is passed over."""
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
    ) -> bytes:
        """A git command's output; raises CloneError where it fails, takes too long or grows too large."""
        with self._process(arguments, cwd or self.folder, stdin) as process:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    self._check_size(max_bytes)
            self._check_success(process.returncode, stderr)
        return stdout

    def _check_success(self, returncode: int, stderr: bytes) -> None:
        if returncode != 0 and time.monotonic() < self._deadline and not self._stop.is_set():
            raise classify(stderr.decode("utf-8", "replace"))

    @contextmanager
    def _process(
        self, arguments: list[str], cwd: Path, stdin: BinaryIO | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A running git; killed with all that it started when time is up, the run stops, or on any error."""
        # GitPython ends a process whose handle nobody holds, so the handle lives as long as this function.
        handle = _git_in(cwd).execute(
            ["git", *arguments],
            as_process=True,
            istream=stdin,
            env=self._environment,
            start_new_session=True,
        )
        process = cast("subprocess.Popen[bytes]", cast("Any", handle).proc)
        self._guard.watch(process.pid)
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
            self._guard.forget(process.pid)
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
        with suppress(OSError):  # git moves its files about meanwhile
            size = sum(path.stat().st_size for path in self.folder.glob("objects/pack/*"))
        if size > max_bytes:
            raise TooLargeError(f"{max_bytes // 1_000_000} MB")


def _records(stream: IO[bytes]) -> Iterator[bytes]:
    """What a stream holds between NUL bytes."""
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
    if process.poll() is None:  # not yet reaped: the number is still its own
        os.killpg(process.pid, signal.SIGKILL)
