"""GPyT/ -> a configuration, a tokenizer and weights that belong together, checked before any is used.

Reads any folder that transformers' GPT2LMHeadModel and a byte-level tokenizer.json were saved in. Only
safetensors are loaded: a pickle (pytorch_model.bin) could run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from vocabulary import Vocabulary

TRAIN = "train a model: python model/train.py"
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # of safetensors, for numpy
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu", "silu", "swish", "tanh")
# Model sizes are padded up to a multiple of 64 or 128 for speed, never further.
MOST_PADDING = 128


class PretrainedError(ValueError):
    """A folder that cannot be used, in one line that says which and what to do."""


@dataclass(frozen=True)
class GPT2Config:
    """What the forward pass needs to know of config.json."""

    n_layer: int
    n_head: int
    n_embd: int
    n_inner: int
    n_positions: int
    vocab_size: int
    activation_function: str
    layer_norm_epsilon: float
    scale_attn_weights: bool
    scale_attn_by_inverse_layer_idx: bool
    tie_word_embeddings: bool
    bos_token_id: int | None
    end_ids: frozenset[int]


@dataclass(frozen=True)
class Pretrained:
    """A folder that was found whole and consistent; the weights are read by load_weights."""

    folder: Path
    config: GPT2Config
    vocabulary: Vocabulary
    weight_files: list[Path]
    parameters: int


def read_pretrained(folder: Path) -> Pretrained:
    """The folder's configuration and tokenizer, after checking that they and the weights fit each other.

    Raises:
        PretrainedError: the folder is missing, torn, of another kind, or its parts do not belong together.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise PretrainedError(f"no model folder: {folder}: {TRAIN}, or name one: --model FOLDER")
    config = read_config(folder)
    weight_files = find_weight_files(folder)
    parameters = check_weights(weight_files, config)
    return Pretrained(folder, config, read_vocabulary(folder, config), weight_files, parameters)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PretrainedError(f"no model here, {path.name} is missing: {path}: {TRAIN}") from None
    except (OSError, ValueError) as error:
        raise PretrainedError(f"cannot be read ({error}): {path}: {TRAIN}") from None
    if not isinstance(content, dict):
        raise PretrainedError(f"holds no JSON object: {path}: {TRAIN}")
    return content


def read_config(folder: Path) -> GPT2Config:
    path = folder / "config.json"
    saved = read_json(path)
    if (kind := kind_of(saved)) != "gpt2":
        raise PretrainedError(f"a model of another kind ({kind}, not gpt2): {path}: {TRAIN}")
    activation = saved.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise PretrainedError(f"the activation function {activation!r} is none of {known}: {path}: {TRAIN}")
    try:
        n_embd = int(saved.get("n_embd", 768))
        config = GPT2Config(
            n_layer=int(saved.get("n_layer", 12)),
            n_head=int(saved.get("n_head", 12)),
            n_embd=n_embd,
            n_inner=int(saved.get("n_inner") or 4 * n_embd),
            n_positions=int(saved.get("n_positions", 1024)),
            vocab_size=int(saved.get("vocab_size", 50257)),
            activation_function=activation,
            layer_norm_epsilon=float(saved.get("layer_norm_epsilon", 1e-5)),
            scale_attn_weights=bool(saved.get("scale_attn_weights", True)),
            scale_attn_by_inverse_layer_idx=bool(saved.get("scale_attn_by_inverse_layer_idx", False)),
            tie_word_embeddings=bool(saved.get("tie_word_embeddings", True)),
            bos_token_id=saved.get("bos_token_id"),
            end_ids=end_of_text_ids(folder, saved),
        )
    except (TypeError, ValueError) as error:
        raise PretrainedError(f"a value of the wrong kind ({error}): {path}: {TRAIN}") from None
    if min(config.n_layer, config.n_head, config.n_positions) < 1 or config.n_embd % config.n_head:
        raise PretrainedError(f"describes no GPT-2 (n_embd, n_head, n_layer, n_positions): {path}: {TRAIN}")
    return config


def kind_of(saved: dict[str, Any]) -> str:
    """ "gpt2" for what this program computes, else what keeps it from that."""
    if "quantization_config" in saved:
        return "quantized"
    if saved.get("add_cross_attention"):
        return "decoder with cross-attention"
    return str(saved.get("model_type", "unnamed"))


def end_of_text_ids(folder: Path, saved: dict[str, Any]) -> frozenset[int]:
    """The ids that end a text, by config.json and, where there is one, generation_config.json."""
    ids: set[int] = set()
    generation = folder / "generation_config.json"
    for source in (saved, read_json(generation) if generation.exists() else {}):
        end = source.get("eos_token_id")
        ids |= set(end) if isinstance(end, list) else set() if end is None else {int(end)}
    return frozenset(ids)


def find_weight_files(folder: Path) -> list[Path]:
    """[model.safetensors], or the parts that model.safetensors.index.json names."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        names = read_json(index).get("weight_map", {}).values()
        return [folder / Path(name).name for name in sorted(set(names))]
    if (folder / "pytorch_model.bin").exists():
        raise PretrainedError(
            f"only a pickle, which could run code, and no model.safetensors: {folder}: save it again with "
            f"transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        )
    raise PretrainedError(f"no model here, model.safetensors is missing: {folder}: {TRAIN}")


def expected_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2 by its name without "transformer." in front, with its shape."""
    C, inner = config.n_embd, config.n_inner
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (config.vocab_size, C)}
    shapes |= {"wpe.weight": (config.n_positions, C), "ln_f.weight": (C,), "ln_f.bias": (C,)}
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, C)
    in_layer: dict[str, tuple[int, ...]] = {
        "attn.c_attn": (C, 3 * C),
        "attn.c_proj": (C, C),
        "mlp.c_fc": (C, inner),
        "mlp.c_proj": (inner, C),
        "ln_1": (C,),
        "ln_2": (C,),
    }
    for layer in range(config.n_layer):
        for name, shape in in_layer.items():
            shapes[f"h.{layer}.{name}.weight"] = shape
            shapes[f"h.{layer}.{name}.bias"] = shape[-1:]
    return shapes


def bare_name(name: str) -> str:
    """GPT2LMHeadModel saves "transformer.wte.weight", GPT2Model (and OpenAI's own folder) "wte.weight"."""
    return name.removeprefix("transformer.")


def check_weights(files: list[Path], config: GPT2Config) -> int:
    """The number of parameters, after checking that every tensor is there in its shape; reads headers."""
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    found[bare_name(name)] = tuple(tensors.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise PretrainedError(f"the weights are torn or missing ({error}): {file}: {TRAIN}") from None
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if found.get(name) != shape:
            there = f"is {found[name]}" if name in found else "is missing"
            raise PretrainedError(
                f"the weights do not fit config.json: {name} {there}, not {shape}: {files[0].parent}: {TRAIN}"
            )
    return sum(product(shape) for shape in expected.values())


def product(shape: tuple[int, ...]) -> int:
    return shape[0] * product(shape[1:]) if shape else 1


def read_vocabulary(folder: Path, config: GPT2Config) -> Vocabulary:
    path = folder / "tokenizer.json"
    pipeline = read_json(path)
    if '"ByteLevel"' not in json.dumps(pipeline.get("decoder")):
        raise PretrainedError(f"not a byte-level tokenizer, which GPT-2 has: {path}: {TRAIN}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 (tokenizers raises Exception itself for all that is wrong in the file)
        raise PretrainedError(f"cannot be read ({error}): {path}: {TRAIN}") from None
    size = tokenizer.get_vocab_size()
    if not size <= config.vocab_size < size + MOST_PADDING:
        raise PretrainedError(
            f"the tokenizer does not belong to the model: {size:,} entries in tokenizer.json, "
            f"{config.vocab_size:,} in config.json: {folder}: {TRAIN}"
        )
    trained_with = read_provenance(folder).get("tokenizer", {}).get("sha256")
    if trained_with not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
        raise PretrainedError(
            f"the tokenizer does not belong to the model: provenance.json names another one: {path}: "
            f"put the tokenizer.json back that it was trained with, or {TRAIN}"
        )
    return Vocabulary(tokenizer, config.end_ids, config.vocab_size)


def read_provenance(folder: Path) -> dict[str, Any]:
    """What train.py recorded about the model; {} in a folder that it did not make."""
    path = folder / "provenance.json"
    return read_json(path) if path.exists() else {}


def load_weights(pretrained: Pretrained) -> dict[str, NDArray[np.float32]]:
    """The arrays that expected_shapes names, in float32."""
    wanted = expected_shapes(pretrained.config)
    found = (pair for file in pretrained.weight_files for pair in read_safetensors(file))
    return {bare_name(name): array for name, array in found if bare_name(name) in wanted}


def read_safetensors(file: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each tensor of a file with its name; bfloat16, which numpy does not know, is the upper half of float32.

    The form: https://huggingface.co/docs/safetensors (the length of the header in 8 bytes, the header, data)
    """
    contents = np.memmap(file, np.uint8, mode="c")  # float32 stays in the file until it is read
    start = 8 + int.from_bytes(contents[:8].tobytes(), "little")
    for name, entry in json.loads(contents[8:start].tobytes()).items():
        if name != "__metadata__" and entry["dtype"] in FLOATS:
            first, last = (start + offset for offset in entry["data_offsets"])
            array = contents[first:last].view(FLOATS[entry["dtype"]]).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                yield name, (array.astype(np.uint32) << 16).view(np.float32)
            else:
                yield name, np.asarray(array.astype(np.float32, copy=False))
