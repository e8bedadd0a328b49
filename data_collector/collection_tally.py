"""How many repositories of a request are in each state: counted once, then kept up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from collection_database import CollectionDatabase
from collection_format import Request, Tally


class RunningTally:
    """The tally of the request that was last asked about."""

    def __init__(self, database: CollectionDatabase) -> None:
        self._database = database
        self._request: Request | None = None
        self._tally: dict[str, Tally] = {}

    def of(self, request: Request) -> dict[str, Tally]:
        """State -> how many repositories with how many Python files and bytes; no state without any."""
        with self._database.mutex:
            if self._request != request:
                rows = self._database.rows(
                    "SELECT state, count(*), sum(python_files * IF_FETCHED), sum(python_bytes * IF_FETCHED)"
                    " FROM repositories WHERE IN_REQUEST GROUP BY state",
                    **request.parameters(),
                )
                self._tally = {state: Tally(*numbers) for state, *numbers in rows}
                self._request = request
            return {state: tally for state, tally in self._tally.items() if tally.repositories}

    def forget(self) -> None:
        """Count anew when next asked: the record has changed in another way."""
        with self._database.mutex:
            self._request = None

    @contextmanager
    def changing(self, id_: str) -> Iterator[None]:
        """Count a repository in the state that it gets instead of the one that it had."""
        with self._database.mutex:
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
        if self._request is None:
            return None
        rows = self._database.rows(
            "SELECT state, python_files * IF_FETCHED, python_bytes * IF_FETCHED FROM repositories"
            " WHERE id = :id AND IN_REQUEST",
            **self._request.parameters(),
            id=id_,
        )
        return rows[0] if rows else None
