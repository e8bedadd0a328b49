"""Files of fixed-width records that are larger than memory: written by partition, sorted in runs, merged.

Records are rows of numbers of 64 bits, an array (n, columns); their order is that of the first column, then
the second and so on. A file of partitions has those that belong together side by side, and an index with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.uint64]

WORD = 8  # bytes of a number
SORTING = 5  # times the records themselves: what they are copied into while they are sorted
INDEX = ".index.npy"


def empty(columns: int) -> Records:
    return np.empty((0, columns), np.uint64)


def in_order(records: Records) -> Records:
    """The records sorted."""
    if records.shape[1] == 1:
        return np.sort(records, axis=0)
    return records[np.lexsort(records.T[::-1])]


def sorted_blocks(blocks: Iterable[Records], columns: int, folder: Path, memory: int) -> Iterator[Records]:
    """The records of all blocks in order, in blocks again. What exceeds the memory waits in the folder.

    memory: bytes, of which at least 64 kB times the number of runs are needed.
    """
    most = max(1, memory // SORTING)
    with TemporaryDirectory(prefix="runs-", dir=folder) as name:
        runs: list[Path] = []
        waiting: list[Records] = []
        size = 0
        for block in blocks:
            waiting.append(block)
            size += block.nbytes
            if size >= most:
                runs.append(Path(name) / str(len(runs)))
                in_order(np.concatenate(waiting)).tofile(runs[-1])
                waiting, size = [], 0
        rest = in_order(np.concatenate([empty(columns), *waiting]))
        if not runs:
            if len(rest):
                yield rest
            return
        runs.append(Path(name) / str(len(runs)))
        rest.tofile(runs[-1])
        waiting = []
        yield from merged(runs, columns, max(1, most // len(runs) // (WORD * columns)))


def merged(runs: Sequence[Path], columns: int, most: int) -> Iterator[Records]:
    """The records of sorted files in order; most: records of a file in memory at once."""
    left = [blocks_of(run, columns, most) for run in runs]
    heads = [next(run, empty(columns)) for run in left]
    while any(map(len, heads)):
        # Up to the smallest last one of all heads nothing can follow that is not in memory.
        last = min(tuple(head[-1].tolist()) for head in heads if len(head))
        ready = []
        for number, head in enumerate(heads):
            count = up_to(head, last)
            ready.append(head[:count])
            heads[number] = head[count:] if count < len(head) else next(left[number], empty(columns))
        yield in_order(np.concatenate(ready))


def up_to(records: Records, last: tuple[int, ...]) -> int:
    """How many of these sorted records are not greater than the last one."""
    low, high = 0, len(records)
    while low < high:
        middle = (low + high) // 2
        if tuple(records[middle].tolist()) <= last:
            low = middle + 1
        else:
            high = middle
    return low


def blocks_of(path: Path, columns: int, most: int, first: int = 0, count: int = -1) -> Iterator[Records]:
    """The records of a file, or `count` of them from the first on, in blocks of at most `most`."""
    width = WORD * columns
    end = path.stat().st_size // width if count < 0 else first + count
    with path.open("rb") as file:
        for start in range(first, end, most):
            file.seek(start * width)
            numbers = np.fromfile(file, "<u8", min(most, end - start) * columns)
            yield numbers.reshape(-1, columns)


def without_repetition(blocks: Iterable[Records]) -> Iterator[Records]:
    """Each record of sorted blocks once."""
    last: Records | None = None
    for block in blocks:
        if not len(block):
            continue
        is_new = np.ones(len(block), bool)
        is_new[1:] = (block[1:] != block[:-1]).any(axis=1)
        is_new[0] = last is None or bool((block[0] != last).any())
        last = block[-1]
        yield block[is_new]


class PartitionWriter:
    """A file of records by partition. It is there once all are written; another writer replaces it whole."""

    def __init__(self, path: Path, columns: int, partitions: int, memory: int) -> None:
        self.path, self.columns, self.partitions = path, columns, partitions
        self.most = max(1, memory // SORTING)
        self.file = path.with_name(f"{path.name}.{os.getpid()}.partial").open("wb")
        self.waiting: list[tuple[Records, NDArray[np.uint64]]] = []
        self.size = self.records = 0
        self.slices: list[tuple[int, int, int]] = []  # partition, first record, number of records

    def __enter__(self) -> PartitionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        partial = Path(self.file.name)
        try:
            if kind is None:
                self.flush()
        finally:
            self.file.close()
        if kind is None:
            index = self.path.with_name(self.path.name + INDEX)
            with partial.with_suffix(".slices").open("wb") as file:
                np.save(file, np.array(self.slices, np.int64).reshape(-1, 3))
            partial.with_suffix(".slices").replace(index)
            partial.replace(self.path)
        else:
            partial.unlink(missing_ok=True)

    def add(self, records: Records, which: NDArray[np.uint64]) -> None:
        """Add records (n, columns) to the partitions which (n,)."""
        if len(records):
            self.waiting.append((records, which))
            self.size += records.nbytes
            if self.size >= self.most:
                self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        kind = np.uint16 if self.partitions <= 1 << 16 else np.uint32  # 16 bits are sorted by radix
        which = np.concatenate([part for _, part in self.waiting]).astype(kind)
        records = np.concatenate([part for part, _ in self.waiting])
        self.waiting, self.size = [], 0
        order = np.argsort(which, kind="stable")
        records[order].tofile(self.file)
        counts = np.bincount(which, minlength=self.partitions)
        for partition in np.flatnonzero(counts):
            count = int(counts[partition])
            self.slices.append((int(partition), self.records, count))
            self.records += count


def partition_of(paths: Iterable[Path], columns: int, partition: int, most: int) -> Iterator[Records]:
    """The records of one partition from several files, in blocks of at most `most`, in no order."""
    for path in paths:
        for which, first, count in np.load(path.with_name(path.name + INDEX)).tolist():
            if which == partition:
                yield from blocks_of(path, columns, most, first, count)


class Bits:
    """A bit for each row, in memory: 12 MB for 100 million rows."""

    def __init__(self, rows: int) -> None:
        self.bytes = bytearray(rows // 8 + 1)

    def __getitem__(self, rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
        found: NDArray[np.uint8] = np.frombuffer(self.bytes, np.uint8)[rows >> np.uint64(3)]
        found >>= (rows & np.uint64(7)).astype(np.uint8)
        return (found & 1).astype(np.bool_)

    def add(self, rows: NDArray[np.uint64]) -> None:
        bits = np.uint8(1) << (rows & np.uint64(7)).astype(np.uint8)
        np.bitwise_or.at(np.frombuffer(self.bytes, np.uint8), rows >> np.uint64(3), bits)

    def has(self, row: int) -> int:
        """The bit of one row."""
        return self.bytes[row >> 3] >> (row & 7) & 1

    def set(self, row: int) -> None:
        self.bytes[row >> 3] |= 1 << (row & 7)

    def write(self, path: Path) -> None:
        path.write_bytes(self.bytes)

    @classmethod
    def read(cls, path: Path) -> Bits:
        bits = cls(0)
        bits.bytes = bytearray(path.read_bytes())
        return bits


def rows_at(path: Path, rows: NDArray[np.uint64], width: int) -> NDArray[np.uint8]:
    """These rows (n,) of a file of rows of `width` bytes: (n, width).

    Read, not mapped: mapped pages count as memory of the process, and a system with large pages maps 2 MB
    for a row.
    """
    with path.open("rb", buffering=0) as file:
        places = (rows * np.uint64(width)).tolist()
        read = b"".join([os.pread(file.fileno(), width, place) for place in places])
    return np.frombuffer(read, np.uint8).reshape(-1, width)
