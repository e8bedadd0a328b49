"""--explain: why a file was dropped, or what was changed in it: its line of the ledger spelt out, a diff.

The file is prepared again by the rules of the last run, which are in data.summary.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

from corpus.inventory import SourceFile, as_text, take_inventory
from corpus.output_files import Outputs
from corpus.selection import NEAR_DUPLICATE, name_of
from documents.comments import UndecodableError, decode_source
from documents.filters import FILTERS
from documents.prepare import Prepared, Rules, prepare_file, read_source
from preprocess_cli import UserError, plural, printable

AGAIN = "python preprocess/data_preprocess.py"
REASONS = {
    "empty": "nothing but comments and blanks",
    "undecodable": "its bytes are not text in the encoding that it declares",
    "unparsable": "this interpreter does not accept it",
    "duplicate": "the same file, apart from comments and blanks, is kept elsewhere",
    NEAR_DUPLICATE: "almost the same file is kept elsewhere",
    "license": "its licence is not one of those asked for",
    "excluded": "it is on the list of --exclude",
    "benchmark": "it contains a problem of HumanEval",
    "redaction": "a secret in it cannot be replaced",
    "changed": "the text to be written is not the same program",
    "time_limit": "it took too long",
    "crashed": "the interpreter crashed on it",
    "unreadable": "it could not be read",
}


def explain(path: str, outputs: Outputs) -> None:
    """Print what the last run did with a file. path: on disk, or repository/path.

    Raises UserError if there was no run or it does not know the file.
    """
    summary = summary_of(outputs)
    folders = folders_of(summary["options"])
    file, repos = find_file(path, folders), folders[0]
    fate = fate_of(file, outputs)
    print(f"{printable(name_of(file))}: {fate['outcome']}")
    for line in reasons(fate):
        print(f"  {printable(line)}")
    options = summary["options"]
    thresholds = {rule: number for rule, number in options["thresholds"].items() if number is not None}
    rules = Rules(options["max_chars"], thresholds, options["decontaminate"], options["verify"])
    prepared = prepare_file(repos / file.location, rules, file.path)
    if isinstance(prepared, Prepared):
        written = "".join(prepared.pieces)
        name = printable(name_of(file))
        sys.stdout.writelines(difference(original_text(repos / file.location), written, name))


def summary_of(outputs: Outputs) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(outputs.summary.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"there was no run yet: {outputs.summary.absolute()}: run: {AGAIN}") from None
    return summary


def folders_of(options: dict[str, Any]) -> list[Path]:
    """The folders of repositories of a run, by its options: one, or several."""
    repos = options["repos"]
    return [Path(repos)] if isinstance(repos, str) else [Path(folder) for folder in repos]


def find_file(path: str, folders: Sequence[Path]) -> SourceFile:
    """The file of the inventory that path means. Raises UserError if there is none."""
    absolute = str(Path(path).absolute())
    for file in take_inventory(folders).files:
        if path in (name_of(file), as_text(file.location)) or absolute == str(folders[0] / file.location):
            return file
    raise UserError(f"there is no such file: {path}: give its path on disk, or owner/name/path")


def fate_of(file: SourceFile, outputs: Outputs) -> dict[str, Any]:
    """A file's line of the ledger. Raises UserError if it has none."""
    for ledger in outputs.ledgers:
        with ledger.open("rb") as lines:
            for line in lines:
                fate: dict[str, Any] = json.loads(line)
                if (fate["repo"], fate["path"]) == (file.repo, file.path):
                    return fate
    raise UserError(f"the last run did not see it: {name_of(file)}: run: {AGAIN}")


def reasons(fate: dict[str, Any]) -> Iterator[str]:
    """The line of the ledger as sentences."""
    if fate["outcome"] == "kept":
        secrets = plural(fate["redacted"], "secret or address", "secrets and addresses")
        yield f"{plural(fate['pieces'], 'piece')}, {secrets} redacted"
        return
    rule = fate["rule"]
    by_rule = {each.rule: each for each in FILTERS}
    if each := by_rule.get(rule):
        yield f"{rule}: {each.meaning}: {fate['value']:g}; files are kept with {each.kept(fate['threshold'])}"
        yield f"source: {each.source}"
        yield f"to keep such files: {AGAIN} --threshold {rule}=off"
        return
    measured = f" ({fate['value']:g}, threshold {fate['threshold']:g})" if rule == NEAR_DUPLICATE else ""
    yield f"{rule}: {REASONS.get(rule, rule)}{measured}"
    if fate["detail"]:
        yield fate["detail"]


def original_text(path: Path) -> str:
    try:
        return decode_source(read_source(path))
    except (OSError, UndecodableError):
        return ""


def difference(before: str, after: str, name: str) -> Iterator[str]:
    """A unified diff of what was removed from a file, newlines included."""
    first, second = ([f"{line}\n" for line in text.split("\n")] for text in (before, after))
    yield from unified_diff(first, second, f"{name} as it is", f"{name} as it is written", n=2)
