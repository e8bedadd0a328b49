"""The SQLite database of a collection: opened, written in transactions, with statements that share parts."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from collection_format import APPLICATION_ID, PAUSES, SCHEMA, VERSION
from repos_folder import CollectionError

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


class CollectionDatabase:
    """The database, held by one process and usable from all its threads.

    A statement's named parameters are given as keywords; see FRAGMENTS for the names in capitals.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        self.mutex = threading.RLock()
        self._connection = self._open(path, is_new)

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
            # Commits do not wait for the disk (11 ms here): a kill loses nothing, a power cut the last few.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(PAUSES)
        except sqlite3.DatabaseError as error:
            database.close()
            raise CollectionError(
                f"the record cannot be used ({error}): {path}: give another --repos FOLDER"
            ) from None
        return database

    def close(self) -> None:
        """At rest the record is one plain file, readable from a read-only disk too."""
        with suppress(sqlite3.OperationalError):  # somebody reads it at the moment
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done within happens, or nothing of it; no other thread comes between."""
        with self.mutex:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def execute(self, statement: str, **values: object) -> None:
        with self.mutex:
            self._connection.execute(_whole(statement), values)

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self.mutex:
            return self._connection.execute(_whole(statement), values).fetchall()

    def value(self, statement: str, **values: object) -> Any:
        """The one value of a query that has one."""
        return self.rows(statement, **values)[0][0]
