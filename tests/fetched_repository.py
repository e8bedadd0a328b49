"""A repository of the stand-in as the collector's cloner fetches it."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

from cloning.clone import Clone, Cloner
from github_stand_in import GitHubStandIn

SMALL, LARGE = 10, 5000  # KB as the API says: below and above the size from which a clone is partial


def fetch(server: GitHubStandIn, name: str, folder: Path, size_kb: int = LARGE) -> Clone:
    """Fetch a repository of the server into folder/files, without pauses between the tries."""
    folder.mkdir()
    cloner = Cloner(threading.Event(), wait=lambda _: False)
    with closing(cloner):
        return cloner.fetch(f"{server.url}/{name}.git", folder, size_kb=size_kb, license="")


def written(folder: Path) -> dict[str, bytes]:
    """Every file below folder/files by its path; only regular files and folders may be there."""
    files = {}
    for path in sorted((folder / "files").rglob("*")):
        assert not path.is_symlink()
        if path.is_file():
            files[path.relative_to(folder / "files").as_posix()] = path.read_bytes()
    return files


def command_lines() -> str:
    """The command lines of all processes; '' where /proc does not tell them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(lines)
