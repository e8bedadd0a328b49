"""The files of a repository in batches, each prepared at once and kept on disk until files or rules change.

data.cache/prepared/<key>: a line of JSON with what became of each file, a line for each piece of those that
can be kept, as it will stand in data.txt, then their signatures. So memory does not grow with the text of the
corpus, and a run that was killed, or that finds one repository more, prepares only what is missing. It is
safe to delete.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from corpus import piece_line
from filters import Finding
from inventory import SourceFile
from preparation import Prepared, Rules, prepare_source

# A batch is what a worker takes at a time: so large that its overhead does not show, so small that all
# workers end together.
SHARD_FILES = 256
SHARD_BYTES = 1_000_000
# Nothing larger is read into memory, filters or not.
READ_MOST = 64_000_000
SIGNATURE_BYTES = 1024  # as signatures.py has it, which imports numpy
# The one outcome that may be another next time although the file is the same.
PASSING = "unreadable"


@dataclass(slots=True)
class Shard:
    """A batch of files of one repository, with their numbers in the inventory and the place of its result."""

    files: list[SourceFile]
    result: Path
    numbers: Sequence[int] = ()
    failed: dict[int, Finding] = field(default_factory=dict)  # positions of files that ended a worker


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file by itself: the finding that drops it, or figures of its text."""

    finding: Finding | None
    pieces: int = 0
    characters: int = 0
    bytes: int = 0
    redacted: int = 0
    licence: str = ""
    digest: str = ""
    is_signed: bool = False  # whether it has a signature


def plan_shards(
    files: Iterable[SourceFile], cache: Path, rules_digest: str, left_out: Container[int] = ()
) -> list[Shard]:
    """The files, which come by repository, in batches; without those with a number that is left out."""
    shards: list[Shard] = []

    def close(numbers: list[int], batch: list[SourceFile]) -> None:
        if batch:
            shards.append(Shard(batch, cache / shard_key(batch, rules_digest), numbers))

    for _, of_repository in groupby(enumerate(files), key=lambda numbered: numbered[1].repo):
        numbers: list[int] = []
        batch: list[SourceFile] = []
        size = 0
        for number, file in of_repository:
            if number in left_out:
                continue
            if batch and (len(batch) == SHARD_FILES or size + file.size > SHARD_BYTES):
                close(numbers, batch)
                numbers, batch, size = [], [], 0
            numbers.append(number)
            batch.append(file)
            size += file.size
        close(numbers, batch)
    return shards


def shard_key(files: Iterable[SourceFile], rules_digest: str) -> str:
    """The name of a batch's result: the same only for the same files under the same rules."""
    digest = blake2b(rules_digest.encode(), digest_size=16)
    for file in files:
        digest.update(os.fsencode(f"{file.repo}\0{file.location}\0{file.size}\0{file.mtime_ns}\0"))
    return digest.hexdigest()


def prepare_shard(shard: Shard, repos: Path, rules: Rules, announce: Callable[[int], None]) -> None:
    """Prepare each file of a batch and write the result; announce says which one it is at.

    Raises OSError where the result cannot be written.
    """
    outcomes: list[tuple[object, ...]] = []
    texts: list[bytes] = []
    signatures: list[bytes] = []
    for number, file in enumerate(shard.files):
        announce(number)
        prepared = shard.failed.get(number) or prepare_file(repos, file, rules)
        if isinstance(prepared, Prepared):
            characters, size = 0, 0
            for piece in prepared.pieces:
                characters += len(piece)
                size += len(piece.encode())
                texts.append(piece_line(piece))
            signatures.append(prepared.signature)
            figures = (len(prepared.pieces), characters, size, prepared.redacted)
            outcomes.append(
                (None, *figures, prepared.licence, prepared.digest, bool(prepared.signature)),
            )
        else:
            outcomes.append(([prepared.rule, prepared.value, prepared.threshold, prepared.detail],))
    body = b"".join(texts + signatures)
    # A machine that fails may leave an empty file under the right name: the length tells.
    header = json.dumps([len(body), outcomes], ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    beside = shard.result.with_suffix(".partial")
    beside.write_bytes(header + body)
    beside.replace(shard.result)


def prepare_file(repos: Path, file: SourceFile, rules: Rules) -> Prepared | Finding:
    try:
        source = read_regular_file(repos / file.location)
    except OSError as error:
        return Finding("unreadable", detail=error.strerror or str(error))
    if len(source) > READ_MOST:
        return Finding("large_file", len(source), READ_MOST)
    return prepare_source(source, rules, file.path)


def read_regular_file(path: Path) -> bytes:
    """The bytes of a file, one more than READ_MOST at most; never follows a link or waits for a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file any more")
        return file.read(READ_MOST + 1)


def read_outcomes(shard: Shard) -> list[Outcome] | None:
    """What became of each file of a batch; None where it is not prepared yet."""
    try:
        with shard.result.open("rb") as lines:
            header = lines.readline()
            length, outcomes = json.loads(header)
            if os.fstat(lines.fileno()).st_size != len(header) + length:
                return None
    except (FileNotFoundError, ValueError):
        return None
    return [outcome_of(*parts) for parts in outcomes]


def outcome_of(finding: list[Any] | None, *figures: Any) -> Outcome:
    """An outcome from its parts as they are written: a finding alone, or None and the figures."""
    if finding:
        return Outcome(Finding(*finding))
    pieces, characters, size, redacted, licence, digest, is_signed = figures
    # Most files of a repository are under one licence: one text in memory is enough.
    return Outcome(None, pieces, characters, size, redacted, sys.intern(licence), digest, is_signed)


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
