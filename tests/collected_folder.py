"""What a collector has left in repos/: files and rows of the record."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

from project import run_script, succeed

COLLECTOR = "data_collector/data_collector.py"
MIT_TEXT = "MIT License\n\nPermission is hereby granted, free of charge ... " + (
    "The above copyright notice and this permission notice shall be included"
)


def collect_local(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What a collection from this machine printed."""
    return succeed(run_script(COLLECTOR, "--local", *arguments, cwd=cwd))


def files_in(repos: Path) -> dict[str, bytes]:
    """Every file below repos/ by its path, the record excepted; none of them may be a link."""
    files = [path for path in sorted(repos.rglob("*")) if path.is_file() and path.parent != repos]
    assert not any(path.is_symlink() for path in files)
    return {path.relative_to(repos).as_posix(): path.read_bytes() for path in files}


def rows_in(repos: Path, columns: str, table: str = "repositories") -> list[tuple[object, ...]]:
    """These columns of every row of the record, in the order of the first one."""
    database = sqlite3.connect(repos / "collection.db")
    try:
        return database.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()  # noqa: S608
    finally:
        database.close()
