"""Which documents a short run learns from: those with the most that is new, or those most like one's own.

A run of minutes has no time for its whole corpus, so some text stays unread anyway. What teaches least is
text in which each token follows from the one before: tables, generated classes, the same call in all its
variants. Left out are the documents that the corpus' own pairs of tokens predict best, 0.3 of the tokens at
most. Five pairs of runs with as many steps, scored eight times, ended between 0.4 % higher and 3.3 % lower,
on average 0.9 % lower; to leave out what is hardest loses 2.3 % (benchmarks/LOG.md). Of a large corpus 17
million tokens, or one and a half times what the run reads, are drawn first, and these alone are compared: 67
million at most. A run that would need more draws from all.
Source of the idea: Marion et al. 2023, "When Less is More", on pruning by perplexity.

A model for some repositories of the corpus reads these up to four times, and of the others those documents
that their pairs predict better than those of all do.
Source: Moore and Lewis 2010, "Intelligent Selection of Language Model Training Data", with pairs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_cli import UserError

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset, TokenSplit

MOST_LEFT_OUT = 0.3  # of the tokens among which is chosen
SPARE = 1.1  # times the planned tokens: the machine may turn out faster, and documents begin anew then
LEAST_COMPARED = 1 << 24  # tokens of a large corpus: what is common shows, and it takes two seconds
MOST_COMPARED = 1 << 26  # tokens: eight seconds. Runs that read more were not measured
# Measured on three packages of 83, half of whose files were held out (benchmarks/LOG.md): up to four passes
# over the own files teach more than other text does, and a run of nothing else learns too little.
OWN_SHARE = 0.5  # of the run's tokens
MOST_TIMES = 4
CLOSEST = 0.12  # of the other repositories' tokens that are drawn from at least
SMOOTHING = 10.0  # pairs of the whole corpus that are added to each token's in the own files
SHORT = 200  # tokens of a document that count as many without any likeness
NAMES_SHOWN = 5
BLOCK = 1 << 20  # tokens at a time
CELL_BITS = 24
CELLS = 1 << CELL_BITS  # of the table of pairs, 64 MB: with 4,096 entries each pair has its own
SPREADING = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hash: 2^64 over the golden ratio


def choose_documents(dataset: TokenDataset, tokens: int, seed: int, like: Sequence[str] = ()) -> TokenDataset:
    """The dataset with the documents for a run of so many tokens; as it is if there is time for all of them.

    Of a large corpus these are documents drawn by the seed, again without those that teach least. like:
    patterns of names, for a model of these repositories. Raises: UserError if there are none of such a name.
    """
    split, wanted = dataset.train, int(SPARE * tokens)
    if like:
        return choose_like(dataset, own_documents(dataset, like), wanted, seed)
    compared = min(split.size, max(LEAST_COMPARED, int(wanted / (1 - MOST_LEFT_OUT))))
    if wanted >= split.size or compared > MOST_COMPARED:
        return dataset
    drawn = np.random.default_rng([seed, tokens]).permutation(len(split.lengths))
    drawn = np.sort(up_to(drawn, split, compared))
    hardest_first = drawn[np.argsort(-surprises(split, drawn, dataset.vocab_size), kind="stable")]
    chosen = up_to(hardest_first, split, max(wanted, (1 - MOST_LEFT_OUT) * compared))
    return replace(dataset, train=split.keep(np.sort(chosen)))


def choose_like(dataset: TokenDataset, mine: NDArray[np.int64], wanted: int, seed: int) -> TokenDataset:
    """The dataset with these documents, some times over, and others, drawn from those most like them.

    They are repeated as long as that is no more than half of the wanted tokens. As it is if they are not and
    there is time for all.
    """
    split, random = dataset.train, np.random.default_rng([seed, wanted])
    own = int(split.lengths[mine].sum())
    passes = min(MOST_TIMES, OWN_SHARE * wanted / own)
    times = max(1, int(passes / max(1, wanted / split.size)))  # a small corpus is read several times anyway
    others = np.setdiff1d(np.arange(len(split.lengths)), mine)
    room = max(0, wanted - own * times)
    if room >= split.lengths[others].sum():
        return dataset if times == 1 else replace(dataset, train=split.keep(repeated(mine, times, others)))
    others = random.permutation(others)
    others = np.sort(up_to(others, split, MOST_COMPARED))
    closest_first = others[np.argsort(-likeness(split, mine, others, dataset.vocab_size), kind="stable")]
    near = up_to(closest_first, split, max(room, CLOSEST * split.lengths[others].sum()))
    drawn = up_to(random.permutation(near), split, room)
    return replace(dataset, train=split.keep(repeated(mine, times, drawn)))


def up_to(documents: NDArray[np.int64], split: TokenSplit, tokens: float) -> NDArray[np.int64]:
    """The first of these documents, until they have so many tokens."""
    ends = np.cumsum(split.lengths[documents])
    return documents[: int(np.searchsorted(ends, tokens)) + 1] if tokens > 0 else documents[:0]


def repeated(mine: NDArray[np.int64], times: int, others: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.sort(np.concatenate([np.tile(mine, times), others]))


def describe_choice(dataset: TokenDataset, like: Sequence[str]) -> str:
    """What was left out of the training documents or repeated and why, for the plan; "" if nothing was."""
    split, names = dataset.train, " ".join(like)
    left_out = f"without {split.left_out:,} of {len(split.text_bytes):,} files: there is no time for all"
    if not like:
        return f"{left_out}, and these teach least (--all-documents: any)" if split.left_out else ""
    times = f"those of {names} are read {split.times} times" if split.times > 1 else ""
    held_out = [name for name in dataset.held_out.repositories if matches(name, like)]
    beside = f"; held out: {', '.join(held_out)}" if held_out else ""
    if not split.left_out:
        return (times or f"there is time for all files, so --like {names} changes nothing") + beside
    others = f"others are drawn from those most like {names}"
    return f"{left_out}; {others}{f', and {times}' if times else ''}{beside}"


def own_documents(dataset: TokenDataset, patterns: Sequence[str]) -> NDArray[np.int64]:
    """The documents to learn from whose repository has such a name.

    Raises: UserError if there are none, or a pattern names nothing.
    """
    split, held_out = dataset.train, dataset.held_out.repositories
    known = [*split.repositories, *held_out]
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in known):
            raise UserError(
                f"no repository of the data has the name --like {pattern}: {similar(pattern, known)}"
            )
    chosen = [n for n, name in enumerate(split.repositories) if matches(name, patterns)]
    mine = np.flatnonzero(np.isin(split.of_kept(split.repository), chosen))
    if len(mine):
        return mine
    names = [name for name in held_out if matches(name, patterns)]
    raise UserError(
        f"all of it is held out, to measure on: {', '.join(names)}: to learn from it, prepare the data with"
        f" --train-on: python preprocess/data_preprocess.py --train-on {' '.join(map(shlex.quote, patterns))}"
    )


def similar(pattern: str, names: Sequence[str]) -> str:
    """What somebody may have meant who named no repository, in words."""
    lowered = {name.lower(): name for name in names}
    ends = [name for low, name in lowered.items() if low.endswith(f"/{pattern.lower()}")]
    near = ends or [lowered[low] for low in get_close_matches(pattern.lower(), lowered, NAMES_SHOWN, 0.6)]
    if near:
        return f"is it {' or '.join(near)}?"
    some = sorted(names, key=lambda name: (not name.startswith("local/"), name))[:NAMES_SHOWN]
    return f"it has {', '.join(some)}{', ...' if len(names) > NAMES_SHOWN else ''}"


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def likeness(
    split: TokenSplit, mine: NDArray[np.int64], others: NDArray[np.int64], vocab_size: int
) -> NDArray[np.float64]:
    """(D,): nats a token by which the pairs of `mine` predict each of `others` better than theirs do.

    Short documents tell little, so theirs are drawn towards 0. To four digits, as in `surprises`.
    """
    theirs = PairCounts(split, others, vocab_size)
    own = PairCounts(split, mine, vocab_size)
    found = np.empty(len(others))
    for block, tokens in blocks(split, others):
        usual = theirs.likelihoods(tokens)
        places, before = cells(tokens, vocab_size), tokens[:-1]
        here = (own.pairs[places] + SMOOTHING * usual) / (own.single[before] + SMOOTHING)
        lengths = split.lengths[others[block]]
        found[block] = means(np.log(here / usual), lengths) * lengths / (lengths + SHORT)
    return found.round(4)


def surprises(split: TokenSplit, documents: NDArray[np.int64], vocab_size: int) -> NDArray[np.float64]:
    """(D,): nats a token of each of these documents, after the token before it.

    As all of them together predict it, but for one occurrence of each pair, which is the document's own. So a
    document that repeats itself is easy too. To four digits: another processor's rounding must not choose
    other documents.
    """
    counts = PairCounts(split, documents, vocab_size)
    found = np.empty(len(documents))
    for block, tokens in blocks(split, documents):
        found[block] = means(-np.log(counts.likelihoods(tokens)), split.lengths[documents[block]])
    return found.round(4)


class PairCounts:
    """How often each pair of tokens stands in some documents."""

    def __init__(self, split: TokenSplit, documents: NDArray[np.int64], vocab_size: int) -> None:
        self.pairs = np.zeros(CELLS, np.uint32)  # by `cells`
        self.single = np.zeros(vocab_size, np.int64)  # of the first tokens of the pairs
        for _, tokens in blocks(split, documents):
            np.add.at(self.pairs, cells(tokens, vocab_size), 1)
            self.single += np.bincount(tokens[:-1], minlength=vocab_size)
        self.chance = (self.single + 1) / (self.single.sum() + vocab_size)

    def likelihoods(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N - 1,): of each of these documents' tokens (N,) after the one before, by the other documents.

        One occurrence of each pair does not count, as it is the document's own.
        """
        others = self.pairs[cells(tokens, len(self.single))] - 1.0
        found: NDArray[np.float64] = (others + self.chance[tokens[1:]]) / self.single[tokens[:-1]]
        return np.minimum(1, found)


def means(values: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """(D,): the mean of each document's values; they lie one after the other."""
    sums: NDArray[np.float64] = np.add.reduceat(values, np.cumsum(lengths) - lengths)
    return sums / lengths


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
