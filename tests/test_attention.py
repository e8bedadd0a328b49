"""Attention in strips gives what PyTorch's own gives, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from attention import LONGEST, STRIP, causal_attention, causal_mask

HEADS, C = 3, 24


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
