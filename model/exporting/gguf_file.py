"""A model folder -> one GGUF file, for llama.cpp and everything built on it.

llama.cpp cuts text into words with code of its own, chosen by a name in the file. A wrong name would give
other tokens than those the model was trained on, so only pre-tokenizers whose ids were compared one by one
have a name here (tests/model/exporting/test_llama_cpp.py).
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_cli import UserError
from pretrained.load import load_weights, read_json
from pretrained.provenance import fills_in
from pretrained.vocabulary import CL100K_PATTERN, FIM_TOKENS, GPT2_PATTERN, pattern_of

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from pretrained.load import Pretrained

# "llama-bpe" cuts as cl100k does too, but looks whole words up in the vocabulary before it merges.
NAME_OF_PATTERN = {GPT2_PATTERN: "gpt-2", CL100K_PATTERN: "dbrx"}

REQUIREMENT = "gguf==0.19.0"
DEFAULT_NAME = "gpyt.gguf"
WRITES_A_FOLDER = False

NAME_OF_TENSOR = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"}
NAME_IN_LAYER = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
SOURCE = "gpyt.source"  # the key under which a file says what it was made from
BLOCK = 32  # weights of a row that share a scale in Q8_0


def check(pretrained: Pretrained) -> str:
    """llama.cpp's name of this model's pre-tokenizer.

    Raises:
        UserError: llama.cpp has no such pre-tokenizer, or computes another network.
    """
    config, folder = pretrained.config, pretrained.folder
    path = folder / "tokenizer.json"
    if config.activation != "gelu_tanh":  # built into llama.cpp's graph of a GPT-2
        raise UserError(
            f"llama.cpp computes a GPT-2 with gelu_new, not {config.activation_function}: {folder}: "
            "use --format ctranslate2"
        )
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise UserError(
            f"llama.cpp computes a GPT-2 with the usual attention scale only: {folder}: use transformers"
        )
    name = NAME_OF_PATTERN.get(pattern_of(tokenizer := read_json(path)) or "")
    if name is None:
        raise UserError(
            f"llama.cpp does not know this tokenizer's pre-tokenizer: {path}: "
            "use --format ctranslate2, or train with another: python preprocess/tokenizer.py -t "
            "--pretokenizer gpt2"
        )
    model = tokenizer["model"]
    if tokenizer.get("normalizer") or model.get("ignore_merges") or model.get("type") != "BPE":
        raise UserError(
            f"llama.cpp only knows tokenizers that are plain BPE and do not change the text: {path}: "
            "use --format ctranslate2"
        )
    return name


def write(pretrained: Pretrained, path: Path, dtype: str, source: str) -> None:
    """Write the file. dtype: "f32", "f16" or "int8" (Q8_0) for the matrices; the rest is float32.

    source: what it is made from; source_of reads it back.
    """
    from gguf import GGUFWriter

    pre_tokenizer = check(pretrained)
    weights = load_weights(pretrained)
    writer = GGUFWriter(path, "gpt2")
    try:
        write_description(writer, pretrained, dtype)
        writer.add_string(SOURCE, source)
        write_tokenizer(writer, pretrained, pre_tokenizer)
        for name, weight in weights.items():
            write_weight(writer, name, weight, dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def write_description(writer: GGUFWriter, pretrained: Pretrained, dtype: str) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    config = pretrained.config
    writer.add_name(pretrained.folder.name)
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.inner)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "int8": "MOSTLY_Q8_0"}
    writer.add_file_type(LlamaFileType[kinds[dtype]])
    writer.add_quantization_version(GGML_QUANT_VERSION)


def write_tokenizer(writer: GGUFWriter, pretrained: Pretrained, pre_tokenizer: str) -> None:
    """Vocabulary, merges and special ids; ids beyond the tokenizer's get names that no token has."""
    from gguf import TokenType

    config = pretrained.config
    tokenizer = json.loads((pretrained.folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [f"[unused{token_id}]" for token_id in range(config.vocab_size)]
    kinds = [TokenType.UNUSED] * config.vocab_size
    for token, token_id in tokenizer["model"]["vocab"].items():
        tokens[token_id], kinds[token_id] = token, TokenType.NORMAL
    for added in tokenizer.get("added_tokens", []):
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_add_bos_token(pretrained.vocabulary.begin_id is not None)
    if pretrained.vocabulary.begin_id is not None:
        writer.add_bos_token_id(pretrained.vocabulary.begin_id)
    if pretrained.vocabulary.end_ids:
        writer.add_eos_token_id(min(pretrained.vocabulary.end_ids))
    if "<|pad|>" in tokens:
        writer.add_pad_token_id(tokens.index("<|pad|>"))
    if fills_in(pretrained.folder):
        for part, token in zip(("pre", "suf", "mid"), FIM_TOKENS, strict=True):
            writer.add_uint32(f"tokenizer.ggml.fim_{part}_token_id", tokens.index(token))


def write_weight(writer: GGUFWriter, name: str, weight: NDArray[np.float32], dtype: str) -> None:
    """Add one tensor under llama.cpp's name; GPT-2's matrices are (in, out), llama.cpp's (out, in)."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    is_matrix = weight.ndim == 2 and not name.startswith("wpe")
    if ".c_" in name and is_matrix:
        weight = weight.T
    values = np.ascontiguousarray(weight)
    if is_matrix and dtype == "int8" and values.shape[1] % BLOCK == 0:
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(gguf_name(name), quantize(values, kind), raw_dtype=kind)
    else:
        as_type = np.float16 if is_matrix and dtype != "f32" else np.float32
        writer.add_tensor(gguf_name(name), values.astype(as_type))


def gguf_name(name: str) -> str:
    """gguf_name("h.3.attn.c_attn.weight") -> "blk.3.attn_qkv.weight" """
    module, _, kind = name.rpartition(".")
    if module in NAME_OF_TENSOR:
        return f"{NAME_OF_TENSOR[module]}.{kind}"
    _, layer, inner = module.split(".", 2)
    return f"blk.{layer}.{NAME_IN_LAYER[inner]}.{kind}"


def source_of(path: Path) -> str | None:
    """What a GGUF file of this program was made from; None for any other file."""
    from gguf import GGUFReader

    try:
        field = GGUFReader(path).get_field(SOURCE)
    except (ValueError, IndexError, OSError):
        return None
    return None if field is None else str(field.contents())


def next_command(path: Path, pretrained: Pretrained) -> str:
    """How to serve the file. The batch, half of the context, is what llama.cpp reads around a gap."""
    batch = ["-b", str(pretrained.config.block_size // 2)] if fills_in(pretrained.folder) else []
    return shlex.join(["llama-server", "-m", str(path), *batch])
