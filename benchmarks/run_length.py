"""The options of model/train.py for a run that reads a given number of tokens."""

from __future__ import annotations

import sys

from journey import PROJECT

sys.path.insert(0, str(PROJECT / "model"))


def length_options(tokens: float, context: int) -> list[str]:
    """--batch-size as the plan would choose it for a run of so many tokens, and --steps that make them up.

    length_options(2.64e6, 512) -> ["--batch-size", "5", "--steps", "1031"]

    The batch is stated because train.py --steps derives it from the steps. Between two sizes of the batch, no
    number of steps would then make up the tokens.
    """
    from training.plan import batch_tokens

    rows = max(1, round(batch_tokens(tokens) / context))
    return ["--batch-size", str(rows), "--steps", str(max(1, round(tokens / (rows * context))))]
