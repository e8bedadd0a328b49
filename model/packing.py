"""Whole documents -> rows of one context each: shuffled anew in every epoch, nothing lost, nothing padded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from fill_in_the_middle import ADDED
from numpy.typing import NDArray
from row_order import RowOrder
from torch import Tensor

if TYPE_CHECKING:
    from fill_in_the_middle import FillInTheMiddle, Turned
    from token_dataset import TokenSplit


@dataclass(frozen=True)
class Epoch:
    """One pass over the documents."""

    documents: NDArray[np.int64]  # (D,) in the order of this epoch
    lengths: NDArray[np.int64]  # (D,) tokens of each, in the same order
    ends: NDArray[np.int64]  # (D,) where each ends in the stream
    rows: RowOrder
    turned: Turned | None


class PackedRows:
    """The training rows of a split, numbered through all epochs: row n is a function of (seed, n) alone.

    An epoch lays its shuffled documents end to end and cuts the stream into rows of block_size targets,
    which are drawn in a second shuffle, because the rows of one long file must not fill a batch. The last
    row of an epoch is completed from the epoch's first tokens. Whoever knows how many rows were used
    resumes exactly there.

    A document's first token is learnt after the <|endoftext|> of whatever came before it: that is where a
    text begins when the model writes one. To leave these tokens out, or to let no token attend across, makes
    no difference to held-out bits per byte (benchmarks/LOG.md).
    """

    def __init__(
        self, split: TokenSplit, block_size: int, seed: int, turning: FillInTheMiddle | None = None
    ) -> None:
        self.tokens = split.tokens
        self.starts = split.starts
        self.lengths = split.lengths
        self.block_size = block_size
        self.seed = seed
        self.turning = turning
        added = 0 if turning is None else ADDED * turning.count(self.lengths)
        self.size = split.size + added  # tokens of an epoch
        self.rows_per_epoch = -(-self.size // block_size)
        self._epoch = lru_cache(maxsize=2)(self._shuffle)  # a batch may straddle two epochs

    def _shuffle(self, number: int) -> Epoch:
        random = np.random.default_rng([self.seed, number])
        documents = random.permutation(len(self.lengths))
        rows = RowOrder(self.rows_per_epoch, random)
        lengths, turned = self.lengths, None
        if self.turning is not None:
            turned = self.turning.turn(lengths, random)
            lengths = lengths + ADDED * turned.chosen
        lengths = lengths[documents]
        return Epoch(documents, lengths, np.cumsum(lengths), rows, turned)

    def row(self, number: int, first: int = 0, length: int | None = None) -> NDArray[np.int64]:
        """The block_size + 1 tokens of a row: its inputs and, one further, its targets.

        first, length: a part of it alone, of `length` inputs from the first one on.
        """
        number, index = divmod(number, self.rows_per_epoch)
        epoch = self._epoch(number)
        row = np.empty((self.block_size if length is None else length) + 1, dtype=np.int64)
        # The stream of inputs is one <|endoftext|> and then the documents: target p is token p of the
        # stream, its input token p - 1, which at p = 0 is the last document's closing token.
        position = epoch.rows[index] * self.block_size + first - 1
        filled = 0
        while filled < len(row):
            position %= self.size
            place = int(np.searchsorted(epoch.ends, position, side="right"))
            length_there = int(epoch.lengths[place])
            within = position - (int(epoch.ends[place]) - length_there)
            count = min(len(row) - filled, length_there - within)
            row[filled : filled + count] = self._read(epoch, int(epoch.documents[place]), within, count)
            filled += count
            position += count
        return row

    def _read(self, epoch: Epoch, document: int, within: int, count: int) -> NDArray[np.integer]:
        """`count` tokens of a document, as it is in this epoch."""
        start = int(self.starts[document])
        if self.turning is None or epoch.turned is None or not epoch.turned.chosen[document]:
            return self.tokens[start + within : start + within + count]
        whole = self.tokens[start : start + int(self.lengths[document])]
        cuts, suffix_first = epoch.turned.cuts[document], bool(epoch.turned.suffix_first[document])
        return self.turning.apply(whole, cuts, suffix_first=suffix_first)[within : within + count]

    def batch(self, first_row: int, rows: int) -> tuple[Tensor, Tensor]:
        """Rows first_row ... first_row + rows - 1 as inputs and targets, both (rows, block_size)."""
        batch = torch.from_numpy(np.stack([self.row(first_row + i) for i in range(rows)]))
        return batch[:, :-1], batch[:, 1:]
