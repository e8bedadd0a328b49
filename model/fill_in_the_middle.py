"""Documents whose middle comes last, from which a model learns to fill a gap.

    a document                        prefix middle suffix <|endoftext|>
    PSM   <|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle <|endoftext|>
    SPM   <|fim_prefix|> <|fim_suffix|> suffix <|fim_middle|> prefix middle <|endoftext|>

Half of the chosen documents become one, half the other. The cuts fall between tokens: characters in the
middle of a token would have to be encoded anew in every epoch, and no row could be found by its number.
Source: Bavarian et al. 2022, "Efficient training of language models to fill in the middle", sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fill_in import MARKS
from numpy.typing import NDArray

ADDED = 3  # tokens by which a document grows
LONGEST = 1 << 16  # tokens of a document that is turned round: a longer one is built for each of its rows


class FillInTheMiddleError(ValueError):
    """A tokenizer without the three marks."""


@dataclass(frozen=True)
class Marks:
    """The ids of the three marks."""

    prefix: int
    suffix: int
    middle: int


def read_marks(tokenizer: Path) -> Marks:
    """The marks of a tokenizer folder. Raises FillInTheMiddleError where it has none."""
    from tokenizers import Tokenizer

    path = tokenizer / "tokenizer.json"
    loaded = Tokenizer.from_file(str(path))
    ids = [loaded.token_to_id(mark) for mark in MARKS]
    missing = ", ".join(mark for mark, number in zip(MARKS, ids, strict=True) if number is None)
    if missing:
        raise FillInTheMiddleError(
            f"--fim-rate needs a tokenizer with {missing}: {path.absolute()}:"
            " make one: python preprocess/tokenizer.py -t, or leave --fim-rate at 0"
        )
    return Marks(*(number for number in ids if number is not None))


@dataclass(frozen=True)
class Turned:
    """Which documents of an epoch are turned round, and where each of them is cut."""

    chosen: NDArray[np.bool_]  # (D,)
    cuts: NDArray[np.int64]  # (D, 2) prefix is [:a], middle [a:b], suffix [b:]
    suffix_first: NDArray[np.bool_]  # (D,) SPM


class FillInTheMiddle:
    """Turns a share of the documents of every epoch round, always as many."""

    def __init__(self, rate: float, marks: Marks) -> None:
        self.rate = rate
        self.marks = marks

    def count(self, lengths: NDArray[np.int64]) -> int:
        """How many of the documents are turned round in each epoch."""
        return round(self.rate * int(self._eligible(lengths).sum()))

    def turn(self, lengths: NDArray[np.int64], random: np.random.Generator) -> Turned:
        """Choose documents and cuts: every pair of places in a document is equally likely."""
        eligible = np.flatnonzero(self._eligible(lengths))
        chosen = np.zeros(len(lengths), dtype=np.bool_)
        chosen[random.permutation(eligible)[: self.count(lengths)]] = True
        cuts = np.sort(random.integers(0, np.maximum(lengths, 1)[:, None], (len(lengths), 2)), axis=1)
        return Turned(chosen, cuts, random.random(len(lengths)) < 0.5)

    def apply(
        self, document: NDArray[np.unsignedinteger], cuts: NDArray[np.int64], *, suffix_first: bool
    ) -> NDArray[np.int64]:
        """(n,) tokens and a closing <|endoftext|> -> (n + 3,) the same with the middle last."""
        text, end = document[:-1].astype(np.int64), document[-1:].astype(np.int64)
        prefix, middle, suffix = np.split(text, cuts)
        marks = self.marks
        p, s, m = (np.array([mark]) for mark in (marks.prefix, marks.suffix, marks.middle))
        if suffix_first:
            return np.concatenate([p, s, suffix, m, prefix, middle, end])
        return np.concatenate([p, prefix, s, suffix, m, middle, end])

    @staticmethod
    def _eligible(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (lengths > 1) & (lengths <= LONGEST)  # a document of one token is <|endoftext|> alone
