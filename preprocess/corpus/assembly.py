"""Prepared files -> data.txt, data.ledger.jsonl and data.summary.json, or a folder of the same.

What concerns the whole corpus is decided here: of copies the best is kept, some repositories are held out.
Each input file is in the ledger exactly once, kept or dropped, with the rule that dropped it, the value that
was measured and its threshold. The summary has the sums, which are checked.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from itertools import repeat, tee
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from corpus.data_file import SPLITS, document_lines
from corpus.held_out_split import choose_held_out
from corpus.inventory import Inventory, SourceFile
from corpus.output_files import Outputs, names_of_repos
from corpus.output_writers import write_summary, writer_of
from corpus.selection import Choice, Findings, license_of, name_of, select
from corpus.shards import UNREADABLE, Outcome, Shard, outcomes_in, read_pieces
from documents.filters import Finding
from preprocess_cli import UserError

if TYPE_CHECKING:  # it imports numpy
    from corpus.partitioned_duplicates import Means


def inputs_digest(inventory: Inventory, excluded: Mapping[int, Finding], choice: Choice, rules: str) -> str:
    """What all outputs depend on: the files by name, size and time, what is known of them, the options."""
    licenses = None if choice.licenses is None else sorted(choice.licenses)
    left_out = sorted((n, each.detail) for n, each in excluded.items())
    choices: tuple[Any, ...] = (rules, licenses, choice.similar, left_out)
    if choice.train_on:
        choices += (sorted(choice.train_on),)
    digest = blake2b(repr(choices).encode(), digest_size=16)
    for name in sorted(inventory.repositories):
        digest.update(repr(inventory.repositories[name]).encode())
    for file in inventory.files:
        digest.update(os.fsencode(f"{file.location}\0{file.size}\0{file.mtime_ns}\0"))
    return digest.hexdigest()


def assemble(
    inventory: Inventory,
    excluded: Mapping[int, Finding],
    shards: Iterable[Shard],
    outputs: Outputs,
    inputs: str,
    choice: Choice,
    options: dict[str, Any],
    means: Means,
) -> dict[str, Any]:
    """Write all outputs from shards that are all prepared; the summary. Raises UserError.

    Goes through files and shards several times, and has none of them in memory longer than that takes.
    means: see find_copies.
    """
    outcomes = Outcomes(len(inventory.files), excluded, shards)
    with TemporaryDirectory(prefix="copies-", dir=outputs.cache.parent) as folder:
        findings = select(inventory, shards, choice, outputs.cache, Path(folder), means)
        return write(inventory, shards, outcomes, findings, outputs, inputs, options, choice.train_on)


def write(
    inventory: Inventory,
    shards: Iterable[Shard],
    outcomes: Outcomes,
    findings: Findings,
    outputs: Outputs,
    inputs: str,
    options: dict[str, Any],
    train_on: Sequence[str],
) -> dict[str, Any]:
    kept = KeptFiles(inventory, outcomes, findings)
    held_out = choose_held_out(kept, train_on)
    if not any(True for _ in kept):
        found = findings.of(zip(inventory.files, outcomes, strict=True))
        rules = ", ".join(sorted({finding.rule for finding in found if finding}))
        raise UserError(
            f"no file of {len(inventory.files):,} can be kept ({rules}): {names_of_repos(options)}: "
            "collect more: python data_collector/data_collector.py --local"
        )
    sums = Sums()
    unreadable = list(inventory.unreadable)
    for_findings, everything = tee(zip(inventory.files, outcomes.with_pieces(), strict=True))
    found = findings.of((file, outcome) for file, (outcome, _) in for_findings)
    with writer_of(outputs, inputs) as writer:
        for (file, (outcome, pieces)), finding in zip(everything, found, strict=True):
            line = ledger_line(file, outcome, finding)
            if finding:
                writer.add(line, (), 0)
                sums.count_dropped(file, finding)
                if finding.rule == UNREADABLE:
                    unreadable.append((name_of(file), finding.detail))
                continue
            split = "held_out" if held_out.has(file.repo, file.path) else "train"
            sums.count_kept(file, outcome, split)
            origin = inventory.repositories[file.repo]
            license_name = license_of(origin, outcome)
            lines = document_lines(pieces, file.repo, file.path, origin.commit, license_name, split)
            writer.add(line, lines, outcome.bytes)
    summary = {
        "options": options,
        **sums.summary(len(inventory.files), inventory.files.bytes),
        "special_files": len(inventory.special),
        "unreadable": unreadable,
        "inputs": inputs,
        **writer.record(),
    }
    # Written last: if a run ends before, its summary does not match and the next run replaces everything.
    write_summary(writer, summary)
    prune(outputs.cache, {shard.result.name for shard in shards if all(map(is_final, outcomes_in(shard)))})
    return summary


@dataclass(frozen=True)
class Outcomes:
    """The outcome of each file of the inventory by itself, in order. Excluded files are in no shard."""

    number: int
    excluded: Mapping[int, Finding]
    shards: Iterable[Shard]

    def __iter__(self) -> Iterator[Outcome]:
        return (outcome for outcome, _ in self.with_pieces(wanted=False))

    def with_pieces(self, wanted: bool = True) -> Iterator[tuple[Outcome, list[bytes]]]:
        """The pieces too, as lines of JSON; none for a file that is dropped by itself."""
        expected = 0
        for shard in self.shards:
            outcomes = outcomes_in(shard)
            pieces = read_pieces(shard, outcomes) if wanted else repeat([], len(outcomes))
            for number, outcome, own in zip(shard.numbers, outcomes, pieces, strict=True):
                yield from ((Outcome(self.excluded[each]), []) for each in range(expected, number))
                expected = number + 1
                yield outcome, own
        yield from ((Outcome(self.excluded[each]), []) for each in range(expected, self.number))


@dataclass(frozen=True)
class KeptFiles:
    """(repository, path, bytes of text) of each file that is kept."""

    inventory: Inventory
    outcomes: Outcomes
    findings: Findings

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        for_findings, files = tee(zip(self.inventory.files, self.outcomes, strict=True))
        for (file, outcome), finding in zip(files, self.findings.of(for_findings), strict=True):
            if finding is None:
                yield file.repo, file.path, outcome.bytes


def prune(cache: Path, used: Set[str]) -> None:
    """Delete the results that this run did not use: files or rules have changed since."""
    with os.scandir(cache) as entries:
        for entry in entries:
            if entry.name not in used:
                Path(entry).unlink()


def is_final(outcome: Outcome) -> bool:
    """Whether the same file would have the same outcome again."""
    return not (outcome.finding and outcome.finding.rule == UNREADABLE)


def ledger_line(file: SourceFile, outcome: Outcome, finding: Finding | None) -> bytes:
    """The line of data.ledger.jsonl for a file, newline included."""
    why = finding or Finding("")
    record = {
        "repo": file.repo,
        "path": file.path,
        "outcome": "dropped" if finding else "kept",
        "pieces": 0 if finding else outcome.pieces,
        "redacted": 0 if finding else outcome.redacted,
        "rule": why.rule,
        "value": why.value,
        "threshold": why.threshold,
        "detail": why.detail,
    }
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


class Sums:
    """Files and bytes by rule and split, as data.summary.json has them."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()  # by rule, "" for those kept
        self.bytes: Counter[str] = Counter()
        self.splits = {split: Counter[str]() for split in SPLITS}
        self.redacted: Counter[str] = Counter()  # files with secrets, and places in them
        self.repositories: dict[str, set[str]] = {split: set() for split in SPLITS}

    def count_dropped(self, file: SourceFile, finding: Finding) -> None:
        self.files[finding.rule] += 1
        self.bytes[finding.rule] += file.size

    def count_kept(self, file: SourceFile, outcome: Outcome, split: str) -> None:
        self.files[""] += 1
        self.bytes[""] += file.size
        self.repositories[split].add(file.repo)
        self.redacted["files"] += outcome.redacted > 0
        self.redacted["places"] += outcome.redacted
        sums = self.splits[split]
        sums["files"] += 1
        sums["documents"] += outcome.pieces
        sums["characters"] += outcome.characters
        sums["bytes"] += outcome.bytes

    def summary(self, input_files: int, input_bytes: int) -> dict[str, Any]:
        """The sums as JSON, after checking that nothing is missing or counted twice."""
        assert self.files.total() == input_files, f"{self.files.total()} outcomes for {input_files} files"
        assert self.bytes.total() == input_bytes, f"{self.bytes.total()} bytes for {input_bytes}"
        in_splits = sum(split["files"] for split in self.splits.values())
        assert in_splits == self.files[""], f"{in_splits} files in the splits, {self.files['']} kept"
        rules = sorted((rule for rule in self.files if rule), key=lambda rule: (-self.files[rule], rule))
        return {
            "input": {"files": input_files, "bytes": input_bytes},
            "kept": {"files": self.files[""], "bytes": self.bytes[""]},
            "dropped": {rule: {"files": self.files[rule], "bytes": self.bytes[rule]} for rule in rules},
            "written": {
                split: {
                    "repositories": len(self.repositories[split]),
                    **{key: sums[key] for key in ("files", "documents", "characters", "bytes")},
                }
                for split, sums in self.splits.items()
            },
            "redacted": {key: self.redacted[key] for key in ("files", "places")},
        }
