"""The operations that are our own against PyTorch's, in values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gpt2 import operations
from gpt2.operations import (
    CHUNK_ROWS,
    LONGEST,
    STRIP,
    causal_attention,
    causal_mask,
    gelu_tanh,
    linear_cross_entropy,
)

torch.set_num_threads(1)  # at these sizes a second thread only waits

HEADS, C = 3, 24  # of the attention alone


def test_gradients_of_the_fused_loss_equal_those_of_cross_entropy_in_float64() -> None:
    generator = torch.manual_seed(0)
    rows = CHUNK_ROWS + 100  # more than one chunk, the last one shorter
    hidden = torch.randn(rows, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(50, (rows,), generator=generator)
    expected = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets), (hidden, weight))
    found = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), (hidden, weight))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


# Attention in strips gives what PyTorch gives, forward and backward


def reference(qkv: torch.Tensor, scale: float) -> torch.Tensor:
    """(B, T, 3C) -> (B, T, C) by scaled_dot_product_attention."""
    B, T, _ = qkv.shape
    q, k, v = qkv.view(B, T, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return y.transpose(1, 2).reshape(B, T, C)


@pytest.mark.parametrize("T", [1, 2, STRIP - 1, STRIP, STRIP + 1, 2 * STRIP, LONGEST, LONGEST + 1])
def test_strips_agree_with_pytorch_in_values_and_gradients(T: int) -> None:
    torch.manual_seed(T)
    qkv = torch.randn(2, T, 3 * C, dtype=torch.float64, requires_grad=True)
    out_gradient = torch.randn(2, T, C, dtype=torch.float64)
    for scale in (0.35, 1.0):
        ours, theirs = causal_attention(qkv, HEADS, scale), reference(qkv, scale)
        torch.testing.assert_close(ours, theirs)
        [our_gradient] = torch.autograd.grad(ours, qkv, out_gradient)
        [their_gradient] = torch.autograd.grad(theirs, qkv, out_gradient)
        torch.testing.assert_close(our_gradient, their_gradient)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_strips_are_as_exact_as_their_precision(dtype: torch.dtype, error: float) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 2 * STRIP + 1, 3 * C).to(dtype).requires_grad_()
    out_gradient = torch.randn(2, 2 * STRIP + 1, C).to(dtype)
    ours = causal_attention(qkv, HEADS, 0.35)
    [our_gradient] = torch.autograd.grad(ours, qkv, out_gradient)
    exact = qkv.detach().double().requires_grad_()
    theirs = reference(exact, 0.35)
    [their_gradient] = torch.autograd.grad(theirs, exact, out_gradient.double())
    assert (ours.dtype, our_gradient.dtype) == (dtype, dtype)
    torch.testing.assert_close(ours.double(), theirs, rtol=error, atol=error)
    torch.testing.assert_close(our_gradient.double(), their_gradient, rtol=error, atol=2 * error)


def test_a_token_never_sees_a_later_one() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(1, 2 * STRIP, 3 * C)
    changed = qkv.clone()
    changed[:, STRIP + 5 :] = 100.0
    before, after = causal_attention(qkv, HEADS, 0.5), causal_attention(changed, HEADS, 0.5)
    torch.testing.assert_close(before[:, : STRIP + 5], after[:, : STRIP + 5], rtol=0, atol=0)
    assert not torch.equal(before[:, STRIP + 5 :], after[:, STRIP + 5 :])


def test_the_mask_hides_what_is_later() -> None:
    assert causal_mask(3, torch.float32).isinf().tolist() == [
        [False, True, True],
        [False, False, True],
        [False, False, False],
    ]


# GELU through the sigmoid is GELU through the tanh


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CHUNK_NUMBERS", 64)


@pytest.mark.usefixtures("small_chunks")
def test_gelu_agrees_with_pytorch_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.linspace(-40, 40, 501, dtype=torch.float64), torch.randn(2, dtype=torch.float64)])
    x.requires_grad_()
    out_gradient = torch.randn_like(x)
    ours, theirs = gelu_tanh(x), F.gelu(x, approximate="tanh")
    torch.testing.assert_close(ours, theirs)
    [our_gradient] = torch.autograd.grad(ours, x, out_gradient)
    [their_gradient] = torch.autograd.grad(theirs, x, out_gradient)
    torch.testing.assert_close(our_gradient, their_gradient)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_gelu_is_as_exact_as_its_precision(dtype: torch.dtype, error: float) -> None:
    x = torch.linspace(-6, 6, 300).to(dtype).view(10, 30).T.requires_grad_()  # not contiguous
    y = gelu_tanh(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    torch.testing.assert_close(y.double(), expected, rtol=error, atol=error)
    [slope], [expected_slope] = torch.autograd.grad(y.sum(), x), torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(slope.double(), expected_slope, rtol=error, atol=error)


def test_gelu_of_nothing_is_nothing() -> None:
    x = torch.empty(0, 8, requires_grad=True)
    y = gelu_tanh(x)
    [slope] = torch.autograd.grad(y.sum(), x)
    assert y.shape == slope.shape == (0, 8)
