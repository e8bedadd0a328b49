"""Sequence length warmup: short rows from many places at first, more and more whole contexts later.

A step of four rows of 512 tokens sees four files; as many tokens in rows of 64 see 32, and what a network
learns first, which names and words follow each other, takes no long context. Nearly every step is short at
first, and fewer are, evenly, until all rows are whole; from the first step on some are, because the later
positions are learnt in these alone. With the same tokens a run ends 3 % lower in bits per byte than one of
whole rows only and 4 % lower where a text is short, and its steps are a fifth quicker (benchmarks/LOG.md).
Source of the idea: Li et al. 2022, "The Stability-Efficiency Dilemma"; Pouransari et al. 2024, "Dataset
Decomposition".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from row_order import RowOrder
from torch import Tensor

if TYPE_CHECKING:
    from packing import PackedRows

SHORT_LENGTH = 64  # tokens of a short row; measured: benchmarks/LOG.md


def short_rows_of(block_size: int) -> int:
    """How many short rows a whole one of this context is cut into; 1 where it is not."""
    return 1 if block_size % SHORT_LENGTH else max(1, block_size // SHORT_LENGTH)


class LengthWarmup:
    """The rows of a run by number; those of a short step come as short rows, in as many tokens.

    warmup: the share of the planned steps after which all rows are whole; 0: all are. The share of the steps
    that are short falls evenly from 1 to 0 until then.

    The rows of all short steps are cut into short ones, which are shuffled: nothing of the corpus is lost or
    comes twice, a step sees as many places as it has rows, and row n is a function of (seed, n).
    """

    def __init__(self, rows: PackedRows, warmup: float, steps: int, rows_per_step: int) -> None:
        self.rows = rows
        self.rows_per_step = rows_per_step
        self.each = short_rows_of(rows.block_size)
        steps_of_warmup = round(warmup * steps) if self.each > 1 else 0
        done = np.arange(steps_of_warmup + 1)
        # The integral of the share that falls from 1 to 0: how many of the steps before are short
        self.short_before = np.floor(done - done**2 / max(1, 2 * steps_of_warmup) + 0.5).astype(np.int64)
        self.short_steps = np.flatnonzero(np.diff(self.short_before))
        count = max(1, len(self.short_steps) * rows_per_step * self.each)
        self.order = RowOrder(count, np.random.default_rng([rows.seed, SHORT_LENGTH, 0]))

    def is_short(self, step: int) -> bool:
        """Whether the rows of this step are short."""
        is_over = step + 1 >= len(self.short_before)
        return not is_over and bool(self.short_before[step + 1] > self.short_before[step])

    def batch(self, first_row: int, count: int) -> tuple[Tensor, Tensor]:
        """Rows first_row ... first_row + count - 1, which are of one step, as inputs and targets (B, T)."""
        step, row = divmod(first_row, self.rows_per_step)
        if not self.is_short(step):
            return self.rows.batch(first_row, count)
        first = (int(self.short_before[step]) * self.rows_per_step + row) * self.each
        found = [self._short_row(self.order[first + i]) for i in range(count * self.each)]
        batch = torch.from_numpy(np.stack(found))
        return batch[:, :-1], batch[:, 1:]

    def _short_row(self, number: int) -> np.ndarray:
        """The tokens of one of the short rows, numbered through the rows of the short steps."""
        row, part = divmod(number, self.each)
        short_step, row = divmod(row, self.rows_per_step)
        row += int(self.short_steps[short_step]) * self.rows_per_step
        return self.rows.row(row, part * SHORT_LENGTH, SHORT_LENGTH)
