"""The files of a repository in batches, each prepared at once and kept on disk until files or rules change.

data.cache/prepared/<key>: a line of JSON with what became of each file, then a line with the pieces of each
one that can be kept. So memory does not grow with the corpus, and a run that was killed, or that finds one
repository more, prepares only what is missing. It is safe to delete.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

from filters import Finding
from inventory import SourceFile
from preparation import Prepared, Rules, prepare_source

# A batch is what a worker takes at a time: so large that its overhead does not show, so small that all
# workers end together.
SHARD_FILES = 256
SHARD_BYTES = 1_000_000
# Nothing larger is read into memory, filters or not.
READ_MOST = 64_000_000
# The one outcome that may be another next time although the file is the same.
PASSING = "unreadable"


@dataclass(slots=True)
class Shard:
    """A batch of files of one repository, with the place of its result."""

    files: list[SourceFile]
    result: Path
    failed: dict[int, Finding] = field(default_factory=dict)  # positions of files that ended a worker


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file by itself: the finding that drops it, or figures of its text."""

    finding: Finding | None
    pieces: int
    bytes: int
    digest: str


def plan_shards(files: Iterable[SourceFile], cache: Path, rules_digest: str) -> list[Shard]:
    """The files, which come by repository, in batches."""
    shards = []
    for _, of_repository in groupby(files, key=lambda file: file.repo):
        batch: list[SourceFile] = []
        size = 0
        for file in of_repository:
            if batch and (len(batch) == SHARD_FILES or size + file.size > SHARD_BYTES):
                shards.append(Shard(batch, cache / shard_key(batch, rules_digest)))
                batch, size = [], 0
            batch.append(file)
            size += file.size
        shards.append(Shard(batch, cache / shard_key(batch, rules_digest)))
    return shards


def shard_key(files: Iterable[SourceFile], rules_digest: str) -> str:
    """The name of a batch's result: the same only for the same files under the same rules."""
    digest = blake2b(rules_digest.encode(), digest_size=16)
    for file in files:
        digest.update(os.fsencode(f"{file.repo}\0{file.location}\0{file.size}\0{file.mtime_ns}\0"))
    return digest.hexdigest()


def prepare_shard(shard: Shard, repos: Path, rules: Rules, announce: Callable[[int], None]) -> None:
    """Prepare each file of a batch and write the result; announce says which one it is at."""
    outcomes: list[tuple[object, int, int, str]] = []
    texts: list[bytes] = []
    for number, file in enumerate(shard.files):
        announce(number)
        prepared = shard.failed.get(number) or prepare_file(repos / file.location, rules)
        if isinstance(prepared, Prepared):
            size = sum(len(piece.encode()) for piece in prepared.pieces)
            outcomes.append((None, len(prepared.pieces), size, prepared.digest))
            texts.append(json.dumps(prepared.pieces, ensure_ascii=False).encode() + b"\n")
        else:
            finding = [prepared.rule, prepared.value, prepared.threshold, prepared.detail]
            outcomes.append((finding, 0, 0, ""))
    body = b"".join(texts)
    # A machine that fails may leave an empty file under the right name: the length tells.
    header = json.dumps([len(body), outcomes], ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    beside = shard.result.with_suffix(".partial")
    beside.write_bytes(header + body)
    beside.replace(shard.result)


def prepare_file(path: Path, rules: Rules) -> Prepared | Finding:
    try:
        source = read_regular_file(path)
    except OSError as error:
        return Finding("unreadable", detail=error.strerror or str(error))
    if len(source) > READ_MOST:
        return Finding("large_file", len(source), READ_MOST)
    return prepare_source(source, rules)


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
    return [Outcome(Finding(*finding) if finding else None, *figures) for finding, *figures in outcomes]


def read_pieces(shard: Shard) -> Iterator[list[str]]:
    """The pieces of each file of a batch that can be kept, in order."""
    with shard.result.open("rb") as lines:
        lines.readline()
        for line in lines:
            yield json.loads(line)
