"""Which vocabulary and which pre-tokenizer for which budget: the table behind `auto`.

The goal is held-out bits per byte at equal training compute, not bytes per token: a coarse token carries more
text, but there are more of them to learn and each is seen less often. So the best size grows with the compute
that training will have and with the corpus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# What model/train.py takes unless told otherwise.
CPU_MINUTES = 4.0
GPU_MINUTES = 30.0

# Minutes of two CPU cores that a minute of a GPU is worth, where there is one: an H100 takes 415,000 tokens/s
# of a 124 M model (benchmarks/LOG.md), two cores some 300.
GPU_FACTOR = 1000.0

# The corpus has to show each entry this many bytes of text, or it is too rare to be learnt: 52,000 entries
# reached 37,600 on 9.6 MB and could be filled no further.
BYTES_PER_ENTRY = 500
SMALLEST = 1024  # whatever the corpus: 256 bytes and the commonest words of Python, which 100 kB show


@dataclass(frozen=True)
class Choice:
    """A size and a rule, and the budget up to which they are taken."""

    minutes: float  # of training on two CPU cores, at most
    parameters: float  # of the model, at most
    vocab_size: int
    pretokenizer: str


# Held-out bits per byte at equal operations, with the model that the dial takes (benchmarks/LOG.md):
#                   entries   2,048    4,096    8,192   16,384
#   3 minutes, gpt2          1.8125   1.7853   1.8999   1.9662
#              cl100k        1.7914   1.7891
#              python        1.8567   1.8318
#   10 minutes, gpt2                  1.5854   1.6942
#               cl100k                1.4654
# That last run alone had found induction heads, with which models begin now (model/induction.py); with them
# the table is still to be measured again. From 3 minutes to 10 the 8,192 came no nearer. All other rows
# extrapolate: larger models use more entries. To measure: benchmarks/pretokenizer_choice.py.
TABLE = (
    Choice(60, 8e6, 4096, "gpt2"),
    Choice(600, 30e6, 8192, "gpt2"),
    Choice(60_000, 100e6, 16384, "gpt2"),
    Choice(float("inf"), float("inf"), 32768, "gpt2"),
)


def choose(corpus_bytes: int, minutes: float, parameters: float | None = None) -> Choice:
    """The row for a budget, its vocabulary no larger than the corpus can show: a multiple of 64.

    choose(40_000_000, minutes=4) -> 4,096 entries; choose(1_000_000, minutes=4) -> 1,984

    minutes: of training on two CPU cores; a model's size, where given, says more than minutes.
    """
    row = next(
        row for row in TABLE if (parameters <= row.parameters if parameters else minutes <= row.minutes)
    )
    shown = max(SMALLEST, corpus_bytes // BYTES_PER_ENTRY // 64 * 64)
    return Choice(row.minutes, row.parameters, min(row.vocab_size, shown), row.pretokenizer)


def has_gpu() -> bool:
    """Whether training would find an NVIDIA GPU here; torch is not asked, it takes two seconds."""
    return Path("/dev/nvidia0").exists()


def count(text: str) -> float:
    """A number with a suffix: "124M" -> 124e6, "5.3m", "7e6"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kmb]?)", text.strip().lower())
    if match is None:
        raise ValueError(text)
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[match[2]]
