"""Archives (.zip, .whl, .tar.*) as sources of the collection: read member by member, never unpacked.

So no absolute path, "..", link or device of an archive can reach the disk. A bomb is stopped by its size and
by its ratio. A damaged archive gives nothing: only the checksum at its end tells which files before it are
good.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email.parser import BytesHeaderParser
from functools import partial
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO, cast

from collection import licenses as license_names
from collection.repos_folder import is_python_file
from sources.local_source import Contents, LocalSource, LocalSourceError

ZIPS = (".zip", ".whl", ".egg")
TARS = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")

# Source code stays far below both, a bomb does not.
MAX_UNPACKED_BYTES = 4_000_000_000
MAX_RATIO = 200  # Python packs about 5 to 1
CHUNK = 1_000_000  # bytes of a file that are in memory at a time
MAX_HEADER_BYTES = 8_000_000  # of a tar: tarfile loads a long name whole
TAR_BLOCK = 512

# Where a wheel and a source distribution say what they are, and what they need.
ARCHIVE_METADATA = re.compile(
    r"^[^/]+\.dist-info/METADATA$|^[^/]+/PKG-INFO$|^[^/]+/(?:src/)?[^/]+\.egg-info/requires\.txt$"
)

# The first bytes of a compressed tar, whatever its name says, as tarfile tells them apart.
DECOMPRESSORS: dict[bytes, Callable[[Path], BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00\x00\x80": lzma.LZMAFile,
}


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
        contents=partial(python_files, path),
        license=partial(license_of, path),
        commit=str,
    )


def python_files(path: Path) -> Contents:
    """(path inside, bytes piece by piece) of an archive's Python files."""
    return members(path, is_python_file)


def members(path: Path, is_wanted: Callable[[str], bool]) -> Contents:
    """(path inside, bytes piece by piece) of an archive's regular files with a wanted path."""
    read = _zip_members if path.name.lower().endswith(ZIPS) else _tar_members
    with _damage_named(path):
        limit = min(MAX_UNPACKED_BYTES, MAX_RATIO * path.stat().st_size)
        for name, pieces in read(path, is_wanted, limit):
            yield name, _checked(path, pieces)


def _checked(path: Path, pieces: Iterable[bytes]) -> Iterator[bytes]:
    with _damage_named(path):
        yield from pieces


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn whatever reading a damaged archive raises into one line that names it.

    The readers promise no set of exceptions: zlib.error, LZMAError, EOFError, BadZipFile, struct.error,
    UnicodeDecodeError, RuntimeError (encrypted), NotImplementedError (a compression unknown to zipfile), ...
    """
    try:
        yield
    except LocalSourceError:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        reason = str(error) or type(error).__name__
        raise LocalSourceError(
            f"the archive is damaged or cannot be read ({reason}): {path}: "
            "fetch or pack it again, or leave it out"
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
    with path.open("rb") as file:
        beginning = file.read(6)
    unpack = next((unpack for magic, unpack in DECOMPRESSORS.items() if beginning.startswith(magic)), None)
    with unpack(path) if unpack else path.open("rb") as file:
        unpacked = _Unpacked(file, path, limit)
        with tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="r:") as archive:
            for member in archive:
                unpacked.header_left = None
                if member.isreg() and is_wanted(member.name) and (content := archive.extractfile(member)):
                    yield member.name.removeprefix("./"), _pieces(content)
                unpacked.header_left = MAX_HEADER_BYTES
        # tarfile takes a broken header, and the end of the file, for the end of the archive
        is_marked = len(unpacked.last) == TAR_BLOCK and not any(unpacked.last)
        if not is_marked and (unpacked.last or not unpack):
            raise tarfile.ReadError("no end mark: it is cut off, or a header is damaged")
        unpacked.header_left = None
        while unpacked.read(CHUNK):  # up to the checksum of the compressed stream
            pass


class _Unpacked:
    """The bytes of an unpacked tar, read once from the first to the last: what tarfile needs of a file.

    Reading or skipping more than limit bytes raises LocalSourceError. last: what the last read returned.
    header_left: bytes that the next header may have, None while a file is read.
    """

    def __init__(self, file: BufferedIOBase, path: Path, limit: int) -> None:
        self.last = b""
        self.header_left: int | None = MAX_HEADER_BYTES
        self._file = file
        self._path = path
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        if self.header_left is not None:
            self.header_left -= size if size >= 0 else self._limit
            if self.header_left < 0:
                raise tarfile.ReadError(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        self.last = self._file.read(size)
        self._check(self._file.tell())
        return self.last

    def seek(self, position: int) -> int:
        self._check(position)
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise _too_large(self._path)


def license_of(path: Path) -> str:
    """The licence by a wheel's or a source distribution's metadata, else by a licence file near the top."""

    def tells_license(name: str) -> bool:
        parts = PurePosixPath(name).parts
        is_license = len(parts) <= 4 and bool(license_names.LICENSE_FILE.match(parts[-1]))
        is_wheel = len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] == "METADATA"
        return is_license or is_wheel or (len(parts) == 2 and parts[1] == "PKG-INFO")

    metadata, texts = None, []
    for name, pieces in itertools.islice(members(path, tells_license), 20):
        content = next(iter(pieces), b"")[: license_names.MAX_LICENSE_BYTES]
        if str(name).endswith(("METADATA", "PKG-INFO")):
            metadata = BytesHeaderParser().parsebytes(content)
        else:
            texts.append(content.decode("utf-8", "replace"))
    if metadata is not None:
        return license_names.from_metadata(metadata, texts)
    return license_names.from_texts(texts)
