"""A model folder -> a folder of CTranslate2, an engine that computes transformers quickly on processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pretrained import PretrainedError
from whole_files import as_json

if TYPE_CHECKING:
    from pretrained import Pretrained

# CTranslate2's own table lacks tanh, which transformers has.
ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish")
QUANTIZATION = {"f32": "float32", "f16": "float16", "int8": "int8"}
RECORD = "provenance.json"
PROGRAM = "GPyT model/export.py"


def check_convertible(pretrained: Pretrained) -> None:
    """Nothing, where CTranslate2 computes this network.

    Raises:
        PretrainedError: it computes another, or the folder lacks what its converter reads.
    """
    config, folder = pretrained.config, pretrained.folder
    if config.activation_function not in ACTIVATIONS:
        raise PretrainedError(
            f"CTranslate2 does not know the activation {config.activation_function}: {folder}: "
            "use transformers"
        )
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise PretrainedError(
            f"CTranslate2 computes a GPT-2 with the usual scale of its attention: {folder}: use transformers"
        )
    if (size := pretrained.vocabulary.tokenizer.get_vocab_size()) != config.vocab_size:
        raise PretrainedError(
            f"CTranslate2 needs a token for each of the model's {config.vocab_size:,} rows, and there are "
            f"{size:,}: {folder / 'tokenizer.json'}: use --format gguf"
        )
    for role in ("bos_token", "eos_token", "unk_token"):
        path = folder / "tokenizer_config.json"
        if not path.is_file() or json.loads(path.read_text(encoding="utf-8")).get(role) is None:
            raise PretrainedError(
                f"CTranslate2 needs a {role}, which is not named here: {path}: "
                f'add "{role}": "<|endoftext|>" or what this tokenizer has for it'
            )


def write_ctranslate2(pretrained: Pretrained, folder: Path, dtype: str, source: str) -> None:
    """Fill a new folder: model.bin, vocabulary, configuration, tokenizer.json and the record of source."""
    from ctranslate2.converters import TransformersConverter
    from transformers import logging

    check_convertible(pretrained)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    converter = TransformersConverter(str(pretrained.folder), copy_files=["tokenizer.json"])
    converter.convert(str(folder), quantization=QUANTIZATION[dtype])
    (folder / RECORD).write_bytes(as_json({"program": PROGRAM, "source": source}))


def source_of(folder: Path) -> str | None:
    """What a folder of this program was made from; None for any other folder."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record.get("source") if isinstance(record, dict) and record.get("program") == PROGRAM else None
