"""Byte-level BPE: learning one from documents, and the folder `tokenizer/` that holds it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretokenizers import build_pretokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"
FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
SPECIAL_TOKENS = (END_OF_TEXT, PAD, *FIM_TOKENS)  # ids 0 to 4: the model and its configuration count on them
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256  # every byte has a token, so every text has tokens

MIN_PAIR_COUNT = 2  # a pair seen once says nothing about other text; the libraries' own default too
LONGEST_TOKEN = (
    32  # bytes. Without: one file's row of 193 🚨 becomes 8 tokens; with 16: 0.8 % more tokens in all
)
# Raise format when the files change for the same options: it makes a rerun replace them.
RECIPE = {"format": 2, "min_pair_count": MIN_PAIR_COUNT, "longest_token": LONGEST_TOKEN}

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


class TokenizerError(ValueError):
    """What is wrong with a tokenizer folder or with a text to encode, and what to do about it."""


@dataclass(frozen=True)
class DataFile:
    """Which data.txt a tokenizer was learnt from."""

    sha256: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> DataFile:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), stat.st_size, stat.st_mtime_ns)


def train_bpe(documents: Iterable[str], vocab_size: int, pretokenizer: str) -> Tokenizer:
    """A tokenizer of at most vocab_size entries: the special tokens, the 256 bytes, the most frequent merges.

    Fewer when no further pair occurs MIN_PAIR_COUNT times. The same documents give the same tokenizer.
    """
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = build_pretokenizer(pretokenizer)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    learn_interruptibly(lambda texts: tokenizer.train_from_iterator(texts, trainer), documents)
    tokenizer.encode_special_tokens = True
    return tokenizer


def learn_interruptibly(learn: Callable[[Iterator[str]], None], documents: Iterable[str]) -> None:
    """learn(documents) of tokenizers in another thread: in the main one Ctrl-C would wait for its end."""
    interrupted = threading.Event()

    def until_interrupted() -> Iterator[str]:
        for document in documents:
            if interrupted.is_set():
                raise InterruptedError
            yield document

    with ThreadPool(1) as worker:  # not ThreadPoolExecutor: Python would wait for its threads before it exits
        learning = worker.apply_async(learn, (until_interrupted(),))
        try:
            learning.get()
        except KeyboardInterrupt:
            interrupted.set()
            learning.wait(1)  # ends with the next document, unless it is at the merges: nothing stops those
            raise


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of that folder, for which special tokens in a text are text.

    encode_special_tokens is not part of the file: whoever uses a raw Tokenizer sets it after each load.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(f"no tokenizer: {path.absolute()}: run: python preprocess/tokenizer.py -t")
    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower, whatever is wrong with the file
        raise TokenizerError(
            f"not a tokenizer ({error}): {path.absolute()}: "
            "delete the folder and run: python preprocess/tokenizer.py -t"
        ) from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """What provenance.json says about a folder that train_bpe filled; None for a new or empty folder.

    Raises: TokenizerError for a folder that something else filled, so that nobody's files are replaced.
    """
    try:
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        if provenance["made_by"] == MARKER:
            return dict(provenance)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return None
    raise TokenizerError(
        f"not a tokenizer made by this tool, so nothing was touched: {folder.absolute()}: "
        "move it away, or choose another folder with --tokenizer"
    )


def is_whole(folder: Path, provenance: dict[str, Any]) -> bool:
    """Whether each file of the folder is the one that provenance.json was written for."""
    try:
        return all(_sha256(folder / name) == digest for name, digest in provenance["files"].items())
    except (OSError, KeyError, AttributeError):
        return False


class TokenizerFolder:
    """Writes `tokenizer/` whole or not at all: prepared beside, then moved, provenance.json last.

    A kill in between leaves files that do not agree with provenance.json, which the next run replaces.
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
        self, tokenizer: Tokenizer, data: DataFile, options: dict[str, Any], figures: dict[str, Any]
    ) -> None:
        self._write("tokenizer.json", tokenizer.to_str(pretty=True))
        self._write("tokenizer_config.json", _json(TOKENIZER_CONFIG))
        files = {path.name: _sha256(path) for path in sorted(self.partial.iterdir())}
        provenance = {
            "made_by": MARKER,
            "data": asdict(data),
            "options": options,
            "figures": figures,
            "versions": {"tokenizers": version("tokenizers")},
            "files": files,
        }
        self._write("provenance.json", _json(provenance))
        if self.folder.exists() and any(self.folder.iterdir()):
            for name in (*files, "provenance.json"):
                (self.partial / name).replace(self.folder / name)
        else:
            self.partial.replace(self.folder)

    def _write(self, name: str, text: str) -> None:
        with (self.partial / name).open("w", encoding="utf-8", newline="\n") as file:
            file.write(text.rstrip("\n") + "\n")
            file.flush()
            os.fsync(file.fileno())


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_text(text: str, where: str) -> str:
    """The text itself. Raises: TokenizerError if it holds half a surrogate pair, which no UTF-8 file can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"half a surrogate pair (U+{ord(text[error.start]):04X}), which UTF-8 cannot hold, "
            f"at character {error.start}: {where}: remove that character"
        ) from None
    return text
