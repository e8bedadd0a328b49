"""What a request did not get, by name and by reason, from the record."""

from __future__ import annotations

from collection_database import CollectionDatabase
from collection_format import Request


class Missing:
    """The repositories and the sub-ranges of a request that are not, or not wholly, there."""

    def __init__(self, database: CollectionDatabase, request: Request) -> None:
        self._database = database
        self._request = request

    def short_windows(self, count: int) -> tuple[int, list[tuple[str, str, int, int]]]:
        """How many sub-ranges GitHub did not show whole; the first as (first, last, total, found)."""
        count_them = "SELECT count(*) FROM windows WHERE OF_REQUEST AND NOT is_complete"
        number = int(self._database.value(count_them, **self._request.parameters()))
        return number, self._database.rows(
            "SELECT first_second, last_second, total, found FROM windows WHERE OF_REQUEST"
            " AND NOT is_complete ORDER BY first_second LIMIT :count",
            **self._request.parameters(),
            count=count,
        )

    def failures(self, count: int) -> list[tuple[str, str]]:
        """(full name, reason) of the first repositories that could not be fetched."""
        return self._database.rows(
            "SELECT full_name, error FROM repositories WHERE state IN ('failed', 'gone') AND IN_REQUEST"
            " ORDER BY created_at, id LIMIT :count",
            **self._request.parameters(),
            count=count,
        )

    def partly_fetched(self, count: int) -> tuple[int, list[tuple[str, str]]]:
        """How many repositories could not give all of their files; (full name, which) of the first."""
        rows = "FROM repositories WHERE state IN ('fetched', 'empty') AND error <> '' AND IN_REQUEST"
        number = int(self._database.value(f"SELECT count(*) {rows}", **self._request.parameters()))
        return number, self._database.rows(
            f"SELECT full_name, error {rows} ORDER BY created_at, id LIMIT :count",
            **self._request.parameters(),
            count=count,
        )

    def failure_reasons(self, count: int) -> list[tuple[str, int]]:
        """The most frequent reasons why repositories could not be fetched, with their numbers."""
        return self._database.rows(
            "SELECT error, count(*) FROM repositories WHERE state IN ('failed', 'gone') AND IN_REQUEST"
            " GROUP BY error ORDER BY 2 DESC, 1 LIMIT :count",
            **self._request.parameters(),
            count=count,
        )
