"""One run over packages of an index: choose, fetch and take them, and what they need if asked for."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import Version

from collecting.report import Progress, duration, local_report, row, size_text
from collection.record import Collection
from collection.repos_folder import ReposFolder
from collector_cli import DONE, GAPS, UserError, first_lines, plural, show, warn
from sources.local_source import Gaps, LocalSource, LocalSourceError, TakenSource, take
from sources.package_index import (
    ELSEWHERE,
    PackageError,
    PackageFile,
    Pip,
    WantedPackage,
    Wishes,
    choose,
    metadata_requirements,
    needed,
    package_source,
    requirements_in,
)
from sources.repository_list import shown_entry

MOST_PIPS = 4  # at a time; each is a process of 40 MB
# A package with 80 ms to the index: its page and its file, two requests each with a new connection.
SECONDS_A_PACKAGE = 0.5
BYTES_A_SECOND = 2_000_000

BUILD_ONLY = "what it needs is known only to its build, which is not run: name that yourself"


@dataclass(frozen=True)
class PackageOptions:
    """The names of --pypi and the requirements files of --pypi-file."""

    names: list[str]
    files: list[Path]
    with_dependencies: bool
    jobs: int
    refresh: bool
    is_plan: bool


@dataclass
class Fetched:
    """A package that has arrived: its version, what it needs if known; its source, unless it is a plan."""

    version: Version
    lines: list[str] | None
    source: LocalSource | None = None
    folder: Path | None = None
    size: int = 0


def run_packages(repos: Path, options: PackageOptions, next_command: str) -> int:
    """Take packages of the indexes that pip is set up for; GAPS if some cannot be had."""
    started = time.monotonic()
    wishes = read_wishes(options)
    if not wishes.packages:
        first = f" ({wishes.refused[0]})" if wishes.refused else ""
        raise UserError(f"no package is asked for{first}: give names, e.g. --pypi requests flask")
    with Collection(repos) as collection:
        run = PackageRun(collection, options)
        run.gaps.unreadable += wishes.refused
        run.run(wishes.packages.values())
    gaps = run.gaps.unreadable
    if gaps and not (run.taken or run.unchanged or run.planned):
        for line in first_lines(gaps[:-1]):
            warn(f"error: {line}")
        raise UserError(gaps[-1])
    if options.is_plan:
        show(plan_of(run, options.jobs))
        show("\nnext: the same command without --plan")
    elif run.taken:
        show(local_report(run.taken, run.unchanged, [], 0))
        licenses = sum(bool(each.license) for each in run.taken)
        show("\n" + row("licences", f"{licenses:,} of {len(run.taken):,} known"))
        show(row("written to", str(repos)))
        show(row("time", duration(time.monotonic() - started)) + "\n")
    else:
        count = plural(run.unchanged, "package")
        show(f"up to date: {repos} ({count}; --refresh looks for newer ones)")
    if not options.is_plan:
        show(f"next: {next_command}")
    for line in first_lines(run.conflicts):
        show(line)
    for line in first_lines(gaps):
        warn(f"could not be taken: {line}")
    return GAPS if gaps else DONE


def read_wishes(options: PackageOptions) -> Wishes:
    """What is asked for on the command line and in requirements files, each package once."""
    wishes = Wishes()
    for name in options.names:
        wishes.add(name)
    for file in options.files:
        # pip runs in a process of its own, whose standard input is another one
        is_shared = file.resolve().is_file() and file.absolute().parts[1:2] not in (("dev",), ("proc",))
        if file.exists() and not is_shared:
            raise UserError(f"the requirements cannot be read: {file} is no file: write them into one first")
    if options.files:
        pip = Pip(options.files)
        try:
            lines = list(pip.requirements())
        except PackageError as error:
            raise UserError(
                f"the requirements cannot be read: {error}: give a file as pip install -r takes it"
            ) from None
        finally:
            pip.close()
        for line in lines:
            if line["is_editable"]:
                wishes.refused.append(f"not from an index: {shown_entry(line['text'])}: {ELSEWHERE}")
            elif not line["is_constraint"]:
                wishes.add(line["text"], line["hashes"])
        for line in lines:
            if line["is_constraint"]:
                wishes.constrain(line["text"])
    return wishes


def plan_of(run: PackageRun, jobs: int) -> str:
    """What a run would fetch: "12 packages, 34.1 MB to download, about 20 s"."""
    sizes = [size for size in run.planned if size >= 0]
    workers = min(jobs, MOST_PIPS)
    seconds = len(run.planned) * SECONDS_A_PACKAGE / workers + sum(sizes) / BYTES_A_SECOND
    lines = [
        f"{plural(len(run.planned), 'package waits', 'packages wait')}, {size_text(sum(sizes))} to download,"
        f" about {duration(seconds)} at {size_text(BYTES_A_SECOND)} a second"
    ]
    if unknown := len(run.planned) - len(sizes):
        lines.append(f"the size of {plural(unknown, 'package')} is not known before the download")
    if run.unread:
        count = plural(run.unread, "package")
        lines.append(f"what {count} may need is known only after the download: there may be more")
    if run.unchanged:
        lines.append(f"{plural(run.unchanged, 'package')} taken before")
    return "\n".join(lines)


class Fetcher:
    """Fetches packages, several at once, each through a pip of its own."""

    def __init__(self, folder: ReposFolder, options: PackageOptions) -> None:
        self._folder = folder
        self._options = options
        self._mutex = threading.Lock()
        self._pips: list[Pip] = []
        self._idle: list[Pip] = []
        self._is_ending = False

    def close(self) -> None:
        """End all pips, and with them the fetches under way."""
        with self._mutex:
            self._is_ending = True
            for pip in self._pips:
                pip.close()

    def _pip(self) -> Pip:
        with self._mutex:
            if self._is_ending:
                raise PackageError("interrupted")
            if self._idle:
                return self._idle.pop()
            self._pips.append(Pip(self._options.files))
            return self._pips[-1]

    def fetch(self, package: WantedPackage, known_hash: str) -> Fetched | None:
        """Choose and fetch a package's file; None if the known one is still the one to take."""
        pip = self._pip()
        try:
            files = pip.files(package.name)
            file = choose(package, files)
            if file.hash and file.hash == known_hash:
                return None
            if self._options.is_plan:
                lines = self._lines_beside(pip, file, files) if self._options.with_dependencies else []
                return Fetched(file.version, lines, size=pip.size(file))
            return self._fetch_file(pip, package, file, files)
        finally:
            with self._mutex:
                self._idle += [pip] if pip.is_alive else []

    def _fetch_file(
        self, pip: Pip, package: WantedPackage, file: PackageFile, files: list[PackageFile]
    ) -> Fetched:
        folder = self._folder.new_partial()
        suffix = next(end for end in (".whl", ".zip", ".tar.gz") if file.filename.endswith(end))
        archive = folder / f"{package.name}-{file.version}{suffix}"
        try:
            sha256 = pip.fetch(file, archive)
            if package.hashes and sha256 not in package.hashes:
                raise PackageError("its sha256 is none of the given hashes")
            lines = requirements_in(archive)
            if lines is None and self._options.with_dependencies:
                lines = self._lines_of_wheel(pip, file, files, folder)
        except LocalSourceError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise PackageError(str(error).replace(f"{folder}/", "")) from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Fetched(file.version, lines, package_source(package.name, file, archive, sha256), folder)

    @staticmethod
    def _lines_beside(pip: Pip, file: PackageFile, files: list[PackageFile]) -> list[str] | None:
        """What a version needs, by the metadata that an index has beside its wheels; None if it has none."""
        for wheel in files:
            if wheel.version == file.version and wheel.metadata_url:
                return metadata_requirements(pip.metadata(wheel))
        return None

    def _lines_of_wheel(
        self, pip: Pip, file: PackageFile, files: list[PackageFile], folder: Path
    ) -> list[str] | None:
        """The same for a source distribution that does not say: by its wheel, the metadata of a build."""
        if (lines := self._lines_beside(pip, file, files)) is not None:
            return lines
        wheels = [each for each in files if each.version == file.version and each.kind == "wheel"]
        if not wheels:
            return None
        archive = folder / "beside.whl"
        pip.fetch(max(wheels, key=lambda wheel: wheel.rank), archive)
        return requirements_in(archive)


@dataclass
class PackageRun:
    """Packages on their way: several are fetched at once, and taken one after the other."""

    collection: Collection
    options: PackageOptions
    gaps: Gaps = field(default_factory=Gaps)
    taken: list[TakenSource] = field(default_factory=list)
    planned: list[int] = field(default_factory=list)  # bytes of each file that waits, -1 unknown
    conflicts: list[str] = field(default_factory=list)  # requirements that the taken version does not meet
    unchanged: int = 0
    unread: int = 0  # planned packages of which it is not known what they need

    def __post_init__(self) -> None:
        self._known = self.collection.taken("pypi")
        self._versions: dict[str, Version | None] = {}  # of what was asked for; None: on its way or missing
        self._others: dict[str, list[WantedPackage]] = {}  # later requirements for the same names
        self._extras: dict[str, set[str]] = {}
        self._lines: dict[str, list[str]] = {}  # what packages need
        self._fetcher = Fetcher(self.collection.folder, self.options)

    def run(self, wanted: Iterable[WantedPackage]) -> None:
        """Take all of them. Raises OSError if the disk is full."""
        waiting = deque(wanted)
        running: dict[Future[Fetched | None], WantedPackage] = {}
        workers = min(self.options.jobs, MOST_PIPS)
        progress = Progress()
        with ThreadPoolExecutor(workers, "package") as threads:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        self._start(waiting, threads, running)
                    for future in wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done:
                        waiting.extend(self._finish(running.pop(future), future))
                    progress.show(lambda: self._state(len(waiting) + len(running)))
            finally:
                progress.end()
                self._fetcher.close()
        self.conflicts += self._find_conflicts()

    def _state(self, left: int) -> str:
        size = sum(each.bytes for each in self.taken)
        failed = f"failed {len(self.gaps.unreadable):,}" if self.gaps.unreadable else ""
        parts = [f"{left:,} left", f"taken {len(self.taken):,}", failed, size_text(size)]
        return " · ".join(filter(None, parts))

    def _start(
        self,
        waiting: deque[WantedPackage],
        threads: ThreadPoolExecutor,
        running: dict[Future[Fetched | None], WantedPackage],
    ) -> None:
        """Begin with the first that waits, unless it was asked for before or is there already."""
        package = waiting.popleft()
        name = package.name
        extras = self._extras.setdefault(name, set())
        new_extras = package.requirement.extras - extras
        extras |= package.requirement.extras
        if name in self._versions:
            self._others.setdefault(name, []).append(package)
            if new_extras:
                waiting.extend(self._dependencies(name))
            return
        self._versions[name] = None
        if not self.options.refresh and (version := self._satisfying(package)):
            self._versions[name] = version
            self.unchanged += 1
            self._lines[name] = self.collection.requirements(f"pypi/{name}") or []
            waiting.extend(self._dependencies(name))
        else:
            running[threads.submit(self._fetch, package)] = package

    def _find_conflicts(self) -> Iterable[str]:
        """The requirements that the version which was taken does not meet: nothing is solved for here."""
        for name, others in self._others.items():
            version = self._versions[name]
            for each in others:
                if version and not each.requirement.specifier.contains(version, prereleases=True):
                    yield f"{each}: {version} was taken, a package counts once"

    def _satisfying(self, package: WantedPackage) -> Version | None:
        """The version of a package that was taken before, if it is what is wanted."""
        id_ = f"pypi/{package.name}"
        if id_ not in self._known:
            return None
        version, fingerprint = self._known[id_]
        is_read = not self.options.with_dependencies or self.collection.requirements(id_) is not None
        is_right = not package.hashes or fingerprint.removeprefix("sha256=") in package.hashes
        fits = package.requirement.specifier.contains(version, prereleases=True)
        return Version(version) if fits and is_read and is_right else None

    def _fetch(self, package: WantedPackage) -> Fetched | None:
        """In a thread: fetch a package; None if it was taken before and is still the one to take."""
        _, fingerprint = self._known.get(f"pypi/{package.name}", ("", ""))
        return self._fetcher.fetch(package, fingerprint if self._satisfying(package) else "")

    def _dependencies(self, name: str) -> list[WantedPackage]:
        if not self.options.with_dependencies:
            return []
        return list(needed(self._lines.get(name, []), self._extras[name], name))

    def _finish(self, package: WantedPackage, future: Future[Fetched | None]) -> list[WantedPackage]:
        """Take what was fetched, and return what it needs."""
        name = package.name
        try:
            fetched = future.result()
            if fetched is None:
                self.unchanged += 1
                self._versions[name] = Version(self._known[f"pypi/{name}"][0])
                self._lines[name] = self.collection.requirements(f"pypi/{name}") or []
                return self._dependencies(name)
            self._versions[name] = fetched.version
            self._take(package, fetched)
        except (PackageError, LocalSourceError) as error:
            self.gaps.unreadable.append(f"{package}: {error}")
            return []
        self._lines[name] = fetched.lines or []
        return self._dependencies(name)

    def _take(self, package: WantedPackage, fetched: Fetched) -> None:
        if fetched.source is None or fetched.folder is None:
            self.planned.append(fetched.size)
            self.unread += fetched.lines is None
            return
        try:
            if fetched.lines is not None:
                self.collection.record_requirements(fetched.source.id, fetched.lines)
            self.taken.append(take(fetched.source, self.collection, self.gaps))
        except LocalSourceError as error:
            raise PackageError(str(error).replace(f"{fetched.folder}/", "")) from None
        finally:
            shutil.rmtree(fetched.folder, ignore_errors=True)
        if self.options.with_dependencies and fetched.lines is None:
            self.gaps.unreadable.append(f"{package}: {BUILD_ONLY}")
