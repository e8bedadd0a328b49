"""What a run will come to, said before it begins: held-out bits per byte from parameters and tokens.

L(N, D) = E + A / N^alpha + B / D^beta with N parameters and D tokens, those of a repeated corpus counted for
what they are still worth. The constants are a fit to whole runs of this program on the code that every
machine has: `python benchmarks/forecast.py` makes the points and prints them.
Source of the form: Hoffmann et al. 2022, "Training compute-optimal large language models", section 3.3.
"""

from __future__ import annotations

import math

# Source: Muennighoff et al. 2023, "Scaling data-constrained language models", equation 5: R*_D.
REPETITION_HALF_LIFE = 15.4

E, A, ALPHA, B, BETA = 0.5, 10.0, 0.2, 10.0, 0.2


def effective_tokens(tokens: float, corpus_tokens: float) -> float:
    """What `tokens` are worth as new text when they repeat a corpus of corpus_tokens."""
    repetitions = tokens / corpus_tokens - 1
    if repetitions <= 0:
        return tokens
    R = REPETITION_HALF_LIFE
    return corpus_tokens * (1 + R * (1 - math.exp(-repetitions / R)))


def expected_bits_per_byte(parameters: float, tokens: float, corpus_tokens: float) -> float:
    """Held-out bits per byte after a run."""
    D = effective_tokens(tokens, corpus_tokens)
    return E + A / math.pow(parameters, ALPHA) + B / math.pow(D, BETA)
