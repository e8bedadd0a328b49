"""data.txt, one line a document -> its source files, whole, in order: read through `datasets`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "held_out")
TEXTS = ("text", "repo", "path", "commit", "license", "split")  # the columns of data.txt
NUMBERS = ("piece", "pieces")

ROWS = 1000  # taken from the table at a time: a few MB


class SourceFilesError(ValueError):
    """A data.txt that cannot be read: what is wrong, where, and the command that puts it right."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a repository, as preprocessing left it."""

    text: str
    repo: str
    path: str
    split: str
    commit: str = ""
    license: str = ""  # an SPDX identifier; "" where it is not known, as for the commit


def load_documents(data: Path, cache: Path) -> Dataset:
    """The lines of data.txt as a memory-mapped table in cache, about as large as data.txt itself.

    Without network, progress bars or log lines.
    """
    with data.open("rb") as file:
        if file.read(1) != b"{":  # datasets would unpack an archive, and take a list for lines
            raise diagnosis(data)
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import datasets

    columns = {name: datasets.Value("large_string") for name in TEXTS}
    columns |= {name: datasets.Value("int64") for name in NUMBERS}
    bars_hidden, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL + 1)  # a corrupt line is logged before it is raised
    try:
        return datasets.load_dataset(
            "json",
            data_files=escape(str(data.absolute())),  # "data[1].txt" is a name, not a pattern
            features=datasets.Features(columns),
            split="train",
            cache_dir=str(cache),
        )
    except (datasets.exceptions.DatasetGenerationError, ValueError):
        raise diagnosis(data) from None
    finally:
        datasets.logging.set_verbosity(level)
        if not bars_hidden:
            datasets.enable_progress_bars()


def iter_source_files(documents: Dataset, data: Path) -> Iterator[SourceFile]:
    """Each file of data.txt, its pieces joined. Raises: SourceFilesError where a piece or key is missing."""
    pieces: list[str] = []
    first, origin = None, ("", "")
    for batch in documents.with_format("arrow").iter(ROWS):
        if any(column.null_count for column in batch.columns):
            raise diagnosis(data)
        names = ("text", "commit", "license", "repo", "path", "split", *NUMBERS)
        columns = (batch[name].to_pylist() for name in names)
        for text, commit, licence, repo, path, split, piece, count in zip(*columns, strict=True):
            identity = (repo, path, split)
            if piece == 0:
                first, origin = identity, (commit, licence)
            if piece != len(pieces) or identity != first or split not in SPLITS:
                raise diagnosis(data)
            pieces.append(text)
            if len(pieces) == count:
                yield SourceFile("".join(pieces), *identity, *origin)
                pieces.clear()
    if pieces:
        raise diagnosis(data)


def diagnosis(data: Path) -> SourceFilesError:
    """What is wrong with a data.txt that could not be read, by the number of its line."""
    remedy = f"{data.absolute()}: make it again: python preprocess/data_preprocess.py"
    number, expected, first = 0, 0, None
    with data.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                document = json.loads(line.decode())
                "".join(document[name] for name in TEXTS).encode()
                piece, count = (int(document[name]) for name in NUMBERS)
            except UnicodeDecodeError as error:
                return SourceFilesError(f"line {number} is not UTF-8 at byte {error.start}: {remedy}")
            except json.JSONDecodeError as error:
                return SourceFilesError(f"line {number} is not JSON ({error.msg}): {remedy}")
            except KeyError as error:
                return SourceFilesError(f'line {number} has no "{error.args[0]}": {remedy}')
            except (ValueError, TypeError, RecursionError) as error:
                return SourceFilesError(f"line {number} is not a document ({error}): {remedy}")
            if document["split"] not in SPLITS:
                return SourceFilesError(
                    f'line {number} has neither "train" nor "held_out" as "split": {remedy}'
                )
            identity = [document[name] for name in ("repo", "path", "split")]
            if piece != expected or (piece and identity != first):
                return SourceFilesError(f"line {number} does not follow the piece before it: {remedy}")
            expected, first = (0 if piece + 1 == count else piece + 1), identity
    if number == 0:
        return SourceFilesError(f"it is empty: {remedy}")
    if expected:
        return SourceFilesError(f"pieces are missing after line {number}, the last: {remedy}")
    return SourceFilesError(f"it cannot be read: {remedy}")
