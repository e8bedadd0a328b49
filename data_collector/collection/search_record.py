"""What was searched or listed: found repositories, finished windows of time, pauses that GitHub asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from collection.database import CollectionDatabase
from collection.repos_folder import free_folder
from collection.request import Request, SearchQuery, timestamp
from collection.status import RunningTally

LISTED = "git"  # the source of repositories of which only the address is known
ROWS = 1_000  # read at a time
LONGEST_PAUSE = 3_600.0  # a longer one means that the clock was set back

INSERT_FOUND = """
INSERT INTO repositories (id, full_name, source, clone_url, folder, license, stars, forks, is_fork,
    created_at, pushed_at, size_kb)
VALUES (:id, :full_name, :source, :clone_url, :folder, :license, :stars, :forks, :is_fork,
    :created_at, :pushed_at, :size_kb)
"""
# A known one keeps its folder, the date of the copy that was fetched, and a licence that a file told.
UPDATE_FOUND = """
UPDATE repositories SET full_name = :full_name, clone_url = :clone_url, stars = :stars, forks = :forks,
    license = CASE :license WHEN '' THEN license ELSE :license END, size_kb = :size_kb,
    pushed_at = CASE :state WHEN 'found' THEN :pushed_at ELSE pushed_at END, state = :state
WHERE id = :id
"""
INSERT_LISTED = """
INSERT INTO repositories (id, full_name, source, clone_url, folder)
VALUES (:id, :full_name, :source, :clone_url, :folder)
"""
# What the API tells of a repository that a list had named before.
ADOPT = """
UPDATE repositories SET id = :id, source = :source, created_at = :created_at, is_fork = :is_fork
WHERE id = :old
"""
# Everything that points to a repository, by table and column.
REFERENCES = (
    ("matches", "repository"),
    ("addresses", "repository_id"),
    ("refs", "repository_id"),
    ("paths", "repository_id"),
)


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
class ListedRepository:
    """A repository as a list names it.

    key tells it from others: its address without ".git", in lower case where the server does not tell cases
    apart. name is its "owner/name" at the server of the API, '' elsewhere. ref is the commit, tag or branch
    that is wanted, '' for the default branch. line counts from 1.
    """

    line: int
    key: str
    url: str
    full_name: str
    name: str
    ref: str


def search_number(database: CollectionDatabase, source: str, query: SearchQuery) -> int:
    """The number by which the record knows a search."""
    values = {"source": source, "query": str(query)}
    database.execute("INSERT OR IGNORE INTO searches (source, query) VALUES (:source, :query)", **values)
    return int(
        database.value("SELECT number FROM searches WHERE source = :source AND query = :query", **values)
    )


def point_elsewhere(database: CollectionDatabase, old: str, new: str) -> None:
    """Let everything that points to one repository point to another one; what that has already stays."""
    for table, column in REFERENCES:
        update = f"UPDATE OR IGNORE {table} SET {column} = :new WHERE {column} = :old"  # noqa: S608
        database.execute(update, old=old, new=new)
        database.execute(f"DELETE FROM {table} WHERE {column} = :old", old=old)  # noqa: S608


class SearchRecord:
    """The record as a search writes it."""

    def __init__(self, database: CollectionDatabase, tally: RunningTally) -> None:
        self._database = database
        self._tally = tally

    def record_page(
        self,
        repositories: Iterable[FoundRepository],
        request: Request,
        query: SearchQuery,
        *,
        refetch: bool = False,
    ) -> None:
        """Record a page of results; with refetch, a repository waits again if it was pushed to since."""
        try:
            with self._database.transaction():
                search = search_number(self._database, request.source, query)
                for repository in repositories:
                    self._take_name(repository)
                    with self._tally.changing(repository.id):
                        self._record_one(repository, search, refetch)
        except BaseException:
            self._tally.forget()
            raise

    def _record_one(self, repository: FoundRepository, search: int, refetch: bool) -> None:
        values = asdict(repository)
        self._adopt(repository)
        known = self._database.rows(
            "SELECT state, pushed_at FROM repositories WHERE id = :id", id=repository.id
        )
        if known:
            ((state, pushed_at),) = known
            state = "found" if refetch and pushed_at != repository.pushed_at else state
            self._database.execute(UPDATE_FOUND, **values, state=state)
        else:
            folder = free_folder(repository.full_name, self._database.has_folder)
            self._database.execute(INSERT_FOUND, **values, folder=folder)
        self._database.execute(
            "INSERT OR IGNORE INTO matches VALUES (:id, :search)", id=repository.id, search=search
        )

    def _adopt(self, repository: FoundRepository) -> None:
        """Give what the API tells a repository by to the one that a list has at its address, if any."""
        rows = self._database.rows(
            "SELECT id FROM repositories WHERE source = :listed AND clone_url = :url COLLATE NOCASE"
            " AND NOT EXISTS (SELECT 1 FROM repositories WHERE id = :id)",
            listed=LISTED,
            url=repository.clone_url,
            id=repository.id,
        )
        for (old,) in rows:
            self._database.execute(ADOPT, **asdict(repository), old=old)
            point_elsewhere(self._database, old, repository.id)
            self._tally.forget()

    def _take_name(self, repository: FoundRepository) -> None:
        """Take this name from another repository: that one was renamed or deleted, its address leads here."""
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

    def record_window(
        self, request: Request, query: SearchQuery, span: tuple[str, str], counts: tuple[int, int, bool]
    ) -> None:
        """Record that a window has been searched to its end: total, found, and whether that is all."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO windows VALUES (:search, :first, :last, :total, :found, :all, :now)",
                **dict(zip(("first", "last", "total", "found", "all"), (*span, *counts), strict=True)),
                search=search_number(self._database, request.source, query),
                now=timestamp(time.time()),
            )

    def searched(self, request: Request) -> Iterator[tuple[str, str]]:
        """(first second, last second) of each finished window of a request, in order."""
        after = ("", "")
        while rows := self._database.rows(
            "SELECT first_second, last_second FROM requested_windows WHERE request = :request"
            " AND (first_second, last_second) > (:first, :last)"
            " ORDER BY first_second, last_second LIMIT :count",
            request=self._database.number_of(request),
            first=after[0],
            last=after[1],
            count=ROWS,
        ):
            yield from rows
            after = rows[-1]

    def record_ranking(self, found: Sequence[FoundRepository], request: Request, *, refetch: bool) -> None:
        """Record the first repositories of an order, in place of those that an earlier search put there."""
        query = request.queries[0]
        with self._database.mutex:
            number = search_number(self._database, request.source, query)
            self._database.execute("DELETE FROM matches WHERE search = :search", search=number)
            self._tally.forget()
            self.record_page(found, request, query, refetch=refetch)
            span = request.first_second, request.last_second
            self.record_window(request, query, span, (len(found), len(found), True))

    def forget(self, request: Request, *, only_short: bool = False) -> None:
        """Forget the finished windows of a request, or only those that GitHub did not show whole."""
        self._database.execute(
            "DELETE FROM windows WHERE (search, first_second, last_second) IN ("
            " SELECT search, first_second, last_second FROM requested_windows"
            " WHERE request = :request AND NOT (is_complete AND :only_short))",
            request=self._database.number_of(request),
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
        """Seconds until a source allows the next request, as far as earlier runs know: 0 = now."""
        rows = self._database.rows("SELECT until FROM pauses WHERE source = :source", source=source)
        left = rows[0][0] - time.time() if rows else 0.0
        return min(max(left, 0.0), LONGEST_PAUSE)


class ListRecord:
    """The record as a list writes it: which repositories it names, under which addresses they are known."""

    def __init__(self, database: CollectionDatabase, tally: RunningTally) -> None:
        self._database = database
        self._tally = tally

    def enter(
        self, listed: Sequence[ListedRepository], request: Request, *, refetch: bool, only_known: bool
    ) -> list[ListedRepository]:
        """Enter what a list names; the rest, if only what is known is to be entered.

        With refetch what was fetched waits again, unless a whole commit was asked for.
        """
        rest = []
        with self._database.transaction():
            search = search_number(self._database, request.source, request.queries[0])
            for each in listed:
                id_ = self._known(each)
                if id_ is None and only_known:
                    rest.append(each)
                    continue
                id_ = id_ or self._insert(each)
                self._match(id_, each, search)
                self._want(id_, each.ref, refetch)
        self._tally.forget()
        return rest

    def enter_found(
        self, listed: ListedRepository, found: FoundRepository, searches: SearchRecord, request: Request
    ) -> None:
        """Enter a repository of a list with what the API tells of it: its name may be a new one."""
        with self._database.mutex:
            searches.record_page([found], request, request.queries[0])
            with self._database.transaction():
                self._match(
                    found.id, listed, search_number(self._database, request.source, request.queries[0])
                )
                self._want(found.id, listed.ref, False)
            self._tally.forget()

    def enter_missing(self, listed: ListedRepository, request: Request, reason: str) -> None:
        """Enter a repository of a list that cannot be had, and why."""
        self.enter([listed], request, refetch=False, only_known=False)
        self._database.execute(
            "UPDATE repositories SET state = 'gone', error = :reason WHERE id = :id",
            id=self._known(listed),
            reason=reason,
        )
        self._tally.forget()

    def _known(self, listed: ListedRepository) -> str | None:
        """The id of the repository at an address, None if the record has none there."""
        rows = self._database.rows(
            "SELECT repository_id FROM addresses WHERE address = :key", key=listed.key
        ) or self._database.rows(
            "SELECT id FROM repositories WHERE :name <> '' AND clone_url = :url COLLATE NOCASE",
            name=listed.name,
            url=listed.url,
        )
        return str(rows[0][0]) if rows else None

    def _insert(self, listed: ListedRepository) -> str:
        id_ = f"{LISTED}/{listed.key.partition('://')[2]}"
        self._database.execute(
            INSERT_LISTED,
            id=id_,
            full_name=listed.full_name,
            source=LISTED,
            clone_url=listed.url,
            folder=free_folder(listed.full_name, self._database.has_folder),
        )
        return id_

    def _match(self, id_: str, listed: ListedRepository, search: int) -> None:
        self._database.execute("INSERT OR IGNORE INTO matches VALUES (:id, :search)", id=id_, search=search)
        self._database.execute("INSERT OR REPLACE INTO addresses VALUES (:key, :id)", key=listed.key, id=id_)

    def _want(self, id_: str, ref: str, refetch: bool) -> None:
        """Record the commit, tag or branch that is wanted; another one than before is fetched."""
        rows = self._database.rows("SELECT ref FROM refs WHERE repository_id = :id", id=id_)
        if ref != (rows[0][0] if rows else "") or (refetch and not is_commit(ref)):
            self._database.execute("INSERT OR REPLACE INTO refs VALUES (:id, :ref)", id=id_, ref=ref)
            self._database.execute(
                "UPDATE repositories SET state = 'found', error = '' WHERE id = :id", id=id_
            )

    def record_moved(self, id_: str, listed: ListedRepository) -> bool:
        """Record that a listed repository was found at another address; whether it was known there already.

        Then it is one with the other: its folder is to be removed.
        """
        try:
            with self._database.transaction():
                other = self._known(listed)
                if other is None or other == id_:
                    self._database.execute(
                        "UPDATE repositories SET full_name = :full_name, clone_url = :url WHERE id = :id",
                        id=id_,
                        full_name=listed.full_name,
                        url=listed.url,
                    )
                    other = id_
                else:
                    point_elsewhere(self._database, id_, other)
                    self._database.execute("DELETE FROM repositories WHERE id = :id", id=id_)
                self._database.execute(
                    "INSERT OR REPLACE INTO addresses VALUES (:key, :id)", key=listed.key, id=other
                )
                return other != id_
        finally:
            self._tally.forget()


def is_commit(ref: str) -> bool:
    """Whether it is a whole commit's name, which always stands for the same files."""
    return bool(re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", ref))
