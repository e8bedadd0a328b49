"""One pass over the held-out sample: the bits of each token, and what the model would have written there.

The windows are those of bits_per_byte.py, so the sum of the bits is that module's figure. All else comes from
the same logits: for each token the likeliest one, its probability, and how many are likelier than the right
one. Nothing is generated and nothing is sampled. A line is right if all of its tokens are first choices:
greedy decoding writes the same, unless it splits the text into other tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.bits_per_byte import Window, batches_of_windows, padded
from evaluation.token_classes import CLASSES, NUMBER_OF, Labels
from generation.inspection import spelled

if TYPE_CHECKING:
    from torch import Tensor

    from gpt2.network import GPT2
    from pretrained.vocabulary import Vocabulary

CELLS = 4 << 20  # logits that exist at a time: 16 MB, which a CPU's last cache still holds
# Of the windows within a file, so many have all of their targets scored once more, for the curve over the
# context. The others score their new half alone, which never has less than half a context behind it.
CURVE_EVERY = 8
CURVE_FROM = (0, 16, 64, 128, 256, 512, 1024, 2048)  # tokens of context
BINS = 10  # of the calibration
NEWLINE = b"\n"

Numbers = NDArray[Any]


@dataclass(frozen=True)
class SampledText:
    """An excerpt of a held-out file: its bytes, and T tokens of one model."""

    repository: str
    path: str
    text: bytes
    tokens: NDArray[np.int64]  # (T,) with <|endoftext|> if it is a whole file; the last may reach beyond it
    is_whole: bool


@dataclass(frozen=True)
class TokenScores:
    """What a model makes of T tokens, one after the other."""

    bits: NDArray[np.float64]
    choice: NDArray[np.int64]  # the likeliest token
    rank: NDArray[np.int64]  # how many tokens are likelier than the right one
    confidence: NDArray[np.float64]  # the probability of the likeliest token

    @staticmethod
    def empty(size: int) -> TokenScores:
        whole, real = np.zeros(size, np.int64), np.zeros(size)
        return TokenScores(real, whole, whole.copy(), real.copy())

    def part(self, start: int, end: int) -> TokenScores:
        return TokenScores(*(getattr(self, name)[start:end] for name in self.__dataclass_fields__))

    def put(self, places: Numbers, scores: TokenScores, chosen: Numbers) -> None:
        """Take over the chosen scores (a mask) at these places."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[places] = getattr(scores, name)[chosen]


class Spellings:
    """The tokens of a vocabulary as arrays (V,): their lengths, and where words and line ends lie in them."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self.bytes = token_bytes
        self.length = np.array([len(each) for each in token_bytes], np.int64)
        self.newline = np.array([each.find(NEWLINE) for each in token_bytes], np.int64)
        words = [each.lstrip(b" \t\f\r\n") for each in token_bytes]
        self.word = np.array(
            [len(each) - len(word) if word else -1 for each, word in zip(token_bytes, words, strict=True)],
            np.int64,
        )
        heads: dict[bytes, int] = {}
        # The same number for tokens that are alike up to their first line end; 0 for those without one.
        self.head = np.array(
            [
                heads.setdefault(each[: each.find(NEWLINE)], len(heads) + 1) if NEWLINE in each else 0
                for each in token_bytes
            ],
            np.int64,
        )

    def text(self, tokens: Iterable[int]) -> bytes:
        return b"".join(self.bytes[token] for token in tokens)


# The pass


@torch.no_grad()
def read_sample(
    model: GPT2, texts: Sequence[Numbers], begin_id: int, length: Numbers
) -> tuple[list[TokenScores], list[dict[str, Any]]]:
    """The scores of each text (T,) of token ids, and bits per byte over the tokens of context.

    length: bytes of each token of the vocabulary.
    """
    batches = batches_of_windows(texts, model.config.block_size, begin_id)
    scores = TokenScores.empty(sum(map(len, texts)))
    closely = windows_for_the_curve(batches)
    bits, sizes = np.zeros(model.config.block_size + 1), np.zeros(model.config.block_size + 1)
    for windows in batches:
        tokens, new = padded(windows)
        seen = new.copy()
        is_close = np.array([window.first in closely for window in windows])
        for row in np.flatnonzero(is_close):
            seen[row, : len(windows[row].tokens) - 1] = True
        found = read_windows(model, tokens, seen)
        places = np.concatenate([np.arange(w.first, w.first + w.new) for w in windows])
        scores.put(places, found, new[seen])
        rows, positions = np.nonzero(seen)
        close = is_close[rows]
        context, targets = positions[close] + 1, tokens[:, 1:][seen][close]
        np.add.at(bits, context, found.bits[close])
        np.add.at(sizes, context, length[targets])
    ends = np.cumsum([0, *map(len, texts)])
    parts = [scores.part(int(ends[n]), int(ends[n + 1])) for n in range(len(texts))]
    return parts, curve_of(bits, sizes)


def windows_for_the_curve(batches: list[list[Window]]) -> set[int]:
    """The windows whose every target is scored, by their `first`: within files, where that can be."""
    windows = [window for batch in batches for window in batch]
    later = [window for window in windows if window.new < len(window.tokens) - 1]
    return set(sorted(window.first for window in later or windows)[::CURVE_EVERY])


def curve_of(bits: Numbers, sizes: Numbers) -> list[dict[str, Any]]:
    """Bits and bytes by tokens of context, in steps."""
    ends = [*CURVE_FROM[1:], len(bits)]
    steps = []
    for start, end in zip(CURVE_FROM, ends, strict=True):
        # a target has one token of context at least: the one that begins the text
        some = slice(start + 1, min(end, len(bits) - 1) + 1)
        if sizes[some].sum():
            last = min(end, len(bits) - 1)
            entry = {"from": start + 1, "to": last, "bits": float(bits[some].sum())}
            steps.append({**entry, "bytes": int(sizes[some].sum())})
    return steps


def read_windows(model: GPT2, tokens: Numbers, seen: Numbers) -> TokenScores:
    """The scores of the seen targets of a batch: tokens (B, T + 1), seen (B, T) -> those of seen.sum()."""
    device = model.transformer.wte.weight.device
    ids, rows = torch.from_numpy(tokens).to(device), torch.from_numpy(seen).to(device)
    hidden = model.hidden(ids[:, :-1])[rows.flatten()]  # before the output layer: it is the expensive part
    targets, weight = ids[:, 1:][rows], model.output_weight()
    step = max(1, CELLS // len(weight))
    parts = [judge(hidden[n : n + step], weight, targets[n : n + step]) for n in range(0, len(hidden), step)]
    nats, choice, rank, confidence = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return TokenScores(nats.astype(np.float64) / math.log(2), choice, rank, confidence.astype(np.float64))


def judge(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nats of the targets (N,), the likeliest tokens, the targets' ranks, the likeliest's probabilities."""
    logits = (hidden @ weight.T).float()
    highest, choice = logits.max(-1)
    normalizer = torch.logsumexp(logits, -1)
    of_target = logits.gather(1, targets[:, None])
    rank = (logits > of_target).sum(-1)
    return normalizer - of_target[:, 0], choice, rank, torch.exp(highest - normalizer)


@torch.no_grad()
def read_closely(
    model: GPT2, tokens: Numbers, begin_id: int, count: int = 3
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Of each token of a text (T,): its bits, the likeliest tokens (T, count), their probabilities."""
    bits = np.zeros(len(tokens))
    choices, probabilities = np.zeros((len(tokens), count), np.int64), np.zeros((len(tokens), count))
    device = model.transformer.wte.weight.device
    for [window] in ([window] for batch in batches_of_windows([tokens], model.config.block_size, begin_id)
                     for window in batch):  # fmt: skip
        ids = torch.from_numpy(window.tokens).to(device)
        hidden = model.hidden(ids[None, :-1])[-window.new :]
        logarithms = torch.log_softmax((hidden @ model.output_weight().T).float(), -1)
        targets = ids[-window.new :]
        some = slice(window.first, window.first + window.new)
        bits[some] = -logarithms.gather(1, targets[:, None])[:, 0].cpu().numpy() / math.log(2)
        top = logarithms.topk(count, -1)
        choices[some], probabilities[some] = top.indices.cpu().numpy(), top.values.exp().cpu().numpy()
    return bits, choices, probabilities


def first_choices(
    model: GPT2, tokens: Numbers, begin_id: int, vocabulary: Vocabulary
) -> list[tuple[str, float, list[str]]]:
    """Each token of a text with its bits and the three first choices: ("if", 2.1, ["·if 23 %", ...])."""
    bits, choices, probabilities = read_closely(model, tokens, begin_id)
    rows = zip(tokens.tolist(), bits.tolist(), choices.tolist(), probabilities.tolist(), strict=True)
    return [
        (
            vocabulary.token_bytes[token].decode("utf-8", "replace"),
            round(cost, 2),
            [f"{spelled(one, vocabulary)} {share:.0%}" for one, share in zip(top, shares, strict=True)],
        )
        for token, cost, top, shares in rows
    ]


# What the scores say of a text


def share_within(text: SampledText, spellings: Spellings) -> tuple[Numbers, Numbers]:
    """The bytes of each token that lie within the text (T,), and which share of its bits they stand for."""
    length = spellings.length[text.tokens]
    ends = np.cumsum(length)
    inside = np.clip(np.minimum(ends, len(text.text)) - (ends - length), 0, None)
    return inside, np.where(length > 0, inside / np.maximum(length, 1), 1.0)


def count(
    text: SampledText, scores: TokenScores, spellings: Spellings, labels: Labels
) -> tuple[dict[str, float], Numbers]:
    """The sums of a text, from which the figures are made, and its bits by class (len(CLASSES),)."""
    inside, share = share_within(text, spellings)
    bits = scores.bits * share
    right = scores.choice == text.tokens
    has_bytes = inside > 0
    of_byte = np.repeat(bits[has_bytes] / inside[has_bytes], inside[has_bytes])
    by_class = np.bincount(labels.classes, of_byte, len(CLASSES))
    by_class[NUMBER_OF["end of file"]] = bits[~has_bytes].sum()
    sums: dict[str, float] = {
        "bytes": len(text.text),
        "bits": float(bits.sum()),
        "tokens": len(text.tokens),
        "first": int(right.sum()),
        "five": int((scores.rank < 5).sum()),
        "first_bytes": int(inside[right].sum()),
        **count_lines(text, scores.choice, right, spellings),
        **count_names(text, right, spellings, labels),
    }
    return sums, by_class


def count_lines(text: SampledText, choice: Numbers, right: Numbers, spellings: Spellings) -> dict[str, float]:
    """Starts within lines, how many have the rest of their line right, bytes right in a row; whole lines.

    A start is a token that holds a character which is no blank.
    """
    tokens, T = text.tokens, len(text.tokens)
    newline, word = spellings.newline[tokens], spellings.word[tokens]
    ends_line = newline >= 0
    is_done = ends_line & (spellings.head[choice] == spellings.head[tokens])
    if text.is_whole:  # <|endoftext|> ends the last line, and so would a line end before it
        ends_line[-1], is_done[-1] = True, right[-1] or spellings.newline[choice[-1]] == 0
    is_start = (word >= 0) & ((newline < 0) | (word < newline))
    wrong_before = np.concatenate([[0], np.cumsum(~right)])  # wrong tokens before each
    line_end, next_wrong = next_of(ends_line), next_of(~right)
    starts = np.flatnonzero(is_start & (line_end < T))
    ends = line_end[starts]
    rest_right = is_done[ends] & (wrong_before[ends] == wrong_before[starts])
    is_first = np.ones(len(starts), bool)
    is_first[1:] = ends[:-1] < starts[1:]
    begins = np.concatenate([[0], np.cumsum(spellings.length[tokens])])
    run = np.minimum(begins[next_wrong[starts]], len(text.text)) - begins[starts]
    return {
        "starts": len(starts),
        "rests_right": int(rest_right.sum()),
        "run_bytes": int(np.maximum(run, 0).sum()),
        "lines": int(is_first.sum()),
        "lines_right": int((rest_right & is_first).sum()),
    }


def next_of(mask: Numbers) -> NDArray[np.int64]:
    """At each place (T,) the next place where the mask is true, itself included; T if there is none."""
    places = np.where(mask, np.arange(len(mask)), len(mask))
    following: NDArray[np.int64] = np.minimum.accumulate(places[::-1])[::-1]
    return following


def count_names(text: SampledText, right: Numbers, spellings: Spellings, labels: Labels) -> dict[str, float]:
    """Names, and how many have all of their tokens right."""
    if not len(labels.names):
        return {"names": 0, "names_right": 0}
    ends = np.cumsum(spellings.length[text.tokens])
    wrong_before = np.concatenate([[0], np.cumsum(~right)])
    first = np.searchsorted(ends, labels.names[:, 0], side="right")
    last = np.searchsorted(ends, labels.names[:, 1] - 1, side="right")
    is_right = wrong_before[np.minimum(last, len(right) - 1) + 1] == wrong_before[first]
    return {"names": len(first), "names_right": int(is_right.sum())}


def calibration(texts: Sequence[SampledText], scores: Sequence[TokenScores]) -> list[dict[str, float]]:
    """Ten bins of the likeliest token's probability: tokens, how many were right, their mean probability."""
    confidence = np.concatenate([each.confidence for each in scores])
    right = np.concatenate([each.choice == text.tokens for text, each in zip(texts, scores, strict=True)])
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    hits, sums = np.bincount(bins, right, BINS), np.bincount(bins, confidence, BINS)
    return [
        {"tokens": int(counts[n]), "right": int(hits[n]), "confidence": float(sums[n] / max(1, counts[n]))}
        for n in range(BINS)
    ]


def calibration_error(bins: list[dict[str, float]]) -> float:
    """Mean distance between probability and frequency, each bin by its tokens.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2 (ECE).
    """
    total = sum(each["tokens"] for each in bins)
    gaps = sum(abs(each["right"] - each["confidence"] * each["tokens"]) for each in bins)
    return gaps / max(1, total)
