"""Runs of equal tokens have equal tokens, and the batch that the plan would give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_length import length_options
from training.plan import batch_tokens


@given(st.floats(1e5, 1e9), st.sampled_from([128, 256, 512, 1024]))
def test_the_steps_come_to_the_tokens_with_the_batch_of_such_a_run(tokens: float, context: int) -> None:
    _, rows, _, steps = length_options(tokens, context)
    batch = int(rows) * context
    assert int(steps) * batch == pytest.approx(tokens, abs=batch / 2 + 1)
    assert batch == pytest.approx(batch_tokens(tokens), abs=context / 2)
