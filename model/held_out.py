"""Bits per byte on held-out files: the one figure that compares models with different tokenizers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from ranks import ALONE, Ranks

if TYPE_CHECKING:
    from gpt2 import GPT2
    from token_dataset import TokenSplit

SAMPLE_SEED = 0  # fixed, so that two models of one corpus are measured on the same files
WINDOWS_TOKENS = 8192  # tokens scored at a time, which bounds the memory of the logits


@dataclass(frozen=True)
class HeldOutScore:
    """What a model needs to write down the sampled files."""

    bits: float
    text_bytes: int
    files: int

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.text_bytes


def sample_files(split: TokenSplit, limit_bytes: int) -> list[int]:
    """Whole files in a fixed random order until limit_bytes are reached: a smaller limit gives a prefix."""
    order = np.random.default_rng(SAMPLE_SEED).permutation(len(split.text_bytes))
    total = np.cumsum(split.text_bytes[order])
    return [int(file) for file in order[: int(np.searchsorted(total, limit_bytes)) + 1]]


def score(
    model: GPT2, split: TokenSplit, files: list[int], end_of_text_id: int = 0, ranks: Ranks = ALONE
) -> HeldOutScore:
    """Sum of -log2 p over every token of the files and their closing <|endoftext|>.

    Each file is one sequence from <|endoftext|> on, seen through windows of the model's context with half
    overlap, of which only the new half is scored: no token is judged with less than half a context behind
    it unless the file begins there. Several ranks share the windows.
    """
    block_size = model.shape.block_size
    windows = [window for file in files for window in _windows(split, file, block_size, end_of_text_id)]
    windows.sort(key=lambda window: -len(window[0]))  # rows of one batch are padded to the same length
    rows = max(1, WINDOWS_TOKENS // block_size)
    batches = [windows[first : first + rows] for first in range(0, len(windows), rows)]
    nats = 0.0
    with torch.no_grad():
        for number in range(0, len(batches), ranks.world):
            mine = number + ranks.rank
            # Where weights are divided everybody computes at the same time, if only for company.
            found = _score_windows(model, batches[mine % len(batches)])
            nats += found if mine < len(batches) else 0.0
    text_bytes = int(sum(int(split.text_bytes[file]) for file in files))
    return HeldOutScore(ranks.sum([nats])[0] / math.log(2), text_bytes, len(files))


def _windows(
    split: TokenSplit, file: int, block_size: int, end_of_text_id: int
) -> Iterator[tuple[np.ndarray, int]]:
    """The windows of a file: their tokens (inputs and last target), and how many targets are new."""
    tokens = split.tokens[int(split.offsets[file]) : int(split.offsets[file + 1])].astype(np.int64)
    sequence = np.concatenate([[end_of_text_id], tokens])
    targets = len(tokens)
    scored = min(block_size, targets)
    yield sequence[: scored + 1], scored
    half = max(1, block_size // 2)
    while scored < targets:
        new = min(half, targets - scored)
        scored += new
        yield sequence[scored - block_size : scored + 1], new


def _score_windows(model: GPT2, windows: list[tuple[np.ndarray, int]]) -> float:
    longest = max(len(tokens) for tokens, _ in windows)
    batch = np.zeros((len(windows), longest), dtype=np.int64)
    new = np.zeros((len(windows), longest - 1), dtype=bool)
    for row, (tokens, count) in enumerate(windows):
        batch[row, : len(tokens)] = tokens
        new[row, len(tokens) - 1 - count : len(tokens) - 1] = True
    device = model.transformer.wte.weight.device
    ids, counted = torch.from_numpy(batch).to(device), torch.from_numpy(new).to(device)
    return float(model.losses(ids[:, :-1], ids[:, 1:], counted).sum())
