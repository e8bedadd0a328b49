"""A collection, open: repos/ and its database, what waits to be fetched and what was fetched."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from collection.database import CollectionDatabase
from collection.repos_folder import DATABASE, ReposFolder, free_folder
from collection.request import Request, timestamp
from collection.search_record import ListRecord, SearchRecord
from collection.status import Outstanding, RunningTally

SHOWN_SKIPPED = 5  # names of left out files that are recorded with their repository

RECORD_LOCAL = """
INSERT OR REPLACE INTO repositories (id, full_name, source, clone_url, folder, commit_sha, license,
    state, python_files, python_bytes, fetched_at, fingerprint)
VALUES (:id, :full_name, :source, :clone_url, :folder, :commit_sha, :license,
    iif(:python_files, 'fetched', 'empty'), :python_files, :python_bytes, :fetched_at, :fingerprint)
"""


@dataclass(frozen=True)
class PendingRepository:
    """A repository that waits to be fetched."""

    id: str
    full_name: str
    clone_url: str
    folder: str
    license: str
    size_kb: int
    ref: str  # a commit, tag or branch, '' for the default branch


@dataclass(frozen=True)
class LocalRecord:
    """A source of this machine, or a package of an index, as it was taken."""

    id: str
    full_name: str
    source: str
    clone_url: str
    commit_sha: str
    license: str
    python_files: int
    python_bytes: int
    fingerprint: str


class Collection:
    """The open record of one folder, locked by one process and usable from all its threads.

    searches: what was searched and found. lists: what lists name. tally: repositories by state.
    """

    def __init__(self, repos: Path) -> None:
        self.folder = ReposFolder(repos)
        try:
            self._database = CollectionDatabase(repos / DATABASE, is_new=self.folder.is_new)
        except BaseException:
            self.folder.close(is_unused=False)
            raise
        self.tally = RunningTally(self._database)
        self.searches = SearchRecord(self._database, self.tally)
        self.lists = ListRecord(self._database, self.tally)
        self.folder.remove_partial()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the folder; remove a new one in which nothing was recorded."""
        with self._database.mutex:
            is_unused = self.folder.is_new and not self._database.value(
                "SELECT EXISTS (SELECT 1 FROM repositories) OR EXISTS (SELECT 1 FROM windows)"
                " OR EXISTS (SELECT 1 FROM pauses) OR EXISTS (SELECT 1 FROM datasets)"
            )
            self._database.close()
            self.folder.close(is_unused=is_unused)

    def outstanding(self, request: Request) -> Outstanding:
        """What a request has not got."""
        return Outstanding(self._database, request)

    # Fetching

    def pending(self, request: Request, count: int) -> list[PendingRepository]:
        """The next repositories of a request that wait to be fetched, oldest first, tried ones last."""
        rows: list[tuple[Any, ...]] = []
        for is_tried in (0, 1):
            rows += self._database.rows(
                "SELECT id, full_name, clone_url, folder, license, size_kb,"
                " coalesce((SELECT ref FROM refs WHERE repository_id = id), '') FROM requested"
                " WHERE request = :request AND state = 'found' AND (error <> '') = :is_tried"
                " ORDER BY created_at, id LIMIT :count",
                request=self._database.number_of(request),
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
        *,
        skipped: Sequence[str] = (),
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        """Record that a repository lies complete in its folder, or holds no Python file at all.

        skipped: the true paths of files that were left out. renamed: stored path -> true path.
        """
        state = "fetched" if files else "empty"
        names = ", ".join(repr(name[:100]) for name in skipped[:SHOWN_SKIPPED])
        error = f"{len(skipped):,} left out, their names have no safe place: {names}" if skipped else ""
        with self._database.transaction(), self.tally.changing(id_):
            self._database.record_paths(id_, renamed or {})
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
        """Record why a repository could not be fetched: state is "gone", "failed", or "found" if it waits."""
        with self.tally.changing(id_):
            self._database.execute(
                "UPDATE repositories SET state = :state, error = :error WHERE id = :id",
                id=id_,
                state=state,
                error=error,
            )

    def retry_failures(self, request: Request) -> None:
        """Make everything that a request could not get wait again."""
        self.searches.forget(request, only_short=True)
        self._database.execute(
            "UPDATE repositories SET state = 'found', error = '' WHERE id IN"
            " (SELECT id FROM requested WHERE request = :request AND state IN ('failed', 'gone'))",
            request=self._database.number_of(request),
        )
        self.tally.forget()

    # Sources that are no git servers

    def taken(self, *sources: str) -> dict[str, tuple[str, str]]:
        """id -> (commit or version, fingerprint) of what was taken of these kinds and is still there."""
        rows = [
            row
            for source in sources
            for row in self._database.rows(
                "SELECT id, commit_sha, fingerprint, folder, state FROM repositories WHERE source = :source",
                source=source,
            )
        ]
        root = self.folder.root
        return {
            id_: (commit, fingerprint)
            for id_, commit, fingerprint, folder, state in rows
            if state == "empty" or (root / folder).is_dir()
        }

    def record_local(self, record: LocalRecord, prepared: Path, renamed: Mapping[str, str]) -> str:
        """Move a source's files to their place and record them; its name, distinct from all others.

        One without Python files has no folder. renamed: stored path -> true path, where they differ.
        """
        with self._database.transaction():
            known = self._database.rows("SELECT folder FROM repositories WHERE id = :id", id=record.id)
            folder = str(known[0][0]) if known else free_folder(record.full_name, self._database.has_folder)
            if record.python_files:
                self.folder.place(prepared, folder)
            else:  # an older copy may have had some
                self.folder.remove(folder)
            # What has no name but its folder is called by that; a repository of a dataset keeps its own.
            name = record.full_name if record.source == "dataset" else folder
            values = {**asdict(record), "full_name": name, "folder": folder}
            self._database.execute(RECORD_LOCAL, **values, fetched_at=timestamp(time.time()))
            self._database.record_paths(record.id, renamed)
        return folder

    def forget_local(self, id_: str) -> None:
        """Remove a source that has gone, from the folder and from the record."""
        with self._database.mutex:
            for (folder,) in self._database.rows("SELECT folder FROM repositories WHERE id = :id", id=id_):
                self.folder.remove(folder)
                self._database.execute("DELETE FROM paths WHERE repository_id = :id", id=id_)
                self._database.execute("DELETE FROM repositories WHERE id = :id", id=id_)

    def requirements(self, id_: str) -> list[str] | None:
        """What a package needs, by its metadata; None if that is not recorded."""
        rows = self._database.rows("SELECT requirement FROM requirements WHERE repository_id = :id", id=id_)
        return [line for (line,) in rows if line] if rows else None

    def record_requirements(self, id_: str, lines: Sequence[str]) -> None:
        """Record what a package needs, in place of what an older version needed."""
        with self._database.transaction():
            self._database.execute("DELETE FROM requirements WHERE repository_id = :id", id=id_)
            for line in lines or [""]:
                self._database.execute(
                    "INSERT OR IGNORE INTO requirements VALUES (:id, :line)", id=id_, line=line
                )

    def dataset_limit(self, key: str) -> int | None:
        """Up to how many files a dataset was taken, 0 for all of it; None if it was not finished."""
        rows = self._database.rows("SELECT file_limit FROM datasets WHERE key = :key", key=key)
        return int(rows[0][0]) if rows and rows[0][0] >= 0 else None

    def record_dataset(self, key: str, name: str, limit: int) -> None:
        """Record up to how many files a dataset was taken, 0 for all of it, -1 while it is being read."""
        self._database.execute(
            "INSERT OR REPLACE INTO datasets VALUES (:key, :name, :limit, :now)",
            key=key,
            name=name,
            limit=limit,
            now=timestamp(time.time()),
        )

    def forget_dataset(self, key: str) -> None:
        """Nothing was taken of it."""
        self._database.execute("DELETE FROM datasets WHERE key = :key", key=key)
