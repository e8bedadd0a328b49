"""Whole documents -> rows of one context each -> the batches of a run's steps, on the device in time.

PackedRows lays the documents of an epoch end to end: shuffled in every epoch, nothing lost, no padding.
StepSampler chooses the rows of a step, BatchLoader brings their tokens.

Fill-in-the-middle rearranges a share of the documents, so that a model learns to fill a gap:

    a document                        prefix middle suffix <|endoftext|>
    PSM   <|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle <|endoftext|>
    SPM   <|fim_prefix|> <|fim_suffix|> suffix <|fim_middle|> prefix middle <|endoftext|>

Half of the chosen documents get one form, half the other. The cuts fall between tokens: a cut inside a token
would need new encoding in every epoch, and rows could not be found by number.
Source: Bavarian et al. 2022, "Efficient training of language models to fill in the middle", sections 3 and 4.

Sequence length warmup: early steps mostly learn from short rows of many places, later ones from whole rows.
A step of four rows of 512 tokens sees four files; as many tokens in rows of 64 see 32, and what a network
learns first, which names and words follow each other, takes no long context. Some steps are whole from the
beginning, because later positions are learnt in whole rows alone. With the same tokens a run ends 1.5
to 2.9 % lower in bits per byte than one of whole rows, 3 to 5 % lower on short texts, and its steps are a
fifth quicker (benchmarks/LOG.md).
Source of the idea: Li et al. 2022, "The Stability-Efficiency Dilemma"; Pouransari et al. 2024, "Dataset
Decomposition".
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_cli import UserError
from pretrained.vocabulary import FIM_TOKENS

if TYPE_CHECKING:
    from data_loading.token_file import TokenSplit

LONGEST_FIM = 1 << 16  # tokens of a rearranged document, which is built again for each of its rows
SHORT_LENGTH = 64  # tokens of a short row; measured: benchmarks/LOG.md
WINDOW = 1 << 20  # rows that are shuffled among themselves: 8 MB and 50 ms, however many rows there are

Batch = tuple[Tensor, Tensor]  # inputs and targets, both (B, T)


@dataclass(frozen=True)
class FimIds:
    """The ids of the three tokens of fill-in-the-middle."""

    prefix: int
    suffix: int
    middle: int


def read_fim_ids(tokenizer: Path) -> FimIds:
    """The ids in a tokenizer folder. Raises UserError if it lacks one of them."""
    from tokenizers import Tokenizer

    path = tokenizer / "tokenizer.json"
    loaded = Tokenizer.from_file(str(path))
    ids = [loaded.token_to_id(token) for token in FIM_TOKENS]
    missing = ", ".join(token for token, number in zip(FIM_TOKENS, ids, strict=True) if number is None)
    if missing:
        raise UserError(
            f"--fim-rate needs a tokenizer with {missing}: {path.absolute()}:"
            " make one: python preprocess/tokenizer.py -t, or leave --fim-rate at 0"
        )
    return FimIds(*(number for number in ids if number is not None))


@dataclass(frozen=True)
class FimChoice:
    """Which documents of an epoch are rearranged, and where each of them is cut."""

    chosen: NDArray[np.bool_]  # (D,)
    cuts: NDArray[np.int64]  # (D, 2) prefix is [:a], middle [a:b], suffix [b:]
    suffix_first: NDArray[np.bool_]  # (D,) SPM


class FillInTheMiddle:
    """Rearranges a share of the documents, the same number in every epoch."""

    def __init__(self, rate: float, ids: FimIds) -> None:
        self.rate = rate
        self.ids = ids

    def count(self, lengths: NDArray[np.int64]) -> int:
        """How many of the documents are rearranged in each epoch."""
        return round(self.rate * int(self._eligible(lengths).sum()))

    def choose(self, lengths: NDArray[np.int64], random: np.random.Generator) -> FimChoice:
        """Choose documents and cuts: every pair of places in a document is equally likely."""
        eligible = np.flatnonzero(self._eligible(lengths))
        chosen = np.zeros(len(lengths), dtype=np.bool_)
        chosen[random.permutation(eligible)[: self.count(lengths)]] = True
        cuts = np.sort(random.integers(0, np.maximum(lengths, 1)[:, None], (len(lengths), 2)), axis=1)
        return FimChoice(chosen, cuts, random.random(len(lengths)) < 0.5)

    def rearrange(
        self, document: NDArray[np.unsignedinteger], cuts: NDArray[np.int64], *, suffix_first: bool
    ) -> NDArray[np.int64]:
        """(n,) tokens and a closing <|endoftext|> -> (n + 3,) the same with the middle last."""
        text, end = document[:-1].astype(np.int64), document[-1:].astype(np.int64)
        prefix, middle, suffix = np.split(text, cuts)
        p, s, m = (np.array([number]) for number in (self.ids.prefix, self.ids.suffix, self.ids.middle))
        if suffix_first:
            return np.concatenate([p, s, suffix, m, prefix, middle, end])
        return np.concatenate([p, prefix, s, suffix, m, middle, end])

    @staticmethod
    def _eligible(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (lengths > 1) & (lengths <= LONGEST_FIM)  # a document of one token is <|endoftext|> alone


class RowOrder:
    """The numbers below `count` in random order: order[i] is the row that comes as number i.

    They are shuffled by numpy within windows of WINDOW numbers, which are made when they are needed: 10 GB of
    tokens start as quickly as 10 MB, and a batch still draws its rows from 500 million tokens (512 a row).
    """

    def __init__(self, count: int, random: np.random.Generator) -> None:
        self.count = count
        self.first = random.permutation(min(count, WINDOW))
        self.seed = int(random.integers(1 << 63)) if count > WINDOW else 0
        self._later = lru_cache(maxsize=8)(self._shuffle)

    def _shuffle(self, window: int) -> NDArray[np.int64]:
        random = np.random.default_rng([self.seed, window])
        return random.permutation(min(WINDOW, self.count - window * WINDOW))

    def __getitem__(self, number: int) -> int:
        if not 0 <= number < self.count:
            raise IndexError(f"{number} is none of {self.count} rows")
        window, place = divmod(number, WINDOW)
        return window * WINDOW + int((self._later(window) if window else self.first)[place])


@dataclass(frozen=True)
class Epoch:
    """One pass over the documents."""

    documents: NDArray[np.int64]  # (D,) in the order of this epoch
    lengths: NDArray[np.int64]  # (D,) tokens of each, in the same order
    ends: NDArray[np.int64]  # (D,) where each ends in the stream
    rows: RowOrder
    fim: FimChoice | None


class PackedRows:
    """The training rows of a split, numbered through all epochs: row n depends on (seed, n) alone.

    An epoch lays its shuffled documents end to end and cuts the stream into rows of block_size targets. The
    rows are shuffled too, or those of one long file would fill a batch. The last row of an epoch is completed
    from the epoch's first tokens. The number of rows used is all that is needed to resume.

    A document's first token is learnt after the <|endoftext|> of the document before it: the model starts
    writing a text from there as well. To skip these tokens, or to forbid attention across documents, makes no
    difference to held-out bits per byte (benchmarks/LOG.md).
    """

    def __init__(
        self, split: TokenSplit, block_size: int, seed: int, fim: FillInTheMiddle | None = None
    ) -> None:
        self.tokens = split.tokens
        self.starts = split.starts
        self.lengths = split.lengths
        self.block_size = block_size
        self.seed = seed
        self.fim = fim
        added = 0 if fim is None else len(FIM_TOKENS) * fim.count(self.lengths)
        self.size = split.size + added  # tokens of an epoch
        self.rows_per_epoch = -(-self.size // block_size)
        # The short rows of a batch may lie in any epoch of the run; an epoch takes 0.025 bytes a token.
        self._epoch = lru_cache(maxsize=64)(self._shuffle)

    def _shuffle(self, number: int) -> Epoch:
        random = np.random.default_rng([self.seed, number])
        documents = random.permutation(len(self.lengths))
        rows = RowOrder(self.rows_per_epoch, random)
        lengths, choice = self.lengths, None
        if self.fim is not None:
            choice = self.fim.choose(lengths, random)
            lengths = lengths + len(FIM_TOKENS) * choice.chosen
        lengths = lengths[documents]
        return Epoch(documents, lengths, np.cumsum(lengths), rows, choice)

    def row(self, number: int, first: int = 0, length: int | None = None) -> NDArray[np.int64]:
        """The block_size + 1 tokens of a row: its inputs and, shifted by one, its targets.

        first, length: only a part of the row, with `length` inputs from `first` on.
        """
        number, index = divmod(number, self.rows_per_epoch)
        epoch = self._epoch(number)
        row = np.empty((self.block_size if length is None else length) + 1, dtype=np.int64)
        # The stream of inputs is one <|endoftext|> and then the documents: target p is token p of the
        # stream, its input token p - 1, which at p = 0 is the last document's closing token.
        position = epoch.rows[index] * self.block_size + first - 1
        filled = 0
        while filled < len(row):
            position %= self.size
            place = int(np.searchsorted(epoch.ends, position, side="right"))
            length_there = int(epoch.lengths[place])
            within = position - (int(epoch.ends[place]) - length_there)
            count = min(len(row) - filled, length_there - within)
            row[filled : filled + count] = self._read(epoch, int(epoch.documents[place]), within, count)
            filled += count
            position += count
        return row

    def _read(self, epoch: Epoch, document: int, within: int, count: int) -> NDArray[np.integer]:
        """`count` tokens of a document, as it is in this epoch."""
        start = int(self.starts[document])
        if self.fim is None or epoch.fim is None or not epoch.fim.chosen[document]:
            return self.tokens[start + within : start + within + count]
        whole = self.tokens[start : start + int(self.lengths[document])]
        cuts, suffix_first = epoch.fim.cuts[document], bool(epoch.fim.suffix_first[document])
        return self.fim.rearrange(whole, cuts, suffix_first=suffix_first)[within : within + count]


def short_rows_of(block_size: int) -> int:
    """How many short rows a whole row is cut into; 1 if it cannot be cut evenly."""
    return 1 if block_size % SHORT_LENGTH else max(1, block_size // SHORT_LENGTH)


class StepSampler:
    """Which rows a step learns from, whole or short; both kinds of step have the same number of tokens.

    warmup: the share of the planned steps after which all are whole; 0: all are. Until then the share of
    short steps falls evenly from 1 to 0.

    The rows of all short steps are cut into short ones, which are shuffled: no token is lost or comes twice,
    and what a step gets depends on the seed and its number alone.
    """

    def __init__(self, block_size: int, warmup: float, steps: int, rows_per_step: int, seed: int) -> None:
        self.block_size = block_size
        self.rows_per_step = rows_per_step
        self.short_per_row = short_rows_of(block_size)
        steps_of_warmup = round(warmup * steps) if self.short_per_row > 1 else 0
        done = np.arange(steps_of_warmup + 1)
        # The integral of the share that falls from 1 to 0: how many of the steps before are short
        self.short_before = np.floor(done - done**2 / max(1, 2 * steps_of_warmup) + 0.5).astype(np.int64)
        self.short_steps = np.flatnonzero(np.diff(self.short_before))
        count = max(1, len(self.short_steps) * rows_per_step * self.short_per_row)
        self.order = RowOrder(count, np.random.default_rng([seed, SHORT_LENGTH, 0]))

    def is_short(self, step: int) -> bool:
        """Whether the rows of this step are short."""
        is_over = step + 1 >= len(self.short_before)
        return not is_over and bool(self.short_before[step + 1] > self.short_before[step])

    def choose(self, step: int, rows: range) -> tuple[list[tuple[int, int]], int]:
        """What to read for these of a step's rows: (row, its first token) of each, and tokens of each.

        rows: some of range(rows_per_step), counted as whole rows.
        """
        if not self.is_short(step):
            return [(step * self.rows_per_step + row, 0) for row in rows], self.block_size
        before = int(self.short_before[step]) * self.rows_per_step
        numbers = range((before + rows.start) * self.short_per_row, (before + rows.stop) * self.short_per_row)
        return [self._short_row(self.order[number]) for number in numbers], SHORT_LENGTH

    def _short_row(self, number: int) -> tuple[int, int]:
        """Where the short row of this number lies, counted through the rows of all short steps."""
        row, part = divmod(number, self.short_per_row)
        short_step, row = divmod(row, self.rows_per_step)
        return int(self.short_steps[short_step]) * self.rows_per_step + row, part * SHORT_LENGTH


class BatchLoader:
    """The batches of a step, on the device; on a GPU the next one is brought while it computes.

    On a CPU a batch takes a thousandth of its step, and a thread would only disturb those that compute.
    """

    def __init__(
        self, rows: PackedRows, sampler: StepSampler, share: range, micro_rows: int, device: torch.device
    ) -> None:
        """share: the rows of each step that this rank learns from. micro_rows: how many fit the device."""
        self.rows = rows
        self.sampler = sampler
        self.parts = [share[first : first + micro_rows] for first in range(0, len(share), micro_rows)]
        self.device = device
        self.pool = ThreadPoolExecutor(1) if device.type == "cuda" else None
        self.ahead: dict[tuple[int, int], Future[Batch]] = {}  # by step and number of the part

    def batches(self, step: int) -> Iterator[Batch]:
        """The inputs and targets of each part of a step."""
        for number in range(len(self.parts)):
            if self.pool is None:
                inputs, targets = self._read(step, number)
                yield inputs.to(self.device), targets.to(self.device)
                continue
            ready = self.ahead.pop((step, number), None)
            inputs, targets = ready.result() if ready else self._pinned(step, number)
            following = (step, number + 1) if number + 1 < len(self.parts) else (step + 1, 0)
            self.ahead = {following: self.pool.submit(self._pinned, *following)}
            yield inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)

    def _read(self, step: int, number: int) -> Batch:
        places, length = self.sampler.choose(step, self.parts[number])
        batch = torch.from_numpy(np.stack([self.rows.row(row, first, length) for row, first in places]))
        return batch[:, :-1], batch[:, 1:]

    def _pinned(self, step: int, number: int) -> Batch:
        """The same in pinned memory, from which a copy to the GPU does not wait."""
        inputs, targets = self._read(step, number)
        return inputs.pin_memory(), targets.pin_memory()
