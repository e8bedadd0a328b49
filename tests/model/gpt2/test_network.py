"""The network against transformers' GPT2LMHeadModel and PyTorch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gpt2.config import GPT2Config
from gpt2.network import GPT2
from pretrained.save import config_json

torch.set_num_threads(1)  # at these sizes a second thread only waits

TINY = GPT2Config(n_layer=2, n_head=2, n_embd=32, block_size=64, vocab_size=512)


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
