"""Short rows at first: nothing of the corpus is lost or repeated, and a row is a function of its number."""

from __future__ import annotations

import length_warmup
import numpy as np
import pytest
from length_warmup import LengthWarmup
from packing import PackedRows
from test_packing import split_of

ROWS, STEPS, CONTEXT, SHORT = 4, 50, 32, 8


@pytest.fixture(autouse=True)
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length_warmup, "SHORT_LENGTH", SHORT)


def rows_of(context: int = CONTEXT, seed: int = 0) -> PackedRows:
    """Documents of tokens that are all different, more than the steps read."""
    split = split_of([300] * 40)
    split.tokens[:] = np.arange(len(split.tokens))
    return PackedRows(split, context, seed)


def batches(warmup: LengthWarmup) -> list[np.ndarray]:
    return [warmup.batch(step * ROWS, ROWS)[1].numpy() for step in range(STEPS)]


def test_each_token_of_the_rows_comes_once() -> None:
    rows = rows_of()
    found = np.concatenate([batch.flatten() for batch in batches(LengthWarmup(rows, 1.0, STEPS, ROWS))])
    expected = np.concatenate([rows.row(number)[1:] for number in range(STEPS * ROWS)])
    assert sorted(found) == sorted(expected)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("share", "short_at_most"), [(1.0, STEPS), (0.6, 30)])
def test_short_steps_become_fewer_and_then_there_are_none(share: float, short_at_most: int) -> None:
    warmup = LengthWarmup(rows_of(), share, STEPS, ROWS)
    short = [batch.shape == (ROWS * CONTEXT // SHORT, SHORT) for batch in batches(warmup)]
    assert short == [warmup.is_short(step) for step in range(STEPS)]
    assert not any(short[short_at_most:])
    assert abs(sum(short) - share * STEPS / 2) <= 1
    assert sum(short[: short_at_most // 2]) > 2 * sum(short[short_at_most // 2 :])
    assert not all(short[: short_at_most // 2]), "some rows are whole from the beginning"
    assert not warmup.is_short(STEPS + 1000)


def test_a_short_step_sees_many_places() -> None:
    rows = rows_of()
    warmup = LengthWarmup(rows, 1.0, STEPS, ROWS)
    first = next(filter(warmup.is_short, range(STEPS)))
    starts = warmup.batch(first * ROWS, ROWS)[0][:, 0].numpy()
    assert len(set(starts // CONTEXT)) > ROWS


def test_a_part_of_a_step_is_the_same_as_in_the_whole_and_again_after_a_restart() -> None:
    whole, again = (LengthWarmup(rows_of(), 1.0, STEPS, ROWS) for _ in range(2))
    for step in (0, 1, 2, 7):
        inputs, targets = whole.batch(step * ROWS, ROWS)
        parts = [again.batch(step * ROWS + row, 1) for row in range(ROWS)]
        assert np.array_equal(inputs, np.concatenate([part[0] for part in parts]))
        assert np.array_equal(targets, np.concatenate([part[1] for part in parts]))
    other = LengthWarmup(rows_of(seed=1), 1.0, STEPS, ROWS)
    assert not np.array_equal(other.batch(0, ROWS)[0], whole.batch(0, ROWS)[0])


def test_without_a_warmup_and_where_a_context_is_no_multiple_all_rows_are_whole() -> None:
    for rows, share in ((rows_of(), 0.0), (rows_of(SHORT), 1.0), (rows_of(SHORT * 2 - 1), 1.0)):
        warmup = LengthWarmup(rows, share, STEPS, ROWS)
        assert not any(warmup.is_short(step) for step in range(STEPS))
        assert np.array_equal(warmup.batch(4, ROWS)[0], rows.batch(4, ROWS)[0])


def test_a_run_of_many_steps_needs_no_table_of_its_rows() -> None:
    warmup = LengthWarmup(rows_of(), 1.0, 1_000_000, 64)
    assert warmup.order.table is None
    assert warmup.is_short(0)
    assert warmup.batch(0, 64)[0].shape == (256, SHORT)
