"""A corpus, one document a line -> whole source files, in order; read through `datasets`, part by part."""

from __future__ import annotations

import json
import os
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from model_cli import UserError
from pretrained.corpus_files import COMPRESSED, lines_bytes, open_lines, shard_paths

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "held_out")
TEXTS = ("text", "repo", "path", "commit", "license", "split")
NUMBERS = ("piece", "pieces")
ORIGIN = ("repo", "path", "commit", "license", "pieces", "split")  # what all pieces of a file have in common
NAMES = ("text", "repo", "path", "commit", "license", "piece", "pieces", "split")  # the keys of a line
EACH_LINE = f"each line has {', '.join(NAMES)}, and docs/data.md shows how to add them"
MOST_PIECES = 1 << 31
REMEDY = "make it again: python preprocess/data_preprocess.py"

# Bytes of lines in a part: as a shard of preprocessing has. A part is what a killed process may lose.
PART_BYTES = 256_000_000
ROWS = 1000  # put into the table, or taken from it, at a time: a few MB


@dataclass(frozen=True)
class SourceFile:
    """A file of a repository, as preprocessing left it."""

    text: str
    repo: str
    path: str
    split: str
    commit: str = ""
    license: str = ""  # an SPDX identifier; "" if unknown, as for the commit


@dataclass(frozen=True)
class Part:
    """Some lines of a corpus, which hold whole source files: a file, or a range of one."""

    path: Path
    start: int = 0
    end: int | None = None  # None: all of it

    @property
    def size(self) -> int:
        """About how many bytes its lines have."""
        return lines_bytes(self.path) if self.end is None else self.end - self.start

    @property
    def name(self) -> str:
        """What tells it from the other parts of the same corpus."""
        return f"{self.path.name} {self.start} {'' if self.end is None else self.end}"


def plan_parts(data: Path) -> list[Part]:
    """A corpus in parts, in order: a shard each, and of a larger file ranges of PART_BYTES.

    The same parts for every process, of which none reads more than a few lines. Raises: UserError.
    """
    parts = []
    for path in shard_paths(data):
        size = path.stat().st_size
        if path.name.endswith(COMPRESSED) or size < 2 * PART_BYTES:
            parts.append(Part(path))
            continue
        with path.open("rb") as lines:
            starts = {_next_file(lines, position) for position in range(PART_BYTES, size, PART_BYTES)}
        parts += [Part(path, *ends) for ends in pairwise(sorted({0, size} | starts))]
    return parts


def _next_file(lines: BinaryIO, position: int) -> int:
    """Where, from this position on, the first line of a source file begins."""
    lines.seek(position - 1)
    lines.readline()
    while True:
        start = lines.tell()
        line = lines.readline()
        try:
            if not line or parse_line(line)["piece"] == 0:
                return start
        except ValueError:  # who reads the line says what is wrong with it
            return start


def load_documents(part: Part, cache: Path) -> Dataset:
    """The lines of a part as a memory-mapped table in cache, about as large as the lines themselves.

    datasets' own reader of JSON guesses types, so that a text such as "2024-01-01" becomes another, and takes
    what the tokenizer refuses. Uses no network. Raises: UserError if a line is not a document.
    """
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import datasets
    import pyarrow as pa

    schema = pa.schema([(name, pa.int64() if name in NUMBERS else pa.large_string()) for name in NAMES])
    cache.mkdir(parents=True, exist_ok=True)
    table = cache / "documents.arrow"
    lines = iter_lines(part)
    with table.open("wb") as file, pa.ipc.new_stream(file, schema) as stream:
        while rows := list(islice(lines, ROWS)):
            stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    return datasets.Dataset.from_file(str(table))


def iter_lines(part: Part) -> Iterator[dict[str, Any]]:
    """Each document of a part. Raises: UserError, which names the first line at fault."""
    where = part.path.absolute()
    number = expected = 0  # expected: the number of the next piece
    first: list[Any] = []
    with open_lines(part.path) as lines:
        if part.start:
            lines.seek(part.start)
        left = part.end - part.start if part.end is not None else None
        for number, line in enumerate(lines, 1):
            try:
                document = parse_line(line if number > 1 else line.removeprefix(BOM_UTF8))
                piece, origin = document["piece"], [document[name] for name in ORIGIN]
                if piece != expected or (expected and origin != first):
                    raise ValueError("does not follow the piece before it")
            except ValueError as error:
                number += _lines_before(part)
                raise UserError(f"line {number} {error}: {where}: {REMEDY}") from None
            expected, first = (piece + 1) % document["pieces"], origin
            yield document
            if left is not None:
                left -= len(line)
                if left <= 0:
                    break
    if number == 0 and not part.path.name[:1].isdecimal():  # a shard may be empty
        raise UserError(f"it is empty: {where}: {REMEDY}")
    if expected:
        last = number + _lines_before(part)
        raise UserError(f"pieces are missing after line {last}, the last: {where}: {REMEDY}")


def _lines_before(part: Part) -> int:
    """How many lines its file has before it."""
    with part.path.open("rb") as lines:
        return sum(lines.read(min(PART_BYTES, part.start - at)).count(b"\n")
                   for at in range(0, part.start, PART_BYTES))  # fmt: skip


def parse_line(line: bytes) -> dict[str, Any]:
    """The document in a line. Raises: ValueError, which says what is wrong with the line.

    The rules are those of the tokenizer, which has them in preprocess/corpus/data_file.py.
    """
    try:
        pairs = json.loads(line.decode(), object_pairs_hook=tuple)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError("is not a document (nested too deeply)") from None
    if not isinstance(pairs, tuple):
        raise ValueError("is not a document (not a JSON object)")
    document = dict(pairs)
    if missing := [f'"{name}"' for name in NAMES if name not in document]:
        raise ValueError(f"has no {', '.join(missing)}; {EACH_LINE}")
    if len(pairs) > len(NAMES):
        names = [name for name, _ in pairs]
        odd = next(name for at, name in enumerate(names) if name not in NAMES or name in names[:at])
        raise ValueError(f"has one key too many, {odd!r:.40}; {EACH_LINE}")
    for name in NAMES:
        expected = int if name in NUMBERS else str
        if type(document[name]) is not expected:
            raise ValueError(
                f'is not a document ("{name}" is not {"a number" if name in NUMBERS else "text"})'
            )
    if document["split"] not in SPLITS:
        raise ValueError('has neither "train" nor "held_out" as "split"')
    if not 0 <= document["piece"] < document["pieces"] <= MOST_PIECES:
        raise ValueError(f"is not a document (piece {document['piece']} of {document['pieces']} cannot be)")
    if b"\\u" in line:  # half a surrogate pair can be written as an escape, but it has no UTF-8
        try:
            "".join(document[name] for name in TEXTS).encode()
        except UnicodeEncodeError:
            raise ValueError("is not a document (half a surrogate pair is not a character)") from None
    return document


def iter_source_files(documents: Dataset) -> Iterator[SourceFile]:
    """Each file of data.txt, its pieces joined."""
    pieces: list[str] = []
    for batch in documents.with_format("arrow").iter(ROWS):
        names = ("text", "repo", "path", "split", "commit", "license", "pieces")
        for text, *origin, count in zip(*(batch[name].to_pylist() for name in names), strict=True):
            pieces.append(text)
            if len(pieces) == count:
                yield SourceFile("".join(pieces), *origin)
                pieces.clear()
