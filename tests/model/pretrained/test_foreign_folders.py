"""GPT-2 folders as others save them: the losses of transformers, or one clear line, never another model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2.config import GENERAL_NAMES
from gpt2.network import GPT2
from inference.cpu_engine import CpuEngine
from inference.torch_engine import TorchEngine
from model_cli import UserError
from pretrained.load import load_tensors, load_weights, read_pretrained
from tiny_model import VOCABULARY, change_json, save_tiny_model
from training.base_model import read_base_model

torch.set_num_threads(1)  # at these sizes a second thread only waits

TOKENS = torch.randint(VOCABULARY, (1, 65), generator=torch.manual_seed(3))
Tensors = dict[str, torch.Tensor]


def other_head() -> torch.Tensor:
    return torch.randn(VOCABULARY, 32, generator=torch.manual_seed(9)) * 0.3


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def head_alone(tensors: Tensors) -> Tensors:
    rest = {name: tensor for name, tensor in tensors.items() if not name.endswith("wte.weight")}
    return {**rest, "lm_head.weight": tensors["transformer.wte.weight"]}


def stored_twice(tensors: Tensors) -> Tensors:
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()}


def another_head(tensors: Tensors) -> Tensors:
    return {**tensors, "lm_head.weight": other_head()}


def prefixed_head(tensors: Tensors) -> Tensors:
    return {**tensors, "transformer.lm_head.weight": other_head()}


def both_names(tensors: Tensors) -> Tensors:
    return {**tensors, "wte.weight": other_head()}


def masks(tensors: Tensors) -> Tensors:
    return {**tensors, "transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64).tril()}


EDITS: list[Callable[[Tensors], Tensors]] = [
    without_prefix,
    head_alone,
    stored_twice,
    another_head,
    prefixed_head,
    both_names,
    masks,
    lambda tensors: without_prefix(head_alone(tensors)),
    lambda tensors: without_prefix(another_head(tensors)),
]
SETTINGS: list[dict[str, Any]] = [
    {"tie_word_embeddings": False},
    {"vocab_size": VOCABULARY + 64},
    {"n_inner": 48},
    {"layer_norm_epsilon": 1e-3},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    *({"activation_function": name} for name in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu")),
    *({"activation_function": name} for name in ("relu", "silu", "swish", "tanh")),
    {"dtype": "float16"},
    {"dtype": "bfloat16"},
]


def edit(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """Store the weights in another way."""
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in change(load_file(path)).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def loss_of(logits: torch.Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(logits[:64].float(), TOKENS[0, 1:]))


def check_losses(folder: Path) -> None:
    """All three readers have the loss of transformers."""
    from transformers import GPT2LMHeadModel

    theirs: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    base = read_base_model(folder, folder)
    trained = GPT2(base.config, torch.float32)
    trained.load_state_dict(base.weights(64))
    pretrained = read_pretrained(folder)
    assert pretrained.config == base.config
    tensors = load_tensors(pretrained.weight_files, base.config, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        expected = loss_of(theirs(TOKENS[:, :64]).logits[0])
        assert loss_of(trained.logits(TOKENS[:, :64])[0]) == pytest.approx(expected, rel=1e-4)
    for engine in (TorchEngine(base.config, tensors), CpuEngine(base.config, load_weights(pretrained), 16)):
        cache = engine.new_cache(1, 64)
        logits = [engine.next_logits([[token]], cache)[0] for token in TOKENS[0, :64].tolist()]
        found = loss_of(torch.stack([torch.as_tensor(row) for row in logits]))
        assert found == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("change", EDITS)
def test_weights_stored_in_another_way_are_the_model_that_transformers_loads(
    change: Callable[[Tensors], Tensors], tmp_path: Path
) -> None:
    check_losses(edit(save_tiny_model(tmp_path), change))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_mean_what_transformers_makes_of_them(settings: dict[str, Any], tmp_path: Path) -> None:
    check_losses(save_tiny_model(tmp_path, **settings))


def test_parts_and_general_names_are_read(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    folder = edit(save_tiny_model(tmp_path), another_head)
    model: Any = GPT2LMHeadModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    path = folder / "config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    for general, name in GENERAL_NAMES.items():
        saved[general] = saved.pop(name)
    saved.pop("n_ctx", None)
    path.write_text(json.dumps(saved), encoding="utf-8")
    check_losses(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: {k: v for k, v in tensors.items() if "wte" not in k}, "wte.weight is missing"),
        (lambda tensors: {**tensors, "lm_head.weight": other_head()[:500]}, "lm_head.weight is (500, 32)"),
        (lambda tensors: {k: v.to(torch.int8) for k, v in tensors.items()}, "type I8"),
    ],
)
def test_what_transformers_would_fill_with_random_numbers_is_refused(
    change: Callable[[Tensors], Tensors], reason: str, tmp_path: Path
) -> None:
    folder = edit(save_tiny_model(tmp_path), change)
    with pytest.raises(UserError) as caught:
        read_pretrained(folder)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_untied_without_both_is_refused(tmp_path: Path) -> None:
    folder = edit(save_tiny_model(tmp_path), head_alone)
    change_json(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(UserError, match=r"wte\.weight is missing"):
        read_base_model(folder, folder)
