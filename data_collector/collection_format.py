"""The format of repos/collection.db, and the records that go in and out of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from search_query import SearchQuery

APPLICATION_ID = 0x47507954  # "GPyT": tells our database from any other SQLite file
VERSION = 2

# id          stable at its source: "api.github.com/1296269", "installed/numpy", "local//home/me/project"
# source      the API's host, or "installed" or "local"
# clone_url   where it came from; for sources of this machine pkg:pypi/numpy@2.4.6 or a file URL
# folder      relative to repos/, safe and distinct on any file system
# pushed_at   when the copy that was fetched, or waits to be, was last changed
# state       found | fetched | empty (nothing to take) | gone (cannot be had) | failed (worth another try)
# error       why it could not be had; of a fetched one, which files could not
# fingerprint names, sizes and times of a local source's files
# matches     which searches have found a repository: they overlap
# windows     the ranges of creation that a search has finished; is_complete: GitHub showed all that is there
SCHEMA = """
CREATE TABLE repositories (
    id TEXT PRIMARY KEY,
    full_name TEXT NOT NULL,
    source TEXT NOT NULL,
    clone_url TEXT NOT NULL,
    folder TEXT NOT NULL UNIQUE COLLATE NOCASE,
    commit_sha TEXT NOT NULL DEFAULT '',
    license TEXT NOT NULL DEFAULT '',
    stars INTEGER NOT NULL DEFAULT 0,
    forks INTEGER NOT NULL DEFAULT 0,
    is_fork INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL DEFAULT '',
    pushed_at TEXT NOT NULL DEFAULT '',
    size_kb INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'found' CHECK (state IN ('found', 'fetched', 'empty', 'gone', 'failed')),
    error TEXT NOT NULL DEFAULT '',
    python_files INTEGER NOT NULL DEFAULT 0,
    python_bytes INTEGER NOT NULL DEFAULT 0,
    fetched_at TEXT NOT NULL DEFAULT '',
    fingerprint TEXT NOT NULL DEFAULT ''
);
CREATE INDEX repositories_by_state ON repositories (state, created_at, id);
CREATE INDEX repositories_by_name ON repositories (full_name);
CREATE TABLE searches (
    number INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    query TEXT NOT NULL,
    UNIQUE (source, query)
);
CREATE TABLE matches (
    repository TEXT NOT NULL REFERENCES repositories (id),
    search INTEGER NOT NULL REFERENCES searches (number),
    PRIMARY KEY (repository, search)
) WITHOUT ROWID;
CREATE TABLE windows (
    search INTEGER NOT NULL REFERENCES searches (number),
    first_second TEXT NOT NULL,
    last_second TEXT NOT NULL,
    total INTEGER NOT NULL,
    found INTEGER NOT NULL,
    is_complete INTEGER NOT NULL,
    searched_at TEXT NOT NULL,
    PRIMARY KEY (search, first_second, last_second)
);
"""
# until when a source forbids the next request, in seconds since 1970; made when a record is opened
PAUSES = "CREATE TABLE IF NOT EXISTS pauses (source TEXT PRIMARY KEY, until REAL NOT NULL)"


@dataclass(frozen=True)
class FoundRepository:
    """A repository as a search returns it."""

    id: str
    full_name: str
    source: str
    clone_url: str
    license: str
    stars: int
    forks: int
    is_fork: bool
    created_at: str
    pushed_at: str
    size_kb: int


@dataclass(frozen=True)
class PendingRepository:
    """A repository that waits to be fetched."""

    id: str
    full_name: str
    clone_url: str
    folder: str
    license: str
    size_kb: int


@dataclass(frozen=True)
class LocalRecord:
    """A source of this machine as it was taken."""

    id: str
    full_name: str
    source: str
    clone_url: str
    commit_sha: str
    license: str
    python_files: int
    python_bytes: int
    fingerprint: str


@dataclass(frozen=True)
class Request:
    """What the user asked for: all that its queries find among the repositories of a range of time."""

    source: str
    queries: tuple[SearchQuery, ...]
    first_second: str
    last_second: str

    def parameters(self) -> dict[str, str]:
        """As SQL takes it."""
        queries = json.dumps([str(query) for query in self.queries])
        span = {"first_second": self.first_second, "last_second": self.last_second}
        return {"source": self.source, "queries": queries, **span}


@dataclass(frozen=True)
class Tally:
    """How many repositories are in a state, with their Python files and bytes."""

    repositories: int = 0
    files: int = 0
    bytes: int = 0

    def plus(self, repositories: int, files: int, size: int) -> Tally:
        return Tally(self.repositories + repositories, self.files + files, self.bytes + size)


@dataclass(frozen=True)
class PlannedDay:
    """The repositories of a day of creation that wait to be fetched."""

    day: str
    repositories: int
    small_kb: int  # of repositories that are cloned whole
    large: int  # repositories of which only the Python files travel
    large_kb: int


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as GitHub writes them: 0 -> "1970-01-01T00:00:00Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
