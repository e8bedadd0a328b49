"""One description of a GPT-2: what it reads from config.json it writes there again."""

from __future__ import annotations

from typing import Any

import pytest

from gpt2.config import ACTIVATIONS, GPT2Config

SETTINGS: list[dict[str, Any]] = [
    {},
    {"n_inner": 48},
    {"activation_function": "relu", "layer_norm_epsilon": 1e-3},
    {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_configuration_survives_config_json(settings: dict[str, Any]) -> None:
    config = GPT2Config(2, 4, 32, 64, 512, **settings)
    assert GPT2Config.from_json(config.to_json()) == config


def test_an_empty_config_json_is_transformers_own_default() -> None:
    from transformers import GPT2Config as TransformersConfig

    assert GPT2Config.from_json({}) == GPT2Config.from_json(TransformersConfig().to_dict())
    assert GPT2Config.from_json({}) == GPT2Config(12, 12, 768, 1024, 50257)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_tensors_are_those_of_transformers(settings: dict[str, Any]) -> None:
    import torch
    from transformers import GPT2Config as TransformersConfig
    from transformers import GPT2LMHeadModel

    config = GPT2Config(2, 4, 32, 64, 512, **settings)
    with torch.device("meta"):
        model = GPT2LMHeadModel(TransformersConfig(**config.to_json()))
    theirs = {name.removeprefix("transformer."): tuple(w.shape) for name, w in model.named_parameters()}
    assert config.tensor_shapes() == theirs
    assert config.parameters == sum(weight.numel() for weight in model.parameters())


def test_every_name_of_an_activation_is_the_function_that_transformers_means() -> None:
    import torch
    from transformers.activations import ACT2FN

    from gpt2 import operations

    x = torch.linspace(-4, 4, 101)
    for name, function in ACTIVATIONS.items():
        torch.testing.assert_close(operations.ACTIVATIONS[function](x), ACT2FN[name](x), msg=name)


def test_attention_is_scaled_as_the_settings_say() -> None:
    usual = GPT2Config(2, 4, 64, 64, 512)
    assert (usual.attention_scale(0), usual.attention_scale(1)) == (0.25, 0.25)
    by_layer = GPT2Config(2, 4, 64, 64, 512, scale_attn_by_inverse_layer_idx=True)
    assert (by_layer.attention_scale(0), by_layer.attention_scale(1)) == (0.25, 0.125)
    assert GPT2Config(2, 4, 64, 64, 512, scale_attn_weights=False).attention_scale(1) == 1.0
