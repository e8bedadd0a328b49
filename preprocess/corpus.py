"""The format of data.txt: one JSON object a line, one document each, sorted by repository, path and piece.

>>> for document in iter_documents(Path("data.txt")):  # doctest: +SKIP
...     print(document.repo, document.path, len(document.text))
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO

REMEDY = "make it again: python preprocess/data_preprocess.py"
SPLITS = ("train", "held_out")


class CorpusError(ValueError):
    """A data.txt that cannot be read: what is wrong, where, and the command that puts it right."""


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


NAMES = tuple(field.name for field in fields(Document))
NUMBERS = ("piece", "pieces")


def document_line(document: Document) -> bytes:
    """The document as its line of data.txt, newline included."""
    record = {name: getattr(document, name) for name in NAMES}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def piece_line(text: str) -> bytes:
    """The text of a document as JSON, in a line of its own: what document_lines puts together."""
    return json.dumps(text, ensure_ascii=False).encode() + b"\n"


def document_lines(
    pieces: Sequence[bytes], repo: str, path: str, commit: str, license_name: str, split: str
) -> Iterator[bytes]:
    """The lines of data.txt for a file whose pieces are lines of piece_line, without parsing these again.

    >>> list(document_lines([piece_line("x = 1")], "o/n", "x.py", "", "MIT", "train")) == [
    ...     document_line(Document("x = 1", "o/n", "x.py", "", "MIT", 0, 1, "train"))
    ... ]
    True
    """
    origin = {"repo": repo, "path": path, "commit": commit, "license": license_name}
    before = json.dumps(origin, ensure_ascii=False).encode()[1:-1]
    after = f', "pieces": {len(pieces)}, "split": "{split}"}}\n'.encode()
    for number, piece in enumerate(pieces):
        yield b'{"text": %b, %b, "piece": %d%b' % (piece[:-1], before, number, after)


def parse_document(line: bytes) -> Document:
    """The document that a line holds. Raises ValueError that says what the line lacks."""
    try:
        record = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("not JSON of this format: nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    for name in NAMES:
        expected = int if name in NUMBERS else str
        if type(record.get(name)) is not expected:
            raise ValueError(f'"{name}" is missing or not {"a number" if expected is int else "text"}')
    if record["split"] not in SPLITS:
        raise ValueError(f'"split" is neither "train" nor "held_out" but {record["split"]!r:.40}')
    if not 0 <= record["piece"] < record["pieces"]:
        raise ValueError(f"piece {record['piece']} of {record['pieces']} cannot be")
    # Half a surrogate pair can be written as an escape, but no tokenizer can encode it.
    if b"\\u" in line and not is_encodable(*(record[name] for name in NAMES if name not in NUMBERS)):
        raise ValueError("it holds half a surrogate pair, which is no character")
    return Document(**{name: record[name] for name in NAMES})


def is_encodable(*texts: str) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def iter_documents(path: Path) -> Iterator[Document]:
    """Every document of a data.txt, in its order, one at a time.

    Raises CorpusError for a file that is missing, unreadable or empty, and for a line that is no document.
    """
    where = path.absolute()
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    document = parse_document(line)
                except ValueError as error:
                    raise CorpusError(
                        f"line {number} is not a document ({error}): {where}: {REMEDY}"
                    ) from None
                yield document
    except FileNotFoundError:
        raise CorpusError(f"there is no such file: {where}: {REMEDY.replace('again', 'first')}") from None
    except OSError as error:
        raise CorpusError(f"it cannot be read ({error.strerror}): {where}: {REMEDY}") from None
    if number == 0:
        raise CorpusError(f"it is empty: {where}: {REMEDY}")


def iter_files(path: Path) -> Iterator[Document]:
    """Every source file of a data.txt: its pieces joined again, as one document that is piece 0 of 1.

    Raises CorpusError like iter_documents, and where a file's pieces do not follow each other.
    """
    where = path.absolute()
    pieces: list[Document] = []
    for document in iter_documents(path):
        previous = pieces[-1] if pieces else replace(document, piece=-1)
        if document != replace(previous, text=document.text, piece=len(pieces)):
            name = f"{previous.repo}/{previous.path}"
            raise CorpusError(f"the pieces of {name} are not together and in order: {where}: {REMEDY}")
        pieces.append(document)
        if len(pieces) == document.pieces:
            yield replace(document, text="".join(piece.text for piece in pieces), piece=0, pieces=1)
            pieces.clear()
    if pieces:
        name = f"{pieces[0].repo}/{pieces[0].path}"
        raise CorpusError(f"the last pieces of {name} are missing: {where}: {REMEDY}")


@contextmanager
def whole_or_absent(path: Path) -> Iterator[BinaryIO]:
    """Open path for writing such that it holds everything that was written, or what it held before.

    It is written beside, under a name that the next run takes again, so that a kill leaves nothing for long.
    """
    beside = path.with_name(path.name + ".partial")
    try:
        with beside.open("wb") as output:
            yield output
            output.flush()
            os.fsync(output.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
