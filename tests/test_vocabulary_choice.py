"""The table behind `auto`: more compute never gets fewer entries, a small corpus never gets many."""

from __future__ import annotations

import itertools

import pytest
from vocabulary_choice import TABLE, choose, count

PLENTY = 10_000_000_000


def test_the_default_budget_gets_what_learns_most_in_minutes() -> None:
    assert (choose(PLENTY, 4).vocab_size, choose(PLENTY, 4).pretokenizer) == (2048, "cl100k")


def test_more_compute_never_gets_fewer_entries() -> None:
    for smaller, larger in itertools.pairwise(TABLE):
        assert smaller.minutes < larger.minutes and smaller.parameters < larger.parameters
        assert smaller.vocab_size <= larger.vocab_size


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row.vocab_size))
def test_a_row_is_taken_up_to_its_budget_in_minutes_or_parameters(row: object) -> None:
    assert isinstance(row, type(TABLE[0]))
    assert choose(PLENTY, row.minutes) == choose(PLENTY, 1, row.parameters) == row


def test_a_model_says_more_than_minutes() -> None:
    assert choose(PLENTY, minutes=4, parameters=124e6).vocab_size == TABLE[-2].vocab_size


def test_a_small_corpus_gets_no_more_entries_than_it_can_show() -> None:
    assert choose(1_000_000, 4).vocab_size == 1984
    assert choose(10_000, 10_000).vocab_size == 1024


@pytest.mark.parametrize(("text", "number"), [("124M", 124e6), ("5.3m", 5.3e6), ("7e6", 7e6), ("900k", 9e5)])
def test_sizes_of_models_are_written_as_people_write_them(text: str, number: float) -> None:
    assert count(text) == pytest.approx(number)


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="large"):
        count("large")
