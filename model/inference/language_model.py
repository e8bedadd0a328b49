"""What completion needs of a model on any device: logits, and a cache of keys and values that rolls back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2.config import GPT2Config

Array = NDArray[np.float32]


class KeyValueCache:
    """Keys and values of what a model has read: (n_layer, 2, B, n_head, capacity, head size).

    `lengths` says how many positions of each row are in use. Rolling back is setting a row's length to a
    smaller number; the next positions overwrite what lies behind it.
    """

    def __init__(self, memory: Any) -> None:
        """memory: a numpy array or a torch tensor."""
        self.memory = memory
        self.lengths = [0] * int(memory.shape[2])

    @property
    def length(self) -> int:
        """The length of the longest row; setting it gives all rows this length."""
        return max(self.lengths)

    @length.setter
    def length(self, length: int) -> None:
        self.lengths = [length] * len(self.lengths)

    @property
    def capacity(self) -> int:
        return int(self.memory.shape[4])

    def row(self, index: int) -> KeyValueCache:
        """One row, empty, in the same memory: what is read into it is also in this cache."""
        return KeyValueCache(self.memory[:, :, index : index + 1])

    def select_rows(self, rows: list[int]) -> None:
        """Keep these rows in this order; [0, 0, 0] makes three copies of the first."""
        # numpy's indexing by a list may leave the axes in another order in memory
        is_numpy = isinstance(self.memory, np.ndarray)
        self.memory = self.memory.take(rows, axis=2) if is_numpy else self.memory[:, :, rows]
        self.lengths = [self.lengths[row] for row in rows]


class LanguageModel(Protocol):
    """A model that is ready to compute: CpuEngine or TorchEngine."""

    config: GPT2Config

    def new_cache(self, rows: int, capacity: int) -> KeyValueCache: ...

    def next_logits(self, ids: Sequence[Sequence[int]], cache: KeyValueCache) -> Array:
        """Logits (B, V) after the last of these ids (B, T), which follow what the cache's rows hold."""
        ...
