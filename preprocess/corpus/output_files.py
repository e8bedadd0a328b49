"""What stage 3 writes, as one file (data.txt) or as a folder of shards, and whether that is still there.

data.txt                     data/00000.jsonl.zst  00001.jsonl.zst ...    the same lines, in order
data.ledger.jsonl            data/ledger-00000.jsonl ...                  a part for each shard
data.summary.json            data/summary.json                            with the hash of each shard
data.cache/                  data.cache/
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.data_file import (
    digest_of_lines,
    digest_of_shards,
    is_shard_name,
    parse_document,
    shard_paths,
    size_and_time,
)
from preprocess_cli import UserError

USUAL_RATIO = 4  # bytes of lines in one of zstd
UNFINISHED = "unfinished.json"


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of a run, named after its data: a file, or a folder of shards."""

    data: Path
    is_folder: bool = False
    is_plain: bool = False  # shards that are not compressed

    @classmethod
    def named(cls, text: str, is_plain: bool = False) -> Outputs:
        """By what --output says: a folder has a slash at its end, or is there already."""
        path = Path(text)
        return cls(path, text.endswith("/") or path.is_dir(), is_plain)

    @property
    def ledger(self) -> Path:
        """Of a file; a folder has several."""
        return self.data.with_suffix(".ledger.jsonl")

    @property
    def ledgers(self) -> list[Path]:
        return sorted(self.data.glob("ledger-*.jsonl")) if self.is_folder else [self.ledger]

    @property
    def summary(self) -> Path:
        return self.data / "summary.json" if self.is_folder else self.data.with_suffix(".summary.json")

    @property
    def page(self) -> Path:
        return (
            self.data / "report.html"
            if self.is_folder
            else self.data.with_name(f"{self.data.stem}.report.html")
        )

    @property
    def cache(self) -> Path:
        beside = self.data.absolute()
        if self.is_folder:
            return beside.with_name(f"{beside.name}.cache") / "prepared"
        return self.data.with_suffix(".cache") / "prepared"

    @property
    def partial(self) -> Path:
        """Where a folder lies until it is complete."""
        return self.data.absolute().with_name(f".{self.data.absolute().name}.partial")

    @property
    def previous(self) -> Path:
        """Where an earlier folder lies for the moment in which a new one takes its place."""
        return self.data.absolute().with_name(f".{self.data.absolute().name}.previous")


def refuse_to_overwrite(outputs: Outputs) -> None:
    """Raise UserError if an output exists that no run of this stage wrote, or cannot be written."""
    if outputs.is_folder:
        if outputs.previous.is_dir() and not outputs.data.exists():  # killed between two renames
            outputs.previous.rename(outputs.data)
        _refuse_foreign_folder(outputs)
    else:
        for path in (outputs.data, outputs.ledger, outputs.summary):
            if path.is_symlink() or (path.exists() and not _is_ours(path, outputs)):
                raise UserError(
                    f"something else made this: {path.absolute()}: "
                    "move it, or write elsewhere with --output FILE"
                )
    folder = outputs.data.absolute().parent
    if not folder.is_dir():
        raise UserError(f"there is no such folder: {folder}: run: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"this folder cannot be written to: {folder}: write elsewhere with --output FILE")


def _refuse_foreign_folder(outputs: Outputs) -> None:
    data, remedy = outputs.data.absolute(), "write elsewhere: --output FOLDER/"
    if data.is_symlink() or (data.exists() and not data.is_dir()):
        raise UserError(f"this is not a folder: {data}: move it, or {remedy}")
    if data == Path.cwd() or data in Path.cwd().parents:
        raise UserError(f"this folder is in use, so no other can take its place: {data}: {remedy}")
    names = {path.name for path in data.iterdir()} if data.is_dir() else set()
    strange = sorted(name for name in names if not _is_name_of_ours(name))
    if not strange and names and last_summary(outputs) is None:
        strange = sorted(names)
    if strange:
        raise UserError(f"something else made this: {data / strange[0]}: move it, or {remedy}")
    unfinished = outputs.partial
    if unfinished.is_dir() and any(unfinished.iterdir()) and not (unfinished / UNFINISHED).is_file():
        raise UserError(f"something else made this: {unfinished}: move it, or {remedy}")


def _is_name_of_ours(name: str) -> bool:
    is_ledger = name.startswith("ledger-") and name.endswith(".jsonl")
    return is_shard_name(name) or is_ledger or name in ("summary.json", "report.html")


def _is_ours(path: Path, outputs: Outputs) -> bool:
    """Whether a file begins like those that this stage writes. An empty file has nothing to lose."""
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


def last_summary(outputs: Outputs) -> dict[str, Any] | None:
    """The summary of the last run; None if there was none."""
    try:
        summary: dict[str, Any] = json.loads(outputs.summary.read_bytes())
        is_whole = {"inputs", "options", "unreadable", "data", "ledger"} <= summary.keys()
        are_entries = is_whole and all(isinstance(summary[key], dict) for key in ("data", "ledger"))
        return summary if are_entries else None
    except (OSError, ValueError, AttributeError):
        return None


def staleness(summary: dict[str, Any], outputs: Outputs, inputs: str, options: dict[str, Any]) -> list[str]:
    """What has changed since the run of this summary; nothing if its outputs are those of a run now."""
    changed = []
    for key, what, paths in (
        ("data", outputs.data, shard_paths(outputs.data) if outputs.is_folder else [outputs.data]),
        ("ledger", outputs.data if outputs.is_folder else outputs.ledger, outputs.ledgers),
    ):
        try:
            if not summary[key].items() >= size_and_time(paths).items():
                changed.append(f"changed after the last run: {what.absolute()}")
        except FileNotFoundError:
            changed.append(f"missing since the last run: {what.absolute()}")
    if summary["inputs"] != inputs and summary["options"] != options:
        changed.append("the last run had other options")
    elif summary["inputs"] != inputs:
        changed.append(f"changed since the last run, or the rules have: {names_of_repos(options)}")
    elif outputs.is_folder and summary["data"].get("is_plain") != outputs.is_plain:
        changed.append("the last run had other options")
    if summary["unreadable"]:
        changed.append("the last run could not read everything")
    return changed


def names_of_repos(options: dict[str, Any]) -> str:
    """The folders that a run read, in words: one, or several of several collectors."""
    repos = options["repos"]
    return repos if isinstance(repos, str) else ", ".join(repos)


def folder_fingerprint(folder: Path) -> dict[str, Any]:
    """sha256, size and mtime_ns of a folder of shards. It is read only if its summary does not fit it.

    A summary fits if the sizes are those that it says and no shard is newer than it: a copy has other times.
    Raises UserError if it has no shards, or one cannot be read. The rules are those of train.py, which
    has them in model/pretrained/corpus_files.py.
    """
    paths = shard_paths(folder)
    state = size_and_time(paths)
    digest = _recorded_digest(folder, paths, state["mtime_ns"])
    return {"sha256": digest or digest_of_shards(map(digest_of_lines, paths)), **state}


def _recorded_digest(folder: Path, paths: Sequence[Path], newest_ns: int) -> str:
    """The sha256 that the summary of a folder says, if it fits; "" if not, or if it is damaged."""
    summary = folder / "summary.json"
    try:
        entry = json.loads(summary.read_bytes())["data"]
        sizes = {shard["name"]: shard["size"] for shard in entry["shards"]}
        fits = {path.name: path.stat().st_size for path in paths} == sizes
        digest = entry["sha256"]
        is_old = newest_ns <= summary.stat().st_mtime_ns
        return digest if fits and is_old and isinstance(digest, str) else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def lines_bytes(data: Path) -> int:
    """The size of a data.txt, or of the lines in a folder of shards; estimated without a summary."""
    if not data.is_dir():
        return data.stat().st_size
    summary = last_summary(Outputs(data, is_folder=True)) or {"data": {}}
    if isinstance(size := summary["data"].get("lines_bytes"), int):
        return size
    factors = (
        (path.stat().st_size, USUAL_RATIO if path.suffix == ".zst" else 1) for path in shard_paths(data)
    )
    return sum(size * factor for size, factor in factors)
