"""The installed Python as sources: the interpreter's standard library and the packages beside it."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import os
import platform
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from collection import licenses as license_names
from collection.repos_folder import is_python_file
from sources.local_source import Gaps, LocalFile, LocalSource, fingerprint, read_files

# Not the standard library, or its test suites: a third of its bytes, much of it odd on purpose.
NOT_STANDARD = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "lib-dynload"}


@dataclass(frozen=True)
class Package:
    """The standard library or an installed distribution, with all its Python files."""

    name: str
    url: str
    distribution: importlib.metadata.Distribution | None  # None: the standard library
    files: tuple[LocalFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def standard_library() -> Package:
    """The standard library of this interpreter without its test suites."""
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in NOT_STANDARD and not name.startswith("config-")
        )
        for name in sorted(filter(is_python_file, names)):
            path = Path(folder, name)
            files.append(LocalFile.at(path.relative_to(root).as_posix(), path))
    url = f"pkg:generic/python@{platform.python_version()}"
    return Package("python", url, None, tuple(file for file in files if file is not None))


def installed_packages(gaps: Gaps) -> list[Package]:
    """Every installed distribution that has Python files, by name; a broken one is named in gaps."""
    packages: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions():
        try:
            package = _package(distribution)
        except Exception as error:  # noqa: BLE001 - strangers' metadata: not UTF-8, no CSV, NULs in paths, ...
            gaps.unreadable.append(_broken(distribution, error))
            continue
        if package is not None and package.files:
            packages.setdefault(package.name, package)  # an import finds the first one on the path
    return sorted(packages.values(), key=lambda package: package.name)


def _broken(distribution: importlib.metadata.Distribution, error: Exception) -> str:
    """A line about a distribution whose metadata cannot be read; even its name may be lost."""
    try:
        name = str(distribution.metadata["Name"] or "a package")
    except Exception:  # noqa: BLE001 - as above
        name = "a package"
    where = Path(str(distribution.locate_file(""))).absolute()
    return f"{name}: broken metadata in {where} ({error}): install it again"


def _package(distribution: importlib.metadata.Distribution) -> Package | None:
    """A distribution with its Python files; None for a folder left behind by an interrupted pip."""
    raw_name = distribution.metadata["Name"]
    if not raw_name:
        return None
    name = re.sub(r"[-_.]+", "-", str(raw_name)).lower()
    url = f"pkg:pypi/{name}@{distribution.version}"
    return Package(name, url, distribution, tuple(_files_of(distribution)))


def _files_of(distribution: importlib.metadata.Distribution) -> Iterator[LocalFile]:
    """The distribution's Python files, by name, from its RECORD."""
    root = Path(str(distribution.locate_file("")))
    for name in sorted(_recorded_names(distribution)):
        path = PurePosixPath(name)
        is_inside = not path.is_absolute() and ".." not in path.parts
        if is_python_file(name) and is_inside and (file := LocalFile.at(name, root / name)):
            yield file


def _recorded_names(distribution: importlib.metadata.Distribution) -> set[str]:
    if record := distribution.read_text("RECORD"):
        # distribution.files gives the same in six times the time
        return {row[0] for row in csv.reader(record.splitlines()) if row}
    return {file.as_posix() for file in distribution.files or []}


def _license_of(package: Package) -> str:
    if package.distribution is None:
        return "PSF-2.0"
    return license_names.from_metadata(package.distribution.metadata, _license_texts(package.distribution))


def _license_texts(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    root = Path(str(distribution.locate_file("")))
    for name in sorted(_recorded_names(distribution)):
        path = PurePosixPath(name)
        if ".dist-info" in path.parts[0] and license_names.LICENSE_FILE.match(path.name):
            try:
                yield (root / name).read_text(encoding="utf-8")[: license_names.MAX_LICENSE_BYTES]
            except (OSError, UnicodeDecodeError):
                continue


def fair_cap(sizes: list[int], budget: int) -> int:
    """The cap for each package so that together they fit the budget: the largest are cut first.

    >>> fair_cap([1, 2, 10, 20], 15)
    6
    """
    left = budget
    for taken, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - taken)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def _cut(files: tuple[LocalFile, ...], cap: int) -> tuple[LocalFile, ...]:
    """Whole files up to cap bytes in all, picked by a hash of their paths: the same on every machine."""
    chosen, left = [], cap
    for file in sorted(
        files, key=lambda file: hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).digest()
    ):
        if file.size <= left:
            chosen.append(file)
            left -= file.size
    return tuple(sorted(chosen, key=lambda file: file.name))


def installed_sources(max_bytes: int, gaps: Gaps) -> list[LocalSource]:
    """The standard library and the installed packages as sources, at most max_bytes together (0 = no limit).

    The standard library stays whole as long as it leaves half of the limit to the packages.
    """
    library, packages = standard_library(), installed_packages(gaps)
    sizes = [package.bytes for package in packages]
    library_cap, package_cap = library.bytes, max(sizes, default=0)
    if max_bytes:
        library_cap = min(library.bytes, max(max_bytes // 2, max_bytes - sum(sizes)))
        package_cap = fair_cap(sizes, max_bytes - library_cap)
    capped = [(library, library_cap), *((package, package_cap) for package in packages)]
    sources = (_source(package, cap, gaps) for package, cap in capped)
    return [source for source in sources if source is not None]


def _source(package: Package, cap: int, gaps: Gaps) -> LocalSource | None:
    files = package.files if package.bytes <= cap else _cut(package.files, cap)
    if not files:
        return None
    return LocalSource(
        kind="installed",
        name=package.name,
        id=f"installed/{package.name}",
        url=package.url,
        fingerprint=fingerprint(files, package.url),
        contents=partial(read_files, files, gaps),
        license=partial(_license_of, package),
        commit=str,
        whole_bytes=package.bytes,
        is_cut=len(files) < len(package.files),
    )
