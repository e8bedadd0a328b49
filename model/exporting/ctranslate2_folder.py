"""A model folder -> a folder for CTranslate2, a fast engine for transformers on CPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from model_cli import UserError
from pretrained.atomic_write import as_json

if TYPE_CHECKING:
    from pretrained.load import Pretrained

REQUIREMENT = "ctranslate2==4.8.5"
DEFAULT_NAME = "ctranslate2"
WRITES_A_FOLDER = True
QUANTIZATION = {"f32": "float32", "f16": "float16", "int8": "int8"}
RECORD = "provenance.json"
PROGRAM = "GPyT model/export.py"


def check(pretrained: Pretrained) -> None:
    """Check that CTranslate2 computes this model.

    Raises:
        UserError: it computes another network, or the folder lacks what its converter reads.
    """
    config, folder = pretrained.config, pretrained.folder
    if config.activation == "tanh":  # which transformers has
        raise UserError(
            f"CTranslate2 does not know the activation {config.activation_function}: {folder}: "
            "use transformers"
        )
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise UserError(
            f"CTranslate2 computes a GPT-2 with the usual attention scale only: {folder}: use transformers"
        )
    if (size := pretrained.vocabulary.tokenizer.get_vocab_size()) != config.vocab_size:
        raise UserError(
            f"CTranslate2 needs a token for each of the model's {config.vocab_size:,} ids, but the tokenizer "
            f"has {size:,}: {folder / 'tokenizer.json'}: use --format gguf"
        )
    for role in ("bos_token", "eos_token", "unk_token"):
        path = folder / "tokenizer_config.json"
        if not path.is_file() or json.loads(path.read_text(encoding="utf-8")).get(role) is None:
            raise UserError(
                f"CTranslate2 needs a {role}, which is missing here: {path}: "
                f'add "{role}": "<|endoftext|>", or the token that this tokenizer uses for it'
            )


def write(pretrained: Pretrained, folder: Path, dtype: str, source: str) -> None:
    """Write a new folder: model.bin, vocabulary, configuration, tokenizer.json and a record of source."""
    from ctranslate2.converters import TransformersConverter
    from transformers import logging

    check(pretrained)
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


def next_command(folder: Path, pretrained: Pretrained) -> str:
    """How to load the folder."""
    return f'python -c "import ctranslate2; ctranslate2.Generator({str(folder)!r})"'
