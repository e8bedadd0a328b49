"""data.ledger.jsonl, the fate of every file, and data.summary.json, the sums over it.

Each input file is in the ledger exactly once, kept or dropped, with the rule that dropped it, what that rule
measured and its threshold.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

from filters import Finding
from inventory import SourceFile


@dataclass(frozen=True, slots=True)
class Fate:
    """One line of the ledger. The fields are in the line's order."""

    repo: str
    path: str
    outcome: str  # "kept" or "dropped"
    pieces: int = 0
    redacted: int = 0
    rule: str = ""
    value: float | None = None
    threshold: float | None = None
    detail: str = ""


NAMES = tuple(field.name for field in fields(Fate))


def fate_line(fate: Fate) -> bytes:
    """The fate as its line of the ledger, newline included."""
    record = {name: getattr(fate, name) for name in NAMES}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def kept(file: SourceFile, pieces: int, redacted: int) -> Fate:
    return Fate(file.repo, file.path, "kept", pieces, redacted)


def dropped(file: SourceFile, finding: Finding) -> Fate:
    return Fate(
        file.repo,
        file.path,
        "dropped",
        rule=finding.rule,
        value=finding.value,
        threshold=finding.threshold,
        detail=finding.detail,
    )


class Sums:
    """Files and bytes by outcome and split, as the summary has them."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()  # by rule, "" for those kept
        self.bytes: Counter[str] = Counter()
        self.splits = {split: Counter[str]() for split in ("train", "held_out")}
        self.redacted: Counter[str] = Counter()  # files with secrets, and places in them
        self.repositories: dict[str, set[str]] = {split: set() for split in self.splits}

    def count(self, fate: Fate, size: int) -> None:
        self.files[fate.rule] += 1
        self.bytes[fate.rule] += size

    def count_kept(self, fate: Fate, split: str, characters: int, size: int) -> None:
        sums = self.splits[split]
        self.repositories[split].add(fate.repo)
        self.redacted["files"] += fate.redacted > 0
        self.redacted["places"] += fate.redacted
        sums["files"] += 1
        sums["documents"] += fate.pieces
        sums["characters"] += characters
        sums["bytes"] += size

    def rules(self) -> list[str]:
        """The rules that dropped something, the one that dropped most first."""
        return sorted((rule for rule in self.files if rule), key=lambda rule: (-self.files[rule], rule))

    def summary(self, input_files: int, input_bytes: int) -> dict[str, Any]:
        """The sums as data.summary.json has them, after checking that nothing is missing or counted twice."""
        assert self.files.total() == input_files, f"{self.files.total()} fates for {input_files} files"
        assert self.bytes.total() == input_bytes, f"{self.bytes.total()} bytes for {input_bytes}"
        in_splits = sum(split["files"] for split in self.splits.values())
        assert in_splits == self.files[""], f"{in_splits} files in the splits, {self.files['']} kept"
        return {
            "input": {"files": input_files, "bytes": input_bytes},
            "kept": {"files": self.files[""], "bytes": self.bytes[""]},
            "dropped": {
                rule: {"files": self.files[rule], "bytes": self.bytes[rule]} for rule in self.rules()
            },
            "written": {
                split: {
                    "repositories": len(self.repositories[split]),
                    **{key: sums[key] for key in ("files", "documents", "characters", "bytes")},
                }
                for split, sums in self.splits.items()
            },
            "redacted": {key: self.redacted[key] for key in ("files", "places")},
        }
