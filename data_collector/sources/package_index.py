"""Packages of an index as sources of the collection: chosen, fetched, checked by hash, read and never built.

The source distribution of a release is taken, else a wheel. Of an archive only its Python files and its core
metadata are read; its setup.py is text like any other.

Source: https://packaging.python.org/en/latest/specifications/ (simple repository API, file yanking, core
metadata, version specifiers)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from email.parser import HeaderParser
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from collector_cli import UserError
from sources import pip_program
from sources.archives import ARCHIVE_METADATA, license_of, members, python_files
from sources.local_source import Contents, LocalSource
from sources.repository_list import shown_entry

MAX_ARCHIVE_BYTES = 500_000_000  # the largest source distributions have 200 MB
MAX_METADATA_BYTES = 2_000_000
ANSWER_SECONDS = 900  # for one file; pip itself waits 15 s (--timeout) for each of its bytes
REQUIRES_DIST = "Requires-Dist"
ELSEWHERE = "take an address of git with --from, a file or folder with --local"


class PackageError(Exception):
    """A package that cannot be taken, and why."""


class PipError(UserError):
    """pip cannot be asked at all: why, and what to do."""


@dataclass(frozen=True)
class PackageFile:
    """A file of an index: a source distribution or a wheel of one version. hash is "sha256=..." or ''."""

    filename: str
    version: Version
    kind: Literal["sdist", "wheel"]
    url: str
    hash: str
    yanked: str | None
    metadata_url: str

    @property
    def rank(self) -> tuple[object, ...]:
        """The newest version first; of one version the source distribution, then a wheel for any machine."""
        is_for_any = self.filename.endswith("-none-any.whl")
        return (self.version, self.kind == "sdist", is_for_any, self.filename)


@dataclass(frozen=True)
class WantedPackage:
    """A requirement, the sha256 that its file may have (all, if none is given), and who needs it."""

    requirement: Requirement
    hashes: frozenset[str] = frozenset()
    needed_by: str = ""

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    def __str__(self) -> str:
        name = f"{self.name}{self.requirement.specifier}"
        return f"{name} (needed by {self.needed_by})" if self.needed_by else name


@dataclass
class Wishes:
    """What --pypi and --pypi-file ask for, each name once; a line for each entry that is none."""

    packages: dict[str, WantedPackage] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def add(self, text: str, hashes: Iterable[str] = ()) -> None:
        """Add a requirement; another one for the same name narrows it."""
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            self.refused.append(f"no name of a package: {shown_entry(text)}")
            return
        if requirement.url:
            self.refused.append(f"not from an index: {shown_entry(text)}: {ELSEWHERE}")
            return
        if not applies(requirement, ("",)):
            return
        wanted = WantedPackage(requirement, frozenset(hashes))
        if known := self.packages.get(wanted.name):
            known.requirement.specifier &= requirement.specifier
            known.requirement.extras |= requirement.extras
            wanted = replace(known, hashes=known.hashes | wanted.hashes)
        self.packages[wanted.name] = wanted

    def constrain(self, text: str) -> None:
        """Narrow a requirement that is there by a line of a constraints file."""
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            self.refused.append(f"no name of a package: {shown_entry(text)}")
            return
        if known := self.packages.get(canonicalize_name(requirement.name)):
            known.requirement.specifier &= requirement.specifier


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether a requirement's marker holds for this Python, with one of these extras ('' for none)."""
    if requirement.marker is None:
        return True
    try:
        return any(requirement.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        return False


class Pip:
    """pip in a process of its own, asked one thing at a time."""

    def __init__(self, requirement_files: Iterable[Path] = ()) -> None:
        # Without the folder of the program on its path; Ctrl-C is the collector's to answer.
        command = [sys.executable, "-P", pip_program.__file__]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._files = tuple(requirement_files)
        self._has_read = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End it, even in the middle of an answer: who waits for that gets a PackageError."""
        self._process.kill()
        self._process.wait()

    def requirements(self) -> Iterator[dict[str, Any]]:
        """The lines of the requirement files, as pip reads them: text, hashes, is_constraint, is_editable."""
        self._has_read = True
        for path in self._files:
            try:
                yield from self._ask(requirements=str(path.absolute()))["lines"]
            except PackageError as error:
                raise PackageError(f"{error}: {path.absolute()}") from None

    def files(self, name: str) -> list[PackageFile]:
        """The files of a package that can be taken. Raises PackageError if there are none."""
        if not self._has_read:  # their --index-url holds for every pip
            list(self.requirements())
        answer = self._ask(files=name)
        found = [file for each in answer["files"] if (file := _package_file(each, name))]
        if not found:
            faults = [
                line for line in answer["faults"] if "404" not in line and "no such" not in line.lower()
            ]
            raise PackageError(_plain(faults[0]) if faults else "no index that pip is set up for has it")
        return found

    def size(self, file: PackageFile) -> int:
        """The bytes of a file, -1 if its server does not tell."""
        return int(self._ask(size=file.url)["size"])

    def metadata(self, file: PackageFile) -> str:
        """The core metadata that an index gives beside a wheel."""
        return str(self._ask(text=file.metadata_url, limit=MAX_METADATA_BYTES)["text"])

    def fetch(self, file: PackageFile, to: Path) -> str:
        """Write a file and return its sha256; PackageError if it is not the one that the index promised."""
        answer = self._ask(fetch=file.url, to=str(to), limit=MAX_ARCHIVE_BYTES, hash=file.hash)
        return str(answer["sha256"])

    def _ask(self, **request: object) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None, "pip is asked through pipes"
        alarm = threading.Timer(ANSWER_SECONDS, process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            raise PackageError("pip has ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("errno"):
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        if answer.get("is_fatal"):
            raise PipError(f"{answer['error']}: {sys.executable}: install pip 23 to 26 there")
        if "error" in answer:
            raise PackageError(_plain(answer["error"]))
        return answer


def _plain(words: str) -> str:
    """pip's words without addresses that may hold a password, and not too long."""
    words = re.sub(r"(https?://)[^/\s@]*@", r"\1", " ".join(words.split()))
    return words if len(words) <= 200 else f"{words[:200]}..."


def _package_file(described: dict[str, Any], name: str) -> PackageFile | None:
    """A file of an index; None if it is none of this package that can be read."""
    filename = str(described["name"])
    try:
        if filename.endswith(".whl"):
            found, version, *_ = parse_wheel_filename(filename)
            kind: Literal["sdist", "wheel"] = "wheel"
        else:
            found, version = parse_sdist_filename(filename)
            kind = "sdist"
    except (InvalidSdistFilename, InvalidWheelFilename, InvalidVersion):
        return None
    if found != name:
        return None
    url, hash_, yanked = described["url"], described["hash"], described["yanked"]
    return PackageFile(filename, version, kind, url, hash_, yanked, described["metadata"])


def choose(wanted: WantedPackage, files: list[PackageFile]) -> PackageFile:
    """The file to take. Raises PackageError if no release fits.

    Releases that were yanked count only where one is asked for by ==, and pre-releases only where there is
    nothing else (PEP 592, PEP 440).
    """
    specifier = wanted.requirement.specifier
    is_pinned = any(each.operator in ("==", "===") and "*" not in each.version for each in specifier)
    usable = [file for file in files if file.yanked is None or is_pinned]
    if wanted.hashes:
        usable = [
            file for file in usable if file.hash.removeprefix("sha256=") in wanted.hashes or not file.hash
        ]
        if not usable:
            raise PackageError("no file of it has one of the given hashes")
    fitting = set(specifier.filter(file.version for file in usable))
    if found := [file for file in usable if file.version in fitting]:
        return max(found, key=lambda file: file.rank)
    yanked = [file for file in files if specifier.contains(file.version) and file.yanked is not None]
    if yanked:
        newest = max(yanked, key=lambda file: file.version)
        reason = f": {newest.yanked[:80]}" if newest.yanked else ""
        raise PackageError(f"yanked ({newest.version}{reason}): pin it with == to take it all the same")
    newest_version = max(file.version for file in files)
    raise PackageError(f"no release fits; the newest is {newest_version}")


def address_of(name: str, file: PackageFile, sha256: str) -> str:
    """Where a package came from, as a package URL: pkg:pypi/six@1.17.0?checksum=sha256:...&file_name=..."""
    more = f"checksum=sha256:{sha256}&file_name={quote(file.filename)}"
    return f"pkg:pypi/{name}@{quote(str(file.version))}?{more}"


def package_source(name: str, file: PackageFile, archive: Path, sha256: str) -> LocalSource:
    """A fetched package as a source of the collection."""
    return LocalSource(
        kind="pypi",
        name=name,
        id=f"pypi/{name}",
        url=address_of(name, file, sha256),
        fingerprint=f"sha256={sha256}",
        contents=partial(_contents, archive, is_sdist=file.kind == "sdist"),
        license=partial(license_of, archive),
        commit=lambda: str(file.version),
    )


def _contents(archive: Path, *, is_sdist: bool) -> Contents:
    """The Python files; those of a source distribution without the name and version that all begin with."""
    for path, pieces in python_files(archive):
        text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
        yield (text.partition("/")[2] or text) if is_sdist else text, pieces


def requirements_in(archive: Path) -> list[str] | None:
    """The requirements that an archive's metadata names; None if it leaves them to its build."""
    texts: dict[str, str] = {}
    for path, pieces in members(archive, lambda path: bool(ARCHIVE_METADATA.search(path))):
        content = b"".join(pieces)[:MAX_METADATA_BYTES]
        texts.setdefault(str(path).rpartition("/")[2], content.decode("utf-8", "replace"))
    if "METADATA" in texts:
        return metadata_requirements(texts["METADATA"])
    if "PKG-INFO" in texts:
        metadata = HeaderParser().parsestr(texts["PKG-INFO"])
        dynamic = {str(line).strip().lower() for line in metadata.get_all("Dynamic") or []}
        lines = metadata_requirements(texts["PKG-INFO"])
        is_static = str(metadata["Metadata-Version"] or "") >= "2.2" and REQUIRES_DIST.lower() not in dynamic
        if lines or is_static:
            return lines
    return _egg_requirements(texts["requires.txt"]) if "requires.txt" in texts else None


def metadata_requirements(text: str) -> list[str]:
    """The requirements in core metadata: "Requires-Dist: idna<4" -> "idna<4"."""
    return [str(line) for line in HeaderParser().parsestr(text).get_all(REQUIRES_DIST) or []]


def _egg_requirements(text: str) -> list[str]:
    """setuptools' requires.txt as requirements: "[socks]", "PySocks" -> 'PySocks; extra == "socks"'."""
    lines, marker = [], ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if section := re.fullmatch(r"\[([^:\]]*):?(.*)\]", line):
            extra, condition = section.groups()
            parts = [f"({condition})" if condition else "", f'extra == "{extra}"' if extra else ""]
            marker = " and ".join(filter(None, parts))
        else:
            lines.append(f"{line}; {marker}" if marker else line)
    return lines


def needed(lines: Iterable[str], extras: Iterable[str], by: str) -> Iterator[WantedPackage]:
    """The packages that requirements ask for on this Python, with these extras."""
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if not requirement.url and applies(requirement, extras):
            yield WantedPackage(requirement, needed_by=by)
