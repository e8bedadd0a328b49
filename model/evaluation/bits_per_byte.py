"""Bits per byte on held-out files: the one figure that compares models with different tokenizers."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2.distributed import ALONE, Ranks

if TYPE_CHECKING:
    from data_loading.token_file import TokenSplit
    from gpt2.network import GPT2

SAMPLE_SEED = 0  # fixed: two models of one corpus are measured on the same files
WINDOWS_TOKENS = 8192  # tokens scored at a time, which bounds the memory of the logits

# A long file of tables must not stand for the held-out code, nor a repository of many such files. Of twelve
# files that were drawn from all files alike, eleven were tables of `encodings`: that gave 3.789 bits per byte
# for weights that have 1.961 on other packages.
EXCERPT_BYTES = 8192  # of a file, at most
LARGEST_SHARE = 0.25  # of the sample from one repository, where there are eight or more
FREE_BYTES = 64_000  # of a sample, before that share is looked at

# Of the lines after a cut, what belongs to the statement before it
GOES_ON = re.compile(rb"\n*(?:[ \t)\]}]|(?:else|elif|except|finally)\b)")

# The rules of sampling, as provenance.json names them. A run keeps the one that it began with.
WHOLE_FILES = "whole files, in random order"
IN_TURN = "a file of each repository in turn, 8,192 bytes of it at most, cut after a finished statement"


@dataclass(frozen=True)
class Excerpt:
    """The first tokens of a held-out file, or all of them with the closing <|endoftext|>."""

    file: int
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class HeldOutSample:
    """The excerpts that a model is measured on, and by which rule they were drawn."""

    excerpts: list[Excerpt]
    rule: str
    repositories: int
    largest_share: float  # of its bytes, from one repository

    @property
    def tokens(self) -> int:
        return sum(excerpt.tokens for excerpt in self.excerpts)

    @property
    def text_bytes(self) -> int:
        return sum(excerpt.text_bytes for excerpt in self.excerpts)

    @property
    def record(self) -> dict[str, Any]:
        """As provenance.json has it."""
        return {
            "rule": self.rule,
            "files": len(self.excerpts),
            "repositories": self.repositories,
            "bytes": self.text_bytes,
            "largest_share": self.largest_share,
        }


@dataclass(frozen=True)
class HeldOutScore:
    """How many bits a model needs for the sampled text."""

    bits: float
    text_bytes: int
    files: int

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.text_bytes


def whole_file(split: TokenSplit, file: int) -> Excerpt:
    """All of a file, its closing <|endoftext|> included."""
    return Excerpt(file, int(split.offsets[file + 1] - split.offsets[file]), int(split.text_bytes[file]))


def draw_whole_files(split: TokenSplit, limit_bytes: int) -> HeldOutSample:
    """Whole files in a fixed random order until limit_bytes are reached: a smaller limit gives a prefix."""
    order = np.random.default_rng(SAMPLE_SEED).permutation(len(split.text_bytes))
    total = np.cumsum(split.text_bytes[order])
    chosen = order[: int(np.searchsorted(total, limit_bytes)) + 1]
    return _sample(split, [whole_file(split, int(file)) for file in chosen], WHOLE_FILES)


def draw_in_turn(split: TokenSplit, limit_bytes: int, spellings: list[bytes] | None) -> HeldOutSample:
    """A file of each repository in turn until limit_bytes are reached: a smaller limit gives a prefix.

    After the first 64 kB a repository that has a quarter of the sample sits out, so a sample can stay smaller
    than its limit. Of a file that is too long to be whole and has no finished statement nothing is taken.

    spellings: the bytes of each token. Without them, or where they cannot be the bytes of Python code, whole
    files are drawn.
    """
    if spellings is None or not len(split.text_bytes):
        return draw_whole_files(split, limit_bytes)
    random = np.random.default_rng(SAMPLE_SEED)
    waiting: dict[int, deque[int]] = {
        int(r): deque() for r in random.permutation(np.unique(split.repository))
    }
    for file in random.permutation(len(split.text_bytes)):
        waiting[int(split.repository[file])].append(int(file))
    most = max(LARGEST_SHARE, 2 / len(waiting))
    excerpts: list[Excerpt] = []
    taken: Counter[int] = Counter()
    total = before = 0
    while total < limit_bytes:
        for repository, files in waiting.items():
            if total >= limit_bytes or (total >= FREE_BYTES and taken[repository] > most * total):
                continue
            excerpt = next((found for found in _excerpts(split, files, spellings) if found), None)
            if excerpt is not None:
                excerpts.append(excerpt)
                taken[repository] += excerpt.text_bytes
                total += excerpt.text_bytes
        if total == before:
            break
        before = total
    return _sample(split, excerpts, IN_TURN) if excerpts else draw_whole_files(split, limit_bytes)


def _sample(split: TokenSplit, excerpts: list[Excerpt], rule: str) -> HeldOutSample:
    """The sample with what it says of itself."""
    taken: Counter[int] = Counter()
    for excerpt in excerpts:
        taken[int(split.repository[excerpt.file])] += excerpt.text_bytes
    share = max(taken.values(), default=0) / max(1, taken.total())
    return HeldOutSample(excerpts, rule, len(taken), round(share, 4))


def _excerpts(split: TokenSplit, files: deque[int], spellings: list[bytes]) -> Iterator[Excerpt | None]:
    """Excerpts of the files, which are taken off the queue one by one; None for a file that gives none."""
    while files:
        file = files.popleft()
        if split.text_bytes[file] <= EXCERPT_BYTES:
            yield whole_file(split, file) if split.text_bytes[file] else None
            continue
        first = int(split.offsets[file])
        last = min(int(split.offsets[file + 1]), first + EXCERPT_BYTES + 1)  # a token has a byte at least
        pieces = [spellings[token] for token in split.tokens[first:last]]
        end = cut_at_statement(b"".join(pieces))
        ends = np.cumsum([len(piece) for piece in pieces])
        tokens = int(np.searchsorted(ends, end, side="right"))  # a token across the cut is left out
        yield Excerpt(file, tokens, int(ends[tokens - 1])) if tokens else None


def cut_at_statement(code: bytes) -> int:
    """Where code that goes on beyond EXCERPT_BYTES is cut: after a finished top-level statement.

    Where that would leave less than half, as in a file that is one long class, within the last statement:
    the code before the cut is a finished program all the same. 0 if there is no such place.

    cut_at_statement(b"import os\n\n\nTABLE = (\n    1,\n ...") -> 12
    """
    lines = code[:EXCERPT_BYTES].splitlines(keepends=True)
    if lines and not (lines[-1].endswith(b"\n") and len(code) > EXCERPT_BYTES):
        lines.pop()  # it goes on
    while lines:
        try:
            body = ast.parse(b"".join(lines)).body
        except SyntaxError as error:  # says where the unfinished string, bracket or block begins
            del lines[max(0, min(len(lines), error.lineno or 1) - 1) :]
            continue
        except (ValueError, RecursionError, MemoryError):
            return 0
        end = sum(map(len, lines))
        if not body or not GOES_ON.match(code, end):
            return end if body else 0
        last = min([body[-1].lineno, *(item.lineno for item in getattr(body[-1], "decorator_list", []))])
        finished = sum(map(len, lines[: last - 1]))
        return finished if 2 * finished >= EXCERPT_BYTES else end
    return 0


@dataclass(frozen=True)
class Window:
    """A part of a sequence as the model sees it: its tokens, inputs and last target (T + 1,)."""

    tokens: NDArray[np.int64]
    new: int  # targets that no earlier window has scored: the last ones
    first: int  # the number of the first of these among all targets of the sample


def score(
    model: GPT2, split: TokenSplit, excerpts: list[Excerpt], end_of_text_id: int = 0, ranks: Ranks = ALONE
) -> HeldOutScore:
    """Sum of -log2 p over every token of the excerpts, the closing <|endoftext|> of a whole file included.

    Each excerpt is one sequence from <|endoftext|> on, seen through windows of the model's context with half
    overlap, of which only the new half is scored: no token is judged with less than half a context behind
    it unless the file begins there. Several ranks share the windows.
    """
    texts = [excerpt_tokens(split, excerpt) for excerpt in excerpts]
    batches = batches_of_windows(texts, model.config.block_size, end_of_text_id)
    nats = 0.0
    with torch.no_grad():
        for number in range(0, len(batches), ranks.world_size):
            mine = number + ranks.rank
            # With FSDP every rank must join each forward pass; surplus ranks repeat a batch and drop the
            # result.
            found = _score_windows(model, batches[mine % len(batches)])
            nats += found if mine < len(batches) else 0.0
    text_bytes = sum(excerpt.text_bytes for excerpt in excerpts)
    return HeldOutScore(ranks.all_reduce_list([nats])[0] / math.log(2), text_bytes, len(excerpts))


def excerpt_tokens(split: TokenSplit, excerpt: Excerpt) -> NDArray[np.int64]:
    """The tokens of an excerpt (T,), its closing <|endoftext|> included if it is a whole file."""
    first = int(split.offsets[excerpt.file])
    return np.asarray(split.tokens[first : first + excerpt.tokens], np.int64)


def batches_of_windows(
    texts: Iterable[NDArray[np.int64]], block_size: int, begin_id: int
) -> list[list[Window]]:
    """The windows of texts (T,) of token ids, in batches of similar lengths: little padding."""
    windows: list[Window] = []
    first = 0
    for tokens in texts:
        windows += cut_windows(tokens, block_size, begin_id, first)
        first += len(tokens)
    windows.sort(key=lambda window: -len(window.tokens))
    rows = max(1, WINDOWS_TOKENS // block_size)
    return [windows[start : start + rows] for start in range(0, len(windows), rows)]


def cut_windows(
    tokens: NDArray[np.int64], block_size: int, begin_id: int, first: int = 0
) -> Iterator[Window]:
    """The windows of a text (T,), of at most block_size targets each; first: the number of the first one."""
    sequence = np.concatenate([[begin_id], tokens])
    targets = len(tokens)
    scored = min(block_size, targets)
    yield Window(sequence[: scored + 1], scored, first)
    half = max(1, block_size // 2)
    while scored < targets:
        new = min(half, targets - scored)
        scored += new
        yield Window(sequence[scored - block_size : scored + 1], new, first + scored - new)


def padded(windows: list[Window]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Windows as one batch: their tokens (B, T + 1), zeros behind them, and which targets are new (B, T)."""
    longest = max(len(window.tokens) for window in windows)
    batch = np.zeros((len(windows), longest), dtype=np.int64)
    new = np.zeros((len(windows), longest - 1), dtype=bool)
    for row, window in enumerate(windows):
        last = len(window.tokens) - 1
        batch[row, : last + 1] = window.tokens
        new[row, last - window.new : last] = True
    return batch, new


def _score_windows(model: GPT2, windows: list[Window]) -> float:
    batch, new = padded(windows)
    device = model.transformer.wte.weight.device
    ids, counted = torch.from_numpy(batch).to(device), torch.from_numpy(new).to(device)
    return float(model.losses(ids[:, :-1], ids[:, 1:], counted).sum())
