"""The folder tokenizer/: tokenizer.json, a tokenizer_config.json for AutoTokenizer, and provenance.json."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpe.learning import END_OF_TEXT, FIM_TOKENS, PAD
from corpus.data_file import atomic_write
from corpus.output_files import folder_fingerprint
from preprocess_cli import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER, CONFIG, PROVENANCE = FILES = ("tokenizer.json", "tokenizer_config.json", "provenance.json")
MARKER = "preprocess/tokenizer.py"  # in provenance.json: this folder is ours to replace

TOKENIZER_CONFIG = {
    # The class that transformers 4 and 5 both load as it is. "GPT2Tokenizer", or no class at all, silently
    # replaces the pre-tokenizer by GPT-2's; "TokenizersBackend", which 5 writes itself, is unknown to 4.
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END_OF_TEXT,
    "eos_token": END_OF_TEXT,
    "unk_token": END_OF_TEXT,
    "pad_token": PAD,
    "additional_special_tokens": list(FIM_TOKENS),
    "split_special_tokens": True,  # "<|endoftext|>" in a source file is seven ordinary tokens, not the end
    "clean_up_tokenization_spaces": False,  # true would turn " ." into "." when decoding
    # Without: version 4 adds token_type_ids, which GPT-2 takes and embeds.
    "model_input_names": ["input_ids", "attention_mask"],
    # No model_max_length: the context is the model's, which sets it in its own folder.
}


@dataclass(frozen=True)
class DataFingerprint:
    """Which data.txt a tokenizer was learnt from."""

    sha256: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> DataFingerprint:
        """Of a file, or of a folder of shards, whose summary saves reading it."""
        if path.is_dir():
            return cls(**folder_fingerprint(path))
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), status.st_size, status.st_mtime_ns)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, for which special tokens in a text are text. Raises UserError.

    encode_special_tokens is not part of the file: set it after each load of a raw Tokenizer.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    if not path.is_file():
        raise UserError(f"no tokenizer: {path.absolute()}: run: python preprocess/tokenizer.py -t")
    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower, whatever is wrong with the file
        raise UserError(
            f"not a tokenizer ({error}): {path.absolute()}: "
            "delete the folder and run: python preprocess/tokenizer.py -t"
        ) from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """What provenance.json says about a folder of ours; None for a new or empty folder.

    Raises UserError for a folder that something else made, so that no other files are replaced.
    """
    try:
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        if provenance["made_by"] == MARKER:
            return dict(provenance)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return None
    raise UserError(
        f"not a tokenizer made by this tool, so nothing was touched: {folder.absolute()}: "
        "move it away, or choose another folder with --tokenizer"
    )


def is_intact(folder: Path, provenance: dict[str, Any]) -> bool:
    """Whether each file of the folder is still the one that provenance.json was written for."""
    try:
        return all(_sha256(folder / name) == digest for name, digest in provenance["files"].items())
    except (OSError, KeyError, AttributeError):
        return False


class TokenizerFolder:
    """Writes tokenizer/ whole or not at all: first a folder beside it, then moved, provenance.json last.

    A kill in between leaves files that do not match provenance.json, and the next run replaces them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partial = folder.with_name(f".{folder.name}.partial")

    def __enter__(self) -> TokenizerFolder:
        # Made before the training, so that a folder that cannot be written is known at once.
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        return self

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)

    def write(
        self, tokenizer: Tokenizer, data: DataFingerprint, options: dict[str, Any], figures: dict[str, Any]
    ) -> None:
        """Write the files, and put them in the place of those of an earlier run."""
        self._write(TOKENIZER, tokenizer.to_str(pretty=True))
        self._write(CONFIG, _json(TOKENIZER_CONFIG))
        provenance = {
            "made_by": MARKER,
            "data": asdict(data),
            "options": options,
            "figures": figures,
            "versions": {"tokenizers": version("tokenizers")},
            "files": {name: _sha256(self.partial / name) for name in (TOKENIZER, CONFIG)},
        }
        self._write(PROVENANCE, _json(provenance))
        if self.folder.exists() and any(self.folder.iterdir()):
            for name in FILES:
                (self.partial / name).replace(self.folder / name)
        else:
            self.partial.replace(self.folder)

    def _write(self, name: str, text: str) -> None:
        with atomic_write(self.partial / name) as file:
            file.write(text.rstrip("\n").encode() + b"\n")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
