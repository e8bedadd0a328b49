"""Taking the sources of this machine that are new or have changed, and saying what came of it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from collecting_progress import Progress, duration, plural, printable
from collecting_report import local_report, row
from collection import Collection
from collector_error import CollectorError
from installed_python import installed_sources
from local_paths import sources_at
from local_source import LocalSource, LocalSourceError, TakenSource, take


@dataclass(frozen=True)
class LocalOptions:
    """What --local is asked for: paths, or none for the installed Python within max_mb (0 = all of it)."""

    paths: list[Path]
    max_mb: float
    refresh: bool


def collect_local(repos: Path, options: LocalOptions, next_command: str) -> int:
    """Take the sources of this machine; 3 where some could not be read."""
    started = time.monotonic()
    unreadable: list[str] = []
    sources = find_sources(options.paths, options.max_mb, repos, unreadable)
    with Collection(repos) as collection:
        known = collection.local_fingerprints()
        changed = [each for each in sources if options.refresh or known.get(each.id) != each.fingerprint]
        gone = [] if options.paths else uninstalled(known, sources)
        taken = take_all(changed, collection, unreadable)
        for id_ in gone:
            collection.forget_local(id_)
    unchanged = len(sources) - len(changed)
    if unreadable and not (taken or unchanged):
        raise CollectorError("\nerror: ".join(unreadable))
    if not changed and not gone:
        count = plural(len(sources), "source")
        print(f"up to date: {repos} ({count} of this machine, unchanged; --refresh takes them again)")
        print(f"next: {next_command}")
    else:
        print(local_report(taken, unchanged, gone, options.max_mb))
        print("\n" + row("written to", str(repos)))
        print(row("time", duration(time.monotonic() - started)))
        print(f"\nnext: {next_command}")
    for line in unreadable:
        print(f"could not be taken: {printable(line)}", file=sys.stderr)
    return 3 if unreadable else 0


def take_all(sources: list[LocalSource], collection: Collection, unreadable: list[str]) -> list[TakenSource]:
    """Take each source; one that cannot be read is named, and keeps what was taken of it before."""
    progress = Progress()
    taken = []
    for number, source in enumerate(sources, start=1):
        state = f"{number:,} of {plural(len(sources), 'source')}: {printable(source.name)}"
        progress.show(state.__str__)
        try:
            taken.append(take(source, collection))
        except LocalSourceError as error:
            unreadable.append(str(error))
    progress.end()
    return taken


def find_sources(paths: list[Path], max_mb: float, repos: Path, unreadable: list[str]) -> list[LocalSource]:
    """What --local stands for, each source once."""
    if not paths:
        return installed_sources(round(max_mb * 1e6), unreadable)
    found = [source for path in paths for source in sources_at(path, repos, unreadable)]
    if not found and not unreadable:
        names = ", ".join(str(path.absolute()) for path in paths)
        raise CollectorError(
            f"no Python file there: {names}: name folders, git repositories or archives with some"
        )
    return list({source.id: source for source in found}.values())


def uninstalled(known: dict[str, str], sources: list[LocalSource]) -> list[str]:
    """The recorded packages that are installed no longer, or have no place under --max-mb any more."""
    present = {source.id for source in sources}
    return [id_ for id_ in known if id_.startswith("installed/") and id_ not in present]
