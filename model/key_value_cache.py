"""What a model has read, and the way back: keys and values by row, of which a row may be shortened."""

from __future__ import annotations

from typing import Any

import numpy as np


class KeyValueCache:
    """Keys and values of the positions read: (n_layer, 2, B, n_head, capacity, head size), `lengths` in use.

    Rolling back is setting a row's length to a smaller number; what lies behind it is overwritten.
    """

    def __init__(self, memory: Any) -> None:
        """memory: an array of numpy or a tensor of torch."""
        self.memory = memory
        self.lengths = [0] * int(memory.shape[2])

    @property
    def length(self) -> int:
        """The length of the longest row; setting it makes all rows as long."""
        return max(self.lengths)

    @length.setter
    def length(self, length: int) -> None:
        self.lengths = [length] * len(self.lengths)

    @property
    def capacity(self) -> int:
        return int(self.memory.shape[4])

    def row(self, index: int) -> KeyValueCache:
        """One row, empty, in the same storage: what is read into it stands here."""
        return KeyValueCache(self.memory[:, :, index : index + 1])

    def select_rows(self, rows: list[int]) -> None:
        """Keep these rows in this order; [0, 0, 0] makes three equal ones of the first."""
        # numpy's indexing by a list may leave the axes in another order in memory
        is_numpy = isinstance(self.memory, np.ndarray)
        self.memory = self.memory.take(rows, axis=2) if is_numpy else self.memory[:, :, rows]
        self.lengths = [self.lengths[row] for row in rows]
