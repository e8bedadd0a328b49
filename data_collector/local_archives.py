"""Archives that the user names, as sources of the collection: read member by member, never unpacked.

So no absolute path, no "..", no link and no device of an archive can reach the disk; a bomb is stopped by its
size and by its ratio.
"""

from __future__ import annotations

import itertools
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from email.parser import BytesHeaderParser
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import license_names
from local_source import Contents, LocalSource, LocalSourceError
from python_tree import is_python_file

ZIPS = (".zip", ".whl", ".egg")
TARS = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")

# Source code stays far below both of these, a bomb does not.
MAX_UNPACKED_BYTES = 4_000_000_000
MAX_RATIO = 200  # Python packs about 5 to 1
CHUNK = 1_000_000  # bytes of a file that are in memory at a time


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ZIPS + TARS)


def archive_source(path: Path) -> LocalSource:
    """The Python files of a .zip, .whl or .tar.* archive."""
    status = path.stat()
    suffix = max((suffix for suffix in ZIPS + TARS if path.name.lower().endswith(suffix)), key=len)
    return LocalSource(
        kind="local",
        name=path.name[: -len(suffix)],
        id=f"local/{path}",
        url=path.as_uri(),
        fingerprint=f"{status.st_size} {status.st_mtime_ns}",
        contents=partial(_read, path, is_python_file),
        license=partial(_license_of, path),
        commit=str,
        whole_bytes=status.st_size,
    )


def _read(path: Path, is_wanted: Callable[[str], bool]) -> Contents:
    """(path inside, bytes piece by piece) of the regular files of an archive whose paths are wanted."""
    members = _zip_members if path.name.lower().endswith(ZIPS) else _tar_members
    limit = min(MAX_UNPACKED_BYTES, MAX_RATIO * path.stat().st_size)
    try:
        yield from members(path, is_wanted, limit)
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        tarfile.TarError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        # RuntimeError: encrypted; NotImplementedError: a compression that zipfile does not know
        raise LocalSourceError(
            f"the archive cannot be read ({error}): {path}: pack it again or leave it out"
        ) from None


def _too_large(path: Path) -> LocalSourceError:
    return LocalSourceError(f"the archive unpacks to far more than source code does: {path}: leave it out")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _zip_members(path: Path, is_wanted: Callable[[str], bool], limit: int) -> Contents:
    left = limit

    def counted(pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal left
        for piece in pieces:  # the size in the directory may lie
            left -= len(piece)
            if left < 0:
                raise _too_large(path)
            yield piece

    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or member.is_dir() or not is_wanted(member.filename):
                continue
            with archive.open(member) as file:
                yield member.filename, counted(_pieces(file))


def _tar_members(path: Path, is_wanted: Callable[[str], bool], limit: int) -> Contents:
    with tarfile.open(path, "r|*") as archive:  # a stream: nothing is read twice
        for member in archive:
            # also what is skipped has to be unpacked on the way
            if member.offset_data + member.size > limit:
                raise _too_large(path)
            if member.isreg() and is_wanted(member.name) and (file := archive.extractfile(member)):
                yield member.name.removeprefix("./"), _pieces(file)


def _license_of(path: Path) -> str:
    """The licence by a wheel's or a source distribution's metadata, or a licence file near the top."""

    def says_licence(name: str) -> bool:
        parts = PurePosixPath(name).parts
        is_license = len(parts) <= 4 and bool(license_names.LICENSE_FILE.match(parts[-1]))
        is_wheel = len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] == "METADATA"
        return is_license or is_wheel or (len(parts) == 2 and parts[1] == "PKG-INFO")

    metadata, texts = None, []
    for name, pieces in itertools.islice(_read(path, says_licence), 20):
        content = next(iter(pieces), b"")[: license_names.MAX_LICENSE_BYTES]
        if str(name).endswith(("METADATA", "PKG-INFO")):
            metadata = BytesHeaderParser().parsebytes(content)
        else:
            texts.append(content.decode("utf-8", "replace"))
    if metadata is not None:
        return license_names.from_metadata(metadata, texts)
    return license_names.from_texts(texts)
