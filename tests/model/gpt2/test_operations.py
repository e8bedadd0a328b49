"""The operations that are our own against PyTorch's, in values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gpt2 import operations
from gpt2.cpu_passes import causal_softmax, causal_softmax_backward, cross_entropy, gelu
from gpt2.operations import (
    CANDIDATES_STEP,
    CHUNK_ROWS,
    LONGEST,
    STRIP,
    Candidates,
    array_of,
    causal_attention,
    gelu_tanh,
    in_parts,
    linear_cross_entropy,
)

torch.set_num_threads(1)  # at these sizes a second thread only waits

HEADS, C = 3, 24  # of the attention alone
EXACT = [(torch.float64, 1e-8), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]  # precision, its error


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-6), *EXACT[1:]])
def test_loss_and_gradients_are_those_of_cross_entropy(dtype: torch.dtype, error: float) -> None:
    generator = torch.manual_seed(0)
    rows = CHUNK_ROWS + 100  # more than one chunk, the last one shorter
    hidden = torch.randn(rows, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(50, (rows,), generator=generator)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    expected = F.cross_entropy(exact[0] @ exact[1].T, targets)
    found = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(found.double(), expected, rtol=max(error, 1e-6) / 2, atol=1e-6)
    gradients = torch.autograd.grad(found, (hidden, weight))
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, exact), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=error, atol=error * float(theirs.abs().max()))


def test_candidates_are_as_many_as_a_product_that_was_compiled_before() -> None:
    for count in (1, CANDIDATES_STEP, CANDIDATES_STEP + 1):
        candidates = Candidates(torch.arange(count), torch.zeros(count))
        padded = candidates.padded(vocab_size=1000)
        assert len(padded.ids) == len(padded.log_counts) == -(-count // CANDIDATES_STEP) * CANDIDATES_STEP
        assert torch.equal(padded.ids[:count], candidates.ids)
        assert (padded.ids[count:] == 999).all()
        assert (padded.log_counts[count:] == -torch.inf).all()


# Attention in strips gives what PyTorch gives, forward and backward


def reference(qkv: torch.Tensor, scale: float) -> torch.Tensor:
    """(B, T, 3C) -> (B, T, C) by scaled_dot_product_attention."""
    B, T, _ = qkv.shape
    q, k, v = qkv.view(B, T, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return y.transpose(1, 2).reshape(B, T, C)


@pytest.mark.parametrize("T", [1, 2, STRIP - 1, STRIP, STRIP + 1, 2 * STRIP, LONGEST, LONGEST + 1])
@pytest.mark.parametrize(("dtype", "error"), EXACT)
def test_strips_agree_with_pytorch_in_values_and_gradients(T: int, dtype: torch.dtype, error: float) -> None:
    torch.manual_seed(T)
    qkv = torch.randn(2, T, 3 * C).to(dtype).requires_grad_()
    out_gradient = torch.randn(2, T, C).to(dtype)
    exact = qkv.detach().double().requires_grad_()
    for scale in (0.35,) if dtype == torch.bfloat16 else (0.35, 1.0):
        ours, theirs = causal_attention(qkv, HEADS, scale), reference(exact, scale)
        [our_gradient] = torch.autograd.grad(ours, qkv, out_gradient)
        [their_gradient] = torch.autograd.grad(theirs, exact, out_gradient.double())
        assert (ours.dtype, our_gradient.dtype) == (dtype, dtype)
        torch.testing.assert_close(ours.double(), theirs, rtol=error, atol=error)
        torch.testing.assert_close(our_gradient.double(), their_gradient, rtol=error, atol=2 * error)


def test_what_hardly_counts_is_zero_and_slows_no_product_down() -> None:
    qkv = torch.zeros(1, 2, 3 * C)
    qkv[0, :, 0] = 10.0  # the first query and key of the first head
    qkv[0, 0, C], qkv[0, 1, C] = 10.0, 1.0
    qkv[0, :, 2 * C] = torch.tensor([1.0, 5.0])
    y = causal_attention(qkv.requires_grad_(), HEADS, 1.0)  # scores of 100 and 10: e^-90 apart
    assert y[0, 1, 0].item() == 1.0
    [gradient] = torch.autograd.grad(y[0, 1, 0], qkv)
    assert gradient[0, 1, 2 * C].item() == 0.0


def test_a_token_never_sees_a_later_one() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(1, 2 * STRIP, 3 * C)
    changed = qkv.clone()
    changed[:, STRIP + 5 :] = 100.0
    before, after = causal_attention(qkv, HEADS, 0.5), causal_attention(changed, HEADS, 0.5)
    torch.testing.assert_close(before[:, : STRIP + 5], after[:, : STRIP + 5], rtol=0, atol=0)
    assert not torch.equal(before[:, STRIP + 5 :], after[:, STRIP + 5 :])


# GELU through the sigmoid is GELU through the tanh


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 2e-6), EXACT[2]])
def test_gelu_agrees_with_pytorch_in_values_and_slopes(dtype: torch.dtype, error: float) -> None:
    far = torch.tensor([1e5, 1e8, 1e13])
    numbers = torch.cat([torch.linspace(-40, 40, 500), torch.linspace(-6, 6, 294), far, -far])
    x = numbers.to(dtype).view(40, 20).T.requires_grad_()  # not contiguous
    y = gelu_tanh(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    torch.testing.assert_close(y.double(), expected, rtol=error, atol=error)
    out_gradient = torch.linspace(-2, 2, 800).to(dtype).view_as(x)
    [slope] = torch.autograd.grad(y, x, out_gradient)
    [expected_slope] = torch.autograd.grad(expected, exact, out_gradient.double())
    torch.testing.assert_close(slope.double(), expected_slope, rtol=error, atol=error)


def test_gelu_without_gradients_is_the_same() -> None:
    x = torch.linspace(-12, 12, 1000)
    assert torch.equal(gelu_tanh(x), gelu_tanh(x.clone().requires_grad_()))


def test_a_target_that_is_no_entry_is_an_error() -> None:
    for target in (-1, 5):
        with pytest.raises(IndexError, match="none of 5 entries"):
            linear_cross_entropy(torch.ones(2, 4), torch.ones(5, 4), torch.tensor([0, target]))


def test_gelu_of_nothing_is_nothing() -> None:
    x = torch.empty(0, 8, requires_grad=True)
    y = gelu_tanh(x)
    [slope] = torch.autograd.grad(y.sum(), x)
    assert y.shape == slope.shape == (0, 8)


# Passes over the numbers: by any number of threads the same, and what is no number stays none


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "NUMBERS_A_THREAD", 100)
    torch.manual_seed(0)
    scores, gradients, logits = (torch.randn(*shape) for shape in ((5, 7, 70), (5, 7, 70), (70, 50)))
    numbers, targets = torch.randn(1000), torch.randint(50, (70,))
    scale, log_counts = np.float32(0.35), np.zeros(50, np.float32)

    def results(threads: int) -> list[NDArray[Any]]:
        torch.set_num_threads(threads)
        probabilities, changes, differences = (
            array_of(tensor.to(dtype)).copy() for tensor in (scores, gradients, logits)
        )
        x = array_of(numbers.to(dtype))
        values, slopes, losses = np.empty_like(x), np.empty_like(x), np.empty(70, np.float32)
        in_parts(causal_softmax, 5, probabilities, 60, scale)
        in_parts(causal_softmax_backward, 5, probabilities, changes, 60, scale)
        in_parts(cross_entropy, 70, differences, log_counts, targets.numpy(), losses)
        in_parts(gelu, 1000, x, values, slopes)
        return [probabilities, changes, differences, losses, values, slopes]

    try:
        alone = results(1)
        for threads in (2, 3):
            for one, several in zip(alone, results(threads), strict=True):
                np.testing.assert_array_equal(one, several)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wrong", [torch.nan, -torch.nan, torch.inf])
def test_what_is_no_number_is_not_hidden(dtype: torch.dtype, wrong: float) -> None:
    """A step with such a gradient is skipped, which it can only be if it has one."""
    x = torch.zeros(4, 8, dtype=dtype)
    x[2, 3] = wrong
    x.requires_grad_()
    weight = torch.ones(5, 8, dtype=dtype, requires_grad=True)
    loss = linear_cross_entropy(x, weight, torch.tensor([0, 1, 2, 3]))
    assert not loss.isfinite()
    assert not torch.autograd.grad(loss, weight)[0].isfinite().all()
    assert not gelu_tanh(x)[2, 3].isfinite()
    y = causal_attention(torch.cat([x, x, torch.ones_like(x)], 1)[None], 2, 1.0)
    assert y[0, :2].isfinite().all()
    assert not y[0, 2:].isfinite().all()
