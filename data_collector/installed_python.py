"""The Python that is on every machine: the interpreter's standard library and the installed packages."""

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

import license_names
from local_source import LocalFile, LocalSource, fingerprint, read_files
from python_tree import is_python_file

# Not the standard library, or its test suites: a third of its bytes, much of it deliberately odd.
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


def installed_packages() -> list[Package]:
    """Every installed distribution that has Python files, by name."""
    packages: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions():
        raw_name = distribution.metadata["Name"]
        if not raw_name:
            continue  # a folder that pip left behind when it was interrupted
        name = re.sub(r"[-_.]+", "-", str(raw_name)).lower()
        if name in packages:
            continue  # the first on the path is the one that an import finds
        url = f"pkg:pypi/{name}@{distribution.version}"
        if files := tuple(_files_of(distribution)):
            packages[name] = Package(name, url, distribution, files)
    return sorted(packages.values(), key=lambda package: package.name)


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
        # distribution.files says the same and takes six times as long
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
    """The cap for each package with which all of them fit the budget: the largest are cut first.

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
    """Whole files up to cap bytes in all, picked by a hash of their paths: on every machine the same ones."""
    chosen, left = [], cap
    for file in sorted(
        files, key=lambda file: hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).digest()
    ):
        if file.size <= left:
            chosen.append(file)
            left -= file.size
    return tuple(sorted(chosen, key=lambda file: file.name))


def installed_sources(max_bytes: int, unreadable: list[str]) -> list[LocalSource]:
    """The standard library and the installed packages as sources, at most max_bytes together (0 = no limit).

    The standard library is whole as long as it leaves half of the limit to the packages.
    """
    library, packages = standard_library(), installed_packages()
    sizes = [package.bytes for package in packages]
    library_cap, package_cap = library.bytes, max(sizes, default=0)
    if max_bytes:
        library_cap = min(library.bytes, max(max_bytes // 2, max_bytes - sum(sizes)))
        package_cap = fair_cap(sizes, max_bytes - library_cap)
    capped = [(library, library_cap), *((package, package_cap) for package in packages)]
    sources = (_source(package, cap, unreadable) for package, cap in capped)
    return [source for source in sources if source is not None]


def _source(package: Package, cap: int, unreadable: list[str]) -> LocalSource | None:
    files = package.files if package.bytes <= cap else _cut(package.files, cap)
    if not files:
        return None
    return LocalSource(
        kind="installed",
        name=package.name,
        id=f"installed/{package.name}",
        url=package.url,
        fingerprint=fingerprint(files, package.url),
        contents=partial(read_files, files, unreadable),
        license=partial(_license_of, package),
        commit=str,
        whole_bytes=package.bytes,
        is_cut=len(files) < len(package.files),
    )
