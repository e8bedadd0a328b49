"""Documents turned round for filling gaps: every token is still there, every row found by its number."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fill_in_the_middle import FillInTheMiddle, FillInTheMiddleError, Marks, read_marks
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import PackedRows
from test_packing import split_of, targets
from tiny_model import tokenizer_json

MARKS = Marks(prefix=60_002, suffix=60_003, middle=60_004)
BY_ID = {60_002: "P", 60_003: "S", 60_004: "M"}


def test_the_two_orders_are_those_of_the_paper() -> None:
    turning = FillInTheMiddle(1.0, MARKS)
    document, cuts = np.array([11, 12, 13, 14, 15, 0], np.uint16), np.array([2, 4])
    psm = turning.apply(document, cuts, suffix_first=False)
    spm = turning.apply(document, cuts, suffix_first=True)
    assert [BY_ID.get(int(t), int(t)) for t in psm] == ["P", 11, 12, "S", 15, "M", 13, 14, 0]
    assert [BY_ID.get(int(t), int(t)) for t in spm] == ["P", "S", 15, "M", 11, 12, 13, 14, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.sampled_from([4, 8, 16]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_each_epoch_still_predicts_every_token_and_three_marks_for_each_document_turned_round(
    lengths: list[int], block_size: int, rate: float
) -> None:
    split = split_of(lengths)
    rows = PackedRows(split, block_size, 0, FillInTheMiddle(rate, MARKS))
    turned = round(rate * sum(length > 1 for length in lengths))
    for epoch in range(2):
        extra = Counter(targets(rows, epoch))
        extra.subtract(Counter(split.tokens.tolist()))
        extra.subtract(dict.fromkeys(BY_ID, turned))
        assert min(extra.values(), default=0) >= 0
        assert sum(extra.values()) < block_size


def test_half_of_the_documents_begin_with_their_suffix_and_cuts_are_anywhere() -> None:
    lengths = np.full(4000, 11)
    turned = FillInTheMiddle(0.5, MARKS).turn(lengths, np.random.default_rng(0))
    assert turned.chosen.sum() == 2000
    assert abs(turned.suffix_first.mean() - 0.5) < 0.03
    counts = np.bincount(turned.cuts.flatten(), minlength=12)
    assert counts[11] == 0, "the closing <|endoftext|> stays last"
    assert counts[:11].min() > 0.85 * counts[:11].max()


def test_rows_are_the_same_whoever_asks_and_other_ones_in_the_next_epoch() -> None:
    split = split_of([30, 5, 17, 40])
    first, again = (PackedRows(split, 8, 1, FillInTheMiddle(0.5, MARKS)) for _ in range(2))
    assert again.row(7).tolist() == first.row(7).tolist()
    assert targets(first, 0) == targets(again, 0)
    assert targets(first, 0) != targets(first, 1)


def test_a_rate_of_zero_changes_nothing() -> None:
    split = split_of([30, 5, 17, 40])
    assert targets(PackedRows(split, 8, 1, FillInTheMiddle(0.0, MARKS)), 3) == targets(
        PackedRows(split, 8, 1), 3
    )


def test_the_marks_are_read_from_the_tokenizer_and_missed_by_name(tmp_path: Path) -> None:
    content = json.loads(tokenizer_json())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_marks(tmp_path) == Marks(2, 3, 4)
    text = json.dumps(content).replace("<|fim_middle|>", "<|other|>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(FillInTheMiddleError, match=r"<\|fim_middle\|>.*tokenizer.py -t"):
        read_marks(tmp_path)
