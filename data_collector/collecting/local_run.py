"""One run over the sources of this machine, or over a dataset: take what is new or has changed."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from collecting.report import Progress, duration, local_report, row, size_text
from collection.record import Collection
from collector_cli import DONE, GAPS, UserError, first_lines, plural, printable, show, warn
from sources.dataset_rows import (
    Dataset,
    DatasetError,
    Reading,
    RowStore,
    choose_columns,
    find_dataset,
    unreadable,
)
from sources.folders import sources_at
from sources.installed_python import installed_sources
from sources.local_source import Gaps, LocalSource, LocalSourceError, TakenSource, take
from sources.row_files import Damage, quiet_datasets, said_of


@dataclass(frozen=True)
class LocalOptions:
    """The paths of --local, or none for the installed Python within max_mb (0 = all of it)."""

    paths: list[Path]
    max_mb: float
    refresh: bool


def run_local(repos: Path, options: LocalOptions, next_command: str) -> int:
    """Take the sources of this machine; GAPS if some could not be read."""
    started = time.monotonic()
    gaps = Gaps()
    sources = find_sources(options.paths, options.max_mb, repos, gaps)
    with Collection(repos) as collection:
        known = {id_: fingerprint for id_, (_, fingerprint) in collection.taken("installed", "local").items()}
        changed = [each for each in sources if options.refresh or known.get(each.id) != each.fingerprint]
        gone = [] if options.paths else uninstalled(known, sources)
        taken = take_all(changed, collection, gaps)
        for id_ in gone:
            collection.forget_local(id_)
    unchanged = len(sources) - len(changed)
    if gaps.unreadable and not (taken or unchanged):
        for line in gaps.unreadable[:-1]:
            warn(f"error: {printable(line)}")
        raise UserError(gaps.unreadable[-1])
    if not changed and not gone:
        count = plural(len(sources), "source")
        show(f"up to date: {repos} ({count} of this machine, unchanged; --refresh takes them again)")
    else:
        show(local_report(taken, unchanged, gone, options.max_mb))
        show("\n" + row("written to", str(repos)))
        show(row("time", duration(time.monotonic() - started)) + "\n")
    show(f"next: {next_command}")
    for line in first_lines(gaps.left_out):
        show(line)
    return report_gaps(gaps.unreadable)


def report_gaps(lines: list[str]) -> int:
    """Say what could not be taken; the exit code."""
    for line in first_lines(lines):
        warn(f"could not be taken: {line}")
    return GAPS if lines else DONE


def take_all(sources: list[LocalSource], collection: Collection, gaps: Gaps) -> list[TakenSource]:
    """Take each source. An unreadable one is named, and its older copy stays."""
    progress = Progress()
    taken = []
    for number, source in enumerate(sources, start=1):
        state = f"{number:,} of {plural(len(sources), 'source')}: {printable(source.name)}"
        progress.show(state.__str__)
        try:
            taken.append(take(source, collection, gaps))
        except LocalSourceError as error:
            gaps.unreadable.append(str(error))
    progress.end()
    return taken


def find_sources(paths: list[Path], max_mb: float, repos: Path, gaps: Gaps) -> list[LocalSource]:
    """The sources that --local asks for, each of them once."""
    if not paths:
        return installed_sources(round(max_mb * 1e6), gaps)
    found: dict[str, LocalSource] = {}
    for path in paths:
        try:
            found |= {source.id: source for source in sources_at(path, repos, gaps)}
        except LocalSourceError as error:
            gaps.unreadable.append(str(error))
        except OSError as error:
            gaps.add(error.filename or path.absolute(), error)
    return list(found.values())


def uninstalled(known: dict[str, str], sources: list[LocalSource]) -> list[str]:
    """The recorded packages that are no longer installed, or no longer fit into --max-mb."""
    present = {source.id for source in sources}
    return [id_ for id_ in known if id_.startswith("installed/") and id_ not in present]


# Datasets

# 16,617 rows, 190 MB, on two busy cores: reading into the file of rows, and taking from it.
ROWS_A_SECOND = 1_200
DATASET_BYTES_A_SECOND = 5_000_000  # from the hub, assumed


@dataclass(frozen=True)
class DatasetOptions:
    """What --dataset and its options say. limit: Python files to take, 0 = all."""

    name: str
    split: str
    config: str
    columns: str
    limit: int
    refresh: bool
    is_plan: bool


def run_dataset(repos: Path, options: DatasetOptions, next_command: str) -> int:
    """Take the Python files of a dataset, by repository; GAPS if a part of it could not be read."""
    started = time.monotonic()
    dataset = find_dataset(options.name, options.split, options.config, options.columns)
    if options.is_plan:
        plan, unread = plan_of(dataset, options.limit)
        show(plan)
        return report_gaps(unread)
    key, gaps = dataset.key(), Gaps()
    with Collection(repos) as collection:
        limit = None if options.refresh else collection.dataset_limit(key)
        if limit is not None and (limit == 0 or 0 < options.limit <= limit):
            show(f"up to date: {repos} ({dataset.name}; --refresh reads it again)\nnext: {next_command}")
            return DONE
        store = RowStore(repos, key)
        if options.refresh and store.progress.is_read:
            store.close(is_done=True)
            store = RowStore(repos, key)
        collection.record_dataset(key, dataset.name, -1)
        is_done = False
        try:
            taken = take_rows(store, dataset, options.limit, collection, gaps)
            is_done = True
            if store.progress.kept and not gaps.unreadable:
                done = 0 if store.progress.is_read else options.limit
                collection.record_dataset(key, dataset.name, done)
        finally:
            is_done = is_done or not store.progress.kept
            store.close(is_done=is_done)
            if not store.progress.kept:
                collection.forget_dataset(key)
    if not store.progress.kept:
        if gaps.unreadable:
            raise UserError(gaps.unreadable[0])
        reasons = _left_out(store.progress)
        if not reasons:
            raise unreadable(dataset, dataset.where, "it has no rows")
        raise UserError(f"no Python file in this dataset ({reasons}): {dataset.where}: choose its --columns")
    report_dataset(taken, store.progress)
    show(row("written to", str(repos)))
    show(row("time", duration(time.monotonic() - started)) + f"\n\nnext: {next_command}")
    return report_gaps(gaps.unreadable)


def take_rows(
    store: RowStore, dataset: Dataset, limit: int, collection: Collection, gaps: Gaps
) -> list[TakenSource]:
    """Read a dataset on, then take each of its repositories."""
    progress = Progress()

    def show_rows(read: Reading) -> None:
        progress.show(lambda: f"{read.rows:,} rows read · {read.kept:,} Python files")

    try:
        store.read(dataset, limit, show_rows)
        gaps.unreadable += store.progress.gaps()
        taken: list[TakenSource] = []
        for source in store.sources(dataset):
            progress.show(lambda: f"{len(taken):,} repositories taken")
            try:
                taken.append(take(source, collection, gaps))
            except LocalSourceError:
                name = f"{source.full_name} of {dataset.where}"
                gaps.unreadable.append(f"no path in it has a safe place: {name}: mend its paths")
            store.forget(source.full_name)
    finally:
        progress.end()
    return taken


def report_dataset(taken: list[TakenSource], read: Reading) -> None:
    show(local_report(taken, 0, [], 0))
    reasons = _left_out(read)
    show("\n" + row("rows", f"{read.rows:,} read" + (f", left out: {reasons}" if reasons else "")))
    show(row("licences", f"{sum(bool(each.license) for each in taken):,} of {len(taken):,} known"))


def _left_out(read: Reading) -> str:
    """ "20 not Python, 3 repeated" """
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(read.left_out.items()))


def size_on_hub(dataset: Dataset) -> tuple[int, int]:
    """(rows, bytes to download) of a dataset of the hub, 0 each where it does not tell."""
    try:
        builder = quiet_datasets().load_dataset_builder(dataset.name, dataset.config or None)
    except Exception as error:  # noqa: BLE001 - see first_columns
        raise unreadable(dataset, dataset.name, said_of(error)) from None
    split = (builder.info.splits or {}).get(dataset.split)
    return (split.num_examples or 0) if split else 0, builder.info.download_size or 0


def look_at(dataset: Dataset) -> tuple[dict[str, str], int, list[str]]:
    """(what its columns are, its rows or 0 if only reading would tell, a line for each part that is damaged).

    Raises DatasetError if no part can be read.
    """
    columns: dict[str, str] = {}
    counts, gaps = [], []
    for name, opener in dataset.parts():
        try:
            with closing(opener()) as part:
                rows = (list(row) for row in part.rows(()) if not isinstance(row, Damage))
                names = part.names or next(rows, [])
                if names or not dataset.files:
                    found = choose_columns(names, dataset.columns, name)
                    columns = columns or found
                counts.append(part.count)
        except DatasetError as error:
            gaps.append(str(error))
        except Exception as error:  # noqa: BLE001 - strangers' files, and libraries that promise nothing
            gaps.append(str(unreadable(dataset, name, said_of(error))))
    if not columns:
        raise DatasetError(gaps[0]) if gaps else unreadable(dataset, dataset.where, "it has no rows")
    return columns, sum(counts) if all(counts) else 0, gaps


def plan_of(dataset: Dataset, limit: int) -> tuple[str, list[str]]:
    """What reading a dataset will cost, as far as it tells before; a line for each part that is damaged."""
    found, rows, gaps = look_at(dataset)
    if dataset.files:
        size = sum(file.stat().st_size for file in dataset.files)
        where = f"{plural(len(dataset.files), 'file')}, {size_text(size)}"
        seconds = 0.0
    else:
        rows, size = size_on_hub(dataset)
        where = f"{size_text(size)} to download" if size else "of unknown size"
        seconds = size / DATASET_BYTES_A_SECOND
    columns = ", ".join(f"{what}: {column}" for what, column in found.items())
    part = limit / rows if limit and rows else 1.0
    wanted = min(limit or rows, rows) if rows else limit
    count = f"{plural(rows, 'row')}" if rows else "rows that are not counted"
    lines = [f"{dataset.name}: {count}, {where}", f"columns: {columns}"]
    if wanted:
        lines.append(
            f"about {duration(wanted / ROWS_A_SECOND + seconds * min(part, 1.0))} for {wanted:,} rows"
        )
    return "\n".join([*lines, "", "next: the same command without --plan"]), gaps
