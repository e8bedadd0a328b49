"""collection.db: its tables, the connection to it, and SQL views of what a request asks for."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from collection.repos_folder import CollectionError
from collection.request import Request

APPLICATION_ID = 0x47507954  # "GPyT": tells our database from any other SQLite file
VERSION = 2

# id          unique at its source: "api.github.com/1296269", "installed/numpy", "local//home/me/project"
# source      the API's host, or the kind: "git" (an address of a list), "pypi", "dataset",
#             "installed", "local"
# clone_url   where it came from; for packages pkg:pypi/numpy@2.4.6, for files of this machine a file URL
# commit_sha  the commit; of a package of an index its version
# folder      relative to repos/, safe and distinct on any file system
# pushed_at   of the copy that was fetched, or that waits to be: when it was last changed
# state       found | fetched | empty (no Python in it) | gone (cannot be had) | failed (worth another try)
# error       why it could not be had; of a fetched one, which files could not
# fingerprint hash of a package's archive, or of the names, sizes and times of a local source's files
# matches     which searches have found a repository: they overlap
# windows     the ranges of creation that a search has finished; is_complete: GitHub showed all it has there
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
# Tables that came later: a record of an earlier version gets them when it is opened.
# pauses: until when a source forbids the next request, in seconds since 1970.
# paths: the files whose own names had to be changed, and only those. stored_path is where the file lies in
# its repository's folder, true_path what its repository calls it, both POSIX; a byte of the true path that
# is not UTF-8 is spelt out, such as \xe9. Stage 3 reads them:
#   SELECT folder, stored_path, true_path FROM paths JOIN repositories ON repositories.id = repository_id
# addresses: under which addresses lists know a repository, without ".git"; after a renaming more than one.
# refs: the commit, tag or branch that a list asks for; a repository without one has its default branch.
# datasets: which are taken, up to how many files (0 = all); key tells one and its options from others.
# requirements: what a package of an index needs, by its metadata; an empty one if that is nothing.
LATER_TABLES = """
CREATE TABLE IF NOT EXISTS pauses (source TEXT PRIMARY KEY, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS paths (
    repository_id TEXT NOT NULL REFERENCES repositories (id),
    stored_path TEXT NOT NULL,
    true_path TEXT NOT NULL,
    PRIMARY KEY (repository_id, stored_path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS addresses (
    address TEXT PRIMARY KEY,
    repository_id TEXT NOT NULL REFERENCES repositories (id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refs (
    repository_id TEXT PRIMARY KEY REFERENCES repositories (id),
    ref TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requirements (
    repository_id TEXT NOT NULL REFERENCES repositories (id),
    requirement TEXT NOT NULL,
    PRIMARY KEY (repository_id, requirement)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS datasets (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, file_limit INTEGER NOT NULL, finished_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS repositories_by_address ON repositories (clone_url COLLATE NOCASE);
"""

# Of this connection alone: the requests of this run by number, and what each of them asks for.
VIEWS = """
CREATE TEMP TABLE requests (number INTEGER PRIMARY KEY, source TEXT, first_second TEXT, last_second TEXT);
CREATE TEMP TABLE request_queries (
    request INTEGER, query TEXT, PRIMARY KEY (request, query)
) WITHOUT ROWID;
CREATE TEMP VIEW request_searches AS
SELECT requests.number AS request, searches.number AS search
FROM requests
JOIN request_queries ON request_queries.request = requests.number
JOIN searches ON searches.source = requests.source AND searches.query = request_queries.query;
CREATE TEMP VIEW requested AS
SELECT requests.number AS request, repositories.*,
    python_files * (state = 'fetched') AS fetched_files, python_bytes * (state = 'fetched') AS fetched_bytes
FROM requests
JOIN repositories ON repositories.created_at BETWEEN requests.first_second AND requests.last_second
WHERE EXISTS (
    SELECT 1 FROM matches JOIN request_searches ON request_searches.search = matches.search
    WHERE matches.repository = repositories.id AND request_searches.request = requests.number
);
CREATE TEMP VIEW requested_windows AS
SELECT requests.number AS request, windows.*
FROM requests
JOIN request_searches ON request_searches.request = requests.number
JOIN windows ON windows.search = request_searches.search
    AND windows.first_second <= requests.last_second AND windows.last_second >= requests.first_second;
"""


def _create_tables(database: sqlite3.Connection) -> None:
    """Create them in one transaction: no program ever sees a record without its tables."""
    database.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";"):
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")


class CollectionDatabase:
    """The database, held by one process and usable from all its threads.

    A statement's named parameters are given as keywords.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        self.mutex = threading.RLock()
        self._connection = self._open(path, is_new)
        self._requests: dict[Request, int] = {}
        self._numbers = itertools.count(1)

    @staticmethod
    def _open(path: Path, is_new: bool) -> sqlite3.Connection:
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            if is_new:
                _create_tables(database)
            (mark,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if (mark, version) != (APPLICATION_ID, VERSION):
                raise sqlite3.DatabaseError(f"not a record of this collector's format {VERSION}")
            # Commits do not wait for the disk (11 ms here): a kill loses none, a power cut the last few.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA temp_store = MEMORY")
            for statement in (LATER_TABLES + VIEWS).split(";"):
                database.execute(statement)
        except sqlite3.DatabaseError as error:
            database.close()
            raise CollectionError(
                f"the record cannot be used ({error}): {path}: give another --repos FOLDER"
            ) from None
        return database

    def close(self) -> None:
        """Leave one plain file, readable from a read-only disk too."""
        with suppress(sqlite3.OperationalError):  # another program reads it at the moment
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do everything within, or nothing of it; other threads wait."""
        with self.mutex:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                self._requests.clear()  # numbers that were given within are rolled back too
                raise
            self._connection.execute("COMMIT")

    def execute(self, statement: str, **values: object) -> None:
        with self.mutex:
            self._connection.execute(statement, values)

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self.mutex:
            return self._connection.execute(statement, values).fetchall()

    def value(self, statement: str, **values: object) -> Any:
        """The one value of a query that has one."""
        return self.rows(statement, **values)[0][0]

    def number_of(self, request: Request) -> int:
        """The number by which the views `requested` and `requested_windows` know a request."""
        with self.mutex:
            if request not in self._requests:
                number = next(self._numbers)
                self.execute(
                    "INSERT INTO requests VALUES (:number, :source, :first, :last)",
                    number=number,
                    source=request.source,
                    first=request.first_second,
                    last=request.last_second,
                )
                for query in request.queries:
                    self.execute(
                        "INSERT OR IGNORE INTO request_queries VALUES (:request, :query)",
                        request=number,
                        query=str(query),
                    )
                self._requests[request] = number
            return self._requests[request]

    def record_paths(self, id_: str, renamed: Mapping[str, str]) -> None:
        """Record the true paths of a repository's files (stored path -> true path) in place of older ones."""
        with self.mutex:
            self.execute("DELETE FROM paths WHERE repository_id = :id", id=id_)
            for stored, true in renamed.items():
                self.execute(
                    "INSERT INTO paths VALUES (:id, :stored, :true)", id=id_, stored=stored, true=true
                )

    def has_folder(self, folder: str) -> bool:
        """Whether a repository has this folder, or one that differs only in case."""
        return bool(self.rows("SELECT 1 FROM repositories WHERE folder = :folder", folder=folder))
