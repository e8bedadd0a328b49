"""Documents of numbers found nowhere else, so that a test can see where each token went."""

from __future__ import annotations

import numpy as np

from data_loading.batches import PackedRows
from data_loading.token_file import TokenSplit


def split_of(lengths: list[int]) -> TokenSplit:
    """Documents of the given lengths, each a run of numbers found nowhere else and a closing 0."""
    tokens: list[int] = []
    for length in lengths:
        tokens += [*range(len(tokens) + 1, len(tokens) + length), 0]
    return TokenSplit(
        tokens=np.array(tokens, dtype=np.uint16),
        offsets=np.cumsum([0, *lengths]),
        text_bytes=np.array(lengths, dtype=np.int64),
        repository=np.zeros(len(lengths), dtype=np.int32),
        repositories=["a"],
        paths_from=[f"{number}.py" for number in range(len(lengths))],
    )


def targets(rows: PackedRows, epoch: int) -> list[int]:
    first = epoch * rows.rows_per_epoch
    return [int(token) for n in range(rows.rows_per_epoch) for token in rows.row(first + n)[1:]]
