"""A completion -> the parts of it that appear word for word in the training data, and in which files.

Read from sources.index in the model's folder, without the training data. SourceIndex finds the runs of 30
tokens or more, Attribution says whose they are. A model that was trained further has its base model's index
beside its own, as sources.1.index, and so on back to the first model.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from attribution.index import (
    GRAM,
    GRID,
    INDEX,
    NAMES,
    SPAN,
    Layout,
    Numbers,
    SourceIndexError,
    base_model_index,
    check_bits,
    gram_hashes,
    open_index,
)
from model_cli import printable
from pretrained.provenance import read_provenance

if TYPE_CHECKING:
    from pretrained.vocabulary import Vocabulary

# Places that are looked at for one gram, the first ones in the data: a licence's text stands in thousands of
# files, and to name two and count the others there is no need to look at all of them.
MOST_PLACES = 4096
CELLS = 1 << 22  # places times tokens that are compared at a time: 32 MB
NAMED = 2  # of the files that have the same text, so many are named and the others counted
CONTEXT = 1000  # characters of the prompt, encoded too: the first new tokens are then those of a whole file
NOTHING = f"no {SPAN} new tokens in a row stand in the training data"


@dataclass(frozen=True)
class Source:
    """A file of the training data."""

    repo: str
    path: str
    commit: str
    license: str


@dataclass(frozen=True, order=True)
class Run:
    """Tokens start to end (exclusive) of a text, which also stand in a document."""

    start: int
    end: int
    document: int


class SourceIndex:
    """An index on disk; each part is read when it is first needed."""

    def __init__(self, path: Path, tokenizer_sha256: str) -> None:
        """Raises: SourceIndexError if the file is missing, torn, or made with another tokenizer."""
        self.path = path
        self.header, self.content = open_index(path, tokenizer_sha256)
        self.layout = Layout(self.header["tokens"])

    def part(self, name: str) -> NDArray[np.uint8]:
        """The bytes of one part."""
        sizes = self.header["parts"]
        names = list(sizes)
        start = sum(sizes[other] for other in names[: names.index(name)])
        return self.content[start : start + sizes[name]]

    @cached_property
    def checks(self) -> NDArray[np.uint8]:
        return self.part("checks")

    @cached_property
    def samples(self) -> NDArray[np.uint8]:
        """(grams, width) the bytes of each gram's number, the lowest first."""
        return self.part("samples").reshape(self.layout.grams, self.layout.width)

    @cached_property
    def buckets(self) -> NDArray[np.uint8]:
        """(buckets + 1, 4) the bytes of the place in samples where each bucket begins."""
        return self.part("buckets").reshape(-1, 4)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where each document ends, its closing <|endoftext|> included."""
        try:
            return np.cumsum(
                np.frombuffer(zlib.decompress(self.part("lengths").tobytes()), "<u4"), dtype=np.int64
            )
        except zlib.error as error:
            raise SourceIndexError(f"is torn ({error})", self.path) from None

    def source(self, document: int) -> Source:
        """The file from which a document comes."""
        block, sizes = document // NAMES, self.header["name_blocks"]
        start = sum(sizes[:block])
        packed = self.part("names")[start : start + sizes[block]].tobytes()
        try:
            columns = json.loads(zlib.decompress(packed))
            return Source(*(column[document % NAMES] for column in columns))
        except (zlib.error, ValueError, TypeError, IndexError, KeyError) as error:
            raise SourceIndexError(f"is torn ({error})", self.path) from None

    def runs(self, ids: Numbers) -> list[Run]:
        """The runs of SPAN tokens or more of these ids (T,) that stand in a document, once per document.

        Finds every run, unless one of its grams of 15 tokens stands at more than MOST_PLACES places.
        """
        if len(ids) < SPAN or not self.layout.grams:
            return []
        checks = check_bits(ids, 0)
        found = set()
        for diagonal, document in self._diagonals(ids, checks):
            found |= self._runs_along(diagonal, document, checks)
        return sorted(found)

    def _diagonals(self, ids: Numbers, checks: NDArray[np.uint8]) -> Iterator[tuple[Numbers, Numbers]]:
        """Where the ids would begin in the training data, and the document, for each gram that matches."""
        buckets = gram_hashes(sliding_window_view(ids, GRAM)) >> np.uint64(32 - self.layout.bits)
        first, last = (_as_numbers(self.buckets[buckets.astype(np.int64) + i]) for i in (0, 1))
        counts = np.minimum(last - first, MOST_PLACES)
        gram = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(gram)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = _as_numbers(self.samples[first[gram] + within]) * GRID
        offsets = np.arange(1, GRAM)
        agreeing = [np.zeros(0, bool)]
        for start in range(0, len(gram), CELLS // GRAM):
            some = slice(start, start + CELLS // GRAM)
            there = self._checks_at(places[some, None] + offsets)
            agreeing.append((there == checks[gram[some, None] + offsets]).all(1))
        chosen = np.concatenate(agreeing)
        places, gram = places[chosen], gram[chosen]
        documents = np.searchsorted(self.ends, places, side="right")
        pairs = np.unique(np.stack([places - gram, documents], 1), axis=0)
        rows = max(1, CELLS // len(ids))
        for start in range(0, len(pairs), rows):
            yield pairs[start : start + rows, 0], pairs[start : start + rows, 1]

    def _runs_along(self, diagonals: Numbers, documents: Numbers, checks: NDArray[np.uint8]) -> set[Run]:
        """The runs that begin with these diagonals (M,) and stay within their documents."""
        ends = self.ends[documents] - 1  # without the closing <|endoftext|>
        starts = np.where(documents > 0, self.ends[documents - 1], 0)
        places = diagonals[:, None] + np.arange(len(checks))
        # A check covers the token before too, so the second token's check stands for the first one.
        inside = (places > starts[:, None]) & (places < ends[:, None])
        inside[:, 0] = False
        agrees = np.zeros((len(diagonals), len(checks) + 2), np.int8)
        agrees[:, 1:-1] = inside & (self._checks_at(np.where(inside, places, 0)) == checks)
        steps = np.diff(agrees)
        rows, begins = np.nonzero(steps == 1)
        _, stops = np.nonzero(steps == -1)
        long = stops - begins >= SPAN - 1
        return {
            Run(int(begin) - 1, int(stop), int(documents[row]))
            for row, begin, stop in zip(rows[long], begins[long], stops[long], strict=True)
        }

    def _checks_at(self, places: Numbers) -> NDArray[np.uint8]:
        pairs = self.checks[np.minimum(places >> 1, len(self.checks) - 1)]
        checks: NDArray[np.uint8] = (pairs >> ((places & 1) << 2).astype(np.uint8)) & np.uint8(15)
        return checks


def _as_numbers(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """_as_numbers([[1, 2], [3, 0]]) -> [513, 3]"""
    numbers = np.zeros(len(rows), np.int64)
    for column in range(rows.shape[1]):
        numbers |= rows[:, column].astype(np.int64) << (8 * column)
    return numbers


@dataclass(frozen=True)
class Copy:
    """A part of a completion that stands in the training data."""

    start: int  # in tokens of the completion, as the tokenizer cuts it
    end: int  # exclusive
    start_character: int  # in characters of the completion
    end_character: int
    sources: list[Source]
    others: int  # how many more files have it

    def record(self) -> dict[str, Any]:
        """The copy for --json; if several files have it, "repo" to "license" are those of the first."""
        also = [vars(source) for source in self.sources[1:]]
        places = {"start": self.start, "end": self.end}
        places |= {"start_character": self.start_character, "end_character": self.end_character}
        return {**places, **vars(self.sources[0]), "also": also, "others": self.others}


class Attribution:
    """The indexes of a model's training data, and the vocabulary in which they are written."""

    def __init__(self, indexes: list[SourceIndex], vocabulary: Vocabulary) -> None:
        self.indexes = indexes
        self.vocabulary = vocabulary

    @property
    def gap(self) -> str:
        """What the indexes do not cover, in words for the user; "" if they cover everything."""
        model = self.indexes[0].header.get("untraced")
        return f"copies from the training data of the base model {model!r} cannot be named" if model else ""

    def copies(self, prompt: str, completion: str, suffix: str = "") -> list[Copy]:
        """The runs of SPAN new tokens or more that also stand in the training data.

        Of a copy that began in the prompt, only the new part counts. The text is encoded again: a model may
        write a copy in other tokens than those of the training data.
        Raises: SourceIndexError if the index turns out to be torn.
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
    """The runs that lie within no other run, sorted by start.

    widest([(3, 40), (0, 40), (20, 60), (20, 60)]) -> [(0, 40), (20, 60)]
    """
    kept: list[tuple[int, int]] = []
    for start, end in sorted({(run.start, run.end) for run in runs}, key=lambda run: (run[0], -run[1])):
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    return kept


def open_sources(folder: Path, vocabulary: Vocabulary) -> Attribution:
    """The indexes of a model's folder.

    Raises: SourceIndexError if one of them is missing or cannot be used.
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
        indexes.append(SourceIndex(folder / base_model_index(number), tokenizer))
        if indexes[-1].header.get("data_sha256") != data:
            raise SourceIndexError("was made of other data than the base model", indexes[-1].path)
    return Attribution(indexes, vocabulary)


class SourceNotes:
    """What the user is told about copies in completions.

    The index is opened when it is first needed. If it cannot be used, `problem` says why.
    """

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        self.folder = folder
        self.vocabulary = vocabulary
        self.problem = ""

    @cached_property
    def attribution(self) -> Attribution | None:
        """None if the index cannot be used."""
        try:
            return open_sources(self.folder, self.vocabulary)
        except SourceIndexError as error:
            self.problem = str(error)
            return None

    @property
    def has_index(self) -> bool:
        """Whether the model has an index, which may be unusable."""
        return (self.folder / INDEX).is_file()

    def copies(self, prompt: str, completion: str, suffix: str = "") -> list[Copy] | None:
        """The copies in a completion; None if the index cannot be used."""
        try:
            return self.attribution.copies(prompt, completion, suffix) if self.attribution else None
        except SourceIndexError as error:
            self.attribution, self.problem = None, str(error)
            return None

    def lines(self, prompt: str, completion: str, suffix: str = "") -> list[str]:
        """The copies in a completion, a line each."""
        copies = self.copies(prompt, completion, suffix) or []
        return [f"copied: {in_words(copy, prompt, completion)}" for copy in copies]

    def answer(self, prompt: str, completion: str, suffix: str = "") -> list[str]:
        """The same, with a line if there are none; empty if the index cannot be used, as `caveat` says."""
        lines = self.lines(prompt, completion, suffix)
        return [] if self.problem else lines or [NOTHING]

    def caveat(self) -> str:
        """Why copies cannot be named, or not all of them; "" if all can be."""
        gap = self.attribution.gap if self.attribution else ""
        return f"note: {self.problem or gap}" if self.problem or gap else ""


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
    return printable(f"{source.repo}, {source.path}{commit}, {source.license or 'licence unknown'}")
