"""Prepared files -> data.txt, its ledger and its summary: what concerns the whole corpus is decided here.

Of copies the best is kept, some repositories are held out, everything is counted and the sums are checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from corpus import document_lines, parse_document, whole_or_absent
from filters import Finding
from holdout import held_out_files
from inventory import Inventory
from ledger import Sums, dropped, fate_line, kept
from selection import Choice, licence_of, name_of, select
from shards import PASSING, Outcome, Shard, read_outcomes, read_pieces


class OutputsError(ValueError):
    """Outputs that cannot or must not be written: what is wrong, where, what to do."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of a run, named after the first of them."""

    data: Path

    @property
    def ledger(self) -> Path:
        return self.data.with_suffix(".ledger.jsonl")

    @property
    def summary(self) -> Path:
        return self.data.with_suffix(".summary.json")

    @property
    def cache(self) -> Path:
        return self.data.with_suffix(".cache") / "prepared"


def refuse_what_is_not_ours(outputs: Outputs) -> None:
    """Raise OutputsError where a file lies in the way that no run of this stage wrote."""
    for path in (outputs.data, outputs.ledger, outputs.summary):
        if path.is_symlink() or (path.exists() and not is_ours(path, outputs)):
            raise OutputsError(
                f"something else made this: {path.absolute()}: move it, or write elsewhere with --output FILE"
            )
    folder = outputs.data.absolute().parent
    if not folder.is_dir():
        raise OutputsError(f"there is no such folder: {folder}: run: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputsError(f"this folder cannot be written to: {folder}: write elsewhere with --output FILE")


def is_ours(path: Path, outputs: Outputs) -> bool:
    """Whether a file begins as those that this stage writes; an empty one holds nothing to lose."""
    if not path.is_file():
        return False
    try:
        if path == outputs.summary:
            return "written" in json.loads(path.read_bytes())
        with path.open("rb") as lines:
            first = lines.readline()
        if path == outputs.data:
            return not first or parse_document(first) is not None
        return not first or "outcome" in json.loads(first)
    except (ValueError, TypeError):
        return False


def inputs_digest(inventory: Inventory, excluded: Mapping[int, Finding], choice: Choice, rules: str) -> str:
    """What all outputs depend on: the files by name, size and time, what is known of them, the options."""
    licences = None if choice.licences is None else sorted(choice.licences)
    choices = (rules, licences, choice.similar, sorted((n, each.detail) for n, each in excluded.items()))
    digest = blake2b(repr(choices).encode(), digest_size=16)
    for name in sorted(inventory.repositories):
        digest.update(repr(inventory.repositories[name]).encode())
    for file in inventory.files:
        digest.update(os.fsencode(f"{file.location}\0{file.size}\0{file.mtime_ns}\0"))
    return digest.hexdigest()


def finished_summary(outputs: Outputs, inputs: str) -> dict[str, Any] | None:
    """The summary of an earlier run, if that had the same inputs and its outputs are as it left them."""
    try:
        summary: dict[str, Any] = json.loads(outputs.summary.read_bytes())
        is_finished = (
            summary["inputs"] == inputs
            and not summary["unreadable"]
            and all(
                summary[key].items() >= size_and_time(path).items()
                for key, path in (("data", outputs.data), ("ledger", outputs.ledger))
            )
        )
    except (OSError, ValueError, KeyError):
        return None
    return summary if is_finished else None


def size_and_time(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def assemble(
    inventory: Inventory,
    excluded: Mapping[int, Finding],
    shards: Sequence[Shard],
    outputs: Outputs,
    inputs: str,
    choice: Choice,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Write everything from shards that are all prepared, and return the summary. Raises OutputsError."""
    outcomes = outcomes_of_all(len(inventory.files), excluded, shards)
    findings = select(inventory, shards, outcomes, choice)
    held_out = hold_out(inventory, outcomes, findings)
    if findings.count(None) == 0:
        rules = ", ".join(sorted({finding.rule for finding in findings if finding}))
        raise OutputsError(
            f"not one of {len(findings):,} files can be kept ({rules}): {options['repos']}: "
            "collect more: python data_collector/data_collector.py --local"
        )
    sums, sha = Sums(), sha256()
    unreadable = list(inventory.unreadable)
    with whole_or_absent(outputs.ledger) as ledger, whole_or_absent(outputs.data) as data:
        for number, pieces in enumerate(pieces_of_all(outcomes, shards)):
            file, outcome, finding = inventory.files[number], outcomes[number], findings[number]
            fate = dropped(file, finding) if finding else kept(file, outcome.pieces, outcome.redacted)
            ledger.write(fate_line(fate))
            sums.count(fate, file.size)
            if finding is None:
                split = "held_out" if number in held_out else "train"
                sums.count_kept(fate, split, outcome.characters, outcome.bytes)
                origin = inventory.repositories[file.repo]
                licence = licence_of(origin, outcome)
                lines = document_lines(pieces, file.repo, file.path, origin.commit, licence, split)
                text = b"".join(lines)
                sha.update(text)
                data.write(text)
            elif finding.rule == PASSING:
                unreadable.append((name_of(file), finding.detail))
    summary = {
        "options": options,
        **sums.summary(len(inventory.files), sum(file.size for file in inventory.files)),
        "special_files": len(inventory.special),
        "unreadable": unreadable,
        "inputs": inputs,
        "data": {"sha256": sha.hexdigest(), **size_and_time(outputs.data)},
        "ledger": size_and_time(outputs.ledger),
    }
    # Last: a run that ends before leaves a summary that does not fit, and is made good by the next.
    with whole_or_absent(outputs.summary) as output:
        output.write(json.dumps(summary, ensure_ascii=False, indent=2).encode() + b"\n")
    prune(
        outputs.cache,
        {shard.result for shard in shards if not has_passing(outcomes[number] for number in shard.numbers)},
    )
    return summary


def outcomes_of_all(number: int, excluded: Mapping[int, Finding], shards: Iterable[Shard]) -> list[Outcome]:
    """What became of each file of the inventory by itself; those that are excluded are in no shard."""
    by_number = {position: Outcome(finding) for position, finding in excluded.items()}
    for shard in shards:
        outcomes = read_outcomes(shard)
        if outcomes is None:
            raise OutputsError(f"this was changed during the run: {shard.result.absolute()}: run it again")
        by_number.update(zip(shard.numbers, outcomes, strict=True))
    return [by_number.pop(position) for position in range(number)]


def hold_out(
    inventory: Inventory, outcomes: Sequence[Outcome], findings: Sequence[Finding | None]
) -> set[int]:
    """The positions of the files that are held out, among those that are kept."""
    kept = [number for number, finding in enumerate(findings) if finding is None]
    files = [inventory.files[number] for number in kept]
    sizes = [outcomes[number].bytes for number in kept]
    chosen = held_out_files([(file.repo, file.path, size) for file, size in zip(files, sizes, strict=True)])
    return {kept[position] for position in chosen}


def pieces_of_all(outcomes: Sequence[Outcome], shards: Iterable[Shard]) -> Iterator[list[bytes]]:
    """The pieces of each file, as lines of JSON; one that cannot be kept by itself has none."""
    position = 0
    for shard in shards:
        for number, pieces in zip(
            shard.numbers, read_pieces(shard, (outcomes[number] for number in shard.numbers)), strict=True
        ):
            yield from ([] for _ in range(position, number))
            position = number + 1
            yield pieces
    yield from ([] for _ in range(position, len(outcomes)))


def prune(cache: Path, used: Set[Path]) -> None:
    """Delete what no file of this run came from: results for files and rules that are no more."""
    for path in cache.iterdir():
        if path not in used:
            path.unlink()


def has_passing(outcomes: Iterable[Outcome]) -> bool:
    return any(outcome.finding and outcome.finding.rule == PASSING for outcome in outcomes)
