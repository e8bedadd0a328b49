"""Writes data.txt, or the shards of a folder, with their ledgers: whole or absent.

A shard ends with the file that brings it to 256 MB of text, so the shards of a corpus are the same however
they are made. They are made in .data.partial/, which takes the place of the folder when everything is there.
A run that was killed keeps the shards it had finished: unfinished.json says which, and for which inputs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from corpus.data_file import COMPRESSED, PLAIN, atomic_write, digest_of_shards, size_and_time
from corpus.output_files import UNFINISHED, Outputs
from preprocess_cli import UserError

# Bytes of text in a shard: large beside the start of a task, small beside what a process or a disk can lose.
SHARD_TEXT = 256_000_000
LEVEL = 3  # of zstd: a fifth of the size; 6 takes more than twice the time for an eighth less
CHUNK = 1 << 20  # bytes that are compressed at a time, always as many: so the same lines give the same bytes


class FileWriter:
    """Writes data.txt and its ledger."""

    def __init__(self, outputs: Outputs, ledger: BinaryIO, data: BinaryIO) -> None:
        self.outputs, self.ledger, self.data = outputs, ledger, data
        self.sha = sha256()

    def add(self, ledger_line: bytes, lines: Iterable[bytes], text_bytes: int) -> None:
        """A file's line of the ledger and the lines of its documents. text_bytes: of their text."""
        self.ledger.write(ledger_line)
        text = b"".join(lines)
        self.sha.update(text)
        self.data.write(text)

    def close(self) -> None:
        """Everything is added."""

    def record(self) -> dict[str, Any]:
        """The entries of the summary: hash, size and time. After the files have been closed."""
        return {
            "data": {"sha256": self.sha.hexdigest(), **size_and_time([self.outputs.data])},
            "ledger": size_and_time([self.outputs.ledger]),
        }


class ShardWriter:
    """Writes one shard and its part of the ledger, whole or not at all; nothing if they are there."""

    def __init__(self, folder: Path, number: int, *, is_plain: bool, done: dict[str, Any] | None) -> None:
        """done: its entry, if an earlier attempt has finished it for the same inputs."""
        self.path = folder / f"{number:05d}{PLAIN if is_plain else COMPRESSED}"
        self.ledger_path = folder / f"ledger-{number:05d}.jsonl"
        self.done = done
        self.text_bytes = self.documents = self.lines_bytes = 0
        self.sha, self.lines_sha, self.ledger_sha = sha256(), sha256(), sha256()
        self.waiting = bytearray()
        if done is None:
            self.file, self.ledger = _beside(self.path).open("wb"), _beside(self.ledger_path).open("wb")
            if not is_plain:
                import zstandard

                # One frame: fsspec's reader, which datasets and datatrove use, stops after the first.
                self.zstd = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self.is_plain = is_plain

    def add(self, ledger_line: bytes, lines: Iterable[bytes], text_bytes: int) -> None:
        self.ledger_sha.update(ledger_line)
        self.text_bytes += text_bytes
        if self.done is not None:
            return
        self.ledger.write(ledger_line)
        for line in lines:
            self.documents += 1
            self.waiting += line
        while len(self.waiting) >= CHUNK:
            self._write(bytes(self.waiting[:CHUNK]))
            del self.waiting[:CHUNK]

    def _write(self, chunk: bytes) -> None:
        self.lines_sha.update(chunk)
        self.lines_bytes += len(chunk)
        stored = chunk if self.is_plain else self.zstd.compress(chunk)
        self.sha.update(stored)
        self.file.write(stored)

    def close(self) -> dict[str, Any]:
        """The shard's entry in the summary. Raises UserError if files changed since an earlier attempt."""
        if self.done is not None:
            if self.done["ledger_sha256"] != self.ledger_sha.hexdigest():
                (self.path.parent / UNFINISHED).unlink()
                shutil.rmtree(self.path.parent)
                raise UserError(
                    f"files were read that an earlier run could not read: {self.path.parent}: run it again"
                )
            return self.done
        self._write(bytes(self.waiting))
        self.waiting.clear()
        if not self.is_plain:
            last = self.zstd.flush()
            self.sha.update(last)
            self.file.write(last)
        for file, path in ((self.file, self.path), (self.ledger, self.ledger_path)):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            _beside(path).replace(path)
        return {
            "name": self.path.name,
            "sha256": self.sha.hexdigest(),
            **size_and_time([self.path]),
            "documents": self.documents,
            "lines_sha256": self.lines_sha.hexdigest(),  # of what is compressed in it
            "lines_bytes": self.lines_bytes,
            "ledger_sha256": self.ledger_sha.hexdigest(),
        }

    def abandon(self) -> None:
        """Leave nothing of an unfinished shard: on a full disk this frees the space."""
        if self.done is None:
            for file, path in ((self.file, self.path), (self.ledger, self.ledger_path)):
                file.close()
                _beside(path).unlink(missing_ok=True)


class FolderWriter:
    """Writes a folder of shards in outputs.partial; those that an earlier attempt finished stay."""

    def __init__(self, outputs: Outputs, inputs: str) -> None:
        self.outputs = outputs
        self.folder = outputs.partial
        self.made_for = {"inputs": inputs, "is_plain": outputs.is_plain}
        self.finished = self._resume()
        self.entries: list[dict[str, Any]] = []
        self.shard = self._open(0)

    def _resume(self) -> list[dict[str, Any]]:
        """The entries of the shards that are there already, for the same inputs."""
        try:
            record = json.loads((self.folder / UNFINISHED).read_bytes())
            if {name: record[name] for name in self.made_for} == self.made_for:
                done: list[dict[str, Any]] = record["shards"]
                if all(self._is_there(entry) for entry in done):
                    return done
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._note([])
        return []

    def _is_there(self, entry: dict[str, Any]) -> bool:
        return entry.items() >= size_and_time([self.folder / entry["name"]]).items()

    def _note(self, entries: list[dict[str, Any]]) -> None:
        with atomic_write(self.folder / UNFINISHED) as file:
            file.write(json.dumps({**self.made_for, "shards": entries}).encode())

    def _open(self, number: int) -> ShardWriter:
        done = self.finished[number] if number < len(self.finished) else None
        return ShardWriter(self.folder, number, is_plain=self.outputs.is_plain, done=done)

    def add(self, ledger_line: bytes, lines: Iterable[bytes], text_bytes: int) -> None:
        """As FileWriter.add. The file that brings a shard to its size is its last one that is kept."""
        if text_bytes and self.shard.text_bytes >= SHARD_TEXT:
            self._close_shard()
            self.shard = self._open(len(self.entries))
        self.shard.add(ledger_line, lines, text_bytes)

    def _close_shard(self) -> None:
        self.entries.append(self.shard.close())
        if len(self.entries) > len(self.finished):
            self._note(self.entries)

    def close(self) -> None:
        self._close_shard()

    def record(self) -> dict[str, Any]:
        paths = [self.folder / entry["name"] for entry in self.entries]
        return {
            "data": {
                "sha256": digest_of_shards(entry["lines_sha256"] for entry in self.entries),
                **size_and_time(paths),
                "is_plain": self.outputs.is_plain,
                "lines_bytes": sum(entry["lines_bytes"] for entry in self.entries),
                "shards": self.entries,
            },
            "ledger": size_and_time(sorted(self.folder.glob("ledger-*.jsonl"))),
        }

    def take_place(self) -> None:
        """Put the finished folder in its place, where an earlier one may be."""
        previous, data = self.outputs.previous, self.outputs.data.absolute()
        (self.folder / UNFINISHED).unlink()
        if previous.is_dir():
            shutil.rmtree(previous)
        if data.is_dir() and any(data.iterdir()):
            data.rename(previous)
        self.folder.rename(data)
        if previous.is_dir():
            shutil.rmtree(previous)


@contextmanager
def writer_of(outputs: Outputs, inputs: str) -> Iterator[FileWriter | FolderWriter]:
    """What the files of a run are added to. inputs: the digest of all that they depend on."""
    if not outputs.is_folder:
        with atomic_write(outputs.ledger) as ledger, atomic_write(outputs.data) as data:
            yield FileWriter(outputs, ledger, data)
        return
    writer = FolderWriter(outputs, inputs)
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.shard.abandon()
        raise


def write_summary(writer: FileWriter | FolderWriter, summary: dict[str, Any]) -> None:
    """Write the summary, which says that everything before it is complete."""
    outputs, content = writer.outputs, json.dumps(summary, ensure_ascii=False, indent=2).encode() + b"\n"
    if isinstance(writer, FileWriter):
        with atomic_write(outputs.summary) as output:
            output.write(content)
        return
    with atomic_write(writer.folder / outputs.summary.name) as output:
        output.write(content)
    writer.take_place()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
