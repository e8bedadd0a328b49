"""Whole documents -> rows of one context each: shuffled anew in every epoch, nothing lost, nothing padded."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from token_dataset import TokenSplit

END_OF_TEXT = 0  # the id of <|endoftext|>, which closes each document and so precedes the next


class PackedRows:
    """The training rows of a split, numbered through all epochs: row n is a function of (seed, n) alone.

    An epoch lays its shuffled documents end to end and cuts the stream into rows of block_size targets,
    which are drawn in a second shuffle, because the rows of one long file must not fill a batch. The last
    row of an epoch is completed from the epoch's first tokens. Whoever knows how many rows were used
    resumes exactly there.
    """

    def __init__(self, split: TokenSplit, block_size: int, seed: int) -> None:
        self.tokens = split.tokens
        self.starts = np.asarray(split.offsets[:-1])
        self.lengths = np.diff(split.offsets)
        self.block_size = block_size
        self.seed = seed
        self.rows_per_epoch = -(-len(self.tokens) // block_size)
        self._epoch = lru_cache(maxsize=2)(self._shuffle)  # a batch may straddle two epochs

    def _shuffle(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An epoch's order of documents, where each of them ends in the stream, and its order of rows."""
        random = np.random.default_rng([self.seed, epoch])
        documents = random.permutation(len(self.lengths))
        return documents, np.cumsum(self.lengths[documents]), random.permutation(self.rows_per_epoch)

    def row(self, number: int) -> np.ndarray:
        """The block_size + 1 tokens of a row: its inputs and, one further, its targets."""
        epoch, index = divmod(number, self.rows_per_epoch)
        documents, ends, rows = self._epoch(epoch)
        row = np.empty(self.block_size + 1, dtype=np.int64)
        # The stream of inputs is one <|endoftext|> and then the documents: target p is token p of the
        # stream, its input token p - 1, which at p = 0 is the last document's closing token.
        position = int(rows[index]) * self.block_size - 1
        filled = 0
        while filled < len(row):
            position %= len(self.tokens)
            place = int(np.searchsorted(ends, position, side="right"))
            document = documents[place]
            within = position - (int(ends[place]) - int(self.lengths[document]))
            count = min(len(row) - filled, int(self.lengths[document]) - within)
            start = int(self.starts[document]) + within
            row[filled : filled + count] = self.tokens[start : start + count]
            filled += count
            position += count
        return row

    def batch(self, first_row: int, rows: int) -> tuple[Tensor, Tensor]:
        """Rows first_row ... first_row + rows - 1 as inputs and targets, both (rows, block_size)."""
        batch = torch.from_numpy(np.stack([self.row(first_row + i) for i in range(rows)]))
        return batch[:, :-1], batch[:, 1:]
