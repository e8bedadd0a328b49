"""What a path of --local stands for: a folder, the git repositories in it, or an archive.

Of a git repository the files that it tracks count, as they are on the disk; of a bare one (a mirror) those of
its default branch. What is left out is counted and named.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from cloning.git_environment import git_environment
from collection import licenses as license_names
from collection.repos_folder import is_python_file
from collector_cli import plural
from sources.archives import archive_source, is_archive
from sources.local_source import (
    Contents,
    Gaps,
    LocalFile,
    LocalSource,
    LocalSourceError,
    fingerprint,
    read_files,
)

# Not the user's own code. Environments are known by pyvenv.cfg, hidden folders by their dot.
NOT_OWN = {"__pycache__", "node_modules", "site-packages"}

LINK, SUBMODULE = b"120000", b"160000"  # git's modes


def sources_at(path: Path, repos: Path, gaps: Gaps) -> list[LocalSource]:
    """The sources at one path of the command line. One that gives none is named in gaps.

    A git repository or an archive is one source; a folder is one for each git repository in it, and one for
    the rest.
    """
    path = path.resolve()
    if path.is_file() and is_archive(path):
        return [archive_source(path)]
    if not path.is_dir():
        what = "neither folder nor archive (.zip, .whl, .tar.gz, ...)" if path.exists() else "does not exist"
        raise LocalSourceError(f"{what}: {path}: name folders, git repositories or archives after --local")
    unreadable, left_out = len(gaps.unreadable), len(gaps.left_out)
    repositories: list[Path] = []
    files = _own_files(path, repos.resolve(), repositories, gaps)
    found = [_readable_repository(folder, gaps) for folder in sorted(repositories)]
    sources = [source for source in found if source is not None]
    if files:
        sources.append(_folder_source(path, files, gaps))
    if not sources and len(gaps.unreadable) == unreadable:
        reasons = gaps.left_out[left_out:]
        nothing = f"no Python file there: {path}: name folders, git repositories or archives with some"
        gaps.unreadable += reasons or [nothing]
        del gaps.left_out[left_out:]
    return sources


def _own_files(root: Path, repos: Path, repositories: list[Path], gaps: Gaps) -> list[LocalFile]:
    """The Python files below root outside git repositories; the git repositories go to repositories."""
    files = []
    for folder, folders, names in os.walk(root, onerror=lambda error: gaps.add(error.filename, error)):
        here = Path(folder)
        if ".git" in folders or ".git" in names or _is_bare(folders, names):
            repositories.append(here)
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not _is_left_out(here / name, repos))
        for name in sorted(filter(is_python_file, names)):
            path = here / name
            try:
                file = None if path.is_symlink() else LocalFile.at(path.relative_to(root).as_posix(), path)
            except OSError as error:
                gaps.add(path, error)
                continue
            files += [] if file is None else [file]
    return files


def _is_bare(folders: Iterable[str], names: Iterable[str]) -> bool:
    """Whether a folder with these entries is itself what git keeps in .git."""
    return "HEAD" in names and {"objects", "refs"} <= set(folders)


def _is_left_out(folder: Path, repos: Path) -> bool:
    return folder.name.startswith(".") or folder.name in NOT_OWN or _is_elsewhere(folder, repos)


def _is_elsewhere(folder: Path, repos: Path) -> bool:
    """Whether it is an environment, a link or the collection; what may not be looked at is for os.walk."""
    try:
        return folder.is_symlink() or (folder / "pyvenv.cfg").is_file() or folder.resolve() == repos
    except OSError:
        return False


def _folder_source(root: Path, files: list[LocalFile], gaps: Gaps) -> LocalSource:
    return LocalSource(
        kind="local",
        name=root.name or "root",
        id=f"local/{root}",
        url=root.as_uri(),
        fingerprint=fingerprint(files),
        contents=partial(read_files, files, gaps),
        license=partial(_folder_license, root, gaps),
        commit=str,
    )


def _folder_license(root: Path, gaps: Gaps) -> str:
    return license_names.from_files(_license_files(root, gaps))


def _license_files(root: Path, gaps: Gaps) -> Iterator[tuple[str, bytes]]:
    """(name, beginning) of the files at the top of a folder that tell its licence, by name."""
    for path in sorted(root.iterdir()):
        try:
            if license_names.tells_license(path.name) and path.is_file():
                with path.open("rb") as file:
                    yield path.name, file.read(license_names.MAX_LICENSE_BYTES)
        except OSError as error:
            gaps.add(path, error)


# Git repositories


def _git_process(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A git command that only reads; the repository's configuration can run nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.Popen(
            ["git", *arguments],
            cwd=folder,
            env={**environment, **git_environment(Path(os.devnull), allow_http=False)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise LocalSourceError(
            f"git is not installed, and needed to read this repository: {folder}: install git"
        ) from None


def _git(folder: Path, *arguments: str) -> bytes:
    """The output of a git command that must succeed."""
    with _git_process(folder, *arguments) as process:
        stdout, stderr = process.communicate()
    if process.returncode != 0:
        reason = (stderr.decode("utf-8", "replace").strip() or "no reason given").splitlines()[-1]
        raise LocalSourceError(f"git cannot read this repository ({reason}): {folder}: run git fsck there")
    return stdout


def _entries(output: bytes) -> list[tuple[bytes, bytes]]:
    """(what git says, path) of each line that `ls-files -z` or `ls-tree -z` prints."""
    parted = (entry.partition(b"\t") for entry in output.split(b"\0") if entry)
    return [(described, path) for described, _, path in parted]


def _readable_repository(root: Path, gaps: Gaps) -> LocalSource | None:
    """A git repository; None if it gives no Python file, or cannot be read: then gaps names it."""
    try:
        if (root / ".git").exists():
            return _repository_source(root, gaps)
        return _bare_source(root, gaps)
    except LocalSourceError as error:
        gaps.unreadable.append(str(error))
    except OSError as error:
        gaps.add(error.filename or root, error)
    return None


def _repository_source(root: Path, gaps: Gaps) -> LocalSource | None:
    """A git repository's tracked Python files, as they are on the disk now."""
    files, ids = {}, {}
    absent, submodules = 0, 0
    entries = _entries(_git(root, "ls-files", "--stage", "-z"))
    for described, raw_name in entries:
        name = os.fsdecode(raw_name)
        submodules += described.startswith(SUBMODULE)
        if not described.startswith(b"100") or not is_python_file(name) or (root / name).is_symlink():
            continue
        if file := LocalFile.at(name, root / name):
            files[name] = file  # while a merge is unfinished git names a file more than once
            ids[file.path] = described.split(b" ")[1].decode()
        else:
            absent += 1
    untracked = _untracked(root)
    if not entries and not untracked and _commit_at(root, "HEAD"):
        gaps.left_out.append(f"nothing is checked out: {root}: run git checkout there")
        return None
    left_out = [
        f"{plural(untracked, 'untracked Python file')} (git add takes them in)" if untracked else "",
        f"{plural(submodules, 'submodule')} (name its folder after --local)" if submodules else "",
        f"{plural(absent, 'tracked Python file')} that is not on the disk (git checkout)" if absent else "",
    ]
    if any(left_out):
        what = "left out" if files else "no Python file is tracked"
        gaps.left_out.append(f"{what}: {root}: {', '.join(filter(None, left_out))}")
    if not files:
        return None
    return LocalSource(
        kind="local",
        name=root.name or "root",
        id=f"local/{root}",
        url=root.as_uri(),
        fingerprint=fingerprint(files.values()),
        contents=partial(read_files, files.values(), gaps),
        license=partial(_folder_license, root, gaps),
        commit=partial(_commit_of, root, list(files.values()), ids),
    )


def _untracked(root: Path) -> int:
    """How many Python files of the user's own git neither tracks nor is told to ignore."""
    names = _git(root, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
    environments: dict[Path, bool] = {}
    return sum(
        is_python_file(name) and not _is_foreign(root, Path(name), environments)
        for name in map(os.fsdecode, names)
    )


def _is_foreign(root: Path, name: Path, environments: dict[Path, bool]) -> bool:
    """Whether a file lies in a hidden folder, a cache or an environment; environments remembers the last."""
    for folder in list(name.parents)[:-1]:
        if folder not in environments:
            environments[folder] = _is_left_out(root / folder, root)
        if environments[folder]:
            return True
    return False


def _commit_of(root: Path, files: list[LocalFile], ids: dict[Path, str]) -> str:
    """The commit that holds exactly these files; '' if any of them has changed since, or none does."""
    try:
        if any(file.path.is_file() and _blob_id(file.path.read_bytes()) != ids[file.path] for file in files):
            return ""
        tree = _entries(_git(root, "ls-tree", "-r", "-z", "--full-tree", "HEAD"))
    except (OSError, LocalSourceError):  # a file that cannot be read, or no commit yet
        return ""
    committed = {os.fsdecode(path): described.split()[2].decode() for described, path in tree}
    is_committed = all(committed.get(file.name) == ids[file.path] for file in files)
    return _commit_at(root, "HEAD") if is_committed else ""


def _commit_at(root: Path, name: str) -> str:
    """The commit that a name stands for, '' if there is none."""
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
    except LocalSourceError:
        return ""


def _blob_id(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Blob(NamedTuple):
    """A file of a commit."""

    path: bytes
    id: bytes


def _bare_source(root: Path, gaps: Gaps) -> LocalSource | None:
    """The Python files of the default branch of a bare repository, which has no files on the disk."""
    branches = (
        _git(root, "for-each-ref", "--format=%(refname)", "refs/heads").decode("utf-8", "replace").split()
    )
    usual = [name for name in ("refs/heads/main", "refs/heads/master") if name in branches]
    commit = next(filter(None, (_commit_at(root, name) for name in ("HEAD", *usual, *branches))), "")
    if not commit:
        gaps.left_out.append(f"nothing is committed yet: {root}: leave it out")
        return None
    entries = _entries(_git(root, "ls-tree", "-r", "-z", "--full-tree", commit))
    if submodules := sum(described.startswith(SUBMODULE) for described, _ in entries):
        gaps.left_out.append(
            f"left out: {root}: {plural(submodules, 'submodule')} (a bare repository has none)"
        )
    blobs = [_Blob(path, described.split()[2]) for described, path in entries if described.startswith(b"100")]
    python = [blob for blob in blobs if is_python_file(os.fsdecode(blob.path))]
    if not python:
        return None
    licenses = [
        blob
        for blob in blobs
        if b"/" not in blob.path and license_names.tells_license(os.fsdecode(blob.path))
    ]
    folder = root.parent if root.name == ".git" else root
    return LocalSource(
        kind="local",
        name=folder.name.removesuffix(".git") or "root",
        id=f"local/{root}",
        url=root.as_uri(),
        fingerprint=f"git {commit}",
        contents=partial(_contents_of, root, python),
        license=partial(_license_of_blobs, root, licenses),
        commit=lambda: commit,
    )


def _license_of_blobs(root: Path, blobs: list[_Blob]) -> str:
    return license_names.from_files(
        (os.fsdecode(path), b"".join(pieces)[: license_names.MAX_LICENSE_BYTES])
        for path, pieces in _contents_of(root, blobs)
    )


def _contents_of(root: Path, blobs: list[_Blob]) -> Contents:
    """(path, [bytes]) of files of a commit, each asked for when the one before has been read."""
    with _git_process(root, "cat-file", "--batch") as process:
        assert process.stdin is not None and process.stdout is not None, "cat-file talks through pipes"
        for blob in blobs:
            try:
                process.stdin.write(blob.id + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended, and gives no answer either
            kind, size = (*process.stdout.readline().split(), b"", b"", b"")[1:3]
            content = process.stdout.read(int(size)) if kind == b"blob" else b""
            if kind != b"blob" or len(content) != int(size):
                path = blob.path.decode("utf-8", "replace")
                raise LocalSourceError(
                    f"git cannot read {path} of this repository: {root}: run git fsck there"
                )
            process.stdout.read(1)
            yield blob.path, [content]
