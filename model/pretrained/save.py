"""Writes GPyT/: a model as `transformers` loads it, with the record of how it was made."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrained.atomic_write import as_json, temporary_path, write_atomic, write_tensors
from pretrained.provenance import PROGRAM, RunFingerprint
from pretrained.vocabulary import END_OF_TEXT

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from gpt2.config import GPT2Config

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "safetensors")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class SpecialIds:
    """The ids that begin, end and pad a text: <|endoftext|> and <|pad|> of this project's tokenizers."""

    begin: int = 0
    end: int = 0
    pad: int = 1

    @property
    def record(self) -> dict[str, int]:
        return {"bos_token_id": self.begin, "eos_token_id": self.end, "pad_token_id": self.pad}


def _version(package: str) -> str:
    from importlib.metadata import version  # imported late: it costs a third of train.py --help

    return version(package)


def _with_name(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of provenance.json with the name of its file or folder, not its path on this machine."""
    return {"name" if key == "path" else key: Path(value).name if key == "path" else value
            for key, value in entry.items()}  # fmt: skip


def config_json(config: GPT2Config, ids: SpecialIds = SpecialIds()) -> dict[str, Any]:
    """The entries of config.json. Without the ids, transformers would take 50256 for all three."""
    entries = {**config.to_json(), "transformers_version": _version("transformers")}
    return {**dict(sorted(entries.items())), **ids.record}


def generation_json(ids: SpecialIds = SpecialIds()) -> dict[str, Any]:
    """The entries of generation_config.json: where generation starts and stops."""
    return {**ids.record, "transformers_version": _version("transformers")}


class ModelFolder:
    """The output folder of one run: absent until its first save, loadable at every moment after that."""

    def __init__(
        self,
        path: Path,
        config: GPT2Config,
        tokenizer: Path,
        fingerprint: RunFingerprint,
        ids: SpecialIds = SpecialIds(),
        held_out: dict[str, Any] | None = None,
        held_out_sample: dict[str, Any] | None = None,
    ) -> None:
        """held_out: names of the files that no further training of this model may learn from.

        held_out_sample: what was drawn of them to measure on, and by which rule.
        """
        self.ids = ids
        self.held_out = held_out or {}
        self.held_out_sample = held_out_sample or {}
        self.path = path
        self.config = config
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.record: dict[str, Any] = {}
        self.begun = False  # whether path holds this run already

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        return self.path / "training_log.jsonl"

    def describe(self, plan: dict[str, Any], figures: dict[str, Any], *, finished: bool) -> None:
        """Set what the next save will write to provenance.json."""
        self.record = {
            "program": PROGRAM,
            "finished": finished,
            "data": _with_name(self.fingerprint.data),
            "tokenizer": _with_name(self.fingerprint.tokenizer),
            "options": self.fingerprint.options,
            **({"init_from": _with_name(self.fingerprint.init_from)} if self.fingerprint.init_from else {}),
            "held_out_sample": self.held_out_sample,
            "held_out": self.held_out,
            "plan": plan,
            "figures": figures,
            "versions": {name: _version(name) for name in PACKAGES},
        }

    def save(self, weights: dict[str, Tensor]) -> None:
        """Write the weights; the first time, with everything else, as a new folder."""
        if self.begun:
            write_tensors(self.path / "model.safetensors", weights, {"format": "pt"})
        else:
            self._begin(weights)

    def save_best(self, weights: dict[str, Tensor], bits_per_byte: float, step: int) -> None:
        """Write weights and their held-out score, which a resumed run has to beat."""
        self.save(weights)
        # Not in model.safetensors: safetensors writes several metadata entries in any order.
        self.checkpoints.mkdir(exist_ok=True)
        record = {"bits_per_byte": bits_per_byte, "step": step}
        write_atomic(self.checkpoints / "best.json", as_json(record))

    def saved_best(self) -> tuple[float, int] | None:
        """Bits per byte and step of the saved weights, None if they were not measured."""
        try:
            record = json.loads((self.checkpoints / "best.json").read_text(encoding="utf-8"))
            return float(record["bits_per_byte"]), int(record["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.tokenizer / "tokenizer.json"))

    def write(self, name: str, content: bytes) -> None:
        write_atomic(self.path / name, content)

    def write_provenance(self) -> None:
        self.write("provenance.json", as_json(self.record))

    def remove_checkpoints(self) -> None:
        """Remove what only an unfinished run needs: three times the size of the model."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _begin(self, weights: dict[str, Tensor]) -> None:
        beside = temporary_path(self.path)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            self._fill(beside, weights)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)  # on a full disk: free the space again
            raise
        self._take_place(beside)
        self.begun = True

    def _fill(self, beside: Path, weights: dict[str, Tensor]) -> None:
        for name in TOKENIZER_FILES:
            if (self.tokenizer / name).is_file():
                shutil.copyfile(self.tokenizer / name, beside / name)
        _name_tokenizer_class(beside / "tokenizer_config.json")
        (beside / "config.json").write_bytes(as_json(config_json(self.config, self.ids)))
        (beside / "generation_config.json").write_bytes(as_json(generation_json(self.ids)))
        (beside / "provenance.json").write_bytes(as_json(self.record))
        write_tensors(beside / "model.safetensors", weights, {"format": "pt"})

    def _take_place(self, beside: Path) -> None:
        """Put the finished folder in its place, where an earlier model may be."""
        previous = self.path.with_name(f".{self.path.name}.previous")
        if self.path.exists():
            shutil.rmtree(previous, ignore_errors=True)
            self.path.rename(previous)
        beside.rename(self.path)
        shutil.rmtree(previous, ignore_errors=True)


def recover(path: Path) -> None:
    """Undo a replacement that was killed between its two renames: put the earlier model back."""
    previous = path.with_name(f".{path.name}.previous")
    if previous.is_dir() and not path.exists():
        previous.rename(path)


def _name_tokenizer_class(config: Path) -> None:
    """Make both generations of transformers load tokenizer.json as it is.

    Version 5 writes TokenizersBackend, which version 4 does not know. With GPT2Tokenizer, or without a
    configuration, transformers would silently replace the pre-tokenizer by GPT-2's own.
    """
    record = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    record["tokenizer_class"] = "PreTrainedTokenizerFast"
    record.setdefault("split_special_tokens", True)
    for role in ("bos_token", "eos_token", "unk_token"):  # GPT2Tokenizer has these built in
        record.setdefault(role, END_OF_TEXT)
    config.write_bytes(as_json(record))
