"""Near-duplicates: the estimate is close, the best copy stays, and every loser names a file that is kept."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpus.near_duplicates import UNCERTAIN, NearDuplicate, near_duplicates
from documents.fingerprints import PERMUTATIONS, SIGNATURE_BYTES, jaccard, shingles, signature

WORDS = [f"word{number}" for number in range(5000)]


def text(seed: int, words: int = 800) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def changed(words: list[str], share: float, seed: int) -> list[str]:
    """The words with so large a share of them replaced, in one run."""
    number = int(share * len(words))
    return words[: len(words) - number] + text(seed, number)


def matrix(*texts: list[str]) -> NDArray[np.uint32]:
    blob = b"".join(signature(" ".join(words)) for words in texts)
    return np.frombuffer(blob, "<u4").reshape(-1, PERMUTATIONS)


def duplicates(texts: list[list[str]], order: list[int] | None = None) -> dict[int, NearDuplicate]:
    sets = [shingles(" ".join(words)) for words in texts]
    rows = range(len(texts)) if order is None else order
    return near_duplicates(matrix(*texts), rows, 0.7, lambda one, other: jaccard(sets[one], sets[other]))


def test_a_signature_is_the_same_in_every_run() -> None:
    assert len(signature("a b c d e f g h i j k")) == SIGNATURE_BYTES
    assert signature("a b c d e f g h i j k")[:8].hex() == "3a7d2ac0bda1a6c4"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.4, 0.8])
def test_equal_numbers_estimate_the_share_of_common_shingles(share: float) -> None:
    first = text(1)
    second = changed(first, share, 2)
    exact = jaccard(shingles(" ".join(first)), shingles(" ".join(second)))
    rows = matrix(first, second)
    assert abs(float((rows[0] == rows[1]).mean()) - exact) < 4 * 0.032


def test_blanks_and_punctuation_do_not_count_and_small_files_are_not_compared() -> None:
    assert signature("a b c d e f g h i j") == signature("a(b)\n\n  c.d = e[f, g]; h - i * j\n")
    assert signature("one two three four five six seven eight nine") == b""


def test_the_better_file_is_kept_whatever_its_row() -> None:
    original = text(1)
    texts = [changed(original, 0.1, 2), text(9), original]
    assert duplicates(texts, [2, 1, 0]).keys() == {0}
    assert duplicates(texts, [0, 1, 2]).keys() == {2}
    assert duplicates(texts, [2, 1, 0])[0].winner == 2


@pytest.mark.parametrize(("exact", "is_dropped"), [(0.6999, False), (0.7, True)])
def test_where_the_estimate_is_in_doubt_the_files_decide(exact: float, is_dropped: bool) -> None:
    first = text(1)
    rows = matrix(first, changed(first, 0.18, 2))
    assert abs(float((rows[0] == rows[1]).mean()) - 0.7) < UNCERTAIN
    losers = near_duplicates(rows, [0, 1], 0.7, lambda one, other: exact)
    assert losers == ({1: NearDuplicate(0, exact)} if is_dropped else {})


def test_a_chain_of_changes_does_not_drop_what_is_like_no_kept_file() -> None:
    first = text(1)
    second = changed(first, 0.12, 2)
    third = second[len(second) * 3 // 10 :] + text(3, len(second) * 3 // 10)
    losers = duplicates([first, second, third])
    assert losers.keys() == {1}


def test_a_thousand_copies_take_no_square_of_comparisons() -> None:
    original = text(1)
    losers = duplicates([changed(original, 0.02, seed) for seed in range(1000)])
    assert len(losers) == 999
    assert {near.winner for near in losers.values()} == {0}


def test_nothing_and_one_file_have_no_duplicates() -> None:
    assert duplicates([]) == {}
    assert duplicates([text(1)]) == {}


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.5)), max_size=12), st.randoms(use_true_random=False)
)
def test_each_loser_is_similar_to_a_better_file_that_is_kept(
    families: list[tuple[int, float]], rng: random.Random
) -> None:
    texts = [changed(text(family, 200), share, 50 + n) for n, (family, share) in enumerate(families)]
    order = list(range(len(texts)))
    rng.shuffle(order)
    losers = duplicates(texts, order)
    for loser, near in losers.items():
        assert near.winner not in losers
        assert order.index(near.winner) < order.index(loser)
        assert near.similarity >= 0.7
