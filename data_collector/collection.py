"""repos/collection.db: what was asked, found, fetched and refused; and, by its folder, the repositories."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from collection_database import CollectionDatabase
from collection_format import (
    FoundRepository,
    LocalRecord,
    PendingRepository,
    PlannedDay,
    Request,
    Tally,
    timestamp,
)
from collection_missing import Missing
from collection_tally import RunningTally
from python_tree import safe_name
from repos_folder import DATABASE, ReposFolder
from search_query import SearchQuery

PIECE = 1_000  # rows read at a time
LONGEST_PAUSE = 3_600.0  # a longer one comes of a clock that was set back
SHOWN_SKIPPED = 5  # names of files that are kept with a repository that could not give them

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


class Collection:
    """The open record of one folder, held by one process and usable from all its threads."""

    def __init__(self, repos: Path) -> None:
        self.folder = ReposFolder(repos)
        try:
            self._database = CollectionDatabase(repos / DATABASE, is_new=self.folder.is_new)
        except BaseException:
            self.folder.close(is_unused=False)
            raise
        self._tally = RunningTally(self._database)
        self.folder.remove_partial()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; one that is new and in which nothing was recorded leaves no trace."""
        with self._database.mutex:
            is_unused = self.folder.is_new and not self._database.value(
                "SELECT EXISTS (SELECT 1 FROM repositories) OR EXISTS (SELECT 1 FROM windows)"
                " OR EXISTS (SELECT 1 FROM pauses)"
            )
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
        with self._tally.changing(repository.id):
            self._store(repository, search, refetch)

    def _store(self, repository: FoundRepository, search: int, refetch: bool) -> None:
        values = asdict(repository)
        known = self._database.rows(
            "SELECT state, pushed_at FROM repositories WHERE id = :id", id=repository.id
        )
        if known:
            ((state, pushed_at),) = known
            state = "found" if refetch and pushed_at != repository.pushed_at else state
            self._database.execute(UPDATE_FOUND, **values, state=state)
        else:
            self._database.execute(INSERT_FOUND, **values, folder=self._free_folder(repository.full_name))
        self._database.execute(
            "INSERT OR IGNORE INTO matches VALUES (:id, :search)", id=repository.id, search=search
        )

    def _give_name_away(self, repository: FoundRepository) -> None:
        """Take a name from another repository: renamed or deleted, its address leads here now."""
        for (id_,) in self._database.rows(
            "SELECT id FROM repositories WHERE full_name = :full_name AND source = :source AND id <> :id",
            full_name=repository.full_name,
            source=repository.source,
            id=repository.id,
        ):
            with self._tally.changing(id_):
                self._database.execute(
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
        while self._database.rows("SELECT 1 FROM repositories WHERE folder = :folder", folder=folder):
            number += 1
            folder = f"{base}~{number}"
        return folder

    def _search_number(self, source: str, query: SearchQuery) -> int:
        values = {"source": source, "query": str(query)}
        self._database.execute(
            "INSERT OR IGNORE INTO searches (source, query) VALUES (:source, :query)", **values
        )
        return int(
            self._database.value(
                "SELECT number FROM searches WHERE source = :source AND query = :query", **values
            )
        )

    # What was searched

    def record_window(
        self, request: Request, query: SearchQuery, span: tuple[str, str], counts: tuple[int, int, bool]
    ) -> None:
        """Record that a sub-range has been searched to its end: total, found, and whether that is all."""
        with self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO windows VALUES (:search, :first, :last, :total, :found, :all, :now)",
                **dict(zip(("first", "last", "total", "found", "all"), (*span, *counts), strict=True)),
                search=self._search_number(request.source, query),
                now=timestamp(time.time()),
            )

    def searched(self, request: Request) -> Iterator[tuple[str, str]]:
        """(first second, last second) of what was searched for a request, in order."""
        after = ("", "")
        while piece := self._database.rows(
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

    def forget_windows(self, request: Request, *, only_short: bool = False) -> None:
        """Forget that anything of a request was searched, or only what GitHub did not show whole."""
        self._database.execute(
            "DELETE FROM windows WHERE OF_REQUEST AND NOT (is_complete AND :only_short)",
            **request.parameters(),
            only_short=only_short,
        )

    def record_pause(self, source: str, seconds: float) -> None:
        """Record for how long from now a source forbids the next request."""
        self._database.execute(
            "INSERT OR REPLACE INTO pauses VALUES (:source, :until)",
            source=source,
            until=time.time() + seconds,
        )

    def pause_left(self, source: str) -> float:
        """Seconds until a source allows the next request, as far as an earlier run knew: 0 = now."""
        rows = self._database.rows("SELECT until FROM pauses WHERE source = :source", source=source)
        left = rows[0][0] - time.time() if rows else 0.0
        return min(max(left, 0.0), LONGEST_PAUSE)

    # What was fetched

    def pending(self, request: Request, count: int) -> list[PendingRepository]:
        """The next repositories of a request that wait to be fetched, oldest first, tried ones last."""
        rows: list[tuple[Any, ...]] = []
        for is_tried in (0, 1):
            rows += self._database.rows(
                "SELECT id, full_name, clone_url, folder, license, size_kb FROM repositories"
                " WHERE state = 'found' AND (error <> '') = :is_tried AND IN_REQUEST"
                " ORDER BY created_at, id LIMIT :count",
                **request.parameters(),
                is_tried=is_tried,
                count=count - len(rows),
            )
        return [PendingRepository(*row) for row in rows]

    def record_fetched(
        self,
        id_: str,
        commit_sha: str,
        license_id: str,
        files: int,
        size: int,
        skipped: Sequence[str] = (),
    ) -> None:
        """Record that a repository lies complete in its folder, or holds no Python file at all."""
        state = "fetched" if files else "empty"
        names = ", ".join(repr(name[:100]) for name in skipped[:SHOWN_SKIPPED])
        error = f"{len(skipped):,} left out, their names have no safe place: {names}" if skipped else ""
        with self._tally.changing(id_):
            self._database.execute(
                "UPDATE repositories SET state = :state, error = :error, commit_sha = :commit,"
                " license = :license, python_files = :files, python_bytes = :size, fetched_at = :now"
                " WHERE id = :id",
                state=state,
                error=error,
                commit=commit_sha,
                license=license_id,
                files=files,
                size=size,
                now=timestamp(time.time()),
                id=id_,
            )

    def record_failure(self, id_: str, state: str, error: str) -> None:
        """Record why a repository could not be fetched: it is "gone", "failed", or "found" if it waits on."""
        with self._tally.changing(id_):
            self._database.execute(
                "UPDATE repositories SET state = :state, error = :error WHERE id = :id",
                id=id_,
                state=state,
                error=error,
            )

    def retry_failures(self, request: Request) -> None:
        """Have everything of a request that could not be had tried again."""
        self.forget_windows(request, only_short=True)
        self._database.execute(
            "UPDATE repositories SET state = 'found', error = '' WHERE state IN ('failed', 'gone')"
            " AND IN_REQUEST",
            **request.parameters(),
        )
        self._tally.forget()

    # How far it is

    def tally(self, request: Request) -> dict[str, Tally]:
        """How many repositories of a request are in each state."""
        return self._tally.of(request)

    def missing(self, request: Request) -> Missing:
        """What a request did not get."""
        return Missing(self._database, request)

    def planned(self, request: Request, partial_kb: int) -> list[PlannedDay]:
        """What waits to be fetched, day by day; from partial_kb on only the Python files travel."""
        rows = self._database.rows(
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
        rows = self._database.rows(
            "SELECT id, fingerprint, folder FROM repositories WHERE source IN ('installed', 'local')"
        )
        root = self.folder.root
        return {id_: fingerprint for id_, fingerprint, folder in rows if (root / folder).is_dir()}

    def record_local(self, record: LocalRecord, prepared: Path) -> str:
        """Move a local source's files to their place and record them; its name, distinct from all others."""
        with self._database.mutex:
            known = self._database.rows("SELECT folder FROM repositories WHERE id = :id", id=record.id)
            folder = str(known[0][0]) if known else self._free_folder(record.full_name)
            self.folder.place(prepared, folder)
            values = {**asdict(record), "full_name": folder}
            self._database.execute(RECORD_LOCAL, **values, fetched_at=timestamp(time.time()))
        return folder

    def forget_local(self, id_: str) -> None:
        """Take a source that is no longer there out of the folder and the record."""
        with self._database.mutex:
            for (folder,) in self._database.rows("SELECT folder FROM repositories WHERE id = :id", id=id_):
                self.folder.remove(folder)
                self._database.execute("DELETE FROM repositories WHERE id = :id", id=id_)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._database.transaction():
                yield
        except BaseException:
            self._tally.forget()
            raise
