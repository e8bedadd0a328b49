"""How well a tokenizer compresses text that it was not learnt from, and what is in its vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bpe.learning import SMALLEST_VOCABULARY, SPECIAL_TOKENS, TrainingSample, train_baseline
from bpe.token_view import Token, tokens_of
from preprocess_cli import plural, size_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Compression:
    """How a tokenizer compresses the held-out sample."""

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
    blank_share: float  # of the learnt tokens, those of blanks and line ends alone
    held_out: Compression | None
    baseline: Compression | None  # of ByteLevelBPETokenizer's defaults, learnt from the same text


def measure(tokenizer: Tokenizer, sample: TrainingSample, relearn: Callable[[], Iterable[str]]) -> Figures:
    """The figures of a tokenizer that was learnt from a sample. relearn gives the same documents again."""
    learnt = learnt_tokens(tokenizer)
    blank = sum(not token.content.strip() for token in learnt)
    return Figures(
        vocabulary=tokenizer.get_vocab_size(),
        train_documents=sample.documents,
        train_bytes=sample.text_bytes,
        blank_share=round(blank / max(1, len(learnt)), 4),
        held_out=compression_of(tokenizer, sample),
        baseline=compression_of(train_baseline(relearn(), tokenizer.get_vocab_size()), sample)
        if sample.held_out
        else None,
    )


def compression_of(tokenizer: Tokenizer, sample: TrainingSample) -> Compression | None:
    """Bytes per token and tokens per line of the held-out sample; None if there is none."""
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(sample.held_out))
    lines = sum(text.count("\n") for text in sample.held_out)
    if not tokens:
        return None
    return Compression(round(sample.sampled_bytes / tokens, 4), round(tokens / max(1, lines), 3))


def learnt_tokens(tokenizer: Tokenizer) -> list[Token]:
    """The tokens that merges made, in the order in which they were learnt."""
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
    learnt = vocabulary[SMALLEST_VOCABULARY:]
    return tokens_of([i for _, i in learnt], [spelling for spelling, _ in learnt])


def longest_tokens(tokenizer: Tokenizer, count: int) -> list[str]:
    """The longest tokens of letters and digits, as Python literals; of equal ones the first learnt."""
    words = [token for token in learnt_tokens(tokenizer) if b"".join(token.content.split()).isalnum()]
    return [token.literal() for token in sorted(words, key=lambda token: -len(token.content))[:count]]


def report(tokenizer: Tokenizer, sample: TrainingSample, figures: Figures, wanted: int) -> str:
    """What was learnt from what, and the compression beside the baseline's. wanted: entries asked for."""
    entries = figures.vocabulary
    lines = [
        f"learnt from   {plural(sample.documents, 'document')} of "
        f"{plural(len(sample.repositories), 'repository', 'repositories')}, {size_of(sample.text_bytes)}",
        f"vocabulary    {entries:,} entries: {len(SPECIAL_TOKENS)} special tokens, 256 bytes,",
        f"              {plural(entries - SMALLEST_VOCABULARY, 'merge')}, "
        f"{figures.blank_share:.1%} of them blank",
    ]
    if sample.left_out:
        left = f"{plural(sample.left_out, 'more document')} left out (--max-bytes {sample.max_bytes:,})"
        lines.insert(1, f"              {left}")
    if entries < wanted:
        lines.append(f"              instead of {wanted:,}: no further pair occurs twice in these documents")
    if longest := longest_tokens(tokenizer, 5):
        lines.append(f"longest       {'  '.join(longest)}")
    if figures.held_out and figures.baseline:
        measured = f"{size_of(sample.sampled_bytes)} of {size_of(sample.held_out_bytes)}"
        gain = figures.held_out.bytes_per_token / figures.baseline.bytes_per_token
        lines += [
            f"held out      {figures.held_out}",
            f"              on {measured} not learnt from",
            f"beside        {figures.baseline}",
            f"              for ByteLevelBPETokenizer's defaults: {gain:.3f} times as many bytes per token",
        ]
    else:
        lines.append("held out      not measured: data.txt has no held-out documents")
    return "\n".join(lines)
