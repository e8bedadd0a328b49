"""Reads GPyT/: a configuration, a tokenizer and weights, checked to belong together before any is used.

Reads any folder that transformers' GPT2LMHeadModel and a byte-level tokenizer.json were saved in. Only
safetensors are loaded: a pickle (pytorch_model.bin) could run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from gpt2.config import ACTIVATIONS, GPT2Config
from model_cli import UserError
from pretrained.provenance import read_provenance
from pretrained.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TRAIN = "train a model: python model/train.py"
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # safetensors' types in numpy
# Model sizes are padded up to a multiple of 64 or 128 for speed, never further.
MOST_PADDING = 128
EMBEDDING, HEAD = "wte.weight", "lm_head.weight"  # one and the same, unless the model is untied


@dataclass(frozen=True)
class Pretrained:
    """A folder whose parts fit each other. load_weights or load_tensors reads the weights."""

    folder: Path
    config: GPT2Config
    vocabulary: Vocabulary
    weight_files: list[Path]


def read_pretrained(folder: Path) -> Pretrained:
    """The folder's configuration and tokenizer, after checking that they and the weights fit each other.

    Raises:
        UserError: the folder is missing, torn, of another kind, or its parts do not belong together.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise UserError(f"no model folder: {folder}: {TRAIN}, or name one: --model FOLDER")
    config = read_config(folder)
    weight_files = find_weight_files(folder)
    config = check_weights(weight_files, config)
    return Pretrained(folder, config, read_vocabulary(folder, config), weight_files)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no model here, {path.name} is missing: {path}: {TRAIN}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read ({error}): {path}: {TRAIN}") from None
    if not isinstance(content, dict):
        raise UserError(f"holds no JSON object: {path}: {TRAIN}")
    return content


def read_config(folder: Path) -> GPT2Config:
    """config.json. Raises UserError if it describes no GPT-2 that this program computes."""
    path = folder / "config.json"
    saved = read_json(path)
    if (kind := kind_of(saved)) != "gpt2":
        raise UserError(f"a model of another kind ({kind}, not gpt2): {path}: {TRAIN}")
    try:
        config = GPT2Config.from_json(saved)
    except (TypeError, ValueError) as error:
        raise UserError(f"a value of the wrong kind ({error}): {path}: {TRAIN}") from None
    if config.activation_function not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UserError(
            f"the activation function {config.activation_function!r} is none of {known}: {path}: {TRAIN}"
        )
    if min(config.n_layer, config.n_head, config.block_size) < 1 or config.n_embd % config.n_head:
        raise UserError(f"describes no GPT-2 (n_embd, n_head, n_layer, n_positions): {path}: {TRAIN}")
    return config


def kind_of(saved: dict[str, Any]) -> str:
    """ "gpt2" for a model that this program computes, else what it is instead."""
    if "quantization_config" in saved:
        return "quantized"
    if saved.get("add_cross_attention"):
        return "decoder with cross-attention"
    return str(saved.get("model_type", "unnamed"))


def read_special_ids(folder: Path) -> tuple[int | None, frozenset[int]]:
    """The id that begins a text and those that end one, by config.json and generation_config.json.

    Raises:
        UserError: an id is not a whole number.
    """
    path, generation = folder / "config.json", folder / "generation_config.json"
    saved = read_json(path)
    ends: set[int] = set()
    try:
        for source in (saved, read_json(generation) if generation.exists() else {}):
            end = source.get("eos_token_id")
            ends |= set(end) if isinstance(end, list) else set() if end is None else {int(end)}
    except (TypeError, ValueError) as error:
        raise UserError(f"a value of the wrong kind ({error}): {path}: {TRAIN}") from None
    return saved.get("bos_token_id"), frozenset(ends)


def find_weight_files(folder: Path) -> list[Path]:
    """[model.safetensors], or the parts that model.safetensors.index.json names."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        names = read_json(index).get("weight_map", {}).values()
        return [folder / Path(name).name for name in sorted(set(names))]
    if (folder / "pytorch_model.bin").exists():
        raise UserError(
            f"only a pickle, which could run code, and no model.safetensors: {folder}: save it again with "
            f"transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        )
    raise UserError(f"no model here, model.safetensors is missing: {folder}: {TRAIN}")


def bare_name(name: str) -> str:
    """GPT2LMHeadModel saves "transformer.wte.weight", GPT2Model (and OpenAI's own folder) "wte.weight"."""
    return name.removeprefix("transformer.")


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: a file, the name it has there, its shape and type."""

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str  # as FLOATS names it


def stored_tensors(files: list[Path]) -> dict[str, StoredTensor]:
    """Every stored tensor by its bare name; reads the headers alone.

    Of a tensor that is stored under both names, transformers takes the one with "transformer." in front.

    Raises:
        UserError: a file is torn.
    """
    found: dict[str, StoredTensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    bare = bare_name(name)
                    if name != bare or bare not in found:
                        header = tensors.get_slice(name)
                        found[bare] = StoredTensor(file, name, tuple(header.get_shape()), header.get_dtype())
        except (SafetensorError, OSError) as error:
            raise UserError(f"the weights are torn or missing ({error}): {file}: {TRAIN}") from None
    return found


def weight_sources(files: list[Path], config: GPT2Config) -> dict[str, StoredTensor]:
    """Where each tensor of the model lies, by bare name. A shared one may be stored as lm_head.weight alone.

    Raises:
        UserError: a file is torn, a tensor is missing, of another shape or not of floating-point numbers.
    """
    found = stored_tensors(files)
    if config.tie_word_embeddings and HEAD in found:
        found.setdefault(EMBEDDING, found[HEAD])
    shapes = config.tensor_shapes()
    if HEAD in found:
        shapes.setdefault(HEAD, shapes[EMBEDDING])
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape:
            there = f"is {found[name].shape}" if name in found else "is missing"
            raise UserError(
                f"the weights do not fit config.json: {name} {there}, not {shape}: {files[0].parent}: {TRAIN}"
            )
        if found[name].kind not in FLOATS:
            known, kind = ", ".join(FLOATS), found[name].kind
            raise UserError(f"{name} is of type {kind}, not one of {known}: {files[0].parent}: {TRAIN}")
    return {name: found[name] for name in config.tensor_shapes()}


def check_weights(files: list[Path], config: GPT2Config) -> GPT2Config:
    """Check that every tensor is there in its shape. Returns the configuration as the weights have it.

    A stored lm_head.weight that differs from the embedding is the output layer, whatever config.json says of
    it: so does transformers 5. Beside these two only headers are read.

    Raises:
        UserError: a file is torn, a tensor is missing or of another shape.
    """
    weight_sources(files, config)
    found = stored_tensors(files)
    if not config.tie_word_embeddings or not found.keys() >= {HEAD, EMBEDDING}:
        return config
    pair = (found[HEAD], found[EMBEDDING])
    (_, head), (_, embedding) = (next(read_tensors(stored.file, [stored.name])) for stored in pair)
    return config if np.array_equal(head, embedding) else replace(config, tie_word_embeddings=False)


def read_vocabulary(folder: Path, config: GPT2Config) -> Vocabulary:
    """tokenizer.json. Raises UserError if it is torn, not byte-level, or another model's."""
    path = folder / "tokenizer.json"
    pipeline = read_json(path)
    if '"ByteLevel"' not in json.dumps(pipeline.get("decoder")):
        raise UserError(f"not a byte-level tokenizer, which GPT-2 has: {path}: {TRAIN}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 (tokenizers raises Exception itself for all that is wrong in the file)
        raise UserError(f"cannot be read ({error}): {path}: {TRAIN}") from None
    size = tokenizer.get_vocab_size()
    if not size <= config.vocab_size < size + MOST_PADDING:
        raise UserError(
            f"the tokenizer does not belong to the model: {size:,} entries in tokenizer.json, "
            f"{config.vocab_size:,} in config.json: {folder}: {TRAIN}"
        )
    trained_with = read_provenance(folder).get("tokenizer", {}).get("sha256")
    if trained_with not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
        raise UserError(
            f"the tokenizer does not belong to the model: provenance.json names another one: {path}: "
            f"put the tokenizer.json back that it was trained with, or {TRAIN}"
        )
    begin_id, end_ids = read_special_ids(folder)
    return Vocabulary(tokenizer, end_ids, config.vocab_size, begin_id)


def load_weights(pretrained: Pretrained) -> dict[str, NDArray[np.float32]]:
    """Every tensor of the model by its bare name, in float32."""
    sources = weight_sources(pretrained.weight_files, pretrained.config)
    weights: dict[str, NDArray[np.float32]] = {}
    for file in pretrained.weight_files:
        bare_of = {source.name: bare for bare, source in sources.items() if source.file == file}
        weights |= {bare_of[name]: array for name, array in read_tensors(file, bare_of)}
    return weights


def load_tensors(
    files: list[Path], config: GPT2Config, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Every tensor of the model by its bare name, on this device and of this type."""
    sources, weights = weight_sources(files, config), {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for bare, source in sources.items():
                if source.file == file:
                    weights[bare] = tensors.get_tensor(source.name).to(device=device, dtype=dtype)
    return weights


def read_tensors(file: Path, names: Container[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """These tensors of a file, in its order and in float32.

    bfloat16, which numpy does not know, is the upper half of float32.
    Source: https://huggingface.co/docs/safetensors (length of the header in 8 bytes, header, data)
    """
    contents = np.memmap(file, np.uint8, mode="c")  # float32 stays in the file until it is read
    start = 8 + int.from_bytes(contents[:8].tobytes(), "little")
    header = json.loads(contents[8:start].tobytes())
    for name in filter(names.__contains__, header):
        kind, shape = header[name]["dtype"], header[name]["shape"]
        first, last = (start + offset for offset in header[name]["data_offsets"])
        array = contents[first:last].view(FLOATS[kind]).reshape(shape)
        if kind == "BF16":
            yield name, (array.astype(np.uint32) << 16).view(np.float32)
        else:
            yield name, np.asarray(array.astype(np.float32, copy=False))
