"""The files of a repository in batches. Each batch is prepared at once, and the result is kept on disk.

data.cache/prepared/<key>: a line of JSON with the outcome of each file, a line for each piece of those that
can be kept, as data.txt will have it, then their signatures. So memory does not grow with the text of the
corpus, and a run that was killed, or that finds one repository more, prepares only what is missing. The
folder is safe to delete.

While a batch is prepared, <key>.position beside its result has the number of the file that is being prepared.
The kernel keeps what was written there when the process dies, so any executor can tell which file ended it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from corpus.data_file import atomic_write, piece_line
from corpus.inventory import SourceFile
from documents.filters import Finding
from documents.prepare import Prepared, Rules, prepare_file
from preprocess_cli import UserError

# A worker takes one batch at a time: large enough that its overhead does not show, small enough that all
# workers end together.
SHARD_FILES = 256
SHARD_BYTES = 1_000_000
RESULT_FORMAT = 1  # raise it when the layout of a result changes: results of another format are not read
SIGNATURE_BYTES = 1024  # as in fingerprints.py, which imports numpy
UNREADABLE = "unreadable"  # the one outcome that may differ next time although the file is the same


@dataclass(slots=True)
class Shard:
    """A batch of files of one repository, their numbers in the inventory, and the place of its result."""

    files: list[SourceFile]
    result: Path
    numbers: Sequence[int] = ()
    failed: dict[int, Finding] = field(default_factory=dict)  # positions of files that ended a worker


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found out about one file by itself: the finding that drops it, or figures of its text."""

    finding: Finding | None
    pieces: int = 0
    characters: int = 0
    bytes: int = 0
    redacted: int = 0
    license: str = ""
    digest: str = ""
    is_signed: bool = False  # whether it has a signature


class ShardPlan:
    """Files, which come sorted by repository, in batches: each time anew, as all of them may exceed memory.

    excluded: the numbers of files to leave out.
    """

    def __init__(
        self, files: Iterable[SourceFile], cache: Path, rules_digest: str, excluded: Container[int] = ()
    ) -> None:
        self.files, self.cache, self.rules_digest, self.excluded = files, cache, rules_digest, excluded

    def __iter__(self) -> Iterator[Shard]:
        for _, of_repository in groupby(enumerate(self.files), key=lambda numbered: numbered[1].repo):
            numbers: list[int] = []
            batch: list[SourceFile] = []
            size = 0
            for number, file in of_repository:
                if number in self.excluded:
                    continue
                if batch and (len(batch) == SHARD_FILES or size + file.size > SHARD_BYTES):
                    yield self.shard(numbers, batch)
                    numbers, batch, size = [], [], 0
                numbers.append(number)
                batch.append(file)
                size += file.size
            if batch:
                yield self.shard(numbers, batch)

    def shard(self, numbers: Sequence[int], batch: list[SourceFile]) -> Shard:
        return Shard(batch, self.cache / shard_key(batch, self.rules_digest), numbers)

    def missing(self) -> Iterator[Shard]:
        """Those that are not prepared yet."""
        return (shard for shard in self if not is_prepared(shard))


def shard_key(files: Iterable[SourceFile], rules_digest: str) -> str:
    """The name of a batch's result: the same only for the same files under the same rules."""
    digest = blake2b(f"{RESULT_FORMAT} {rules_digest}".encode(), digest_size=16)
    for file in files:
        digest.update(os.fsencode(f"{file.repo}\0{file.location}\0{file.size}\0{file.mtime_ns}\0"))
    return digest.hexdigest()


def prepare_shard(shard: Shard, repos: Path, rules: Rules) -> None:
    """Prepare each file of a batch and write the result, with the position kept beside it in the meantime.

    Raises OSError if something cannot be written.
    """
    outcomes: list[tuple[object, ...]] = []
    texts: list[bytes] = []
    signatures: list[bytes] = []
    marker = os.open(position_file(shard), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        for position, file in enumerate(shard.files):
            os.pwrite(marker, b"%7d\n" % position, 0)
            prepared = shard.failed.get(position) or prepare_file(repos / file.location, rules, file.path)
            if isinstance(prepared, Prepared):
                outcomes.append(figures_of(prepared))
                texts += map(piece_line, prepared.pieces)
                signatures.append(prepared.signature)
            else:
                outcomes.append(([prepared.rule, prepared.value, prepared.threshold, prepared.detail],))
    finally:
        os.close(marker)
    body = b"".join(texts + signatures)
    # A machine that crashes may leave an empty file under the right name: the length tells.
    header = json.dumps([len(body), outcomes], ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    with atomic_write(shard.result, sync=False) as result:
        result.write(header + body)
    forget_position(shard)


def figures_of(prepared: Prepared) -> tuple[object, ...]:
    """The parts of an outcome without a finding, as outcome_of reads them."""
    characters = sum(map(len, prepared.pieces))
    size = sum(len(piece.encode()) for piece in prepared.pieces)
    figures = (len(prepared.pieces), characters, size, prepared.redacted)
    return (None, *figures, prepared.license, prepared.digest, bool(prepared.signature))


def position_file(shard: Shard) -> Path:
    return shard.result.with_name(f"{shard.result.name}.position")


def position_of(shard: Shard) -> int | None:
    """The position in its batch of the file that is being prepared, or at which a process died."""
    try:
        return int(position_file(shard).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def forget_position(shard: Shard) -> None:
    """Remove what an earlier attempt left: an executor does so before it gives out a batch."""
    position_file(shard).unlink(missing_ok=True)


def is_prepared(shard: Shard) -> bool:
    return read_header(shard) is not None


def read_header(shard: Shard) -> list[Any] | None:
    """The outcomes of a batch as they are written; None if the result is not there, or not whole."""
    try:
        with shard.result.open("rb") as lines:
            header = lines.readline()
            length, outcomes = json.loads(header)
            whole: bool = os.fstat(lines.fileno()).st_size == len(header) + length
            return outcomes if whole else None
    except (FileNotFoundError, ValueError):
        return None


def read_outcomes(shard: Shard) -> list[Outcome] | None:
    """The outcome of each file of a batch; None if the batch is not prepared yet."""
    outcomes = read_header(shard)
    return None if outcomes is None else [outcome_of(*parts) for parts in outcomes]


def outcomes_in(shard: Shard) -> list[Outcome]:
    """Raises UserError if the result is not there."""
    outcomes = read_outcomes(shard)
    if outcomes is None:
        raise UserError(f"this was changed during the run: {shard.result.absolute()}: run it again")
    return outcomes


def outcome_of(finding: list[Any] | None, *figures: Any) -> Outcome:
    """An outcome from its parts as they are written: a finding alone, or None and the figures."""
    if finding:
        return Outcome(Finding(*finding))
    pieces, characters, size, redacted, license_name, digest, is_signed = figures
    # Most files of a repository have one licence: one text in memory is enough.
    return Outcome(None, pieces, characters, size, redacted, sys.intern(license_name), digest, is_signed)


def read_pieces(shard: Shard, outcomes: Iterable[Outcome]) -> Iterator[list[bytes]]:
    """The pieces of each file of a batch, in order, each as its line of JSON; a dropped file has none."""
    with shard.result.open("rb") as lines:
        lines.readline()
        for outcome in outcomes:
            yield [lines.readline() for _ in range(outcome.pieces)]


def read_text(shard: Shard, outcomes: Iterable[Outcome], position: int) -> str:
    """The text of one file of a batch as it will be written, by its position in the batch."""
    pieces = next(islice(read_pieces(shard, outcomes), position, None))
    return "".join(map(json.loads, pieces))


def read_signatures(shard: Shard, outcomes: Iterable[Outcome]) -> bytes:
    """The signatures of the files of a batch that have one, one after the other."""
    size = SIGNATURE_BYTES * sum(outcome.is_signed for outcome in outcomes)
    if not size:
        return b""
    with shard.result.open("rb") as result:
        result.seek(-size, os.SEEK_END)
        return result.read()
