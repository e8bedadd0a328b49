"""What the passes are made of: e^x, the largest number of a row, and rounding to bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpt2.cpu_passes import compiled, exponential, highest_of, store, widened

FLOATS = st.floats(width=32, allow_nan=False)
# whose sums do not overflow, as those of a model do not
SUMMABLE = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([np.inf, -np.inf])


@compiled
def round_to_bfloat16(numbers: np.ndarray, halves: np.ndarray, back: np.ndarray) -> None:
    for i in range(len(numbers)):
        store(halves, i, numbers[i])
        back[i] = widened(halves[i])


def test_exponential_is_exact_to_five_in_ten_million() -> None:
    exponents = np.linspace(-87, 87, 2001, dtype=np.float32)
    found = np.array([exponential(x) for x in exponents], np.float64)
    np.testing.assert_allclose(found, np.exp(exponents.astype(np.float64)), rtol=5e-7)


@given(arrays(np.float32, st.integers(1, 70), elements=SUMMABLE))
def test_the_highest_of_a_row(row: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        total = row.sum()
    if np.isnan(total):  # infinities of both signs
        assert np.isnan(highest_of(row))
    else:
        assert highest_of(row) == row.max()


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_no_number_among_others_is_the_highest(nan: float) -> None:
    row = np.array([1, nan, 5], np.float32)
    assert np.isnan(highest_of(row))


@given(arrays(np.float32, st.integers(1, 70), elements=FLOATS))
def test_numbers_are_rounded_as_pytorch_rounds_them(numbers: np.ndarray) -> None:
    halves, back = np.empty(len(numbers), np.uint16), np.empty_like(numbers)
    round_to_bfloat16(numbers, halves, back)
    expected = torch.from_numpy(numbers).to(torch.bfloat16)
    assert torch.equal(torch.from_numpy(halves).view(torch.bfloat16), expected)
    np.testing.assert_array_equal(back, expected.float().numpy())


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0x7FFF8000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF])
def test_a_nan_of_any_kind_stays_one(bits: int) -> None:
    halves, back = np.empty(1, np.uint16), np.empty(1, np.float32)
    round_to_bfloat16(np.array([bits], np.uint32).view(np.float32), halves, back)
    assert np.isnan(back[0])
