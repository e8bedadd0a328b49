"""Where a corpus lies: a data.txt, or a folder of 00000.jsonl.zst, 00001.jsonl.zst, ... with a summary.json.

The rules are those of preprocessing, which has them in preprocess/corpus/data_file.py and output_files.py: a
test runs both over the same folders.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from model_cli import UserError

PLAIN, COMPRESSED = ".jsonl", ".jsonl.zst"  # how the names of shards end
READ = 1 << 17  # bytes read, or decompressed, at a time
USUAL_RATIO = 4  # bytes of lines in one of zstd
REMEDY = "make it again: python preprocess/data_preprocess.py"


def check_corpus(data: Path) -> None:
    """Raise UserError if nothing is there."""
    if not data.is_file() and not data.is_dir():
        raise UserError(
            f"no data file: {data.absolute()}: make it first: python preprocess/data_preprocess.py"
        )


def shard_paths(data: Path) -> list[Path]:
    """The shards of a folder, in order; a data.txt itself.

    Raises: UserError if a folder has none, or one of them twice.
    """
    if not data.is_dir():
        return [data]
    found = [path for path in data.iterdir() if _is_shard_name(path.name)]
    paths = {path.name.partition(".")[0]: path for path in found}
    if not paths:
        raise UserError(
            f"no shards (00000{COMPRESSED} or {PLAIN}): {data.absolute()}:"
            " make them: python preprocess/data_preprocess.py --output FOLDER/"
        )
    if len(paths) < len(found):
        twice = next(path for path in found if path not in paths.values())
        raise UserError(f"both {PLAIN} and {COMPRESSED} are there: {twice.absolute()}: remove one of them")
    return [paths[name] for name in sorted(paths, key=lambda name: (len(name), name))]


def _is_shard_name(name: str) -> bool:
    return name[:1].isdecimal() and name.endswith((PLAIN, COMPRESSED))


def size_and_time(paths: Sequence[Path]) -> dict[str, int]:
    """The size of files together, and when the newest of them was changed."""
    found = [path.stat() for path in paths]
    newest = max((status.st_mtime_ns for status in found), default=0)
    return {"size": sum(status.st_size for status in found), "mtime_ns": newest}


def state_of(data: Path) -> dict[str, int]:
    """size and mtime_ns of a corpus, by which a record of it is recognised."""
    return size_and_time(shard_paths(data))


def summary_path(data: Path) -> Path:
    """Where preprocessing says what it wrote."""
    return data / "summary.json" if data.is_dir() else data.with_name(f"{data.stem}.summary.json")


def cache_of(data: Path) -> Path:
    """The folder beside a corpus that keeps its encoded tokens."""
    beside = data.absolute()
    return beside.with_name(f"{beside.name if data.is_dir() else beside.stem}.cache")


def summary_of(data: Path) -> dict[str, Any]:
    """The corpus's entry in the summary of preprocessing, {} without one.

    Of a folder, only if the sizes are those that it says and no shard is newer than it: a copy of a folder
    has other times.
    """
    path = summary_path(data)
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))["data"]
        if data.is_dir():
            shards = shard_paths(data)
            sizes = {shard["name"]: shard["size"] for shard in entry["shards"]}
            fits = {shard.name: shard.stat().st_size for shard in shards} == sizes
            state = state_of(data)
            if not fits or state["mtime_ns"] > path.stat().st_mtime_ns:
                return {}
            entry |= state
        return entry if isinstance(entry["sha256"], str) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def digest_of(data: Path) -> str:
    """The sha256 of a data.txt; of a folder, one of those of each shard's lines. Reads everything."""
    if not data.is_dir():
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return _digest_of_shards(map(_digest_of_lines, shard_paths(data)))


def _digest_of_shards(digests: Iterable[str]) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _digest_of_lines(path: Path) -> str:
    digest = hashlib.sha256()
    with open_lines(path) as lines:
        while chunk := lines.read(READ):
            digest.update(chunk)
    return digest.hexdigest()


def lines_bytes(path: Path) -> int:
    """About how many bytes the lines of a file have."""
    return path.stat().st_size * (USUAL_RATIO if path.name.endswith(COMPRESSED) else 1)


@contextmanager
def open_lines(path: Path) -> Iterator[BinaryIO]:
    """The lines of a file, decompressed if its name ends in .zst. Raises UserError if it is damaged."""
    with path.open("rb") as file:
        if not path.name.endswith(COMPRESSED):
            yield file
            return
        with io.BufferedReader(Decompressed(file), READ) as lines:
            yield lines


class Decompressed(io.RawIOBase):
    """The content of a file in zstd, one frame or several. Raises UserError if it is damaged or cut off."""

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
                    raise self._damage("it ends in the middle")
                return 0
            try:
                self.content = memoryview(self.frame.decompress(compressed))
            except self.error as error:
                raise self._damage(str(error)) from None
            self.is_between_frames = self.frame.eof
        count = min(len(buffer), len(self.content))
        buffer[:count] = self.content[:count]
        self.content = self.content[count:]
        return count

    def _damage(self, what: str) -> UserError:
        return UserError(f"it cannot be decompressed ({what}): {Path(self.file.name).absolute()}: {REMEDY}")
