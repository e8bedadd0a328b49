"""Rows come in an order that has each once, looks like chance, and costs nothing to begin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_order import RowOrder, mixed


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(0, 5), st.sampled_from([0, 1 << 20]))
def test_each_row_comes_once(count: int, seed: int, longest_table: int) -> None:
    order = RowOrder(count, np.random.default_rng(seed), longest_table)
    assert sorted(order[number] for number in range(count)) == list(range(count))


def test_a_seed_gives_the_same_order_again_and_another_seed_another() -> None:
    first, again, other = (RowOrder(5000, np.random.default_rng(seed), 0) for seed in (1, 1, 2))
    rows = [first[number] for number in range(5000)]
    assert rows == [again[number] for number in range(5000)]
    assert sum(a == other[number] for number, a in enumerate(rows)) < 10


def test_the_computed_order_is_as_good_as_chance() -> None:
    """Where rows land, how far neighbours fall apart, and how many runs go up, beside what chance gives."""
    count = 40_000
    order = RowOrder(count, np.random.default_rng(0), 0)
    rows = np.array([order[number] for number in range(count)])
    per_tenth = np.histogram2d(np.arange(count), rows, bins=10)[0]  # 400 expected in each
    assert float(((per_tenth - 400) ** 2 / 400).sum()) < 130  # chi squared, 81 degrees: 126 at 0.999
    apart = np.abs(np.diff(rows))
    assert float(apart.mean()) == pytest.approx(count / 3, rel=0.02)
    assert int((apart == 1).sum()) < 12  # 2 expected
    assert float((np.diff(rows) > 0).mean()) == pytest.approx(0.5, abs=0.01)


def test_a_number_beyond_the_rows_is_refused() -> None:
    for longest_table in (0, 100):
        order = RowOrder(10, np.random.default_rng(0), longest_table)
        for number in (-1, 10):
            with pytest.raises(IndexError):
                order[number]


def test_mixing_changes_half_of_the_bits() -> None:
    changed = [(mixed(n) ^ mixed(n ^ 1 << bit)).bit_count() for n in range(1, 50) for bit in range(64)]
    assert sum(changed) / len(changed) == pytest.approx(32, abs=0.5)
