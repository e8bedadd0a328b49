"""Folders, git repositories and archives that the user names, as sources of the collection."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from hashlib import sha1
from pathlib import Path

import license_names
from local_archives import archive_source, is_archive
from local_source import LocalFile, LocalSource, LocalSourceError, fingerprint, read_files
from python_tree import is_python_file
from safe_git import git_environment

# Nobody's own code: environments are known by pyvenv.cfg, caches and hidden folders by name.
NOT_OWN = {"__pycache__", "node_modules", "site-packages"}


def sources_at(path: Path, repos: Path, unreadable: list[str]) -> list[LocalSource]:
    """The sources that one path of the command line stands for.

    A git repository or an archive is one; a folder is one for each git repository in it and one for the rest.
    """
    path = path.resolve()
    if path.is_file() and is_archive(path):
        return [archive_source(path)]
    if not path.is_dir():
        what = "is no folder and no archive (.zip, .whl, .tar.gz, ...)" if path.exists() else "does not exist"
        raise LocalSourceError(f"{path} {what}: name folders, git repositories or archives after --local")
    repositories: list[Path] = []
    files = _own_files(path, repos.resolve(), repositories)
    sources = [_readable_repository(folder, unreadable) for folder in sorted(repositories)]
    if files:
        sources.append(_folder_source(path, files, unreadable))
    return [source for source in sources if source is not None]


def _own_files(root: Path, repos: Path, repositories: list[Path]) -> list[LocalFile]:
    """The Python files below root that are in no git repository; git repositories go to repositories."""
    files = []
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        if ".git" in folders or ".git" in names:
            repositories.append(here)
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not _is_left_out(here / name, repos))
        for name in sorted(filter(is_python_file, names)):
            path = here / name
            if not path.is_symlink() and (file := LocalFile.at(path.relative_to(root).as_posix(), path)):
                files.append(file)
    return files


def _is_left_out(folder: Path, repos: Path) -> bool:
    return (
        folder.name.startswith(".")
        or folder.name in NOT_OWN
        or folder.is_symlink()
        or (folder / "pyvenv.cfg").is_file()
        or folder.resolve() == repos
    )


def _folder_source(root: Path, files: list[LocalFile], unreadable: list[str]) -> LocalSource:
    return LocalSource(
        kind="local",
        name=root.name or "root",
        id=f"local/{root}",
        url=root.as_uri(),
        fingerprint=fingerprint(files),
        contents=partial(read_files, files, unreadable),
        license=partial(_folder_license, root),
        commit=str,
        whole_bytes=sum(file.size for file in files),
    )


def _folder_license(root: Path) -> str:
    """The licence by the pyproject.toml or the licence files at the top of a folder."""
    texts = []
    for path in sorted(root.iterdir()):
        is_project = path.name == "pyproject.toml"
        if (is_project or license_names.LICENSE_FILE.match(path.name)) and path.is_file():
            with path.open("rb") as file:
                text = file.read(license_names.MAX_LICENSE_BYTES).decode("utf-8", "replace")
            if is_project and (named := license_names.from_pyproject(text)):
                return named
            texts += [] if is_project else [text]
    return license_names.from_texts(texts)


def _git(folder: Path, *arguments: str) -> bytes:
    """The output of a git command that only reads; nothing of the repository's configuration can run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**environment, **git_environment(Path(os.devnull), allow_http=False)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise LocalSourceError(f"git is needed to read {folder} and is not installed: install git") from None
    if result.returncode != 0:
        reason = result.stderr.decode("utf-8", "replace").strip().splitlines()
        raise LocalSourceError(f"git cannot read {folder} ({reason[-1] if reason else 'no reason given'})")
    return result.stdout


def _readable_repository(root: Path, unreadable: list[str]) -> LocalSource | None:
    """A git repository, None where it is named among the unreadable or holds no Python file."""
    try:
        return _repository_source(root, unreadable)
    except LocalSourceError as error:
        unreadable.append(str(error))
        return None


def _repository_source(root: Path, unreadable: list[str]) -> LocalSource | None:
    """A git repository's tracked Python files, as they are on the disk now."""
    files, ids = [], {}
    for entry in _git(root, "ls-files", "--stage", "-z").split(b"\0"):
        described, _, raw_name = entry.partition(b"\t")
        name = os.fsdecode(raw_name)
        is_own = described.startswith(b"100") and is_python_file(name) and not (root / name).is_symlink()
        if is_own and (file := LocalFile.at(name, root / name)):
            files.append(file)
            ids[file.path] = described.split(b" ")[1].decode()
    if not files:
        return None
    return LocalSource(
        kind="local",
        name=root.name or "root",
        id=f"local/{root}",
        url=root.as_uri(),
        fingerprint=fingerprint(files),
        contents=partial(read_files, files, unreadable),
        license=partial(_folder_license, root),
        commit=partial(_commit_of, root, files, ids),
        whole_bytes=sum(file.size for file in files),
    )


def _commit_of(root: Path, files: list[LocalFile], ids: dict[Path, str]) -> str:
    """The commit that holds exactly these files; '' where any of them has been changed since."""
    if any(file.path.is_file() and _blob_id(file.path.read_bytes()) != ids[file.path] for file in files):
        return ""
    try:
        tree = _git(root, "ls-tree", "-r", "-z", "--full-tree", "HEAD").split(b"\0")
        committed = {
            os.fsdecode(entry.partition(b"\t")[2]): entry.split()[2].decode() for entry in tree if entry
        }
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
    except LocalSourceError:
        return ""  # nothing committed yet
    return commit if all(committed.get(file.name) == ids[file.path] for file in files) else ""


def _blob_id(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
