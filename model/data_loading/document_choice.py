"""Which documents a short run learns from: those with the most that is new.

A run of minutes has no time for its whole corpus, so some text stays unread anyway. What teaches least is
text in which each token follows from the one before: tables, generated classes, the same call in all its
variants. Left out are the documents that the corpus' own pairs of tokens predict best, 0.3 of the tokens at
most. With as many steps eight comparisons ended between 0.4 % higher and 3.3 % lower, on average 0.9 % lower;
to leave out what is hardest loses 2.3 % (benchmarks/LOG.md). Of a large corpus 17 million tokens, or what the
run reads and half as much again, are drawn first, and these alone are compared: 67 million at most. A run
that would need more draws from all.
Source of the idea: Moore and Lewis 2010, "Intelligent Selection of Language Model Training Data"; Marion et
al. 2023, "When Less is More", on pruning by perplexity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset, TokenSplit

MOST_LEFT_OUT = 0.3  # of the tokens among which is chosen
SPARE = 1.1  # times the planned tokens: the machine may turn out faster, and documents begin anew then
LEAST_COMPARED = 1 << 24  # tokens of a large corpus: what is common shows, and it takes two seconds
MOST_COMPARED = 1 << 26  # tokens: eight seconds. Runs that read more were not measured
BLOCK = 1 << 20  # tokens at a time
CELL_BITS = 24
CELLS = 1 << CELL_BITS  # of the table of pairs, 64 MB: with 4,096 entries each pair has its own
SPREADING = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hash: 2^64 over the golden ratio


def choose_documents(dataset: TokenDataset, tokens: int, seed: int) -> TokenDataset:
    """The dataset with the documents for a run of so many tokens; as it is if there is time for all of them.

    Of a large corpus these are documents drawn by the seed, again without those that teach least.
    """
    split, wanted = dataset.train, int(SPARE * tokens)
    compared = min(split.size, max(LEAST_COMPARED, int(wanted / (1 - MOST_LEFT_OUT))))
    if wanted >= split.size or compared > MOST_COMPARED:
        return dataset
    drawn = np.random.default_rng([seed, tokens]).permutation(len(split.lengths))
    drawn = np.sort(drawn[: int(np.searchsorted(np.cumsum(split.lengths[drawn]), compared)) + 1])
    hardest_first = drawn[np.argsort(-surprises(split, drawn, dataset.vocab_size), kind="stable")]
    enough = max(wanted, (1 - MOST_LEFT_OUT) * compared)
    count = int(np.searchsorted(np.cumsum(split.lengths[hardest_first]), enough)) + 1
    chosen = np.sort(hardest_first[:count])
    return replace(dataset, train=split.keep(chosen))


def surprises(split: TokenSplit, documents: NDArray[np.int64], vocab_size: int) -> NDArray[np.float64]:
    """(D,): nats a token of each of these documents, after the token before it.

    As all of them together predict it, but for one occurrence of each pair, which is the document's own. So a
    document that repeats itself is easy too. To four digits: another processor's rounding must not choose
    other documents.
    """
    pairs = np.zeros(CELLS, np.uint32)
    single = np.zeros(vocab_size, np.int64)
    for _, tokens in blocks(split, documents):
        np.add.at(pairs, cells(tokens, vocab_size), 1)
        single += np.bincount(tokens[:-1], minlength=vocab_size)
    chance = (single + 1) / (single.sum() + vocab_size)
    found = np.empty(len(documents))
    for block, tokens in blocks(split, documents):
        others = pairs[cells(tokens, vocab_size)] - 1.0
        likelihood = np.minimum(1, (others + chance[tokens[1:]]) / single[tokens[:-1]])
        lengths = split.lengths[documents[block]]
        found[block] = np.add.reduceat(-np.log(likelihood), np.cumsum(lengths) - lengths) / lengths
    return found.round(4)


def blocks(split: TokenSplit, documents: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Some documents at a time: which of them, and their tokens one after the other.

    In front of them the token that closes a document, after which each begins.
    """
    ends = np.cumsum(split.lengths[documents])
    first = 0
    while first < len(documents):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + BLOCK, side="right")))
        spans = [
            split.tokens[int(split.starts[number]) : int(split.starts[number] + split.lengths[number])]
            for number in documents[first:last]
        ]
        yield slice(first, last), np.concatenate([spans[-1][-1:], *spans]).astype(np.int64)
        first = last


def cells(tokens: NDArray[np.int64], vocab_size: int) -> NDArray[Any]:
    """The places (N - 1,) in the table of pairs for the pairs of tokens (N,)."""
    numbers = tokens[:-1] * vocab_size + tokens[1:]
    if vocab_size**2 <= CELLS:
        return numbers
    return (numbers.astype(np.uint64) * SPREADING) >> np.uint64(64 - CELL_BITS)
