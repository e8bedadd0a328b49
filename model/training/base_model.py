"""--init-from: continued pretraining of a base model, any GPT-2, and of what it held out.

What was held out of a model stays held out of every model that continues it. provenance.json names it: whole
repositories, or single files of repositories that are in both splits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model_cli import UserError, plural
from pretrained.load import check_weights, find_weight_files, load_tensors, read_config, read_special_ids
from pretrained.provenance import read_provenance, sha256_of_files
from pretrained.save import SpecialIds

if TYPE_CHECKING:
    from torch import Tensor

    from data_loading.token_file import TokenDataset
    from gpt2.config import GPT2Config
    from training.plan import Plan

# Share of the full learning rates for continued pretraining. Measured: benchmarks/LOG.md.
RATE = 0.1
# Of eight passes over 180 kB, the third was best on held-out files: a run stops after four.
MOST_EPOCHS = 4
SMALL = 2_000_000  # bytes: a smaller corpus teaches a style of writing, not abilities


@dataclass(frozen=True)
class HeldOutNames:
    """Repositories, and (repository, path) of files."""

    repositories: frozenset[str] = frozenset()
    files: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: HeldOutNames) -> HeldOutNames:
        return HeldOutNames(self.repositories | other.repositories, self.files | other.files)

    @staticmethod
    def from_provenance(provenance: dict[str, Any]) -> HeldOutNames:
        """The names in a provenance.json; none if it has no list of them."""
        held_out = provenance.get("held_out") or {}
        files = frozenset((repository, path) for repository, path in held_out.get("files", []))
        return HeldOutNames(frozenset(held_out.get("repositories", [])), files)

    @property
    def record(self) -> dict[str, Any]:
        """The names as provenance.json keeps them."""
        return {
            "repositories": sorted(self.repositories),
            "files": [list(file) for file in sorted(self.files)],
        }


@dataclass(frozen=True)
class BaseModel:
    """The model that a run continues."""

    folder: Path
    config: GPT2Config
    weight_files: list[Path]
    tokenizer: Path  # its own folder, or the one given where it has none
    ids: SpecialIds
    sha256: str  # of the weights
    held_out: HeldOutNames
    knows_held_out: bool  # whether its folder says what was held out
    is_untied_by_weights: bool = False  # its output layer differs from its embedding, against config.json

    def weights(self, block_size: int) -> dict[str, Tensor]:
        """Its weights in float32 by the names of gpt2.network.GPT2, with the first block_size positions.

        Raises: UserError if a weight is not a finite number.
        """
        import torch

        weights = load_tensors(self.weight_files, self.config, torch.device("cpu"), torch.float32)
        for name, weight in weights.items():
            if not bool(torch.isfinite(weight).all()):
                raise UserError(
                    f"{name} holds numbers that are not finite, so nothing can be learnt from there:"
                    f" {self.folder}: use another --init-from"
                )
        weights["wpe.weight"] = weights["wpe.weight"][:block_size].clone()
        return {
            name if name.startswith("lm_head") else f"transformer.{name}": weight
            for name, weight in weights.items()
        }


def read_base_model(folder: Path, tokenizer: Path) -> BaseModel:
    """Read a model folder and check its parts. Raises UserError with the folder and what to do.

    tokenizer: used if the folder has none of its own.
    """
    folder = folder.absolute()
    remedy = f"--init-from needs a folder that GPT2LMHeadModel was saved in: {folder}"
    if not folder.is_dir():
        raise UserError(f"there is no such folder: {remedy}")
    try:
        described = read_config(folder)
        files = find_weight_files(folder)
        config = check_weights(files, described)
        begin_id, end_ids = read_special_ids(folder)
        provenance = read_provenance(folder)
    except UserError as error:
        raise UserError(f"{str(error).split(': train a model')[0]}: {remedy}") from None
    own = folder if (folder / "tokenizer.json").is_file() else tokenizer
    if not (own / "tokenizer.json").is_file():
        raise UserError(f"neither it nor --tokenizer has a tokenizer.json: {remedy}")
    return BaseModel(
        folder,
        config,
        files,
        own,
        _special_ids(own, begin_id, end_ids),
        sha256_of_files(files),
        HeldOutNames.from_provenance(provenance),
        "held_out" in provenance,
        is_untied_by_weights=config != described,
    )


def _special_ids(tokenizer: Path, begin_id: int | None, end_ids: frozenset[int]) -> SpecialIds:
    """The special ids from its configuration, else from the special tokens of its tokenizer."""
    added = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8")).get("added_tokens", [])
    known = {token["content"]: token["id"] for token in added}
    end = min(end_ids) if end_ids else known.get("<|endoftext|>")
    if end is None:
        raise UserError(f"it has no token that ends a text: {tokenizer.absolute()}: use another folder")
    return SpecialIds(end if begin_id is None else begin_id, end, known.get("<|pad|>", end))


def describe_continuation(base: BaseModel, plan: Plan, dataset: TokenDataset) -> list[str]:
    """What to expect of training this model further on these files, in lines for the user."""
    text_bytes = dataset.train.size_bytes
    left_out = len(dataset.train.text_bytes) - len(dataset.train.lengths)
    lines = [f"  from     {base.folder}: its weights, its tokenizer, {plan.rate:g} of the full learning rate"]
    if base.is_untied_by_weights:
        lines.append(
            "  output   its lm_head.weight differs from the embedding, although config.json calls them tied:"
            " used as an output layer of its own, as transformers does"
        )
    if left_out:
        lines.append(
            f"  held out {plural(left_out, 'file')} that the base model held out"
            f" {'is' if left_out == 1 else 'are'} held out here too"
        )
    elif not base.knows_held_out:
        lines.append(
            "  held out that folder does not say what was held out of it: it may know held-out files"
        )
    if plan.shape.block_size < base.config.block_size:
        lines.append(
            f"  context  {plan.shape.block_size:,} tokens instead of {base.config.block_size:,}:"
            " the new model cannot read longer prompts"
        )
    if text_bytes < SMALL:
        lines.append(
            f"  expect   {text_bytes / 1000:,.0f} kB teach it your names, imports and layout, not new"
            " abilities; most of the gain comes in the first passes"
        )
    lines.append(
        "  keeps    the weights that are best on held-out files, even if these are the first ones"
        if len(dataset.held_out.text_bytes)
        else "  note     this corpus has no held-out files, so learning by heart will not be noticed"
    )
    return lines


def held_out_names(dataset: TokenDataset) -> HeldOutNames:
    """What this corpus holds out: whole repositories, and single files of those that are in both splits."""
    train, held_out = dataset.train, dataset.held_out
    trained = {train.repositories[number] for number in np.unique(train.repository)}
    held = {int(number) for number in np.unique(held_out.repository)}
    shared = {number for number in held if held_out.repositories[number] in trained}
    files: frozenset[tuple[str, str]] = frozenset()
    if shared:  # the paths of a large corpus are read only if needed
        documents = zip(held_out.repository.tolist(), held_out.paths, strict=True)
        files = frozenset((held_out.repositories[n], path) for n, path in documents if n in shared)
    return HeldOutNames(frozenset(held_out.repositories[number] for number in held - shared), files)


def exclude_held_out(dataset: TokenDataset, names: HeldOutNames) -> TokenDataset:
    """The dataset without the training documents that these names hold out."""
    train = dataset.train
    repositories = [train.repositories[number] for number in train.repository.tolist()]
    documents = zip(repositories, train.paths, strict=True)
    held_out = np.array([file[0] in names.repositories or file in names.files for file in documents], bool)
    if not held_out.any():
        return dataset
    return replace(dataset, train=replace(train, kept=np.flatnonzero(~held_out)))
