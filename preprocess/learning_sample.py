"""The documents of data.txt that a tokenizer learns from, as a stream, and a few held-out ones to measure on.

Of a corpus larger than the limit every file is taken or left by a hash of its name, so that whole files are
taken, from all over the corpus, the same ones on every machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from corpus import Document, iter_documents

HELD_OUT_SAMPLE = 4_000_000  # bytes: bytes per token has settled to three digits, and it takes a second
SECONDS_BETWEEN_LINES = 10  # of progress, where nobody sees a bar move
SEED = b"learning sample"
MARGIN = 0.97  # of the limit is aimed at: the sum of a sample's sizes scatters


@dataclass
class LearningSample:
    """What has been read of data.txt: counts of the train documents, and a sample of the held-out ones."""

    share: float = 1.0  # of the train files that are taken
    max_bytes: int = 0  # never more than this; 0 = no limit
    documents: int = 0
    text_bytes: int = 0
    left_out: int = 0
    repositories: set[str] = field(default_factory=set)
    held_out_documents: int = 0
    held_out_bytes: int = 0
    held_out: list[str] = field(default_factory=list)
    sampled_bytes: int = 0  # of held_out
    read_bytes: int = 0

    @classmethod
    def of(cls, corpus_bytes: int, max_bytes: int) -> LearningSample:
        """A sample of at most max_bytes (0 = everything) of a corpus of about corpus_bytes."""
        share = min(1.0, MARGIN * max_bytes / max(1, corpus_bytes)) if max_bytes else 1.0
        return cls(1.0 if max_bytes >= corpus_bytes else share, max_bytes)

    def takes(self, document: Document) -> bool:
        """Whether a file belongs to the sample: decided by its name alone, for all its pieces alike."""
        if self.share == 1.0:
            return True
        name = f"{document.repo}\0{document.path}".encode()
        return int.from_bytes(blake2b(name, digest_size=8, key=SEED).digest()) < self.share * 2**64

    def train_documents(self, data: Path) -> Iterator[str]:
        """The text of each train document of the sample, whole and in order."""
        for document in iter_documents(data):
            size = len(document.text.encode())
            self.read_bytes += size
            if document.split == "held_out":
                self.add_held_out(document.text, size)
            elif self.takes(document) and not self.text_bytes + size > (self.max_bytes or float("inf")):
                self.documents += 1
                self.text_bytes += size
                self.repositories.add(document.repo)
                yield document.text
            else:
                self.left_out += 1

    def add_held_out(self, text: str, size: int) -> None:
        self.held_out_documents += 1
        self.held_out_bytes += size
        if self.sampled_bytes < HELD_OUT_SAMPLE:
            self.held_out.append(text)
            self.sampled_bytes += size


def with_progress(sample: LearningSample, data: Path, size: int) -> Iterator[str]:
    """The train documents of the sample, telling on standard error how far it is."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    print(f"learning from {data.absolute()} ({size / 1e6:,.1f} MB)", file=sys.stderr, flush=True)
    told = time.monotonic()
    with tqdm(total=size, unit="B", unit_scale=True, desc="reading", disable=quiet, leave=False) as bar:
        for text in sample.train_documents(data):
            # Bytes of text against bytes of the file, which holds names and escapes too: a little behind.
            bar.update(sample.read_bytes - bar.n)
            if quiet and time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                read = f"{sample.read_bytes / 1e6:,.0f} of {size / 1e6:,.0f} MB"
                print(f"reading: {read}", file=sys.stderr, flush=True)
            yield text
    print(
        f"merging the most frequent pairs of {sample.text_bytes / 1e6:,.1f} MB", file=sys.stderr, flush=True
    )
