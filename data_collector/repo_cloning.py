"""One repository -> its Python files: shallow, bounded in time and size, harmless.

The clone is a bare one and nothing is ever checked out: the commit's tree is read, the Python files in it are
fetched in one request, and written by us. So no hook, filter, attribute, link or submodule of theirs comes
into play, and a checkout that fails half way cannot pass for a repository without Python.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

import license_names
from python_tree import PythonTree, is_python_file
from safe_git import git_environment
from survivor_guard import SurvivorGuard

if TYPE_CHECKING:
    from git import Git

# Below this a whole shallow clone is cheaper than a partial one, which takes one more round trip: on 60 small
# repositories partial clones moved 0.59 times the bytes with 1.67 times the requests.
PARTIAL_CLONE_KB = 1_000

CLONE_SECONDS = 600
CLONE_BYTES = 2_000_000_000
TRIES = 3
PAUSES = (2.0, 10.0)  # before the second and the third try

GONE = (
    (r"repository .*not found|error: 404", "not found: deleted, renamed or private"),
    (r"could not read Username|Authentication failed|error: 401", "private: it asks for a password"),
    (r"DMCA|error: 451|unavailable due to", "blocked for legal reasons"),
    (r"access blocked|has been disabled|error: 403", "blocked by its host"),
    (r"transport '.*' not allowed|unsupported protocol", "redirected to a protocol that is not https"),
)


class CloneError(Exception):
    """A repository that could not be fetched; state is "gone" (for good) or "failed" (worth another try)."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class CloneStopped(Exception):  # noqa: N818 - no error: the user asked for it
    """The run ends before this clone did."""


@dataclass(frozen=True)
class Clone:
    """What one repository gave."""

    commit: str
    license: str
    files: int
    bytes: int
    skipped: tuple[str, ...]  # Python files whose names have no safe place


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine: "127.0.0.1" -> True"""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def check_clone_url(url: str) -> None:
    """Raise CloneError unless url is https (or http on this machine) and carries no password."""
    parts = urlsplit(url)
    is_allowed = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    if not is_allowed or not parts.hostname or "@" in parts.netloc or re.search(r"[\x00-\x20]", url):
        raise CloneError("gone", f"not an https address: {url!r}")


def classify(stderr: str) -> CloneError:
    """What git's complaint means: gone for good, or worth another try."""
    for pattern, reason in GONE:
        if re.search(pattern, stderr, re.IGNORECASE):
            return CloneError("gone", reason)
    lines = [line for line in stderr.splitlines() if line.strip()] or ["git gave no reason"]
    telling = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
    return CloneError("failed", telling.removeprefix("fatal: ").removeprefix("error: ").strip()[:200])


@dataclass(frozen=True)
class TreeFile:
    """A regular file of a commit: its blob's id and its path as git has it."""

    blob: str
    path: bytes


class Cloner:
    """Fetches repositories one at a time each in its own folder; one cloner serves many threads."""

    def __init__(self, stop: threading.Event, wait: Callable[[float], bool] | None = None) -> None:
        self._stop = stop
        self._wait = wait or stop.wait
        self._guard = SurvivorGuard()

    def close(self) -> None:
        """End when all clones have."""
        self._guard.close()

    def fetch(self, url: str, folder: Path, *, size_kb: int, license: str) -> Clone:  # noqa: A002
        """Write the Python files of url's default branch into the new folder/files.

        Faults that pass are tried again. Raises CloneError, and CloneStopped when stop is set.
        """
        check_clone_url(url)
        for pause in (*PAUSES[: TRIES - 1], None):
            try:
                return self._fetch_once(url, folder, size_kb >= PARTIAL_CLONE_KB, license)
            except CloneError as error:
                if self._stop.is_set():
                    raise CloneStopped from None
                if error.state == "gone" or pause is None:
                    raise
            for leftover in list(folder.iterdir()):
                shutil.rmtree(leftover, ignore_errors=True)
            if self._wait(pause):
                break
        raise CloneStopped

    def _fetch_once(self, url: str, folder: Path, is_partial: bool, known_license: str) -> Clone:
        repository = _BareRepository(folder, url, self._stop, self._guard)
        commit = repository.clone(is_partial)
        tree = PythonTree(folder / "files")
        tree.root.mkdir()
        if commit is None:
            return Clone("", known_license, 0, 0, ())
        files = list(repository.tree(commit))
        python = [file for file in files if is_python_file(file.path.decode("utf-8", "replace"))]
        licenses = [] if known_license else [file for file in files if _is_license(file.path)]
        if is_partial and (python or licenses):
            repository.fetch_blobs([*python, *licenses])
        for file, content in repository.contents(python):
            tree.write(file.path, content)
        if tree.files + len(tree.skipped) != len(python):
            raise CloneError("failed", f"{tree.files} of {len(python)} Python files arrived")
        found_license = known_license or _license_in(content for _, content in repository.contents(licenses))
        shutil.rmtree(repository.folder)
        return Clone(commit, found_license, tree.files, tree.bytes, tuple(tree.skipped))


def _is_license(path: bytes) -> bool:
    return b"/" not in path and bool(license_names.LICENSE_FILE.match(path.decode("utf-8", "replace")))


def _license_in(texts: Iterator[bytes]) -> str:
    decoded = (text[: license_names.MAX_LICENSE_BYTES].decode("utf-8", "replace") for text in texts)
    return license_names.from_texts(decoded)


class _BareRepository:
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

    def clone(self, is_partial: bool) -> str | None:
        """Clone the default branch and return its commit, None in a repository without any."""
        options = ["--quiet", "--bare", "--depth=1", "--single-branch", "--no-tags"]
        options += ["--filter=blob:none"] if is_partial else []
        self._run(["clone", *options, "--", self._url, str(self.folder)], cwd=self.folder.parent)
        return self._commit() or self._fetch_any_branch(is_partial)

    def _fetch_any_branch(self, is_partial: bool) -> str | None:
        """Where the default branch is missing: the commit of main, master or the first one by name."""
        lines = self._run(["ls-remote", "--heads", "--quiet", "origin"]).decode("utf-8", "replace")
        names = sorted(line.partition("\t")[2] for line in lines.splitlines())
        usual = [name for name in ("refs/heads/main", "refs/heads/master") if name in names]
        for name in [*usual, *names][:1]:
            options = ["--quiet", "--depth=1", "--no-tags", "--recurse-submodules=no"]
            options += ["--filter=blob:none"] if is_partial else []
            self._run(["fetch", *options, "origin", f"+{name}:refs/heads/default"])
        return self._commit()

    def _commit(self) -> str | None:
        commit = self._run(["rev-list", "--max-count=1", "--all"]).decode("ascii").strip()
        return commit or None

    def tree(self, commit: str) -> Iterator[TreeFile]:
        """The regular files of a commit: no links, no submodules."""
        for entry in self._run(["ls-tree", "-r", "-z", "--full-tree", commit]).split(b"\0"):
            described, _, path = entry.partition(b"\t")
            if described.startswith(b"100"):
                yield TreeFile(described.split(b" ")[2].decode("ascii"), path)

    def fetch_blobs(self, files: list[TreeFile]) -> None:
        """Have the server send these files' contents, all in one request."""
        with self._list_of(files) as blobs:
            options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no"]
            self._run(["fetch", *options, "--filter=blob:none", "--stdin", "origin"], stdin=blobs)

    def contents(self, files: list[TreeFile]) -> Iterator[tuple[TreeFile, bytes]]:
        """Each file with its bytes, in order."""
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
                    raise CloneError("gone", f"more than {CLONE_BYTES // 1_000_000} MB of Python files")
                content = process.stdout.read(int(described[2]) + 1)
                if len(content) != int(described[2]) + 1:
                    raise CloneError("failed", f"a file arrived in part: {file.path!r}")
                yield file, content[:-1]

    @contextmanager
    def _list_of(self, files: list[TreeFile]) -> Iterator[BinaryIO]:
        with tempfile.TemporaryFile(dir=self._home) as blobs:
            blobs.write("".join(f"{file.blob}\n" for file in files).encode("ascii"))
            blobs.seek(0)
            yield cast("BinaryIO", blobs)

    def _run(self, arguments: list[str], cwd: Path | None = None, stdin: BinaryIO | None = None) -> bytes:
        """A git command's output; raises CloneError where it fails, takes too long or grows too large."""
        with self._process(arguments, cwd or self.folder, stdin) as process:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    self._check_size()
            if process.returncode != 0 and time.monotonic() < self._deadline and not self._stop.is_set():
                raise classify(stderr.decode("utf-8", "replace"))
        return stdout

    @contextmanager
    def _process(
        self, arguments: list[str], cwd: Path, stdin: BinaryIO | None
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

    def _check_size(self) -> None:
        size = 0
        with suppress(OSError):  # git moves its files about meanwhile
            size = sum(path.stat().st_size for path in self.folder.glob("objects/pack/*"))
        if size > CLONE_BYTES:
            raise CloneError("gone", f"larger than {CLONE_BYTES // 1_000_000} MB")


def _git_in(folder: Path) -> Git:
    from git import Git

    return Git(folder)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill git and its helpers (git-remote-https, index-pack), which form a session of their own."""
    if process.poll() is None:  # not yet reaped: the number is still its own
        os.killpg(process.pid, signal.SIGKILL)
