"""Learn byte-level BPE from the train documents of data.txt: sample them, cut them into words, merge pairs.

A pre-tokenizer cuts text into words before pairs are merged: no token spans two words. `gpt2` and `cl100k`
are the rules of GPT-2 and GPT-4, which other programs know too (llama.cpp among them). `python` is made for
source code: punctuation may take the newline and the next line's indentation with it, so `):\\n        ` can
become one token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.data_file import Document, iter_documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"
FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
SPECIAL_TOKENS = (END_OF_TEXT, PAD, *FIM_TOKENS)  # ids 0 to 4: the model and its configuration rely on them
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256  # every byte has a token, so every text has tokens

MIN_PAIR_COUNT = 2  # a pair seen once says nothing about other text; the libraries' own default too
LONGEST_TOKEN = 32  # bytes. Without: a row of 193 🚨 in one file makes 8 tokens; with 16: 0.8 % more tokens
# Raise format when the files change for the same options: then a rerun replaces them.
RECIPE = {"format": 2, "min_pair_count": MIN_PAIR_COUNT, "longest_token": LONGEST_TOKEN}

# As published with tiktoken; the alternatives are tried in this order at each position.
CL100K_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PYTHON_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+(?:(?:\r?\n)+[ \t]*)?|[ \t]*(?:\r?\n)+[ \t]*"
    r"|\s+(?!\S)|\s+"
)
PRETOKENIZERS = ("gpt2", "cl100k", "python")

HELD_OUT_SAMPLE = 4_000_000  # bytes: enough for three digits of bytes per token, and it takes a second
SEED = b"learning sample"
READ_AT_MOST = 8  # times the limit; of files that lie together only one in so many is taken
MARGIN = 0.97  # of the limit: sizes vary, so a sample may come out larger than its share


def build_pretokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer of that name. It spells bytes in the printable alphabet of byte-level BPE.

    "python": "if x:\\n    pass" -> "if", " x", ":\\n    ", "pass"
    """
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    if name == "gpt2":  # built into tokenizers
        return ByteLevel(add_prefix_space=False, use_regex=True)
    pattern = {"cl100k": CL100K_PATTERN, "python": PYTHON_PATTERN}[name]
    return Sequence(
        [Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)],
    )


@dataclass
class TrainingSample:
    """What has been read of data.txt: counts of the train documents, and a sample of the held-out ones.

    If the corpus is larger than the limit, each file is taken or left by a hash of its name: whole files,
    from all over the corpus, the same ones on every machine. Of a folder that is more than READ_AT_MOST times
    as large as the limit, only the beginning of each shard is read.
    """

    share: float = 1.0  # of the train files that are taken
    max_bytes: int = 0  # never more than this; 0 = no limit
    documents: int = 0
    text_bytes: int = 0
    left_out: int = 0
    repositories: set[str] = field(default_factory=set)
    held_out_bytes: int = 0
    held_out: list[str] = field(default_factory=list)
    sampled_bytes: int = 0  # of held_out
    read_bytes: int = 0
    of_each_shard: int | None = None  # bytes that are read of each shard, if not all

    @classmethod
    def of(cls, corpus_bytes: int, max_bytes: int, shards: int = 1) -> TrainingSample:
        """A sample of at most max_bytes (0 = everything) of a corpus of about corpus_bytes.

        shards: the files that it lies in.
        """
        of_each_shard = None
        if max_bytes and shards > 1 and corpus_bytes > READ_AT_MOST * max_bytes:
            of_each_shard = READ_AT_MOST * max_bytes // shards
            corpus_bytes = of_each_shard * shards
        share = min(1.0, MARGIN * max_bytes / max(1, corpus_bytes)) if max_bytes else 1.0
        return cls(1.0 if max_bytes >= corpus_bytes else share, max_bytes, of_each_shard=of_each_shard)

    def again(self) -> TrainingSample:
        """The same sample before anything has been read."""
        return TrainingSample(self.share, self.max_bytes, of_each_shard=self.of_each_shard)

    def takes(self, document: Document) -> bool:
        """Whether a file belongs to the sample: its name decides, so all its pieces do or none."""
        if self.share == 1.0:
            return True
        name = f"{document.repo}\0{document.path}".encode()
        return int.from_bytes(blake2b(name, digest_size=8, key=SEED).digest()) < self.share * 2**64

    def train_documents(self, data: Path) -> Iterator[str]:
        """The text of each train document of the sample, whole and in order."""
        for document in iter_documents(data, self.of_each_shard):
            size = len(document.text.encode())
            self.read_bytes += size
            if document.split == "held_out":
                self.held_out_bytes += size
                if self.sampled_bytes < HELD_OUT_SAMPLE:
                    self.held_out.append(document.text)
                    self.sampled_bytes += size
            elif self.takes(document) and not self.text_bytes + size > (self.max_bytes or float("inf")):
                self.documents += 1
                self.text_bytes += size
                self.repositories.add(document.repo)
                yield document.text
            else:
                self.left_out += 1


def train_bpe(documents: Iterable[str], vocab_size: int, pretokenizer: str) -> Tokenizer:
    """A tokenizer of at most vocab_size entries: the special tokens, the 256 bytes, the most frequent merges.

    It has fewer if no further pair occurs MIN_PAIR_COUNT times. The same documents give the same tokenizer.
    """
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = build_pretokenizer(pretokenizer)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    learn_interruptibly(lambda texts: tokenizer.train_from_iterator(texts, trainer), documents)
    tokenizer.encode_special_tokens = True
    return tokenizer


def train_baseline(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """What the defaults of ByteLevelBPETokenizer give, to compare with."""
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


def learn_interruptibly(learn: Callable[[Iterator[str]], None], documents: Iterable[str]) -> None:
    """learn(documents) of tokenizers in another thread: in the main thread Ctrl-C would wait for its end."""
    interrupted = threading.Event()

    def until_interrupted() -> Iterator[str]:
        for document in documents:
            if interrupted.is_set():
                raise InterruptedError
            yield document

    with ThreadPool(1) as worker:  # not ThreadPoolExecutor: Python would wait for its threads before it exits
        learning = worker.apply_async(learn, (until_interrupted(),))
        try:
            learning.get()
        except KeyboardInterrupt:
            interrupted.set()
            learning.wait(1)  # it ends with the next document; once it merges, nothing can stop it
            raise
