"""Datasets of source code, of the Hugging Face hub or of this machine, as sources of the collection.

The rows of one repository may lie anywhere in a dataset. So all rows are first read into a file of their own,
repos/collection.db-rows-*, from which each repository is then taken whole. Rows and the place in the dataset
are written in one transaction: a kill loses at most the last second, and the next run reads on from there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from collection import licenses as license_names
from collection.repos_folder import DATABASE, is_python_file
from collector_cli import UserError, plural
from sources.local_source import Contents, LocalSource
from sources.row_files import Damage, HubRows, Place, RowFile, kind_of, open_rows, said_of

# The names by which datasets of code call their columns, the most frequent first.
COLUMNS = {
    "content": "content code text whole_func_string original_string",
    "repo": "repo_name max_stars_repo_name repository_name repo repository full_name",
    "path": "path max_stars_repo_path file_path func_path_in_repository filename",
    "license": "license licenses max_stars_repo_licenses detected_licenses",
    "commit": "commit commit_sha max_stars_repo_head_hexsha revision_id",
    "language": "language lang programming_language",
}
NO_ROWS = re.compile(r"cache-|dataset_(info|dict)\.json|state\.json")  # beside the rows of save_to_disk
MAX_FILE_BYTES = 20_000_000  # stage 3 drops far smaller files
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
COMMIT_SECONDS = 1.0
TRY_LATER = "log in with hf auth login if it is gated, else try the same command later"
WRITE_AGAIN = "download it again, or mend it"
FILES_A_FOLDER = 1_000  # of rows that have no path

SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    repo TEXT NOT NULL, path TEXT NOT NULL, content BLOB NOT NULL, sha256 BLOB NOT NULL,
    license TEXT NOT NULL, commit_sha TEXT NOT NULL, UNIQUE (repo, path)
);
CREATE TABLE IF NOT EXISTS progress (state TEXT NOT NULL);
"""


class DatasetError(UserError):
    """A dataset that cannot be read: which, why, what to do."""


@dataclass(frozen=True)
class Dataset:
    """What --dataset names: files of this machine, or a name of the hub without any."""

    name: str  # "codeparrot/codeparrot-clean", or the name of the file or folder
    url: str
    files: tuple[Path, ...]
    split: str
    config: str
    columns: Mapping[str, str]  # given by --columns: what it is -> the name of its column

    @property
    def where(self) -> str:
        """The path of its file or folder, or its name on the hub."""
        return unquote(self.url.removeprefix("file://")) if self.files else self.name

    def key(self) -> str:
        """Tells it from others, and from itself with other contents."""
        parts = [self.url, self.split, self.config, json.dumps(dict(self.columns), sort_keys=True)]
        parts += [f"{file}\t{(status := file.stat()).st_size}\t{status.st_mtime_ns}" for file in self.files]
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()

    def parts(self) -> list[tuple[str, Callable[[], RowFile]]]:
        """(name, opener) of each part that is read for itself: each file, or the whole of a hub's dataset."""
        if self.files:
            return [(str(file), partial(open_rows, file)) for file in self.files]
        return [(self.name, partial(HubRows, self.name, self.config, self.split))]


def find_dataset(given: str, split: str, config: str, columns: str) -> Dataset:
    """The dataset that the options name. Raises DatasetError if there can be none."""
    chosen = parse_columns(columns)
    path = Path(given).expanduser()
    try:
        is_here = path.exists()
    except OSError as error:
        raise DatasetError(
            f"{error.strerror}: {path.absolute()}: give a file, a folder, or a name of the hub"
        ) from None
    if is_here:
        path = path.resolve()
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        usable = tuple(each for each in files if kind_of(each) and not NO_ROWS.match(each.name))
        if not usable:
            raise DatasetError(
                f"no dataset there: {path}: name a .parquet, .jsonl or .arrow file, or a folder"
            )
        name = re.sub(r"\.\w+(\.(gz|zst))?$", "", path.name) if path.is_file() else path.name
        return Dataset(name or "dataset", path.as_uri(), usable, split, config, chosen)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", given) or given.startswith(".") or kind_of(Path(given)):
        raise DatasetError(
            f"there is no such file: {path.absolute()}: give a file, a folder, or a name of the hub"
        )
    url = f"https://huggingface.co/datasets/{given}"
    return Dataset(given, url, (), split, config, chosen)


def parse_columns(text: str) -> dict[str, str]:
    """ "content=code,repo=name" -> {"content": "code", "repo": "name"}"""
    chosen = {}
    for part in filter(None, re.split(r"[,\s]+", text)):
        what, is_given, column = part.partition("=")
        if what not in COLUMNS or not is_given or not column:
            raise DatasetError(
                f"no column can be chosen by {part!r}: write e.g. content=code, of {', '.join(COLUMNS)}"
            )
        chosen[what] = column
    return chosen


def choose_columns(names: list[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """What each column is: {"content": "code", "repo": "repo_name"}. DatasetError if none has code.

    where: the file, or the name of a dataset of the hub.
    """
    chosen = {}
    there = f"it has {', '.join(names)[:200]}"
    for what, usual in COLUMNS.items():
        found = [given[what]] if what in given else [name for name in usual.split() if name in names]
        if what in given and given[what] not in names:
            raise DatasetError(f"no column {given[what]}: {where}: {there}; name one of these in --columns")
        if found:
            chosen[what] = found[0]
    if "content" not in chosen:
        raise DatasetError(f"no column with code: {where}: {there}; name it with --columns content=NAME")
    return chosen


def unreadable(dataset: Dataset, name: str, reason: str) -> DatasetError:
    """What is said of a dataset, or of one of its files, that cannot be read."""
    remedy = WRITE_AGAIN if dataset.files else TRY_LATER
    return DatasetError(f"the dataset cannot be read ({reason}): {name}: {remedy}")


@dataclass(frozen=True)
class SourceRow:
    """A row that is a Python file."""

    repo: str
    path: str
    content: bytes
    license: str
    commit: str


def parse_row(
    row: Mapping[str, Any], columns: Mapping[str, str], dataset: str, number: int
) -> SourceRow | str:
    """A row as a Python file, or the reason why it is none. number: of the row in the dataset."""

    def text(what: str) -> str:
        value = row.get(columns[what]) if what in columns else None
        return value.strip() if isinstance(value, str) else ""

    content = row.get(columns["content"])
    content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if not isinstance(content, bytes):
        return "without text"
    if len(content) > MAX_FILE_BYTES:
        return "too large"
    path, language = text("path"), text("language")
    if (path and not is_python_file(path)) or (language and language.lower() not in ("python", "py")):
        return "not Python"
    repo = re.sub(r"^(https?://)?github\.com/|\.git$", "", text("repo"))
    repo = repo.strip("/") if repo.isprintable() else ""
    if "/" not in repo:
        repo = f"dataset/{dataset.replace('/', '_')}" + (f"_{repo}" if repo else "")
    path = path.lstrip("/") or f"{number // FILES_A_FOLDER:06}/{number:09}.py"
    license_id = _license(row.get(columns.get("license", "")))
    return SourceRow(repo[:200], path, content, license_id, text("commit")[:64])


def _license(value: object) -> str:
    """ "mit" -> "MIT"; ["mit", "isc"] -> "ISC AND MIT"; unknown ones -> ''"""
    names = value if isinstance(value, list) else [value]
    found = {
        license_names.from_name(str(name)) or license_names.validated(str(name)) for name in names if name
    }
    return "" if "" in found else license_names.validated(" AND ".join(sorted(found))) if found else ""


@dataclass
class Broken:
    """What of one file cannot be read: how many lines, row groups or batches, and the first of them."""

    unit: str
    first: str  # "7 (no JSON)"
    count: int = 0

    def said(self, name: str) -> str:
        """ "2 lines cannot be read, the first is line 7 (no JSON): /data/d.jsonl: mend it" """
        what = f"{plural(self.count, self.unit)} cannot be read, the first is {self.unit} {self.first}"
        return f"{what}: {name}: {WRITE_AGAIN}"


@dataclass
class Reading:
    """How far a dataset is read: which part, and where in it, as its reader says."""

    rows: int = 0
    kept: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    part: int = 0
    before: int = 0  # rows of the parts before
    place: Place | None = None
    is_read: bool = False
    unread: list[str] = field(default_factory=list)  # a line for each part that was not read to its end
    broken: dict[str, dict[str, Any]] = field(default_factory=dict)  # Broken, by the name of the part

    def gaps(self) -> list[str]:
        """A line for each file of which something could not be read."""
        return [*self.unread, *(Broken(**each).said(name) for name, each in self.broken.items())]


class RowStore:
    """The rows of one dataset on their way into the collection, in a file beside its record."""

    def __init__(self, repos: Path, key: str) -> None:
        self.path = repos / f"{DATABASE}-rows-{key[:16]}"
        self._database = sqlite3.connect(self.path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(SCHEMA)
        self._database.execute("BEGIN")
        self.progress = self._saved_progress()

    def _saved_progress(self) -> Reading:
        stored = self._database.execute("SELECT state FROM progress").fetchone()
        try:
            return Reading(**json.loads(stored[0])) if stored else Reading()
        except TypeError:  # of an earlier version, whose places mean nothing here
            self._database.execute("DELETE FROM rows")
            return Reading()

    def _save(self) -> None:
        """Make what was read so far lasting, together with the place to read on from."""
        self._database.execute("DELETE FROM progress")
        self._database.execute("INSERT INTO progress VALUES (?)", (json.dumps(asdict(self.progress)),))
        self._database.execute("COMMIT")
        self._database.execute("BEGIN")

    def close(self, *, is_done: bool) -> None:
        """Close the file, and delete it once all of it is taken."""
        self._database.close()
        if is_done:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def read(self, dataset: Dataset, limit: int, show: Callable[[Reading], None]) -> None:
        """Read on, up to limit Python files (0 = all). A damaged file is noted, a hub that fails an error."""
        progress, parts = self.progress, dataset.parts()
        while not progress.is_read and not (limit and progress.kept >= limit):
            name, opener = parts[progress.part]
            try:
                with closing(opener()) as part:
                    is_at_end = self._read_part(dataset, name, part, limit, show)
            except sqlite3.Error:
                raise
            except Exception as error:  # Arrow, datasets and the unpackers promise no set of exceptions
                is_full = isinstance(error, OSError) and error.errno in FULL_DISK
                if is_full or (isinstance(error, UserError) and len(parts) == 1):
                    raise
                self._note_end(dataset, name, error)
                is_at_end = True
            if is_at_end:
                progress.part, progress.place, progress.before = progress.part + 1, None, progress.rows
                progress.is_read = progress.part == len(parts)
            self._save()

    def _note_end(self, dataset: Dataset, name: str, error: Exception) -> None:
        """A part cannot be read further. Raises DatasetError if it is one of the hub, which may come back."""
        before = self.progress.rows - self.progress.before
        reason = said_of(error)
        if not dataset.files:
            raise unreadable(dataset, name, reason) from None
        if isinstance(error, UserError):
            self.progress.unread.append(reason)
        elif before:
            rows = f"nothing can be read after the first {plural(before, 'row')} ({reason})"
            self.progress.unread.append(f"{rows}: {name}: {WRITE_AGAIN}")
        else:
            self.progress.unread.append(str(unreadable(dataset, name, reason)))

    def _read_part(
        self, dataset: Dataset, name: str, part: RowFile, limit: int, show: Callable[[Reading], None]
    ) -> bool:
        """Read one part from where the last run has left it; whether that was to its end."""
        progress = self.progress
        if progress.place is not None:
            part.go_to(progress.place)
        columns = choose_columns(part.names, dataset.columns, name) if part.names else {}
        saved = time.monotonic()
        for row in part.rows(columns.values()):
            if isinstance(row, Damage):
                self._note_damage(name, row)
            else:
                columns = columns or choose_columns(list(row), dataset.columns, name)
                self._keep(parse_row(row, columns, dataset.name, progress.rows))
                progress.rows += 1
            is_enough = bool(limit) and progress.kept >= limit
            if is_enough or time.monotonic() - saved > COMMIT_SECONDS:
                progress.place = part.place()
                self._save()
                show(progress)
                saved = time.monotonic()
            if is_enough:
                return False
        return True

    def _note_damage(self, name: str, damage: Damage) -> None:
        progress = self.progress
        first = Broken(damage.unit, f"{damage.number:,} ({damage.reason})")
        progress.broken.setdefault(name, asdict(first))["count"] += 1
        progress.rows += damage.rows
        progress.left_out["damaged"] = progress.left_out.get("damaged", 0) + damage.rows

    def _keep(self, row: SourceRow | str) -> None:
        progress = self.progress
        if isinstance(row, SourceRow):
            sha256 = hashlib.sha256(row.content).digest()
            values = (row.repo, row.path, row.content, sha256, row.license, row.commit)
            if self._database.execute(
                "INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?, ?)", values
            ).rowcount:
                progress.kept += 1
                return
            row = "repeated"
        progress.left_out[row] = progress.left_out.get(row, 0) + 1

    def sources(self, dataset: Dataset) -> Iterator[LocalSource]:
        """Each repository of the rows that are read, by name."""
        last = ""
        while found := self._database.execute(
            "SELECT DISTINCT repo FROM rows WHERE repo > ? ORDER BY repo LIMIT 1000", (last,)
        ).fetchall():
            for (repo,) in found:
                yield self._source(dataset, repo)
            last = found[-1][0]

    def _source(self, dataset: Dataset, repo: str) -> LocalSource:
        owner, _, name = repo.partition("/")
        licenses, commits, digest = set(), set(), hashlib.sha256()
        for path, sha256, license_id, commit in self._database.execute(
            "SELECT path, sha256, license, commit_sha FROM rows WHERE repo = ? ORDER BY path", (repo,)
        ):
            licenses.add(license_id)
            commits.add(commit)
            digest.update(f"{path}\0".encode("utf-8", "surrogatepass") + sha256)
        license_id = "" if "" in licenses else license_names.validated(" AND ".join(sorted(licenses)))
        return LocalSource(
            kind="dataset",
            name=name,
            owner=owner,
            id=f"dataset/{dataset.url.removeprefix('file://') if dataset.files else dataset.name}/{repo}",
            url=dataset.url,
            fingerprint=f"sha256={digest.hexdigest()}",
            contents=partial(self._contents, repo),
            license=lambda: license_id,
            commit=lambda: next(iter(commits)) if len(commits) == 1 else "",
        )

    def _contents(self, repo: str) -> Contents:
        for path, content in self._database.execute(
            "SELECT path, content FROM rows WHERE repo = ? ORDER BY path", (repo,)
        ):
            yield path, [content]

    def forget(self, repo: str) -> None:
        """A repository has been taken."""
        self._database.execute("DELETE FROM rows WHERE repo = ?", (repo,))
        self._save()
