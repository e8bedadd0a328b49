"""What a run will come to, said before it begins: held-out bits per byte from parameters and text.

L(N, D) = E + A / N^alpha + B / D^beta with N parameters and D bytes of text, those of a repeated corpus
counted for what they are still worth, and what a run still lacks that has only just begun. Bytes, not tokens
as in the source, so that a fine vocabulary and a coarse one are foretold alike. The constants are a fit to
whole runs of this program: `python benchmarks/forecast.py` makes the points and prints them.
A tokenizer needs more tokens for a byte of some files than of others, and every model more bits: the
figure is scaled by the tokens that a byte of the held-out sample takes, relative to the corpus. (One
model had 2.018, 2.152 and 2.104 bits per byte on samples of 0.286, 0.314 and 0.310 tokens a byte.)
Source of the form: Hoffmann et al. 2022, "Training compute-optimal large language models", section 3.3.
"""

from __future__ import annotations

import math

# Source: Muennighoff et al. 2023, "Scaling data-constrained language models", equation 5: R*_D.
REPETITION_HALF_LIFE = 15.4

# From three runs on the code that every machine has, of 7 and 18 MB of text, which leave one of the five
# free: E is put at what leaves long runs room. By these, 3, 10 and 30 minutes on other packages come out
# within 3.1 % (benchmarks/LOG.md).
E, A, ALPHA, B, BETA = 0.30, 33.0, 0.34, 13.76, 0.199

# A run of less than a minute ends before the power law begins: bits per byte too many, and after how much
# text e times fewer (benchmarks/LOG.md).
START, START_BYTES = 1.2, 1.0e6


def effective_bytes(text_bytes: float, corpus_bytes: float) -> float:
    """What text_bytes are worth as new text when they repeat a corpus of corpus_bytes."""
    repetitions = text_bytes / corpus_bytes - 1
    if repetitions <= 0:
        return text_bytes
    R = REPETITION_HALF_LIFE
    return corpus_bytes * (1 + R * (1 - math.exp(-repetitions / R)))


def missing_start(text_bytes: float) -> float:
    """Bits per byte that a run lacks because it has only just begun."""
    return START * math.exp(-text_bytes / START_BYTES)


def expected_bits_per_byte(
    parameters: float, text_bytes: float, corpus_bytes: float, difficulty: float
) -> float:
    """Held-out bits per byte after a run that reads so many bytes of a corpus, again and again if need be.

    difficulty: tokens per byte of the held-out sample over tokens per byte of the corpus.
    """
    D = effective_bytes(text_bytes, corpus_bytes)
    learnt = E + A / math.pow(parameters, ALPHA) + B / math.pow(D, BETA)
    return difficulty * (learnt + missing_start(text_bytes))
