"""The vocabulary size and the pre-tokenizer for a budget of training: the table behind `auto`.

The goal is held-out bits per byte at equal training compute, not bytes per token: a longer token carries more
text, but there are more of them to learn and each is seen less often. So the best size grows with the compute
of training and with the corpus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

# The defaults of model/train.py; a test holds them equal.
CPU_MINUTES = 4.0
GPU_MINUTES = 30.0

# Minutes of two CPU cores that a minute of a GPU is worth: an H100 takes 415,000 tokens/s
# of a 124 M model (benchmarks/LOG.md), two cores some 300.
GPU_FACTOR = 1000.0

DEVICES = Path("/dev")
GPU_DEVICE = re.compile(r"nvidia(?:\d+|ctl)")

# The corpus needs this many bytes of text for each entry, or the entry is too rare to be learnt: of 52,000
# entries only 37,600 could be filled on 9.6 MB.
BYTES_PER_ENTRY = 500
SMALLEST = 1024  # for any corpus: 256 bytes and the commonest words of Python, which 100 kB contain


@dataclass(frozen=True)
class VocabularyChoice:
    """A vocabulary size and a pre-tokenizer, and the budget up to which they are taken."""

    minutes: float  # of training on two CPU cores, at most
    parameters: float  # of the model, at most
    vocab_size: int
    pretokenizer: str


# From 4,096 entries on, train.py on a CPU compares a sample of them in each step (sampled softmax), which
# makes a large vocabulary cheap. Held-out bits per byte after as many CPU seconds of one core, those of 2,048
# and 8,192 entries by the slopes of their runs (benchmarks/LOG.md):
#                                  entries   2,048    4,096    8,192
#   2 layers, 128 wide, 167 CPU seconds       1.348    1.323    1.334
#   2 layers, 192 wide, 282 CPU seconds       1.307    1.286    1.306
#   4 layers, 256 wide, 7,200 (on a larger corpus)     0.892    0.875 (after 7,020)
# So 8,192 become better somewhere between 5 and 120 minutes of one core. The two ends were measured on
# different machines and corpora, so 30 minutes are a guess between them. The rows beyond are extrapolations.
# To measure: benchmarks/learning_choices.py by steps, model/train.py by the clock.
TABLE = (
    VocabularyChoice(30, 3e6, 4096, "cl100k"),
    VocabularyChoice(6000, 60e6, 8192, "cl100k"),
    VocabularyChoice(60_000, 200e6, 16384, "cl100k"),
    VocabularyChoice(float("inf"), float("inf"), 32768, "cl100k"),
)


def choose(corpus_bytes: int, minutes: float, parameters: float | None = None) -> VocabularyChoice:
    """The row for a budget, with a vocabulary no larger than the corpus can fill: a multiple of 64.

    choose(40_000_000, minutes=4) -> 4,096 entries; choose(1_000_000, minutes=4) -> 1,984

    minutes: of training on two CPU cores. parameters: of the model; if given, they count instead of minutes.
    """
    row = next(
        row for row in TABLE if (parameters <= row.parameters if parameters else minutes <= row.minutes)
    )
    most = max(SMALLEST, corpus_bytes // BYTES_PER_ENTRY // 64 * 64)
    return replace(row, vocab_size=min(row.vocab_size, most))


def has_gpu(devices: Path = DEVICES) -> bool:
    """Whether training would find an NVIDIA GPU here, by its device files: asking torch takes two seconds.

    A container may see nvidia1 alone. model/gpt2/device.py has the same rule; a test holds both equal.
    """
    return any(GPU_DEVICE.fullmatch(path.name) for path in devices.glob("nvidia*"))
