"""How long a run is that reads so many tokens: the options of model/train.py for it."""

from __future__ import annotations

import sys

from journey import PROJECT

sys.path.insert(0, str(PROJECT / "model"))


def length_options(tokens: float, context: int) -> list[str]:
    """--batch-size as the dial has it for a run of so many tokens, and --steps that come to them.

    length_options(2.64e6, 512) -> ["--batch-size", "5", "--steps", "1031"]

    The batch is named because that of train.py --steps follows from the steps, which would follow from the
    batch: between two batches no number of steps comes to the tokens.
    """
    from budget import batch_tokens

    rows = max(1, round(batch_tokens(tokens) / context))
    return ["--batch-size", str(rows), "--steps", str(max(1, round(tokens / (rows * context))))]
