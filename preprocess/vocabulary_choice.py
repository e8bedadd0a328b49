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


# Held-out bits per byte at equal operations, those of 3, 10 and 30 minutes on two cores without bfloat16,
# with the model that the dial takes there (benchmarks/LOG.md):
#                      entries   1,024    2,048    4,096    8,192   16,384
#   3 minutes,  gpt2                      1.4367   1.4613   1.7011   1.9036
#               cl100k           1.4331   1.4285   1.4474   1.5603   1.9094
#               python                    1.4391   1.4615   1.5525   1.7700
#   10 minutes, cl100k                    1.2663   1.2845
#   30 minutes, cl100k                    1.1644   1.1679
# Models begin with heads that copy (model/induction.py), and fine tokens give them more to copy. The lead of
# 2,048 over 4,096 is 1.3, 1.4 and 0.3 %, so it ends soon after; cores with bfloat16 get there in less than
# half the time. All other rows are extrapolations, and so is the rule there. To measure:
# benchmarks/pretokenizer_choice.py.
TABLE = (
    Choice(40, 5e6, 2048, "cl100k"),
    Choice(600, 30e6, 4096, "cl100k"),
    Choice(6000, 60e6, 8192, "cl100k"),
    Choice(60_000, 200e6, 16384, "cl100k"),
    Choice(float("inf"), float("inf"), 32768, "cl100k"),
)


def choose(corpus_bytes: int, minutes: float, parameters: float | None = None) -> Choice:
    """The row for a budget, its vocabulary no larger than the corpus can show: a multiple of 64.

    choose(40_000_000, minutes=4) -> 2,048 entries; choose(1_000_000, minutes=4) -> 1,984

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
