"""Keys and values of what a model has read, kept for the next prompt that begins alike.

An editor asks after every keystroke, and each prompt is the one before with a few tokens more. What the two
have in common from their first token on need not be read again: GPT-2's keys and values of a token depend on
nothing that comes after it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from inference.language_model import KeyValueCache

MOST_PROMPTS = 256  # are kept, however small: each is compared with every new prompt, some microseconds each


@dataclass(frozen=True)
class Prompt:
    """Token ids (T,) and what a model computed of them: (n_layer, 2, n_head, T, head size)."""

    ids: NDArray[np.int64]
    memory: Any

    @property
    def bytes(self) -> int:
        return int(self.memory.nbytes) + int(self.ids.nbytes)

    def shares(self, ids: NDArray[np.int64]) -> int:
        """How many tokens this and another prompt have in common from the first one on."""
        length = min(len(self.ids), len(ids))
        differing = np.flatnonzero(self.ids[:length] != ids[:length])
        return int(differing[0]) if len(differing) else length


class PromptCache:
    """The prompts that were used last, as many as fit into so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self.prompts: OrderedDict[int, Prompt] = OrderedDict()  # by a running number, the newest last
        self.number = 0

    def load(self, ids: list[int], cache: KeyValueCache, row: int) -> int:
        """Fill an empty row with what is known of these ids -> for how many of them, from the first on.

        The last one is never among them: the model has to read it to say what comes next.
        """
        wanted = np.array(ids[:-1], np.int64)
        number, shared = self._nearest(wanted)
        if not shared:
            return 0
        self.prompts.move_to_end(number)
        cache.memory[:, :, row, :, :shared] = self.prompts[number].memory[:, :, :, :shared]
        cache.lengths[row] = shared
        return shared

    def keep(self, ids: list[int], cache: KeyValueCache, row: int) -> None:
        """Keep what a row holds of these ids, which are the first in it."""
        kept = np.array(ids, np.int64)
        number, shared = self._nearest(kept)
        if shared == len(kept):  # this, and perhaps more, is there
            if shared:
                self.prompts.move_to_end(number)
            return
        part = cache.memory[:, :, row, :, : len(kept)]
        prompt = Prompt(kept, part.copy() if isinstance(part, np.ndarray) else part.clone())
        if prompt.bytes > self.most_bytes:
            return
        if shared and shared == len(self.prompts[number].ids):  # it is what the new one begins with
            self._drop(number)
        self.number += 1
        self.prompts[self.number] = prompt
        self.bytes += prompt.bytes
        while self.bytes > self.most_bytes or len(self.prompts) > MOST_PROMPTS:
            self._drop(next(iter(self.prompts)))

    def _nearest(self, ids: NDArray[np.int64]) -> tuple[int, int]:
        """The prompt that shares most with these ids, the newest of several, and how many tokens."""
        best = 0, 0
        for number in reversed(self.prompts):
            shared = self.prompts[number].shares(ids)
            if shared > best[1]:
                best = number, shared
        return best

    def _drop(self, number: int) -> None:
        self.bytes -= self.prompts.pop(number).bytes
