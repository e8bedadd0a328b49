"""repos/collection.db: what was asked, found, fetched and refused; and, by its folder, the repositories."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from collection_format import (
    APPLICATION_ID,
    SCHEMA,
    VERSION,
    FoundRepository,
    LocalRecord,
    PendingRepository,
    PlannedDay,
    Request,
    Tally,
    timestamp,
)
from python_tree import safe_name
from repos_folder import DATABASE, CollectionError, ReposFolder
from search_query import SearchQuery

PIECE = 1_000  # rows read at a time

# Parts that statements have in common, by the names that stand for them.
FRAGMENTS = {
    "IN_REQUEST": "source = :source AND created_at BETWEEN :first_second AND :last_second"
    " AND EXISTS (SELECT 1 FROM matches WHERE repository = id AND search IN (THE_SEARCHES))",
    "OF_REQUEST": "search IN (THE_SEARCHES)"
    " AND first_second <= :last_second AND last_second >= :first_second",
    "THE_SEARCHES": "SELECT number FROM searches WHERE source = :source"
    " AND query IN (SELECT value FROM json_each(:queries))",
    "IF_FETCHED": "CASE state WHEN 'fetched' THEN 1 ELSE 0 END",
}
INSERT_FOUND = """
INSERT INTO repositories (id, full_name, source, clone_url, folder, license, stars, forks, is_fork,
    created_at, pushed_at, size_kb)
VALUES (:id, :full_name, :source, :clone_url, :folder, :license, :stars, :forks, :is_fork,
    :created_at, :pushed_at, :size_kb)
"""
# What is known keeps its folder, the date of what was fetched of it, and a licence that was read from a file.
UPDATE_FOUND = """
UPDATE repositories SET full_name = :full_name, clone_url = :clone_url, stars = :stars, forks = :forks,
    license = CASE :license WHEN '' THEN license ELSE :license END, size_kb = :size_kb,
    pushed_at = CASE :state WHEN 'found' THEN :pushed_at ELSE pushed_at END, state = :state
WHERE id = :id
"""
RECORD_LOCAL = """
INSERT OR REPLACE INTO repositories (id, full_name, source, clone_url, folder, commit_sha, license,
    state, python_files, python_bytes, fetched_at, fingerprint)
VALUES (:id, :full_name, :source, :clone_url, :full_name, :commit_sha, :license,
    'fetched', :python_files, :python_bytes, :fetched_at, :fingerprint)
"""


@cache
def _whole(statement: str) -> str:
    """A statement with the parts that it has in common with others."""
    for name, part in FRAGMENTS.items():
        statement = statement.replace(name, part)
    return statement


def _create_tables(database: sqlite3.Connection) -> None:
    """All in one transaction: a record without its tables must never be seen."""
    database.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";"):
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")


class Collection:
    """The open record of one folder, held by one process and usable from all its threads."""

    def __init__(self, repos: Path) -> None:
        self.folder = ReposFolder(repos)
        self._mutex = threading.RLock()
        self._tallied: Request | None = None
        self._tally: dict[str, Tally] = {}
        try:
            self._database = self._open(repos / DATABASE)
        except BaseException:
            self.folder.close(is_unused=False)
            raise
        self.folder.remove_partial()

    def _open(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            if self.folder.is_new:
                _create_tables(database)
            (mark,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if (mark, version) != (APPLICATION_ID, VERSION):
                raise sqlite3.DatabaseError(f"not a record of this collector's format {VERSION}")
            # Commits do not wait for the disk (11 ms here): a kill loses nothing, a power cut the last few.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.DatabaseError as error:
            database.close()
            raise CollectionError(
                f"the record cannot be used ({error}): {path}: give another --repos FOLDER"
            ) from None
        return database

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; one that is new and in which nothing was recorded leaves no trace."""
        with self._mutex:
            is_unused = self.folder.is_new and not self._row(
                "SELECT EXISTS (SELECT 1 FROM repositories) OR EXISTS (SELECT 1 FROM windows)"
            )
            # At rest the record is one plain file, readable from a read-only disk too.
            with suppress(sqlite3.OperationalError):  # somebody reads it at the moment
                self._database.execute("PRAGMA journal_mode = DELETE")
            self._database.close()
            self.folder.close(is_unused=is_unused)

    # What was found

    def record_found(
        self,
        repositories: Iterable[FoundRepository],
        request: Request,
        query: SearchQuery,
        *,
        refetch: bool = False,
    ) -> None:
        """Record a page of results; with refetch, what was pushed to since it was fetched waits again."""
        with self._transaction():
            search = self._search_number(request.source, query)
            for repository in repositories:
                self._record_one(repository, search, refetch)

    def _record_one(self, repository: FoundRepository, search: int, refetch: bool) -> None:
        self._give_name_away(repository)
        with self._changing(repository.id):
            self._store(repository, search, refetch)

    def _store(self, repository: FoundRepository, search: int, refetch: bool) -> None:
        values = asdict(repository)
        known = self._rows("SELECT state, pushed_at FROM repositories WHERE id = :id", id=repository.id)
        if known:
            ((state, pushed_at),) = known
            state = "found" if refetch and pushed_at != repository.pushed_at else state
            self._execute(UPDATE_FOUND, **values, state=state)
        else:
            self._execute(INSERT_FOUND, **values, folder=self._free_folder(repository.full_name))
        self._execute("INSERT OR IGNORE INTO matches VALUES (:id, :search)", id=repository.id, search=search)

    def _give_name_away(self, repository: FoundRepository) -> None:
        """Take a name from another repository: renamed or deleted, its address leads here now."""
        for (id_,) in self._rows(
            "SELECT id FROM repositories WHERE full_name = :full_name AND source = :source AND id <> :id",
            full_name=repository.full_name,
            source=repository.source,
            id=repository.id,
        ):
            with self._changing(id_):
                self._execute(
                    "UPDATE repositories SET full_name = full_name || '~' || :number,"
                    " error = CASE state WHEN 'found' THEN :error ELSE error END,"
                    " state = CASE state WHEN 'found' THEN 'gone' ELSE state END WHERE id = :id",
                    id=id_,
                    number=id_.rpartition("/")[2],
                    error="renamed or deleted: its name is another repository's now",
                )

    def _free_folder(self, full_name: str) -> str:
        """A folder that no other repository has: "Ann/x" -> "Ann/x", or "Ann/x~2" if "ann/X" is there."""
        owner, _, name = full_name.partition("/")
        base = f"{safe_name(owner)}/{safe_name(name)}"
        folder, number = base, 1
        while self._rows("SELECT 1 FROM repositories WHERE folder = :folder", folder=folder):
            number += 1
            folder = f"{base}~{number}"
        return folder

    def _search_number(self, source: str, query: SearchQuery) -> int:
        values = {"source": source, "query": str(query)}
        self._execute("INSERT OR IGNORE INTO searches (source, query) VALUES (:source, :query)", **values)
        return int(
            self._row("SELECT number FROM searches WHERE source = :source AND query = :query", **values)
        )

    # What was searched

    def record_window(
        self, request: Request, query: SearchQuery, span: tuple[str, str], counts: tuple[int, int, bool]
    ) -> None:
        """Record that a sub-range has been searched to its end: total, found, and whether that is all."""
        with self._transaction():
            self._execute(
                "INSERT OR REPLACE INTO windows VALUES (:search, :first, :last, :total, :found, :all, :now)",
                **dict(zip(("first", "last", "total", "found", "all"), (*span, *counts), strict=True)),
                search=self._search_number(request.source, query),
                now=timestamp(time.time()),
            )

    def searched(self, request: Request) -> Iterator[tuple[str, str]]:
        """(first second, last second) of what was searched for a request, in order."""
        after = ("", "")
        while piece := self._rows(
            "SELECT first_second, last_second FROM windows WHERE OF_REQUEST"
            " AND (first_second, last_second) > (:first, :last)"
            " ORDER BY first_second, last_second LIMIT :count",
            **request.parameters(),
            count=PIECE,
            first=after[0],
            last=after[1],
        ):
            yield from piece
            after = piece[-1]

    def short_windows(self, request: Request, count: int) -> tuple[int, list[tuple[str, str, int, int]]]:
        """How many sub-ranges GitHub did not show whole; the first as (first, last, total, found)."""
        number = int(
            self._row(
                "SELECT count(*) FROM windows WHERE OF_REQUEST AND NOT is_complete", **request.parameters()
            )
        )
        return number, self._rows(
            "SELECT first_second, last_second, total, found FROM windows WHERE OF_REQUEST"
            " AND NOT is_complete ORDER BY first_second LIMIT :count",
            **request.parameters(),
            count=count,
        )

    def forget_windows(self, request: Request, *, only_short: bool = False) -> None:
        """Forget that anything of a request was searched, or only what GitHub did not show whole."""
        self._execute(
            "DELETE FROM windows WHERE OF_REQUEST AND NOT (is_complete AND :only_short)",
            **request.parameters(),
            only_short=only_short,
        )

    # What was fetched

    def pending(self, request: Request, count: int) -> list[PendingRepository]:
        """The next repositories of a request that wait to be fetched, oldest first."""
        rows = self._rows(
            "SELECT id, full_name, clone_url, folder, license, size_kb FROM repositories"
            " WHERE state = 'found' AND IN_REQUEST ORDER BY created_at, id LIMIT :count",
            **request.parameters(),
            count=count,
        )
        return [PendingRepository(*row) for row in rows]

    def record_fetched(self, id_: str, commit_sha: str, license_id: str, files: int, size: int) -> None:
        """Record that a repository lies complete in its folder, or holds no Python file at all."""
        state = "fetched" if files else "empty"
        with self._changing(id_):
            self._execute(
                "UPDATE repositories SET state = :state, error = '', commit_sha = :commit,"
                " license = :license, python_files = :files, python_bytes = :size, fetched_at = :now"
                " WHERE id = :id",
                state=state,
                commit=commit_sha,
                license=license_id,
                files=files,
                size=size,
                now=timestamp(time.time()),
                id=id_,
            )

    def record_failure(self, id_: str, state: str, error: str) -> None:
        """Record why a repository could not be fetched: state is "gone" or "failed"."""
        with self._changing(id_):
            self._execute(
                "UPDATE repositories SET state = :state, error = :error WHERE id = :id",
                id=id_,
                state=state,
                error=error,
            )

    def retry_failures(self, request: Request) -> None:
        """Have everything of a request that could not be had tried again."""
        self.forget_windows(request, only_short=True)
        self._execute(
            "UPDATE repositories SET state = 'found' WHERE state IN ('failed', 'gone') AND IN_REQUEST",
            **request.parameters(),
        )
        self._tallied = None

    # How far it is

    def tally(self, request: Request) -> dict[str, Tally]:
        """How many repositories of a request are in each state: counted once, then kept up to date."""
        with self._mutex:
            if self._tallied != request:
                rows = self._rows(
                    "SELECT state, count(*), sum(python_files * IF_FETCHED),"
                    " sum(python_bytes * IF_FETCHED)"
                    " FROM repositories WHERE IN_REQUEST GROUP BY state",
                    **request.parameters(),
                )
                self._tally = {state: Tally(*numbers) for state, *numbers in rows}
                self._tallied = request
            return {state: tally for state, tally in self._tally.items() if tally.repositories}

    @contextmanager
    def _changing(self, id_: str) -> Iterator[None]:
        """Count a repository in the state that it gets instead of the one that it had."""
        with self._mutex:
            before = self._counted(id_)
            yield
            after = self._counted(id_)
            if before != after:
                for sign, counted in ((-1, before), (1, after)):
                    if counted is not None:
                        state, files, size = counted
                        tally = self._tally.get(state, Tally())
                        self._tally[state] = tally.plus(sign, sign * files, sign * size)

    def _counted(self, id_: str) -> tuple[str, int, int] | None:
        """(state, Python files, bytes) of a repository that belongs to the request that is tallied."""
        if self._tallied is None:
            return None
        rows = self._rows(
            "SELECT state, python_files * IF_FETCHED,"
            " python_bytes * IF_FETCHED FROM repositories"
            " WHERE id = :id AND IN_REQUEST",
            **self._tallied.parameters(),
            id=id_,
        )
        return rows[0] if rows else None

    def failures(self, request: Request, count: int) -> list[tuple[str, str]]:
        """(full name, reason) of the first repositories that could not be fetched."""
        return self._rows(
            "SELECT full_name, error FROM repositories WHERE state IN ('failed', 'gone') AND IN_REQUEST"
            " ORDER BY created_at, id LIMIT :count",
            **request.parameters(),
            count=count,
        )

    def failure_reasons(self, request: Request, count: int) -> list[tuple[str, int]]:
        """The most frequent reasons why repositories could not be fetched, with their numbers."""
        return self._rows(
            "SELECT error, count(*) FROM repositories WHERE state IN ('failed', 'gone') AND IN_REQUEST"
            " GROUP BY error ORDER BY 2 DESC, 1 LIMIT :count",
            **request.parameters(),
            count=count,
        )

    def planned(self, request: Request, partial_kb: int) -> list[PlannedDay]:
        """What waits to be fetched, day by day; from partial_kb on only the Python files travel."""
        rows = self._rows(
            "SELECT substr(created_at, 1, 10), count(*),"
            " sum(CASE WHEN size_kb < :partial THEN size_kb ELSE 0 END),"
            " sum(size_kb >= :partial), sum(CASE WHEN size_kb >= :partial THEN size_kb ELSE 0 END)"
            " FROM repositories WHERE state = 'found' AND IN_REQUEST GROUP BY 1 ORDER BY 1",
            **request.parameters(),
            partial=partial_kb,
        )
        return [PlannedDay(*row) for row in rows]

    # Sources of this machine

    def local_fingerprints(self) -> dict[str, str]:
        """id -> fingerprint of every source of this machine whose folder is there."""
        rows = self._rows(
            "SELECT id, fingerprint, folder FROM repositories WHERE source IN ('installed', 'local')"
        )
        root = self.folder.root
        return {id_: fingerprint for id_, fingerprint, folder in rows if (root / folder).is_dir()}

    def record_local(self, record: LocalRecord, prepared: Path) -> str:
        """Move a local source's files to their place and record them; its name, distinct from all others."""
        with self._mutex:
            known = self._rows("SELECT folder FROM repositories WHERE id = :id", id=record.id)
            folder = str(known[0][0]) if known else self._free_folder(record.full_name)
            self.folder.place(prepared, folder)
            values = {**asdict(record), "full_name": folder}
            self._execute(RECORD_LOCAL, **values, fetched_at=timestamp(time.time()))
        return folder

    def forget_local(self, id_: str) -> None:
        """Take a source that is no longer there out of the folder and the record."""
        with self._mutex:
            for (folder,) in self._rows("SELECT folder FROM repositories WHERE id = :id", id=id_):
                self.folder.remove(folder)
                self._execute("DELETE FROM repositories WHERE id = :id", id=id_)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._mutex:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                self._tallied = None
                raise
            self._database.execute("COMMIT")

    def _execute(self, statement: str, **values: object) -> None:
        with self._mutex:
            self._database.execute(_whole(statement), values)

    def _rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._mutex:
            return self._database.execute(_whole(statement), values).fetchall()

    def _row(self, statement: str, **values: object) -> Any:
        """The one value of a query that has one."""
        return self._rows(statement, **values)[0][0]
