"""Datasets row by row: JSON lines, parquet, Arrow, the hub. What is damaged costs itself alone.

A line that is no JSON, a row group or a batch that cannot be read comes out as Damage, between the rows. An
exception means that nothing more can be read of a file. A reader says where it is, and goes on from there.

Arrow opens files by itself, so that none of its threads runs Python. Those of `datasets` do: where one of
them is at work when Python ends, the process aborts (https://github.com/apache/arrow/issues/45214).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

if TYPE_CHECKING:
    import pyarrow

KINDS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst"), "json"),
}
# A file of 20 MB, the largest that is taken, has six times as much where each character is written as \u0041.
MAX_LINE_BYTES = 130_000_000
UNPACKED = 65_536  # bytes at a time: what is unpacked of a cut-off file is lost by so much
BEGINNING = 1_000  # bytes in which a list has begun
CHUNK = 1_000_000  # bytes, or characters of a list, that are read at a time
NAMED_BY = 100  # lines whose keys are the columns: JSON names them nowhere else
BATCH = 100  # rows in memory at a time
PAGE_BUFFER = 1_000_000  # bytes; without it all that a row group has of a column is read at once
ARROW_FILE = b"ARROW1"  # how the file format begins, and the streaming format does not
BLANK = ""
MARK = b"\xef\xbb\xbf"  # of UTF-8, as some editors write it

Row = Mapping[str, Any]
Place = dict[str, Any]


@dataclass(frozen=True)
class Damage:
    """A part of a file that cannot be read, why, and its rows: "line", 7, "no JSON", 1."""

    unit: str
    number: int
    reason: str
    rows: int


class RowFile(Protocol):
    """What is open for reading. names: its columns, [] where only rows tell. count: its rows, 0 = unknown."""

    names: list[str]
    count: int

    def rows(self, wanted: Iterable[str]) -> Iterator[Row | Damage]:
        """Its rows from here on, of which only these columns are needed."""

    def place(self) -> Place:
        """Where it is: behind what came last."""

    def go_to(self, place: Place) -> None:
        """Go on where a reader was before."""

    def close(self) -> None:
        """Close it."""


def kind_of(path: Path) -> str:
    """How a file is read: "data.jsonl.gz" -> "json", '' if it is no dataset."""
    return next((kind for suffix, kind in KINDS.items() if path.name.lower().endswith(suffix)), "")


def open_rows(path: Path) -> RowFile:
    """A reader of a file. Arrow and the unpackers promise no set of exceptions for one that is damaged."""
    kind = kind_of(path)
    return ParquetRows(path) if kind == "parquet" else ArrowRows(path) if kind == "arrow" else JsonRows(path)


def said_of(error: BaseException) -> str:
    """An error in a few words."""
    words = (isinstance(error, OSError) and error.strerror) or str(error)
    return " ".join(words.split())[:200] or type(error).__name__


# JSON


class JsonRows:
    """An object a line; or one list of objects, which may stretch over many lines."""

    count = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _unpacked(path)
        self._number = 0  # of the line, or of the list's element, that came last
        self._offset = 0  # of the next line, unpacked
        self._is_list = self._file.read(BEGINNING).removeprefix(MARK).lstrip().startswith(b"[")
        self.go_to({"number": 0, "offset": 0})
        names: dict[str, None] = {}
        with suppress(Exception):  # what ends the reading here ends it again, behind the rows before it
            for row in islice(self.rows(()), NAMED_BY):
                names |= {} if isinstance(row, Damage) else dict.fromkeys(row)
        self.names = list(names)
        self.go_to({"number": 0, "offset": 0})

    def rows(self, wanted: Iterable[str]) -> Iterator[Row | Damage]:
        return self._elements() if self._is_list else self._lines()

    def _lines(self) -> Iterator[Row | Damage]:
        while line := self._file.readline(MAX_LINE_BYTES):
            self._number += 1
            self._offset += len(line)
            value: object = f"more than {MAX_LINE_BYTES // 1_000_000} MB"
            if len(line) < MAX_LINE_BYTES:
                line = line.removeprefix(MARK) if self._number == 1 else line
                value = _parsed(line)
            while line and not line.endswith(b"\n"):
                line = self._file.readline(CHUNK)
                self._offset += len(line)
            if value != BLANK:
                yield self._row("line", value)

    def _row(self, unit: str, value: object) -> Row | Damage:
        if isinstance(value, dict):
            return value
        reason = value if isinstance(value, str) else "no JSON object"
        return Damage(unit, self._number, reason, 1)

    def _elements(self) -> Iterator[Row | Damage]:
        """Those of a list. Behind one that is broken nothing tells where the next begins: it is the end."""
        done, self._number = self._number, 0
        try:
            for value in _elements_of(io.TextIOWrapper(self._file, encoding="utf-8-sig")):
                self._number += 1
                if self._number > done:
                    yield self._row("element", value if isinstance(value, dict) else None)
        except json.JSONDecodeError as error:
            raise ValueError(f"no JSON in element {self._number + 1:,}: {error.msg}") from None

    def place(self) -> Place:
        return {"number": self._number, "offset": self._offset}

    def go_to(self, place: Place) -> None:
        self._file.close()
        self._file = _unpacked(self._path)
        self._number, self._offset = place["number"], place["offset"]
        if self._file.seekable():
            self._file.seek(self._offset)
        left = 0 if self._file.seekable() else self._offset
        while left and (piece := self._file.read(min(CHUNK, left))):
            left -= len(piece)

    def close(self) -> None:
        self._file.close()


def _unpacked(path: Path) -> BinaryIO:
    """A file, read through gzip or Zstandard if its name says so."""
    name = path.name.lower()
    if name.endswith(".zst"):
        import pyarrow

        stream = pyarrow.CompressedInputStream(pyarrow.OSFile(os.fsencode(path)), "zstd")
        return cast("BinaryIO", io.BufferedReader(stream, UNPACKED))
    return cast("BinaryIO", gzip.open(path)) if name.endswith(".gz") else path.open("rb")


def _parsed(line: bytes) -> object:
    """A line of JSON; a string says why it is none, BLANK that there is nothing."""
    line = line.strip()
    if not line:
        return BLANK
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return "no UTF-8 text"
    except json.JSONDecodeError as error:
        return f"no JSON: {error.msg}, character {error.pos + 1:,}"
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        return f"no JSON: {said_of(error)}"
    return None if isinstance(value, str) else value


def _elements_of(file: io.TextIOBase) -> Iterator[object]:
    """The elements of a JSON list, of which a part is in memory. Raises ValueError where it is broken."""
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,]*")
    text, position = file.read(CHUNK), 0
    position = text.index("[") + 1
    while True:
        position = cast("re.Match[str]", between.match(text, position)).end()
        if text.startswith("]", position):
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except ValueError:
            text, position = text[position:], 0
            more = file.read(max(CHUNK, len(text))) if len(text) < MAX_LINE_BYTES else ""
            if not more:
                raise
            text += more
        else:
            yield value


# Arrow and parquet


class ParquetRows:
    """A parquet file, of which the row groups are read one by one."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self._file = pyarrow.parquet.ParquetFile(
            pyarrow.OSFile(os.fsencode(path)),
            pre_buffer=False,
            buffer_size=PAGE_BUFFER,
            page_checksum_verification=True,  # where there are checksums
        )
        self.names = list(self._file.schema_arrow.names)
        self.count = int(self._file.metadata.num_rows)
        self._group = self._row = 0  # of the next row

    def rows(self, wanted: Iterable[str]) -> Iterator[Row | Damage]:
        columns = list(wanted)
        while self._group < self._file.num_row_groups:
            damage = None
            try:
                yield from self._rows_of_group(columns)
            except Exception as error:  # noqa: BLE001 - see open_rows
                rows = self._file.metadata.row_group(self._group).num_rows - self._row
                damage = Damage("row group", self._group + 1, said_of(error), rows)
            self._group, self._row = self._group + 1, 0
            if damage:
                yield damage

    def _rows_of_group(self, columns: list[str]) -> Iterator[Row]:
        known = self._row
        for batch in self._file.iter_batches(
            batch_size=BATCH, row_groups=[self._group], columns=columns, use_threads=False
        ):
            for row in _rows_of(batch.slice(min(known, len(batch)))):
                self._row += 1
                yield row
            known = max(known - len(batch), 0)

    def place(self) -> Place:
        return {"group": self._group, "row": self._row}

    def go_to(self, place: Place) -> None:
        self._group, self._row = place["group"], place["row"]

    def close(self) -> None:
        self._file.close(force=True)


class ArrowRows:
    """A file of Arrow's own, in the file format or in the streaming format."""

    count = 0

    def __init__(self, path: Path) -> None:
        import pyarrow

        self._file = pyarrow.OSFile(os.fsencode(path))
        self._is_file = self._file.read(len(ARROW_FILE)) == ARROW_FILE
        self._file.seek(0)
        options = pyarrow.ipc.IpcReadOptions(use_threads=False)
        open_reader = pyarrow.ipc.open_file if self._is_file else pyarrow.ipc.open_stream
        self._reader = open_reader(self._file, options=options)
        self.names = list(self._reader.schema.names)
        self._batch = self._row = 0  # of the next row
        self._streamed = 0  # batches of the streaming format that were read

    def rows(self, wanted: Iterable[str]) -> Iterator[Row | Damage]:
        columns = list(wanted)
        while (batch := self._next_batch(columns)) is not None:
            if not isinstance(batch, Damage):
                for start in range(self._row, len(batch), BATCH):
                    for row in _rows_of(batch.slice(start, BATCH)):
                        self._row += 1
                        yield row
            self._batch, self._row = self._batch + 1, 0
            if isinstance(batch, Damage):
                yield batch

    def _next_batch(self, columns: list[str]) -> pyarrow.RecordBatch | Damage | None:
        """The next one; None at the end. A stream that is broken has ended: its batches are not listed."""
        if self._is_file and self._batch == self._reader.num_record_batches:
            return None
        try:
            if self._is_file:
                return _checked(self._reader.get_batch(self._batch).select(columns))
            while self._streamed <= self._batch:
                batch = self._reader.read_next_batch()
                self._streamed += 1
        except StopIteration:
            return None
        except Exception as error:
            if not self._is_file:
                raise
            return Damage("batch", self._batch + 1, said_of(error), 0)
        try:
            return _checked(batch.select(columns))
        except Exception as error:  # noqa: BLE001 - see open_rows
            return Damage("batch", self._batch + 1, said_of(error), len(batch))

    def place(self) -> Place:
        return {"batch": self._batch, "row": self._row}

    def go_to(self, place: Place) -> None:
        self._batch, self._row = place["batch"], place["row"]

    def close(self) -> None:
        self._file.close()


def _checked(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """A batch whose offsets lie inside of it; text that is not UTF-8 comes as bytes. Raises ArrowInvalid."""
    import pyarrow

    try:
        batch.validate(full=True)
    except pyarrow.ArrowInvalid:
        columns = [_as_bytes(column) for column in batch.columns]
        batch = pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)
        batch.validate(full=True)
    return batch


def _rows_of(batch: pyarrow.RecordBatch) -> Iterator[Row]:
    columns = [_values(column) for column in batch.columns]
    for values in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))


def _values(column: pyarrow.Array) -> list[Any]:
    """The values of a column; text that is not UTF-8 comes as bytes."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_text(value) for value in _as_bytes(column).to_pylist()]


def _as_bytes(column: pyarrow.Array) -> pyarrow.Array:
    import pyarrow

    kinds = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}
    return column.view(kinds[column.type]) if column.type in kinds else column


def _text(value: object) -> object:
    with suppress(UnicodeDecodeError):
        return value.decode("utf-8") if isinstance(value, bytes) else value
    return value


# The hub


class HubRows:
    """A dataset of the hub, as `datasets` streams it."""

    count = 0

    def __init__(self, name: str, config: str, split: str) -> None:
        load = quiet_datasets().load_dataset
        self._stream = load(name, config or None, split=split, streaming=True)
        self.names: list[str] = []

    def rows(self, wanted: Iterable[str]) -> Iterator[Row]:
        yield from self._stream

    def place(self) -> Place:
        return dict(self._stream.state_dict())

    def go_to(self, place: Place) -> None:
        self._stream.load_state_dict(place)

    def close(self) -> None:
        """Threads may still be reading: see `end` of collector_cli."""


def quiet_datasets() -> Any:
    """The module `datasets`, which draws no progress bars and logs nothing."""
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(60)
    return datasets
