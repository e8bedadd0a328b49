"""The format of data.txt: one JSON object a line, one document each, sorted by repository, path and piece.

A corpus is such a file, or a folder whose files 00000.jsonl.zst, 00001.jsonl.zst, ... (or .jsonl) together,
in order, are one. All pieces of a source file are in the same shard.

>>> for document in iter_documents(Path("data.txt")):  # doctest: +SKIP
...     print(document.repo, document.path, len(document.text))
"""

from __future__ import annotations

import io
import json
import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from preprocess_cli import UserError

REMEDY = "make it again: python preprocess/data_preprocess.py"
SPLITS = ("train", "held_out")
PLAIN, COMPRESSED = ".jsonl", ".jsonl.zst"  # how the names of shards end
READ = 1 << 17  # bytes read, or decompressed, at a time


@dataclass(frozen=True, slots=True)
class Document:
    """One line of data.txt: a whole file, or one piece of a long one. The fields are in the line's order."""

    text: str
    repo: str
    path: str  # POSIX, inside the repository
    commit: str
    license: str  # an SPDX identifier; "" where unknown, as for the commit
    piece: int  # from 0
    pieces: int
    split: str  # "train" or "held_out"

    def origin(self) -> tuple[object, ...]:
        """What all pieces of a file have in common."""
        return self.repo, self.path, self.commit, self.license, self.pieces, self.split


NAMES = tuple(field.name for field in fields(Document))
NUMBERS = ("piece", "pieces")
MOST_PIECES = 1 << 31
EACH_LINE = f"each line has {', '.join(NAMES)}, and docs/data.md shows how to add them"


def piece_line(text: str) -> bytes:
    """The text of a document as a line of JSON, from which document_lines makes the document's line."""
    return json.dumps(text, ensure_ascii=False).encode() + b"\n"


def document_lines(
    pieces: Sequence[bytes], repo: str, path: str, commit: str, license_name: str, split: str
) -> Iterator[bytes]:
    """The lines of data.txt for a file whose pieces are lines of piece_line, which are not parsed again.

    >>> [line] = document_lines([piece_line("x = 1")], "o/n", "x.py", "", "MIT", "train")
    >>> parse_document(line) == Document("x = 1", "o/n", "x.py", "", "MIT", 0, 1, "train")
    True
    """
    origin = {"repo": repo, "path": path, "commit": commit, "license": license_name}
    before = json.dumps(origin, ensure_ascii=False).encode()[1:-1]
    after = f', "pieces": {len(pieces)}, "split": "{split}"}}\n'.encode()
    for number, piece in enumerate(pieces):
        yield b'{"text": %b, %b, "piece": %d%b' % (piece[:-1], before, number, after)


def parse_document(line: bytes) -> Document:
    """The document in a line. Raises ValueError, which says what is wrong with the line.

    The rules are those of train.py, which has them in model/data_loading/source_files.py.
    """
    try:
        pairs = json.loads(line.decode(), object_pairs_hook=tuple)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("not JSON of this format: nested too deeply") from None
    if not isinstance(pairs, tuple):
        raise ValueError("not a JSON object")
    record = dict(pairs)
    if missing := [f'"{name}"' for name in NAMES if name not in record]:
        raise ValueError(f"no {', '.join(missing)}; {EACH_LINE}")
    if len(pairs) > len(NAMES):
        names = [name for name, _ in pairs]
        odd = next(name for at, name in enumerate(names) if name not in NAMES or name in names[:at])
        raise ValueError(f"{odd!r:.40} is one key too many; {EACH_LINE}")
    for name in NAMES:
        expected = int if name in NUMBERS else str
        if type(record[name]) is not expected:
            raise ValueError(f'"{name}" is not {"a number" if expected is int else "text"}')
    if record["split"] not in SPLITS:
        raise ValueError(f'"split" is neither "train" nor "held_out" but {record["split"]!r:.40}')
    if not 0 <= record["piece"] < record["pieces"] <= MOST_PIECES:
        raise ValueError(f"piece {record['piece']} of {record['pieces']} cannot be")
    # Half a surrogate pair can be written as an escape, but it has no UTF-8.
    if b"\\u" in line and not is_encodable(*(record[name] for name in NAMES if name not in NUMBERS)):
        raise ValueError("it has half a surrogate pair, which is not a character")
    return Document(**record)


def is_encodable(*texts: str) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def iter_documents(data: Path, most_bytes: int | None = None) -> Iterator[Document]:
    """Every document of a data.txt or of a folder of shards, in its order, one at a time.

    most_bytes: of each shard, only the documents in about as many bytes of its beginning.
    Raises UserError for a file that is missing, unreadable or empty, and for a line that is not a document.
    """
    is_empty = True
    for path in shard_paths(data) if data.is_dir() else [data]:
        for document in _documents_of(path, most_bytes):
            is_empty = False
            yield document
    if is_empty:
        raise UserError(f"it is empty: {data.absolute()}: {REMEDY}")


def _documents_of(path: Path, most_bytes: int | None) -> Iterator[Document]:
    """The documents of one file."""
    where = path.absolute()
    number = expected = read = 0  # expected: the number of the next piece
    first: tuple[object, ...] = ()
    try:
        with open_lines(path) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    document = parse_document(line if number > 1 else line.removeprefix(BOM_UTF8))
                    origin = document.origin()
                    if document.piece != expected or (expected and origin != first):
                        raise ValueError("it does not follow the piece before it")
                except ValueError as error:
                    raise UserError(f"line {number} is not a document ({error}): {where}: {REMEDY}") from None
                expected, first = (document.piece + 1) % document.pieces, origin
                yield document
                read += len(line)
                if most_bytes is not None and read >= most_bytes and not expected:
                    return
    except FileNotFoundError:
        raise UserError(f"there is no such file: {where}: {REMEDY.replace('again', 'first')}") from None
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror or error}): {where}: {REMEDY}") from None
    if expected:
        raise UserError(f"pieces are missing after line {number}, the last: {where}: {REMEDY}")


# Files and folders


def is_shard_name(name: str) -> bool:
    return name[:1].isdecimal() and name.endswith((PLAIN, COMPRESSED))


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, in order. Raises UserError if it has none, or one of them twice."""
    paths = {path.name.partition(".")[0]: path for path in folder.iterdir() if is_shard_name(path.name)}
    if not paths:
        raise UserError(f"no shards (00000{COMPRESSED} or {PLAIN}): {folder.absolute()}: {REMEDY}")
    twice = [path for path in folder.iterdir() if is_shard_name(path.name) and path not in paths.values()]
    if twice:
        raise UserError(f"both {PLAIN} and {COMPRESSED} are there: {twice[0].absolute()}: remove one of them")
    return [paths[name] for name in sorted(paths, key=lambda name: (len(name), name))]


@contextmanager
def open_lines(path: Path) -> Iterator[BinaryIO]:
    """The lines of a file, decompressed if its name ends in .zst. Raises OSError."""
    with path.open("rb") as file:
        if path.name.endswith(COMPRESSED):
            with io.BufferedReader(Decompressed(file), READ) as lines:
                yield lines
        else:
            yield file


class Decompressed(io.RawIOBase):
    """The content of a file in zstd, one frame or several. Raises OSError if it is damaged or cut off."""

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self.file, self.error = file, zstandard.ZstdError
        self.decompressor = zstandard.ZstdDecompressor()
        self.frame = self.decompressor.decompressobj()
        self.content = memoryview(b"")
        self.is_between_frames = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.content:
            compressed = self.frame.unused_data or self.file.read(READ)
            if self.frame.eof:
                self.frame = self.decompressor.decompressobj()
            if not compressed:
                if not self.is_between_frames:
                    raise OSError("it ends in the middle")
                return 0
            try:
                self.content = memoryview(self.frame.decompress(compressed))
            except self.error as error:
                raise OSError(str(error)) from None
            self.is_between_frames = self.frame.eof
        count = min(len(buffer), len(self.content))
        buffer[:count] = self.content[:count]
        self.content = self.content[count:]
        return count


def size_and_time(paths: Sequence[Path]) -> dict[str, int]:
    """The size of files together, and when the newest of them was changed."""
    found = [path.stat() for path in paths]
    return {
        "size": sum(status.st_size for status in found),
        "mtime_ns": max((status.st_mtime_ns for status in found), default=0),
    }


def digest_of_lines(path: Path) -> str:
    """The sha256 of the lines of a shard. Raises UserError if it cannot be read."""
    digest = sha256()
    try:
        with open_lines(path) as lines:
            while chunk := lines.read(READ):
                digest.update(chunk)
    except OSError as error:
        raise UserError(
            f"it cannot be read ({error.strerror or error}): {path.absolute()}: {REMEDY}"
        ) from None
    return digest.hexdigest()


def digest_of_shards(digests: Iterable[str]) -> str:
    """One digest of a folder, from the sha256 of the lines of each shard, compressed or not."""
    return sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


@contextmanager
def atomic_write(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """Open path for writing: afterwards it holds everything that was written, or what it held before.

    It is written to <path>.partial first, which the next run overwrites if this one is killed. sync: wait
    until it is on the disk; without, a machine that crashes may leave an empty file.
    """
    beside = path.with_name(path.name + ".partial")
    try:
        with beside.open("wb") as output:
            yield output
            if sync:
                output.flush()
                os.fsync(output.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
