"""Are all copies of the training data found, is anything else marked, and what does that cost?

    python benchmarks/copied_spans.py
    python benchmarks/copied_spans.py --data data.txt --tokenizer tokenizer --spans 2000

Builds sources.index of the training split as train.py does, and plants runs of training files at random
places in text of held-out files. Then looks up unchanged text of held-out files and checks every mark against
the training data itself. Times are CPU seconds of this process, with the tokens in the disk's cache.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "model"))

from tokenizers import Tokenizer

from attribution.copies import MOST_PLACES, Attribution, Run, SourceIndex
from attribution.index import SPAN, write_index
from data_loading.corpus_tokens import encode_corpus
from data_loading.token_file import TokenDataset, TokenSplit
from pretrained.corpus_files import cache_of
from pretrained.vocabulary import Vocabulary

AROUND = 70  # tokens of held-out text before and after a planted run: with it, about 200
TEXT = 200  # tokens of a completion


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data.txt"))
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"))
    parser.add_argument("--spans", type=int, default=1000, help="planted of each length (default: 1000)")
    parser.add_argument("--negatives", type=int, default=2000, help="held-out texts (default: 2000)")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    dataset = encode_corpus(arguments.data, arguments.tokenizer, cache_of(arguments.data), threads=1)
    with tempfile.TemporaryDirectory() as folder:
        index = build(dataset, Path(folder) / "sources.index")
        random = np.random.default_rng(0)
        for length in (SPAN - 5, SPAN - 1, SPAN, 40, 60):
            plant(dataset, index, length, arguments.spans, random)
        negatives(dataset, index, arguments.negatives, random)
        texts(dataset, index, arguments.tokenizer, random)
    return 0


def build(dataset: TokenDataset, path: Path) -> SourceIndex:
    before = peak_megabytes()
    started = time.process_time()
    write_index(dataset.train, path, {"tokenizer_sha256": "", "data_sha256": dataset.data_sha256})
    seconds, tokens = time.process_time() - started, dataset.train.size
    print(f"{tokens:,} training tokens in {len(dataset.train.lengths):,} files")
    print(f"built in {seconds:.2f} CPU s ({seconds / tokens * 1e7:.2f} per 10 M tokens),", end=" ")
    print(f"{peak_megabytes():,.0f} MB resident at most, {before:,.0f} before")
    index = SourceIndex(path, "")
    shares = ", ".join(f"{name} {size / tokens:.4f}" for name, size in index.header["parts"].items())
    print(f"{path.stat().st_size / tokens:.4f} bytes a training token ({shares})")
    largest = int(np.diff(index.buckets.copy().view("<u4").ravel().astype(np.int64)).max())
    print(f"the commonest hash stands at {largest:,} places; up to {MOST_PLACES:,} are looked at")
    return index


def plant(
    dataset: TokenDataset, index: SourceIndex, length: int, spans: int, random: np.random.Generator
) -> None:
    """Print how many runs of a length are found in the file that they come from, and with which ends."""
    found = exact = 0
    seconds = 0.0
    for _ in range(spans):
        document, run = piece(dataset.train, length, random)
        before, after = (piece(dataset.held_out, AROUND, random)[1] for _ in range(2))
        text = np.concatenate([before, run, after])
        started = time.process_time()
        runs = [run for run in index.runs(text) if run.document == document]
        seconds += time.process_time() - started
        found += any(run.start <= AROUND and run.end >= AROUND + length for run in runs)
        exact += Run(AROUND, AROUND + length, document) in runs
    print(
        f"planted runs of {length} tokens: {found} of {spans} found ({found / spans:.1%}), with exact ends"
        f" {exact / spans:.1%}; {seconds / spans * 1000:.2f} CPU ms for {2 * AROUND + length} tokens"
    )


def negatives(dataset: TokenDataset, index: SourceIndex, count: int, random: np.random.Generator) -> None:
    """Print how much of held-out text is marked, and how many marks the training data disproves."""
    marks = false = near = marked = 0
    for _ in range(count):
        _, text = piece(dataset.held_out, TEXT, random)
        runs = index.runs(text)
        covered = np.zeros(len(text), bool)
        for start, end in {(run.start, run.end) for run in runs}:
            there = [run.document for run in runs if run.start <= start and end <= run.end]
            longest = max(longest_copy(text[start:end], dataset.train, document) for document in there[:3])
            marks += 1
            false += longest < SPAN
            near += longest == SPAN - 1
            covered[start:end] = True
        marked += int(covered.sum())
    tokens = count * TEXT
    print(
        f"held-out text, {tokens:,} tokens: {marked / tokens:.2%} stand in training data too, {marks} marks;"
        f" {false} are of runs shorter than {SPAN} ({near} of {SPAN - 1}):"
        f" {1000 * false / tokens:.4f} false marks per 1,000 tokens"
    )


def longest_copy(run: NDArray[np.int64], split: TokenSplit, document: int) -> int:
    """Tokens of the longest part of a run that stands in a document, by the training data itself."""
    tokens = np.array(split.tokens[split.starts[document] :][: split.lengths[document]], np.int64)
    longest, lengths = 0, np.zeros(len(tokens) + 1, np.int64)
    for token in run:
        lengths[1:] = np.where(tokens == token, lengths[:-1] + 1, 0)
        longest = max(longest, int(lengths.max()))
    return longest


def texts(dataset: TokenDataset, index: SourceIndex, tokenizer: Path, random: np.random.Generator) -> None:
    """Print the time to name the copies in a completion's text; the first lookup maps the file as well."""
    vocabulary = Vocabulary(Tokenizer.from_file(str(tokenizer / "tokenizer.json")), frozenset(), 0)
    attribution = Attribution([SourceIndex(index.path, "")], vocabulary)
    seconds = []
    for _ in range(201):
        written = vocabulary.tokenizer.decode(piece(dataset.train, TEXT, random)[1].tolist())
        started = time.process_time()
        assert attribution.copies("import os\n", written), "a copy of 200 tokens"
        seconds.append(time.process_time() - started)
    later = sum(seconds[1:]) / len(seconds[1:])
    print(
        f"a copy of {TEXT} tokens named from its characters: {later * 1000:.1f} CPU ms, the first one",
        end=" ",
    )
    print(f"{seconds[0] * 1000:.1f}")


def piece(split: TokenSplit, length: int, random: np.random.Generator) -> tuple[int, NDArray[np.int64]]:
    """A document drawn at random, and so many tokens in a row from it."""
    while True:
        document = int(random.integers(len(split.lengths)))
        room = int(split.lengths[document]) - 1 - length
        if room >= 0:
            first = int(split.starts[document]) + int(random.integers(room + 1))
            return document, np.array(split.tokens[first : first + length], np.int64)


def peak_megabytes() -> float:
    """The peak of this process's memory so far."""
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    raise SystemExit(main())
