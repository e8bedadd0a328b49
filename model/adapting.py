"""--init-from: a GPT-2 that was trained already, ours or anybody's -> the start of a run on new files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_folder import SpecialIds
from never_learnt import HeldOutNames, names_of_record
from pretrained import (
    GPT2Config,
    PretrainedError,
    bare_name,
    check_weights,
    expected_shapes,
    find_weight_files,
    read_config,
    read_provenance,
)

if TYPE_CHECKING:
    from budget import Plan
    from gpt2 import Shape
    from torch import Tensor

# Share of the full learning rates with which a trained model goes on. Measured: benchmarks/LOG.md.
RATE = 0.1
# At eight passes over 180 kB held-out files were best after three: a fourth is the last.
MOST_EPOCHS = 4
SMALL = 2_000_000  # bytes: below it a corpus teaches a manner of writing, not abilities


class AncestorError(ValueError):
    """A folder from which no run can go on."""


@dataclass(frozen=True)
class Ancestor:
    """The model that a run goes on from."""

    folder: Path
    config: GPT2Config
    weight_files: list[Path]
    tokenizer: Path  # its own folder, or the one given where it has none
    ids: SpecialIds
    sha256: str  # of the weights
    held_out: HeldOutNames
    remembers: bool  # whether the folder says what was held out of it

    def shape(self) -> Shape:
        """The shape of its network."""
        from gpt2 import Shape, Variant

        config = self.config
        variant = Variant(
            n_inner=None if config.n_inner == 4 * config.n_embd else config.n_inner,
            activation_function=config.activation_function,
            layer_norm_epsilon=config.layer_norm_epsilon,
            scale_attn_weights=config.scale_attn_weights,
            scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
            tie_word_embeddings=config.tie_word_embeddings,
        )
        return Shape(
            config.n_layer, config.n_head, config.n_embd, config.n_positions, config.vocab_size, variant
        )

    def weights(self, block_size: int) -> dict[str, Tensor]:
        """Its weights in float32 by our names, without the positions beyond block_size."""
        import torch
        from safetensors import safe_open

        wanted, weights = expected_shapes(self.config), {}
        for file in self.weight_files:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    bare = bare_name(name)
                    if bare in wanted:
                        ours = bare if bare.startswith("lm_head") else f"transformer.{bare}"
                        weights[ours] = tensors.get_tensor(name).to(torch.float32)
        weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"][:block_size].clone()
        return weights


def read_ancestor(folder: Path, tokenizer: Path) -> Ancestor:
    """A model folder after checking that it is one. Raises AncestorError with the folder and what to do."""
    folder = folder.absolute()
    remedy = f"--init-from needs a folder that GPT2LMHeadModel was saved in: {folder}"
    try:
        if not folder.is_dir():
            raise AncestorError(f"there is no such folder: {remedy}")
        config = read_config(folder)
        files = find_weight_files(folder)
        check_weights(files, config)
        provenance = read_provenance(folder)
    except PretrainedError as error:
        raise AncestorError(f"{str(error).split(': train a model')[0]}: {remedy}") from None
    own = folder if (folder / "tokenizer.json").is_file() else tokenizer
    if not (own / "tokenizer.json").is_file():
        raise AncestorError(f"neither it nor --tokenizer has a tokenizer.json: {remedy}")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return Ancestor(
        folder,
        config,
        files,
        own,
        _special_ids(own, config),
        digest.hexdigest(),
        names_of_record(provenance),
        "held_out" in provenance,
    )


def _special_ids(tokenizer: Path, config: GPT2Config) -> SpecialIds:
    """The ids by its configuration, else by the tokens of its tokenizer that are called so."""
    added = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8")).get("added_tokens", [])
    known = {token["content"]: token["id"] for token in added}
    end = min(config.end_ids) if config.end_ids else known.get("<|endoftext|>")
    if end is None:
        raise AncestorError(f"it has no token that ends a text: {tokenizer.absolute()}: use another folder")
    begin = end if config.bos_token_id is None else config.bos_token_id
    return SpecialIds(begin, end, known.get("<|pad|>", end))


def expectation(
    ancestor: Ancestor, plan: Plan, text_bytes: int, left_out: int, *, watched: bool
) -> list[str]:
    """What going on from this model on so much text will come to, in lines for the user."""
    lines = [
        f"  from     {ancestor.folder}: its weights, its tokenizer, {plan.rate:g} of the full learning rate"
    ]
    if left_out:
        lines.append(
            f"  held out {left_out:,} files that were held out of that model are not learnt here either"
        )
    elif not ancestor.remembers:
        lines.append("  held out that folder does not say what it was trained on: it may know held-out files")
    if plan.shape.block_size < ancestor.config.n_positions:
        lines.append(
            f"  context  {plan.shape.block_size:,} tokens, no longer {ancestor.config.n_positions:,}:"
            " what goes beyond cannot be read by the new model"
        )
    if text_bytes < SMALL:
        lines.append(
            f"  expect   {text_bytes / 1000:,.0f} kB teach it your names, imports and layout, not new"
            " abilities; most of the gain comes with the first passes"
        )
    lines.append(
        "  keeps    the weights that were best on held-out files, be they the first ones"
        if watched
        else "  note     no file is held out of this corpus, so nothing tells when it learns by heart"
    )
    return lines
