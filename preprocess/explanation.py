"""Why a file was dropped, or what was changed in it: its line of the ledger in words, and a diff.

Everything is made again from the file itself by the rules of the last run, which data.summary.json has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

from assembly import Outputs, OutputsError
from decoding import UndecodableError, decode_source
from filters import FILTERS
from inventory import InventoryError, SourceFile, take_inventory
from preparation import Prepared, Rules
from selection import NEAR_DUPLICATE, name_of
from shards import prepare_file, read_regular_file

AGAIN = "python preprocess/data_preprocess.py"
REASONS = {
    "empty": "nothing is left of it without comments",
    "undecodable": "its bytes are not text in the encoding that it declares",
    "unparsable": "this interpreter does not accept it",
    "duplicate": "the same file, but for comments and blanks, is kept from elsewhere",
    NEAR_DUPLICATE: "almost the same file is kept from elsewhere",
    "license": "its licence is none of those that were asked for",
    "excluded": "the list of exclusions has it",
    "benchmark": "it contains a problem of HumanEval",
    "redaction": "a secret cannot be taken out of it",
    "changed": "what would be written is not the same program",
    "time_limit": "it took too long",
    "crashed": "the interpreter died of it",
    "unreadable": "it could not be read",
}


def explain(path: str, outputs: Outputs) -> int:
    """Print what became of a file in the last run; the exit code. path: on disk, or repository/path.

    Raises OutputsError where there was no run or it knows no such file.
    """
    summary = summary_of(outputs)
    repos = Path(summary["options"]["repos"])
    file = find_file(path, repos)
    fate = fate_of(file, outputs)
    print(f"{name_of(file)}: {fate['outcome']}")
    for line in reasons(fate):
        print(f"  {line}")
    options = summary["options"]
    thresholds = {rule: number for rule, number in options["thresholds"].items() if number is not None}
    rules = Rules(options["max_chars"], thresholds, options["decontaminate"], options["verify"])
    prepared = prepare_file(repos, file, rules)
    if isinstance(prepared, Prepared):
        written = "".join(prepared.pieces)
        sys.stdout.writelines(difference(original_text(repos / file.location), written, name_of(file)))
    return 0


def summary_of(outputs: Outputs) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(outputs.summary.read_bytes())
    except (OSError, ValueError):
        raise OutputsError(f"there was no run yet: {outputs.summary.absolute()}: run: {AGAIN}") from None
    return summary


def find_file(path: str, repos: Path) -> SourceFile:
    """The file of the inventory that is meant. Raises OutputsError where there is none."""
    try:
        files = take_inventory(repos).files
    except InventoryError as error:
        raise OutputsError(str(error)) from None
    absolute = str(Path(path).absolute())
    for file in files:
        if path == name_of(file) or absolute == str(repos / file.location):
            return file
    raise OutputsError(
        f"there is no such file: {path}: give it as in the ledger (owner/name/path) or on disk"
    )


def fate_of(file: SourceFile, outputs: Outputs) -> dict[str, Any]:
    """The line of the ledger. Raises OutputsError where it has none."""
    with outputs.ledger.open("rb") as lines:
        for line in lines:
            fate: dict[str, Any] = json.loads(line)
            if (fate["repo"], fate["path"]) == (file.repo, file.path):
                return fate
    raise OutputsError(f"the last run did not see it: {name_of(file)}: run: {AGAIN}")


def reasons(fate: dict[str, Any]) -> Iterator[str]:
    """What the line of the ledger says, in words."""
    if fate["outcome"] == "kept":
        yield f"{fate['pieces']} pieces, {fate['redacted']} secrets and addresses redacted"
        return
    rule = fate["rule"]
    by_rule = {each.rule: each for each in FILTERS}
    if each := by_rule.get(rule):
        yield f"{rule}: {each.meaning}: {fate['value']:g}; kept is {each.kept(fate['threshold'])}"
        yield f"source: {each.source}"
        yield f"to keep such files: {AGAIN} --threshold {rule}=off"
        return
    measured = f" ({fate['value']:g}, threshold {fate['threshold']:g})" if rule == NEAR_DUPLICATE else ""
    yield f"{rule}: {REASONS.get(rule, rule)}{measured}"
    if fate["detail"]:
        yield fate["detail"]


def original_text(path: Path) -> str:
    try:
        return decode_source(read_regular_file(path))
    except (OSError, UndecodableError):
        return ""


def difference(before: str, after: str, name: str) -> Iterator[str]:
    """A unified diff of what was removed from a file, newlines included."""
    first, second = ([f"{line}\n" for line in text.split("\n")] for text in (before, after))
    yield from unified_diff(first, second, f"{name} as it is", f"{name} as it is written", n=2)
