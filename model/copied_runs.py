"""Token ids and a sources.index -> the runs of 30 tokens or more that the training data has word for word."""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from source_index import FORMAT, GRAM, GRID, NAMES, SPAN, Layout, Numbers, check_bits, gram_hashes

# Places looked at for one gram, the first in the data: a licence's text stands in thousands of files, and the
# two that are named and the number of others do not need them all.
MOST_PLACES = 4096
CELLS = 1 << 22  # of a table of places and tokens: 32 MB while it is compared


class SourceIndexError(ValueError):
    """A sources.index that cannot be used: what is wrong, and where."""

    def __init__(self, problem: str, path: Path) -> None:
        super().__init__(f"the index of the training data {problem}: {path}")


@dataclass(frozen=True)
class Source:
    """A file of the training data."""

    repo: str
    path: str
    commit: str
    license: str


@dataclass(frozen=True, order=True)
class Run:
    """Tokens start to end (exclusive) of a text as they stand in a document."""

    start: int
    end: int
    document: int


class SourceIndex:
    """An index that was found whole; its parts are read when they are needed."""

    def __init__(self, path: Path, tokenizer_sha256: str) -> None:
        """Raises: SourceIndexError for a file that is missing, torn, or of another tokenizer."""
        self.path = path
        self.header, self.content = self._open()
        if self.header["tokenizer_sha256"] != tokenizer_sha256:
            raise SourceIndexError("was made with another tokenizer", path)
        self.layout = Layout(self.header["tokens"])

    def _open(self) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        try:
            with self.path.open("rb") as file:
                line = file.readline(1 << 24)
                header = json.loads(line)
                if not isinstance(header, dict) or header["format"] != FORMAT:
                    raise SourceIndexError("is of another format", self.path)
                parts = header["parts"]
                sizes = Layout(header["tokens"]).sizes
                has_end = all(parts[name] == size for name, size in sizes.items())
                size = self.path.stat().st_size
                if not has_end or size != len(line) + sum(parts.values()) or "tokenizer_sha256" not in header:
                    raise SourceIndexError(f"is torn ({size:,} bytes)", self.path)
                content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
                return header, content[len(line) :]
        except FileNotFoundError:
            raise SourceIndexError("is missing", self.path) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, SourceIndexError):
                raise
            raise SourceIndexError(f"cannot be read ({error})", self.path) from None

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
        """(grams, width) their numbers' bytes, the lowest first."""
        return self.part("samples").reshape(self.layout.grams, self.layout.width)

    @cached_property
    def buckets(self) -> NDArray[np.uint8]:
        """(buckets + 1, 4) likewise: where in samples each begins."""
        return self.part("buckets").reshape(-1, 4)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where each document ends, its closing <|endoftext|> among its tokens."""
        try:
            return np.cumsum(
                np.frombuffer(zlib.decompress(self.part("lengths").tobytes()), "<u4"), dtype=np.int64
            )
        except zlib.error as error:
            raise SourceIndexError(f"is torn ({error})", self.path) from None

    def source(self, document: int) -> Source:
        """The file that a document is."""
        block, sizes = document // NAMES, self.header["name_blocks"]
        start = sum(sizes[:block])
        packed = self.part("names")[start : start + sizes[block]].tobytes()
        try:
            columns = json.loads(zlib.decompress(packed))
            return Source(*(column[document % NAMES] for column in columns))
        except (zlib.error, ValueError, TypeError, IndexError, KeyError) as error:
            raise SourceIndexError(f"is torn ({error})", self.path) from None

    def runs(self, ids: Numbers) -> list[Run]:
        """The runs of SPAN tokens or more of these ids (T,) that a document has, for each that has it.

        Certain, as long as no gram of 15 tokens of it stands at more than MOST_PLACES places of the grid.
        """
        if len(ids) < SPAN or not self.layout.grams:
            return []
        checks = check_bits(ids, 0)
        found = set()
        for diagonal, document in self._diagonals(ids, checks):
            found |= self._runs_along(diagonal, document, checks)
        return sorted(found)

    def _diagonals(self, ids: Numbers, checks: NDArray[np.uint8]) -> Iterator[tuple[Numbers, Numbers]]:
        """Where the ids would begin in the training data, and the document, for each gram that agrees."""
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
        ends = self.ends[documents] - 1  # the <|endoftext|> is nobody's text
        starts = np.where(documents > 0, self.ends[documents - 1], 0)
        places = diagonals[:, None] + np.arange(len(checks))
        # A check takes in the token before: the first of a text or a document is vouched for by the second.
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
