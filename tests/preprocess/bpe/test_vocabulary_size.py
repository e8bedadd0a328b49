"""The table behind `auto`: more compute never gets fewer entries, a small corpus never gets many."""

from __future__ import annotations

import itertools

import pytest

from bpe.vocabulary_size import TABLE, VocabularyChoice, choose

PLENTY = 10_000_000_000


def test_the_default_budget_gets_what_learns_most_in_minutes() -> None:
    assert (choose(PLENTY, 4).vocab_size, choose(PLENTY, 4).pretokenizer) == (4096, "cl100k")


def test_two_hours_get_what_was_better_in_two_hours() -> None:
    assert choose(PLENTY, 120) == choose(PLENTY, 4, parameters=5.4e6)
    assert (choose(PLENTY, 120).vocab_size, choose(PLENTY, 120).pretokenizer) == (8192, "cl100k")


def test_more_compute_never_gets_fewer_entries() -> None:
    for smaller, larger in itertools.pairwise(TABLE):
        assert smaller.minutes < larger.minutes and smaller.parameters < larger.parameters
        assert smaller.vocab_size <= larger.vocab_size


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row.vocab_size))
def test_a_row_is_taken_up_to_its_budget_in_minutes_or_parameters(row: VocabularyChoice) -> None:
    assert choose(PLENTY, row.minutes) == choose(PLENTY, 1, row.parameters) == row


def test_a_model_says_more_than_minutes() -> None:
    assert choose(PLENTY, minutes=4, parameters=124e6).vocab_size == TABLE[-2].vocab_size


def test_a_small_corpus_gets_no_more_entries_than_it_can_show() -> None:
    assert choose(1_000_000, 4).vocab_size == 1984
    assert choose(10_000, 10_000).vocab_size == 1024
