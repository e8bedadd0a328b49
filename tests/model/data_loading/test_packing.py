"""Rows hold every token of every document once an epoch, in a new order each time, rearranged or not."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loading import batches
from data_loading.batches import FillInTheMiddle, FimIds, PackedRows, RowOrder, read_fim_ids
from model_cli import UserError
from numbered_documents import split_of, targets
from tiny_model import tokenizer_json

FIM_IDS = FimIds(prefix=60_002, suffix=60_003, middle=60_004)
BY_ID = {60_002: "P", 60_003: "S", 60_004: "M"}


@settings(max_examples=50)
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


# The order of rows


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(0, 5), st.sampled_from([7, 100, 1 << 20]))
def test_each_row_comes_once(count: int, seed: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "WINDOW", window)
        order = RowOrder(count, np.random.default_rng(seed))
        assert sorted(order[number] for number in range(count)) == list(range(count))


def test_a_seed_gives_the_same_order_again_and_another_seed_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "WINDOW", 1000)
    first, again, other = (RowOrder(5000, np.random.default_rng(seed)) for seed in (1, 1, 2))
    rows = [first[number] for number in range(5000)]
    assert rows == [again[number] for number in range(5000)]
    assert sum(a == other[number] for number, a in enumerate(rows)) < 20


def test_up_to_a_window_the_order_is_the_permutation_of_numpy() -> None:
    order = RowOrder(5000, np.random.default_rng(3))
    assert [order[number] for number in range(5000)] == np.random.default_rng(3).permutation(5000).tolist()


def test_windows_follow_each_other_and_neighbours_within_one_lie_far_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "WINDOW", 10_000)
    order = RowOrder(40_000, np.random.default_rng(0))
    rows = np.array([order[number] for number in range(40_000)]).reshape(4, 10_000)
    assert (rows // 10_000 == np.arange(4)[:, None]).all()
    apart = np.abs(np.diff(rows, axis=1))
    assert float(apart.mean()) == pytest.approx(10_000 / 3, rel=0.02)
    assert int((apart == 1).sum()) < 30  # 8 expected
    inner = rows % 10_000
    assert not any((inner[a] == inner[b]).mean() > 0.01 for a in range(4) for b in range(a))


def test_a_number_beyond_the_rows_is_refused() -> None:
    order = RowOrder(10, np.random.default_rng(0))
    for number in (-1, 10):
        with pytest.raises(IndexError):
            order[number]


# Fill-in-the-middle


def test_the_two_orders_are_those_of_the_paper() -> None:
    fim = FillInTheMiddle(1.0, FIM_IDS)
    document, cuts = np.array([11, 12, 13, 14, 15, 0], np.uint16), np.array([2, 4])
    psm = fim.rearrange(document, cuts, suffix_first=False)
    spm = fim.rearrange(document, cuts, suffix_first=True)
    assert [BY_ID.get(int(t), int(t)) for t in psm] == ["P", 11, 12, "S", 15, "M", 13, 14, 0]
    assert [BY_ID.get(int(t), int(t)) for t in spm] == ["P", "S", 15, "M", 11, 12, 13, 14, 0]


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.sampled_from([4, 8, 16]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_each_epoch_still_predicts_every_token_and_three_more_for_each_rearranged_document(
    lengths: list[int], block_size: int, rate: float
) -> None:
    split = split_of(lengths)
    rows = PackedRows(split, block_size, 0, FillInTheMiddle(rate, FIM_IDS))
    rearranged = round(rate * sum(length > 1 for length in lengths))
    for epoch in range(2):
        extra = Counter(targets(rows, epoch))
        extra.subtract(Counter(split.tokens.tolist()))
        extra.subtract(dict.fromkeys(BY_ID, rearranged))
        assert min(extra.values(), default=0) >= 0
        assert sum(extra.values()) < block_size


def test_half_of_the_documents_begin_with_their_suffix_and_cuts_are_anywhere() -> None:
    lengths = np.full(4000, 11)
    choice = FillInTheMiddle(0.5, FIM_IDS).choose(lengths, np.random.default_rng(0))
    assert choice.chosen.sum() == 2000
    assert abs(choice.suffix_first.mean() - 0.5) < 0.03
    counts = np.bincount(choice.cuts.flatten(), minlength=12)
    assert counts[11] == 0, "the closing <|endoftext|> stays last"
    assert counts[:11].min() > 0.85 * counts[:11].max()


def test_rearranged_rows_are_the_same_again_and_other_ones_in_the_next_epoch() -> None:
    split = split_of([30, 5, 17, 40])
    first, again = (PackedRows(split, 8, 1, FillInTheMiddle(0.5, FIM_IDS)) for _ in range(2))
    assert again.row(7).tolist() == first.row(7).tolist()
    assert targets(first, 0) == targets(again, 0)
    assert targets(first, 0) != targets(first, 1)


def test_a_fim_rate_of_zero_changes_nothing() -> None:
    split = split_of([30, 5, 17, 40])
    assert targets(PackedRows(split, 8, 1, FillInTheMiddle(0.0, FIM_IDS)), 3) == targets(
        PackedRows(split, 8, 1), 3
    )


def test_the_fim_ids_are_read_from_the_tokenizer_and_missed_by_name(tmp_path: Path) -> None:
    content = json.loads(tokenizer_json())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_fim_ids(tmp_path) == FimIds(2, 3, 4)
    text = json.dumps(content).replace("<|fim_middle|>", "<|other|>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"<\|fim_middle\|>.*tokenizer.py -t"):
        read_fim_ids(tmp_path)
