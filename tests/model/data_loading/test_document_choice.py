"""A run without time for its corpus leaves out the documents that its own pairs of tokens predict best."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loading import document_choice
from data_loading.document_choice import CELLS, cells, choose_documents, describe_choice, likeness, surprises
from data_loading.token_file import TokenDataset, TokenSplit
from model_cli import UserError
from numbered_documents import split_of

VOCABULARY = 64


def split_with(documents: list[list[int]]) -> TokenSplit:
    split = split_of([len(document) + 1 for document in documents])
    tokens = np.array([token for document in documents for token in (*document, 0)], np.uint16)
    return replace(split, tokens=tokens)


def dataset_of(split: TokenSplit) -> TokenDataset:
    return TokenDataset(split, split_of([20]), VOCABULARY, 0, "d", "t")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus of a few documents counts as a large one."""
    monkeypatch.setattr(document_choice, "LEAST_COMPARED", 1)
    monkeypatch.setattr(document_choice, "BLOCK", 50)


def by_hand(documents: list[list[int]], vocab_size: int) -> list[float]:
    """The same in plain Python: each token after the one before, the first one after a closing 0."""
    closed = [[0, *document, 0] for document in documents]
    pairs = [pair for document in closed for pair in pairwise(document)]
    firsts = [first for first, _ in pairs]
    found = []
    for document in closed:
        nats = 0.0
        for first, second in pairwise(document):
            chance = (firsts.count(second) + 1) / (len(firsts) + vocab_size)
            nats -= np.log(min(1, (pairs.count((first, second)) - 1 + chance) / firsts.count(first)))
        found.append(nats / (len(document) - 1))
    return found


@settings(deadline=None, max_examples=60)
@given(
    documents=st.lists(
        st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=30), min_size=1, max_size=8
    ),
    vocab_size=st.sampled_from([VOCABULARY, 52_000]),  # the pairs of the larger one are hashed
    block=st.sampled_from([1, 40, 1 << 20]),
)
def test_surprise_is_that_of_the_corpus_own_pairs(
    documents: list[list[int]], vocab_size: int, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_choice, "BLOCK", block)
        found = surprises(split_with(documents), np.arange(len(documents)), vocab_size)
    np.testing.assert_allclose(found, by_hand(documents, vocab_size), atol=1e-4)


def test_pairs_of_a_large_vocabulary_fill_the_table_evenly() -> None:
    tokens = np.random.default_rng(0).integers(0, 52_000, 100_001)
    places = cells(tokens, 52_000)
    assert places.max() < CELLS
    assert len(np.unique(places)) > 0.99 * len(set(pairwise(tokens)))
    assert np.histogram(places, 16, (0, CELLS))[0].min() > 5_500  # of 6,250


@pytest.mark.usefixtures("small")
def test_what_is_common_is_left_out_and_no_more_than_is_allowed() -> None:
    random = np.random.default_rng(1)
    common = [[1, 2, 3, 4] * 5 for _ in range(8)]
    rare = [list(random.integers(5, VOCABULARY, 20)) for _ in range(12)]
    dataset = dataset_of(split_with([*common, *rare]))
    for tokens in (50, 200):  # of 420: time for a part
        kept = choose_documents(dataset, tokens, seed=0).train
        assert kept.kept is not None
        assert set(range(8, 20)) & set(kept.kept.tolist())
        assert kept.size >= 1.1 * tokens
        left = [number for number in range(20) if number not in kept.kept]
        among = choose_among(dataset, tokens)
        assert {number for number in left if number in among} <= set(range(8))


def choose_among(dataset: TokenDataset, tokens: int) -> set[int]:
    """The documents that a choice compares."""
    seen: set[int] = set()
    before = document_choice.surprises

    def noting(split: TokenSplit, documents: np.ndarray, vocab_size: int) -> np.ndarray:
        seen.update(documents.tolist())
        return before(split, documents, vocab_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_choice, "surprises", noting)
        choose_documents(dataset, tokens, seed=0)
    return seen


def test_never_more_than_0_3_of_what_is_compared_is_left_out() -> None:
    random = np.random.default_rng(3)
    split = split_with([list(random.integers(1, VOCABULARY, 20)) for _ in range(100)])
    kept = choose_documents(dataset_of(split), 21, seed=0).train
    assert 0.7 * split.size <= kept.size <= 0.7 * split.size + 21


@pytest.mark.usefixtures("small")
def test_a_choice_is_one_of_seed_and_length_and_respects_an_earlier_one() -> None:
    random = np.random.default_rng(2)
    split = split_with([list(random.integers(1, VOCABULARY, 20)) for _ in range(40)])
    first, again, other = (choose_documents(dataset_of(split), 200, seed) for seed in (0, 0, 1))
    assert first.train.kept is not None
    assert other.train.kept is not None
    assert again.train.kept is not None
    assert first.train.kept.tolist() == again.train.kept.tolist() != other.train.kept.tolist()
    evens = replace(split, kept=np.arange(0, 40, 2))
    of_evens = choose_documents(dataset_of(evens), 200, 0).train.kept
    assert of_evens is not None
    assert not (of_evens % 2).any()
    assert len(of_evens) < 20


def test_with_time_for_all_or_more_than_can_be_compared_nothing_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = dataset_of(split_of([40] * 10))
    assert choose_documents(dataset, 400, 0) is dataset
    monkeypatch.setattr(document_choice, "MOST_COMPARED", 100)
    assert choose_documents(dataset, 200, 0) is dataset


# For some repositories


def corpus_of_two_kinds() -> TokenDataset:
    """Four documents that name some things after the token 20, forty others; every fifth names the same."""
    random = np.random.default_rng(3)
    own, other = ([1, 2, 3, 4], [10, 11, 12, 13])
    kinds = [own] * 4 + [own if number % 5 == 0 else other for number in range(40)]
    split = split_with([[t for name in random.permutation(kind * 5) for t in (20, name)] for kind in kinds])
    names = [*["local/work"] * 4, *(f"pypi/p{number}" for number in range(40))]
    repositories = sorted(set(names))
    split = replace(
        split,
        repository=np.array([repositories.index(name) for name in names], np.int32),
        repositories=repositories,
    )
    held_out = replace(split_of([20]), repositories=["local/old"])
    return TokenDataset(split, held_out, VOCABULARY, 0, "d", "t")


def test_a_model_for_a_repository_reads_it_and_what_is_most_like_it() -> None:
    dataset = corpus_of_two_kinds()
    alike = {4 + number for number in range(40) if number % 5 == 0}
    kept = choose_documents(dataset, 9 * 41, 0, ["local/*"]).train.kept
    assert kept is not None
    assert {0, 1, 2, 3} <= set(kept.tolist()) <= {0, 1, 2, 3} | alike
    assert len(kept) == pytest.approx(10, abs=1)
    by_seed = []
    for seed in (0, 0, 1, 2, 3):
        kept = choose_documents(dataset, 5 * 41, seed, ["local/work", "loc*"]).train.kept
        assert kept is not None
        assert {0, 1, 2, 3} <= set(kept.tolist()) <= {0, 1, 2, 3} | alike
        by_seed.append(kept.tolist())
    assert by_seed[0] == by_seed[1]
    assert any(each != by_seed[0] for each in by_seed)


def test_a_repository_is_read_whole_even_alone_and_all_of_a_corpus_where_there_is_time() -> None:
    dataset = corpus_of_two_kinds()
    kept = choose_documents(dataset, 21, 0, ["local/work"]).train.kept
    assert kept is not None
    assert kept.tolist() == [0, 1, 2, 3]
    everything = choose_documents(dataset, 60 * 41, 0, ["local/work"])
    assert everything.train.left_out == 0
    assert everything.train.times == 2  # in each of 1.5 epochs
    assert describe_choice(everything, ["local/work"]) == "those of local/work are read 2 times"
    for documents in (44 * 5, 10**6):  # in so many epochs, the own files are read four times and more anyway
        assert choose_documents(dataset, documents * 41, 0, ["local/work"]) is dataset
    assert describe_choice(dataset, ["local/work"]).endswith("so --like local/work changes nothing")
    assert describe_choice(dataset, ["local/*"]).endswith("changes nothing; held out: local/old")
    assert describe_choice(dataset, []) == ""
    assert choose_documents(dataset, 44 * 41, 0, ["*"]) is dataset


def test_a_small_repository_is_read_four_times_and_no_more_than_half_of_the_time() -> None:
    split = corpus_of_two_kinds().train
    names = ["local/work", *split.repositories[1:], "pypi/rest"]
    repository = split.repository.copy()
    repository[1:4] = len(names) - 1
    dataset = dataset_of(replace(split, repository=repository, repositories=names))
    for documents, times in ((20, 4), (4, 2), (3, 1), (1, 1)):
        chosen = choose_documents(dataset, documents * 41, 0, ["local/work"])
        train = chosen.train
        assert train.kept is not None
        assert train.kept.tolist().count(0) == times == train.times
        assert np.bincount(train.kept[train.kept > 0]).max() == 1
        assert train.size == pytest.approx(1.1 * documents * 41, abs=42)
        assert train.left_out == 44 - len(set(train.kept.tolist()))
        said = describe_choice(chosen, ["local/work"])
        assert said.startswith(f"without {train.left_out} of 44 files: ")
        assert (f"those of local/work are read {times} times" in said) == (times > 1)
        assert train.once.size == train.size - 41 * (times - 1)


def test_a_document_of_a_few_tokens_is_not_taken_for_the_most_alike() -> None:
    own, short, long = [1, 2, 3] * 80, [1, 2], [1, 2, 9, 3] * 60
    others = [[1, 5 + number % 9, 3] * 60 for number in range(20)]
    split = split_with([own, short, long, *others])
    like = likeness(split, np.array([0]), np.arange(1, 23), VOCABULARY)
    assert like[1] > like[0] > like[2:].max()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("local/wrok", r"has the name --like local/wrok: is it local/work"),
        ("WORK", r"has the name --like WORK: is it local/work\?"),
        ("", r"has the name --like : it has local/old, local/work, pypi/p0, pypi/p1, pypi/p10, \.\.\."),
        ("local/old", r"all of it is held out, to measure on: local/old: .* --train-on local/old"),
    ],
)
def test_a_name_without_documents_to_learn_from_is_refused(pattern: str, message: str) -> None:
    for tokens in (21, 10**6):  # whether there is time for all or not
        with pytest.raises(UserError, match=message):
            choose_documents(corpus_of_two_kinds(), tokens, 0, [pattern])
    if pattern != "local/old":
        with pytest.raises(UserError, match=message):
            choose_documents(corpus_of_two_kinds(), 21, 0, ["local/work", pattern])
