"""The order in which an epoch draws its rows: a permutation that takes no longer for more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_TABLE = 1 << 20  # rows: 8 MB and some milliseconds; 10 GB of tokens would take 160 MB and a second
ROUNDS = 6  # four make a permutation that cannot be told from a random one (Luby and Rackoff 1988)


class RowOrder:
    """A permutation of range(count): order[i] is the row that comes as number i.

    Up to LONGEST_TABLE rows a shuffled table; beyond it a Feistel network over the next power of four, each
    number computed when it is asked for and taken through the network again while it is none of the count.
    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 4 (cycle-walking).
    """

    def __init__(self, count: int, random: np.random.Generator, longest_table: int = LONGEST_TABLE) -> None:
        self.count = count
        self.table: NDArray[np.int64] | None = None
        if count <= longest_table:
            self.table = random.permutation(count)
            return
        self.half_bits = -(-(count - 1).bit_length() // 2)
        self.keys = [int(key) for key in random.integers(0, 1 << 63, ROUNDS)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        if not 0 <= number < self.count:
            raise IndexError(f"{number} is none of {self.count} rows")
        if self.table is not None:
            return int(self.table[number])
        number = self._scrambled(number)
        while number >= self.count:
            number = self._scrambled(number)
        return number

    def _scrambled(self, number: int) -> int:
        """A number below 4 ** half_bits -> another one; no two become the same."""
        mask = (1 << self.half_bits) - 1
        left, right = number >> self.half_bits, number & mask
        for key in self.keys:
            left, right = right, left ^ (mixed(right ^ key) & mask)
        return left << self.half_bits | right


def mixed(bits: int) -> int:
    """64 bits -> 64 others, each of which depends on all. Source: Steele et al. 2014, splitmix64."""
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return bits ^ bits >> 31
