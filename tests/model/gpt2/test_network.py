"""The network and its loss against transformers' GPT2LMHeadModel and PyTorch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gpt2.config import GPT2Config
from gpt2.network import (
    CHUNK_ROWS,
    GPT2,
    LONGEST,
    STRIP,
    causal_attention,
    causal_mask,
    linear_cross_entropy,
)
from pretrained.save import config_json

torch.set_num_threads(1)  # at these sizes a second thread only waits

TINY = GPT2Config(n_layer=2, n_head=2, n_embd=32, block_size=64, vocab_size=512)

HEADS, C = 3, 24  # of the attention alone


def random_tokens(shape: GPT2Config, rows: int = 3) -> torch.Tensor:
    return torch.randint(shape.vocab_size, (rows, shape.block_size), generator=torch.manual_seed(1))


def random_model(dtype: torch.dtype = torch.float32) -> GPT2:
    """A model none of whose weights is zero or one, so that each of them counts."""
    torch.manual_seed(0)
    model = GPT2(TINY, dtype)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def test_the_forward_pass_is_that_of_transformers() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = random_model()
    stock = GPT2LMHeadModel(GPT2Config(**config_json(TINY)))  # without dropout, so eval() changes nothing
    missing, unexpected = stock.load_state_dict(ours.state_dict(), strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied to wte, so never a weight of its own
    stock.tie_weights()
    tokens = random_tokens(TINY)
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(tokens), stock(tokens).logits, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_mean_cross_entropy_of_the_logits() -> None:
    model = random_model()
    tokens = random_tokens(TINY)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    expected = F.cross_entropy(model.logits(inputs).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model(inputs, targets), expected)


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


def test_bfloat16_moves_the_gradients_by_less_than_two_degrees() -> None:
    def gradient(dtype: torch.dtype) -> torch.Tensor:
        model = random_model(dtype)
        tokens = random_tokens(TINY)
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    cosine = F.cosine_similarity(gradient(torch.float32), gradient(torch.bfloat16), dim=0)
    assert float(cosine) > 0.9994


def test_a_position_never_sees_what_comes_after_it() -> None:
    model = random_model()
    tokens = random_tokens(TINY, rows=1)
    changed = tokens.clone()
    changed[0, 40] = (changed[0, 40] + 1) % TINY.vocab_size
    with torch.no_grad():
        before, after = model.logits(tokens)[0], model.logits(changed)[0]
    torch.testing.assert_close(before[:40], after[:40])
    assert not torch.allclose(before[40:], after[40:])


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (GPT2Config(12, 12, 768, 1024, 50257), 124_439_808),
        (GPT2Config(24, 16, 1024, 1024, 50257), 354_823_168),
    ],
)
def test_a_shape_knows_its_parameters(shape: GPT2Config, parameters: int) -> None:
    assert shape.parameters == parameters


def test_the_parameters_of_a_shape_are_those_of_its_model() -> None:
    assert TINY.parameters == sum(weight.numel() for weight in GPT2(TINY).parameters())


def test_a_step_of_the_124m_model_costs_855_million_operations_a_token() -> None:
    assert round(GPT2Config(12, 12, 768, 1024, 50257).flops_per_token / 1e6) == 855


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
