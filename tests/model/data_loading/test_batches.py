"""The batches of steps: short rows at first, no token lost or repeated, a batch given by its step alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from data_loading import batches
from data_loading.batches import WINDOW, BatchLoader, PackedRows, StepSampler
from numbered_documents import split_of

ROWS, STEPS, CONTEXT, SHORT = 4, 50, 32, 8


@pytest.fixture(autouse=True)
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SHORT_LENGTH", SHORT)


def rows_of(context: int = CONTEXT, seed: int = 0) -> PackedRows:
    """Documents of tokens that are all different, more than the steps read."""
    split = split_of([300] * 40)
    split.tokens[:] = np.arange(len(split.tokens))
    return PackedRows(split, context, seed)


def loader_of(
    rows: PackedRows, warmup: float = 1.0, share: range = range(ROWS), micro_rows: int = ROWS
) -> BatchLoader:
    sampler = StepSampler(rows.block_size, warmup, STEPS, ROWS, rows.seed)
    return BatchLoader(rows, sampler, share, micro_rows, torch.device("cpu"))


def targets(loader: BatchLoader, steps: int = STEPS) -> list[np.ndarray]:
    """Of each step, its parts one below the other."""
    return [np.concatenate([batch[1] for batch in loader.batches(step)]) for step in range(steps)]


def test_each_token_of_the_rows_comes_once() -> None:
    rows = rows_of()
    found = np.concatenate([step.flatten() for step in targets(loader_of(rows))])
    expected = np.concatenate([rows.row(number)[1:] for number in range(STEPS * ROWS)])
    assert sorted(found) == sorted(expected)
    assert len(set(found)) == len(found)


def test_targets_are_the_inputs_shifted_by_one() -> None:
    rows = PackedRows(split_of([10, 20, 30, 40]), 8, seed=0)
    for step in range(2 * rows.rows_per_epoch // ROWS):
        [(inputs, predicted)] = loader_of(rows, 0.0).batches(step)
        for row in range(ROWS):
            tokens = rows.row(step * ROWS + row).tolist()
            assert [*inputs[row].tolist(), tokens[-1]] == tokens
            assert [tokens[0], *predicted[row].tolist()] == tokens


@pytest.mark.parametrize(("share", "short_at_most"), [(1.0, STEPS), (0.6, 30)])
def test_short_steps_become_fewer_and_then_there_are_none(share: float, short_at_most: int) -> None:
    loader = loader_of(rows_of(), share)
    short = [step.shape == (ROWS * CONTEXT // SHORT, SHORT) for step in targets(loader)]
    assert short == [loader.sampler.is_short(step) for step in range(STEPS)]
    assert not any(short[short_at_most:])
    assert abs(sum(short) - share * STEPS / 2) <= 1
    assert sum(short[: short_at_most // 2]) > 2 * sum(short[short_at_most // 2 :])
    assert not all(short[: short_at_most // 2]), "some rows are whole from the beginning"
    assert not loader.sampler.is_short(STEPS + 1000)


def test_a_short_step_sees_many_places() -> None:
    loader = loader_of(rows_of())
    first = next(filter(loader.sampler.is_short, range(STEPS)))
    [(inputs, _)] = loader.batches(first)
    assert len(set(inputs[:, 0].numpy() // CONTEXT)) > ROWS


def test_the_parts_and_shares_of_a_step_are_the_same_as_the_whole_and_again_after_a_restart() -> None:
    whole = targets(loader_of(rows_of()))
    in_parts = targets(loader_of(rows_of(), micro_rows=3))
    of_ranks = [targets(loader_of(rows_of(), share=range(first, first + 2))) for first in (0, 2)]
    for step in range(STEPS):
        assert np.array_equal(whole[step], in_parts[step])
        assert np.array_equal(whole[step], np.concatenate([rank[step] for rank in of_ranks]))
    assert np.array_equal(np.concatenate([part[1] for part in loader_of(rows_of()).batches(7)]), whole[7])
    assert not np.array_equal(targets(loader_of(rows_of(seed=1)), 1)[0], whole[0])


@pytest.mark.parametrize("micro_rows", [ROWS, 3, 1])
def test_batches_that_are_read_ahead_are_the_same(monkeypatch: pytest.MonkeyPatch, micro_rows: int) -> None:
    """As on a GPU, but for the pinned memory."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    ahead, plain = (loader_of(rows_of(), micro_rows=micro_rows) for _ in range(2))
    ahead.pool = ThreadPoolExecutor(1)
    for step in (0, 1, 2, 9, 10, 3):  # a run that goes back to a checkpoint asks for earlier steps again
        pairs = list(zip(ahead.batches(step), plain.batches(step), strict=True))
        assert len(pairs) == -(-ROWS // micro_rows)
        assert all(torch.equal(a, b) for theirs, ours in pairs for a, b in zip(theirs, ours, strict=True))
        assert list(ahead.ahead) == [(step + 1, 0)]
    ahead.pool.shutdown()


def test_without_a_warmup_and_where_a_context_cannot_be_cut_evenly_all_rows_are_whole() -> None:
    for rows, share in ((rows_of(), 0.0), (rows_of(SHORT), 1.0), (rows_of(SHORT * 2 - 1), 1.0)):
        loader = loader_of(rows, share)
        assert not any(loader.sampler.is_short(step) for step in range(STEPS))
        assert targets(loader, 1)[0].tolist() == [rows.row(number)[1:].tolist() for number in range(ROWS)]


def test_a_run_of_many_steps_starts_with_the_table_of_one_window() -> None:
    sampler = StepSampler(CONTEXT, 1.0, 1_000_000, 64, 0)
    assert sampler.order.count > 100_000_000
    assert len(sampler.order.first) == WINDOW
    assert sampler.is_short(0)
    places, length = sampler.choose(0, range(64))
    assert (len(places), length) == (256, SHORT)
