"""Rows hold every token of every document once an epoch, in a new order each time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import PackedRows
from token_dataset import TokenSplit


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
        paths=[f"{number}.py" for number in range(len(lengths))],
    )


def targets(rows: PackedRows, epoch: int) -> list[int]:
    first = epoch * rows.rows_per_epoch
    return [int(token) for n in range(rows.rows_per_epoch) for token in rows.row(first + n)[1:]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.sampled_from([4, 8, 16]))
def test_each_epoch_predicts_every_token_once_and_repeats_less_than_a_row(
    lengths: list[int], block_size: int
) -> None:
    split = split_of(lengths)
    rows = PackedRows(split, block_size, seed=0)
    for epoch in range(2):
        extra = Counter(targets(rows, epoch))
        extra.subtract(Counter(split.tokens.tolist()))
        assert min(extra.values()) >= 0
        assert sum(extra.values()) < block_size


def test_every_token_is_predicted_from_the_one_before_it_in_its_document() -> None:
    rows = PackedRows(split_of([30, 20, 45]), 8, seed=0)
    for n in range(rows.rows_per_epoch):
        row = rows.row(n)
        for before, token in pairwise(row.tolist()):
            is_first = token in (1, 31, 51)  # of a document: it follows the <|endoftext|> of another
            assert before == (0 if is_first else token - 1) or token == 0


def test_epochs_differ_in_the_order_of_documents_and_rows() -> None:
    rows = PackedRows(split_of([10] * 20), 8, seed=0)
    assert targets(rows, 0) != targets(rows, 1)


def test_a_seed_gives_the_same_rows_again_and_another_seed_others() -> None:
    split = split_of([10] * 20)
    first, again, other = (PackedRows(split, 8, seed=seed) for seed in (1, 1, 2))
    assert targets(first, 3) == targets(again, 3)
    assert targets(first, 3) != targets(other, 3)


@pytest.mark.parametrize("first_row", [0, 5, 23])
def test_a_batch_is_its_rows_shifted_by_one(first_row: int) -> None:
    rows = PackedRows(split_of([10, 20, 30, 40]), 8, seed=0)
    inputs, predicted = rows.batch(first_row, 3)
    for n in range(3):
        row = rows.row(first_row + n)
        assert inputs[n].tolist() == row[:-1].tolist()
        assert predicted[n].tolist() == row[1:].tolist()
