"""The plan in words, before the first step: corpus, model, machine, length, and what to expect of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progress import clock
from starting import say

if TYPE_CHECKING:
    from budget import Plan
    from machine import Machine
    from token_dataset import TokenDataset


def announce(plan: Plan, machine: Machine, dataset: TokenDataset, ranks: int, asked: float | None) -> None:
    """What will be done, for how long and with how much memory; asked: the seconds of --minutes."""
    shape, train = plan.shape, dataset.train
    held_out = len(dataset.held_out.text_bytes)
    say(
        f"  corpus   {len(train.lengths):,} files, {train.size_bytes / 1e6:,.1f} MB, {train.size:,} tokens"
        f" ({train.size_bytes / train.size:.2f} bytes each); {held_out:,} files held out"
    )
    say(
        f"  model    {shape.parameters / 1e6:.1f} M parameters: {shape.n_layer} layers, {shape.n_embd} wide,"
        f" {shape.n_head} heads, context {shape.block_size}, vocabulary {shape.vocab_size:,}"
    )
    several = f"{ranks} processes, each on " if ranks > 1 else ""
    say(
        f"  machine  {several}{machine.name}: {plan.tokens_per_second:,.0f} tokens/s,"
        f" about {plan.memory / 1e9:.1f} GB of memory"
    )
    seconds = plan.steps * plan.seconds_per_step
    say(
        f"  run      {clock(seconds)} = {plan.steps:,} steps of {plan.tokens_per_step:,} tokens,"
        f" {plan.tokens / train.size:.2g} epochs; then about 15 s of measuring"
    )
    if plan.forecast is not None:
        say(f"  forecast {plan.forecast:.2f} bits per byte on held-out files")
    if shape.block_size == 1 << (train.size.bit_length() - 1):
        say(f"  the corpus has {train.size:,} tokens, so the context is {shape.block_size}")
    if asked is not None and plan.seconds is not None and plan.seconds < 0.98 * asked:
        say(f"  more time would only repeat this corpus, so it takes {clock(plan.seconds)} of {clock(asked)}")
