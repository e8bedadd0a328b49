"""provenance.json of a model folder: what went into the model, and whether a run would repeat it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_cli import UserError
from pretrained.corpus_files import cache_of, digest_of, state_of, summary_of, summary_path

PROGRAM = "GPyT model/train.py"  # provenance.json says so in every folder that train.py made


@dataclass(frozen=True)
class RunFingerprint:
    """What makes two runs the same run: data, tokenizer, options and the base model."""

    data: dict[str, Any]  # path, sha256, size, mtime_ns
    tokenizer: dict[str, Any]  # path, sha256
    options: dict[str, Any]
    init_from: dict[str, Any] | None = None  # path, sha256 of the base model's weights

    @property
    def key(self) -> dict[str, Any]:
        """The same for a checkpoint: without the paths and times of the inputs."""
        digests = {"data": self.data["sha256"], "tokenizer": self.tokenizer["sha256"]}
        if self.init_from is not None:
            digests["init_from"] = self.init_from["sha256"]
        return {**digests, "options": self.options}

    def differences(self, provenance: dict[str, Any]) -> list[str]:
        """How this run differs from the recorded one, in words for the user."""
        found = [
            f"other {kind}"
            for kind, mine in (("data", self.data), ("tokenizer", self.tokenizer))
            if mine["sha256"] != provenance[kind]["sha256"]
        ]
        first, recorded_first = self.init_from or {}, provenance.get("init_from") or {}
        if first.get("sha256") != recorded_first.get("sha256"):
            found.append("another --init-from" if first and recorded_first else
                         "no --init-from" if recorded_first else "--init-from")  # fmt: skip
        recorded = provenance["options"]
        for name, value in self.options.items():
            if recorded.get(name) != value:
                option = "--" + name.replace("_", "-")
                found.append(f"{option} {_shown(recorded.get(name))} there, {_shown(value)} now")
        return found


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def read_provenance(folder: Path) -> dict[str, Any]:
    """The record of a model folder; {} where there is none that can be read."""
    return _read_json(folder / "provenance.json")


def is_foreign(folder: Path) -> bool:
    """Whether something is there that train.py did not make."""
    if not folder.is_dir():
        return folder.exists() or folder.is_symlink()
    return read_provenance(folder).get("program") != PROGRAM and any(folder.iterdir())


def fills_in(folder: Path) -> bool:
    """Whether the model was trained to fill gaps in, by its record."""
    return bool(recorded_fim_rate(folder))


def recorded_fim_rate(folder: Path) -> float | None:
    """The share of documents that a model learns, or learnt, with their middle last; None if nobody says."""
    try:
        rate = float(read_provenance(folder)["options"]["fim_rate"])
    except (ValueError, KeyError, TypeError):
        return None
    return rate if 0 <= rate <= 1 else None


def identify(data: Path, tokenizer: Path, options: dict[str, Any], output: Path) -> RunFingerprint:
    """The fingerprint of a run.

    A data file is hashed only if no earlier record knows one of this size and time: the model in `output`,
    the summary of preprocessing, or the tokens in the cache beside it.
    """
    digest = _known_digest(data, read_provenance(output)) or digest_of(data)
    return RunFingerprint(
        data={"path": str(data.absolute()), "sha256": digest, **state_of(data)},
        tokenizer={"path": str(tokenizer.absolute()), "sha256": _sha256(tokenizer / "tokenizer.json")},
        options=options,
    )


def inputs_beside(folder: Path) -> tuple[Path, Path] | None:
    """Where the data and the tokenizer lie if they are still beside the model that was made of them."""
    record = read_provenance(folder)
    try:
        beside = folder.parent / record["data"]["name"], folder.parent / record["tokenizer"]["name"]
    except (KeyError, TypeError):  # none, a damaged one, or one of 0.1
        return None
    return beside if record.get("program") == PROGRAM else None


def newer_inputs(folder: Path) -> list[Path]:
    """The data and the tokenizer beside a model's folder, as far as they were replaced since it was trained.

    Nothing large is hashed, so a start has time for it: data of the same size that no record of another stage
    knows counts as the same.
    """
    beside, record, newer = inputs_beside(folder), read_provenance(folder), list[Path]()
    if beside is None:
        return newer
    (data, tokenizer), trained = beside, (folder / "provenance.json").stat().st_mtime_ns
    try:
        state = state_of(data)
    except (OSError, UserError):  # it is not there any more, or another folder has its name
        state = {"size": 0, "mtime_ns": 0}
    if state["mtime_ns"] > trained:
        digest, is_as_large = _known_digest(data, {}), state["size"] == record["data"].get("size")
        if digest != record["data"].get("sha256") and (digest or not is_as_large):
            newer.append(data)
    vocabulary = tokenizer / "tokenizer.json"
    is_newer = vocabulary.is_file() and vocabulary.stat().st_mtime_ns > trained
    if is_newer and _sha256(vocabulary) != record["tokenizer"].get("sha256"):
        newer.append(tokenizer)
    return newer


@dataclass(frozen=True)
class Link:
    """What a stage left on the disk: its name, its hash, and why and how to make it again if it is stale."""

    name: str
    sha256: str
    stale: str = ""


def chain(fingerprint: RunFingerprint, output: Path) -> list[Link]:
    """collection.db, data, tokenizer and model, as far as they are there, each compared with the one before.

    A hash says whether an input is another one. The collection is only older or newer than its data.
    """
    data, tokenizer = Path(fingerprint.data["path"]), Path(fingerprint.tokenizer["path"])
    summary = _read_json(summary_path(data))
    links = []
    stale = ""
    if is_changed(fingerprint.data):
        stale = "changed since preprocessing wrote it: python preprocess/data_preprocess.py"
    repos = summary.get("options", {}).get("repos", "repos")
    for folder in [repos] if isinstance(repos, str) else repos:
        collection = Path(folder) / "collection.db"
        if collection.is_file():
            links.append(Link(f"{collection.parent.name}/{collection.name}", _sha256(collection)))
            if not stale and collection.stat().st_mtime_ns > fingerprint.data["mtime_ns"]:
                stale = "older than the collection: python preprocess/data_preprocess.py"
    links.append(Link(data.name, fingerprint.data["sha256"], stale))
    learnt_from = _read_json(tokenizer / "provenance.json").get("data", {}).get("sha256")
    other = learnt_from not in (None, fingerprint.data["sha256"])
    stale = "learnt from other data: python preprocess/tokenizer.py -t" if other else ""
    links.append(Link(f"{tokenizer.name}/", fingerprint.tokenizer["sha256"], stale))
    weights, record = output / "model.safetensors", read_provenance(output)
    if weights.is_file():
        others = [
            kind
            for kind in ("data", "tokenizer")
            if record.get(kind, {}).get("sha256") not in (None, fingerprint.key[kind])
        ]
        stale = f"made with other {' and '.join(others)}: python model/train.py --restart" if others else ""
        links.append(Link(f"{output.name}/", _sha256(weights), stale))
    return links


def is_changed(data: dict[str, Any]) -> bool:
    """Whether a corpus, by its entry in a fingerprint, is not what its summary says of it."""
    recorded = _read_json(summary_path(Path(data["path"]))).get("data")
    return isinstance(recorded, dict) and recorded.get("sha256") not in (None, data["sha256"])


def _read_json(path: Path) -> dict[str, Any]:
    """A record that another stage wrote; {} where there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _encoded_from(data: Path) -> list[dict[str, Any]]:
    """The data files that the tokens in the cache beside the data were made of."""
    records = []
    for path in sorted(cache_of(data).glob("tokens-*/meta.json")):
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            records.append({**meta["state"], "sha256": meta["data_sha256"]})
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return records


def _known_digest(data: Path, provenance: dict[str, Any]) -> str | None:
    """A corpus's hash, if a record of one of its size and time is there."""
    state, digest = state_of(data), None
    for record in (provenance.get("data", {}), summary_of(data), *_encoded_from(data)):
        if all(record.get(name) == value for name, value in state.items()):
            digest = record.get("sha256")
    return digest


def sha256_of_files(paths: Iterable[Path]) -> str:
    """One digest of the contents of files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
