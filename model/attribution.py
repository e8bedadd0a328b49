"""A completion -> which parts of it stand word for word in the training data, and whose files these are.

Read from sources.index in the model's folder, without the training data. A model that went on from another
has that one's index beside its own: sources.1.index, and so on to the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from copied_runs import Run, Source, SourceIndex, SourceIndexError
from pretrained import read_provenance
from source_index import INDEX, SPAN, ancestor_index

if TYPE_CHECKING:
    from vocabulary import Vocabulary

NAMED = 2  # files that are named of those which have the same text; the others are counted
# Of the prompt so many characters are encoded too, so that the first new tokens are cut as in a whole file.
CONTEXT = 1000
NOTHING = f"no {SPAN} tokens in a row of what was written stand in the training data"


@dataclass(frozen=True)
class Copy:
    """A part of a completion that stands in the training data."""

    start: int  # in tokens of the completion, as the tokenizer cuts it
    end: int  # exclusive
    start_character: int  # in characters of the completion
    end_character: int
    sources: list[Source]
    others: int  # more files that have it

    def record(self) -> dict[str, Any]:
        """The copy for --json; where several files have it, repo to license are the first one's."""
        also = [vars(source) for source in self.sources[1:]]
        places = {"start": self.start, "end": self.end}
        places |= {"start_character": self.start_character, "end_character": self.end_character}
        return {**places, **vars(self.sources[0]), "also": also, "others": self.others}


class Attribution:
    """The indexes of a model's training data, and the vocabulary that they are written in."""

    def __init__(self, indexes: list[SourceIndex], vocabulary: Vocabulary) -> None:
        self.indexes = indexes
        self.vocabulary = vocabulary

    @property
    def gap(self) -> str:
        """What the indexes do not cover, in words for the user; "" where they cover everything."""
        model = str(self.indexes[0].header.get("untraced") or "")
        return (
            model
            and f"copies of the training data of {model!r}, which this model goes on from, are not found"
        )

    def copies(self, prompt: str, completion: str, suffix: str = "") -> list[Copy]:
        """The runs of SPAN new tokens or more that the training data has.

        A copy that began in the prompt counts, and is marked, as far as it is new. The text is encoded again:
        what a model writes in other tokens than those of the training data is a copy all the same.
        Raises: SourceIndexError for an index that turns out to be torn.
        """
        before = prompt[-CONTEXT:]
        if len(before) < len(prompt):
            before = before[before.find("\n") + 1 :]
        text = before + completion + suffix[:CONTEXT]
        encoding = self.vocabulary.tokenizer.encode(text, add_special_tokens=False)
        first, last = len(before), len(before) + len(completion)
        new = [i for i, (start, end) in enumerate(encoding.offsets) if first <= start and end <= last]
        if len(new) < SPAN:
            return []
        ids = np.array(encoding.ids[new[0] : new[-1] + 1], np.int64)
        places = [(start - first, end - first) for start, end in encoding.offsets[new[0] : new[-1] + 1]]
        found = [(run, index) for index in self.indexes for run in index.runs(ids)]
        copies = []
        for start, end in widest(run for run, _ in found):
            whole = [(run, index) for run, index in found if run.start <= start and end <= run.end]
            sources = [index.source(run.document) for run, index in whole[:NAMED]]
            characters = places[start][0], places[end - 1][1]
            copies.append(Copy(start, end, *characters, sources, len(whole) - len(sources)))
        return copies


def widest(runs: Iterable[Run]) -> list[tuple[int, int]]:
    """The runs that no other one contains, by their starts.

    widest([(3, 40), (0, 40), (20, 60), (20, 60)]) -> [(0, 40), (20, 60)]
    """
    kept: list[tuple[int, int]] = []
    for start, end in sorted({(run.start, run.end) for run in runs}, key=lambda run: (run[0], -run[1])):
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    return kept


def open_sources(folder: Path, vocabulary: Vocabulary) -> Attribution:
    """The indexes of a model's folder.

    Raises: SourceIndexError, in one line for the user, where there is none or one cannot be used.
    """
    if not (folder / INDEX).is_file():
        raise SourceIndexError("is missing (train.py writes it, unless --no-sources)", folder / INDEX)
    tokenizer = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    own = SourceIndex(folder / INDEX, tokenizer)
    data = (read_provenance(folder).get("data") or {}).get("sha256")
    if data not in (None, own.header.get("data_sha256")):
        raise SourceIndexError("was made of other data than this model", own.path)
    indexes = [own]
    for number, data in enumerate(own.header.get("ancestors", []), 1):
        indexes.append(SourceIndex(folder / ancestor_index(number), tokenizer))
        if indexes[-1].header.get("data_sha256") != data:
            raise SourceIndexError("was made of other data than the model before", indexes[-1].path)
    return Attribution(indexes, vocabulary)


def in_words(copy: Copy, prompt: str, completion: str) -> str:
    """A line for the user, with line numbers of prompt and completion together.

    'lines 3 to 9 (45 tokens): octo/cat, src/cat.py, commit 1a2b3c4d5e6f, BSD-3-Clause; and 4 other files'
    """
    line = 1 + (prompt + completion).count("\n", 0, len(prompt) + copy.start_character)
    last = line + completion[copy.start_character : copy.end_character].rstrip("\n").count("\n")
    where = f"line {line}" if last == line else f"lines {line} to {last}"
    names = " and ".join(name(source) for source in copy.sources)
    others = f"; and {copy.others:,} other file{'s' * (copy.others > 1)}" if copy.others else ""
    return f"{where} ({copy.end - copy.start} tokens): {names}{others}"


def name(source: Source) -> str:
    """A file as people cite it."""
    commit = f", commit {source.commit[:12]}" if source.commit else ""
    return f"{source.repo}, {source.path}{commit}, {source.license or 'licence unknown'}"
