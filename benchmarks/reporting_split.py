"""Held-out repositories that a comparison reports on, and that nothing before it has seen.

Three parts of the same data.txt: what a model learns from ("train"), what chooses its best weights while it
trains ("held_out" of the file that it is given), and what its figure is measured on: every second held-out
repository, taken out of that file altogether. Constants are tuned on other data still: on the code that every
machine has (benchmarks/LOG.md). A file of the third part that is similar to one of the others is dropped and
counted: stage 3 has removed near-duplicates from 0.7 on already, here the limit is lower.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from journey import PROJECT

for folder in ("preprocess", "model"):
    sys.path.insert(0, str(PROJECT / folder))

SIMILAR = 0.5  # Jaccard similarity of word 5-grams
STANDARD_ERRORS = 0.09  # three of an estimate by signatures

Document = dict[str, Any]
File = tuple[str, str]  # repository and path


@dataclass(frozen=True)
class Parts:
    """Two files of documents: what contenders may see, and what they are measured on."""

    seen: Path
    reported: Path
    repositories: int  # that are reported on
    files: int
    dropped: int  # near-duplicates of what is seen

    def __str__(self) -> str:
        return (
            f"reported on {self.files} files of {self.repositories} held-out repositories that no contender"
            f" sees; {self.dropped} near-duplicates of what they see left out"
        )


def set_apart(data: Path, folder: Path) -> Parts:
    """Divide a corpus (a file or a folder); what was divided before is found again. Raises: SystemExit."""
    from pretrained.corpus_files import digest_of

    parts = folder / digest_of(data)[:12]
    seen, reported, record = parts / "seen.txt", parts / "reported.txt", parts / "parts.json"
    if not record.exists():
        counts = _divide(data, seen, reported)
        record.write_text(json.dumps(counts) + "\n", encoding="utf-8")
    return Parts(seen, reported, **json.loads(record.read_text(encoding="utf-8")))


def _divide(data: Path, seen: Path, reported: Path) -> dict[str, int]:
    chosen = _every_second_repository(data)
    texts: dict[File, list[str]] = defaultdict(list)
    for _, document in _lines(data):
        texts[document["repo"], document["path"]].append(document["text"])
    dropped = _similar_files({file: "".join(pieces) for file, pieces in texts.items()}, chosen)
    seen.parent.mkdir(parents=True, exist_ok=True)
    kept = set()
    with (
        seen.open("wb") as ours,
        reported.open("wb") as theirs,
    ):
        for line, document in _lines(data):
            file = (document["repo"], document["path"])
            if document["repo"] not in chosen or document["split"] == "train":
                ours.write(line)
            elif file not in dropped:
                theirs.write(line)
                kept.add(file)
    return {"repositories": len({repo for repo, _ in kept}), "files": len(kept), "dropped": len(dropped)}


def _lines(data: Path) -> Iterator[tuple[bytes, Document]]:
    from corpus.data_file import open_lines, shard_paths

    for path in shard_paths(data) if data.is_dir() else [data]:
        with open_lines(path) as lines:
            for line in lines:
                yield line, json.loads(line)


def _every_second_repository(data: Path) -> set[str]:
    """Of the held-out repositories in the order of their sizes."""
    sizes: dict[str, int] = defaultdict(int)
    for line, document in _lines(data):
        if document["split"] == "held_out":
            sizes[document["repo"]] += len(line)
    if len(sizes) < 2:
        raise SystemExit(f"{data} has fewer than two held-out repositories: none can be set apart")
    return set(sorted(sizes, key=lambda repo: (-sizes[repo], repo))[1::2])


def _similar_files(texts: dict[File, str], chosen: set[str]) -> set[File]:
    """The files of the chosen repositories that are similar to a file of another one."""
    from documents.fingerprints import jaccard, shingles, signature

    signatures = {file: signature(text) for file, text in texts.items()}
    others = [file for file in texts if file[0] not in chosen and signatures[file]]
    table = np.array([np.frombuffer(signatures[file], "<u4") for file in others])
    similar = set()
    for file in texts:
        if file[0] not in chosen or not signatures[file] or not others:
            continue
        estimates = (table == np.frombuffer(signatures[file], "<u4")).mean(axis=1)
        own = shingles(texts[file])
        for number in np.flatnonzero(estimates >= SIMILAR - STANDARD_ERRORS):
            if jaccard(own, shingles(texts[others[number]])) >= SIMILAR:
                similar.add(file)
                break
    return similar
