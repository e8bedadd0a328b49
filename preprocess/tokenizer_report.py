"""What a learnt tokenizer is like: its vocabulary, and how it packs text that it was not learnt from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byte_pair_encoding import SMALLEST_VOCABULARY, SPECIAL_TOKENS, learn_interruptibly
from learning_sample import LearningSample
from token_view import Token, tokens_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Packing:
    """How a tokenizer packs the held-out sample."""

    bytes_per_token: float
    tokens_per_line: float

    def __str__(self) -> str:
        return f"{self.bytes_per_token:.2f} bytes per token, {self.tokens_per_line:.2f} tokens per line"


@dataclass(frozen=True)
class Figures:
    """A tokenizer in numbers, for provenance.json and for the report."""

    vocabulary: int
    train_documents: int
    train_bytes: int
    blank_share: float  # of the learnt tokens, those that hold nothing but blanks and line ends
    held_out: Packing | None
    baseline: Packing | None  # ByteLevelBPETokenizer's defaults, learnt from the same text

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(tokenizer: Tokenizer, sample: LearningSample, relearn: Callable[[], Iterable[str]]) -> Figures:
    """The figures of a tokenizer that was learnt from a sample; relearn gives the same documents again."""
    learnt = learnt_tokens(tokenizer)
    blank = sum(not token.content.strip() for token in learnt)
    return Figures(
        vocabulary=tokenizer.get_vocab_size(),
        train_documents=sample.documents,
        train_bytes=sample.text_bytes,
        blank_share=round(blank / max(1, len(learnt)), 4),
        held_out=packing(tokenizer, sample),
        baseline=packing(learn_baseline(relearn(), tokenizer.get_vocab_size()), sample)
        if sample.held_out
        else None,
    )


def learn_baseline(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """What one gets without thinking about it: ByteLevelBPETokenizer with its defaults."""
    from tokenizers import ByteLevelBPETokenizer

    baseline = ByteLevelBPETokenizer()
    special = list(SPECIAL_TOKENS)

    def learn(texts: Iterator[str]) -> None:
        baseline.train_from_iterator(
            texts, vocab_size=vocab_size, special_tokens=special, show_progress=False
        )

    learn_interruptibly(learn, documents)
    tokenizer: Tokenizer = baseline._tokenizer
    return tokenizer


def packing(tokenizer: Tokenizer, sample: LearningSample) -> Packing | None:
    """Bytes per token and tokens per line of the held-out sample, None where there is none."""
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(sample.held_out))
    lines = sum(text.count("\n") for text in sample.held_out)
    if not tokens:
        return None
    return Packing(round(sample.sampled_bytes / tokens, 4), round(tokens / max(1, lines), 3))


def learnt_tokens(tokenizer: Tokenizer) -> list[Token]:
    """The tokens that merges made, in the order in which they were learnt."""
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
    learnt = vocabulary[SMALLEST_VOCABULARY:]
    return tokens_of([i for _, i in learnt], [spelling for spelling, _ in learnt])


def longest_tokens(tokenizer: Tokenizer, count: int) -> list[str]:
    """The longest tokens that say something, as Python literals; of equal ones the first learnt."""
    words = [token for token in learnt_tokens(tokenizer) if b"".join(token.content.split()).isalnum()]
    return [token.literal() for token in sorted(words, key=lambda token: -len(token.content))[:count]]


def report(tokenizer: Tokenizer, sample: LearningSample, figures: Figures, wanted: int) -> str:
    """What was learnt from what, how well it packs, beside the baseline; wanted: the entries asked for."""
    entries = figures.vocabulary
    lines = [
        f"learnt from   {sample.documents:,} documents of {len(sample.repositories):,} repositories, "
        f"{sample.text_bytes / 1e6:,.1f} MB",
        f"vocabulary    {entries:,} entries: {len(SPECIAL_TOKENS)} special tokens, 256 bytes, "
        f"{entries - SMALLEST_VOCABULARY:,} merges, {figures.blank_share:.1%} of them blank",
    ]
    if sample.left_out:
        left = f"{sample.left_out:,} documents more were left out (--max-bytes {sample.max_bytes:,})"
        lines.insert(1, f"              {left}")
    if entries < wanted:
        lines.append(
            f"              cut from {wanted:,}: no further pair of tokens occurs twice in these documents"
        )
    if longest := longest_tokens(tokenizer, 5):
        lines.append(f"longest       {'  '.join(longest)}")
    if figures.held_out and figures.baseline:
        measured = f"{sample.sampled_bytes / 1e6:,.1f} of {sample.held_out_bytes / 1e6:,.1f} MB"
        gain = figures.held_out.bytes_per_token / figures.baseline.bytes_per_token
        lines += [
            f"held out      {figures.held_out} ({measured} not learnt from)",
            f"beside        {figures.baseline} for ByteLevelBPETokenizer's defaults ({gain:.3f} times)",
        ]
    else:
        lines.append("held out      nothing: data.txt has no held-out documents to measure on")
    return "\n".join(lines)


def json_view(text: str, tokens: list[Token]) -> str:
    """A text as its tokens for other programs: one JSON object on one line."""
    size = len(text.encode())
    described = {
        "ids": [token.id for token in tokens],
        "tokens": [token.literal() for token in tokens],
        "count": len(tokens),
        "bytes": size,
        "bytes_per_token": round(size / len(tokens), 4) if tokens else None,
    }
    return json.dumps(described, ensure_ascii=False)


def written_to(folder: Path) -> str:
    """The files of a tokenizer folder, a line each."""
    names = ("tokenizer.json", "tokenizer_config.json", "provenance.json")
    return "\n".join(f"wrote         {(folder / name).absolute()}" for name in names)
