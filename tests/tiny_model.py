"""A model folder made in a second by transformers itself: random weights, a tokenizer of 512 entries."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from project import STDLIB

SPECIAL_TOKENS = ["<|endoftext|>", "<|pad|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
VOCABULARY = 512


@cache
def tokenizer_json() -> str:
    """A byte-level tokenizer learnt from the json package, as tokenizers saves it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [file.read_text(encoding="utf-8") for file in sorted((STDLIB / "json").glob("*.py"))]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


def save_tiny_model(folder: Path, dtype: str = "float32", **config: Any) -> Path:
    """A GPT-2 of two layers with a context of 64; its weights are wide, so that its choices are clear."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**{**shape, **ids, "initializer_range": 0.3, **config}))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8", newline="\n")
    return folder


def greedy_ids(folder: Path, context: list[int], new_tokens: int, **options: Any) -> list[int]:
    """What transformers' own generate writes after these ids."""
    import torch
    from transformers import GPT2LMHeadModel

    model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    written = model.generate(torch.tensor([context]), max_new_tokens=new_tokens, do_sample=False, **options)
    ids: list[int] = written[0, len(context) :].tolist()
    return ids


def close_calls(folder: Path, context: list[int], written: list[int]) -> int:
    """How many of these ids are not those that transformers finds likeliest at their places.

    Checks that it finds the others as likely but for 0.05 of a logit: another engine rounds in another way.
    """
    import torch
    from transformers import GPT2LMHeadModel

    model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([context + written])).logits[0, len(context) - 1 : -1]
    short_of = logits.max(-1).values - logits[range(len(written)), written]
    assert float(short_of.max()) < 0.05, (context, written, short_of.tolist())
    return int((short_of > 0).sum())


def save_endless_model(folder: Path) -> Path:
    """A tiny model that knows no end of a text, for tests of stopping it."""
    return save_tiny_model(folder, bos_token_id=None, eos_token_id=None)


def change_json(path: Path, **values: Any) -> None:
    """Overwrite some values of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **values}), encoding="utf-8", newline="\n")
