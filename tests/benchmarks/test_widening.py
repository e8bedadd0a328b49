"""benchmarks/widening.py: a model in a larger one's shape says what it said before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inference.cpu_engine import CpuEngine
from pretrained.load import Pretrained, load_tensors, load_weights, read_pretrained
from tiny_model import greedy_ids, save_tiny_model
from widening import NEVER, Shape, save_widened, widen

LARGER = Shape(n_layer=4, n_embd=96, n_positions=150, vocab_size=700)
TEXT = "class Decoder:\n    def __init__(self, *, strict=True):\n        self.strict = strict\n"


def logits_of(pretrained: Pretrained, ids: list[int]) -> Tensor:
    """(T, V): what the model says after each of these ids, by transformers itself."""
    from transformers import GPT2LMHeadModel

    model: Any = GPT2LMHeadModel.from_pretrained(pretrained.folder, dtype=torch.float32)
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([ids])).logits[0]
    return logits


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"tie_word_embeddings": False},
        {"n_inner": 80, "n_head": 2, "scale_attn_by_inverse_layer_idx": True},
        {"vocab_size": 520},
    ],
    ids=str,
)
def test_a_widened_model_has_the_same_logits_and_never_the_added_tokens(
    variant: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path / "small", **variant)
    assert save_widened(folder, tmp_path / "wide", LARGER) == 64
    small, wide = read_pretrained(folder), read_pretrained(tmp_path / "wide")
    assert (wide.config.n_layer, wide.config.n_embd, wide.config.vocab_size) == (4, 96, 700)
    assert wide.config.n_embd // wide.config.n_head == small.config.n_embd // small.config.n_head
    ids = [0, *small.vocabulary.encode(TEXT)][:64]
    expected, found = logits_of(small, ids), logits_of(wide, ids)
    known = small.config.vocab_size
    scale = float(expected.abs().max())
    assert float((found[:, :known] - expected).abs().max()) < 1e-5 * scale
    assert float((found[:, known:] - NEVER).abs().max()) < 0.01


def test_a_widened_trained_model_writes_the_same_text(model_folder: Path, tmp_path: Path) -> None:
    shape = Shape(n_layer=3, n_embd=128, n_positions=160, vocab_size=1500)
    save_widened(model_folder, tmp_path / "wide", shape)
    context = [0, *read_pretrained(model_folder).vocabulary.encode("import asyncio\n")]
    expected = greedy_ids(model_folder, context, 60)
    assert greedy_ids(tmp_path / "wide", context, 60) == expected
    pretrained = read_pretrained(tmp_path / "wide")
    model = CpuEngine(pretrained.config, load_weights(pretrained))
    cache = model.new_cache(1, 100)
    written: list[int] = []
    while len(written) < len(expected):
        written.append(int(model.next_logits([written[-1:] or context], cache).argmax()))
    assert written == expected


def test_the_added_entries_are_never_read_and_never_written(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "small")
    save_widened(folder, tmp_path / "wide", LARGER)
    small, wide = read_pretrained(folder).vocabulary, read_pretrained(tmp_path / "wide").vocabulary
    for text in (TEXT, "", "\x00600", "<|endoftext|>", "漢字\n"):
        assert wide.encode(text) == small.encode(text)
    assert wide.never_written == [*small.never_written, *range(512, 700)]
    assert wide.end_ids == small.end_ids


@pytest.mark.parametrize(
    "shape", [Shape(2, 80, 64, 512), Shape(1, 96, 64, 512), Shape(2, 96, 32, 512), Shape(2, 32, 64, 512)]
)
def test_a_shape_that_it_does_not_fit_into_is_refused(shape: Shape, tmp_path: Path) -> None:
    pretrained = read_pretrained(save_tiny_model(tmp_path))
    weights = load_tensors(pretrained.weight_files, pretrained.config, torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match=f"does not fit into {shape.n_layer} x {shape.n_embd}"):
        widen(weights, pretrained.config, shape)
