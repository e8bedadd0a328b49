"""A part of a corpus -> a folder of token files (token_file.py), by threads.

TextEncoder gives the ids of the tokenizer in tokenizer.json, fast: splintr or tiktoken with the same merges.
Encoding 5.6 MB on one thread: splintr 28 MB/s, tiktoken 7, tokenizers 2. splintr is used for the
pre-tokenizers that it knows (for others it is no faster than tokenizers), else tiktoken. Before either is
used, its ids are compared with those of tokenizers on documents of the corpus. Text never becomes a special
id.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_loading.source_files import SPLITS, Part, SourceFile, iter_source_files, load_documents
from data_loading.token_file import FORMAT, Ids, SplitWriter, write_json
from model_cli import UserError
from pretrained.vocabulary import CL100K_PATTERN, END_OF_TEXT, GPT2_PATTERN, byte_of_character, pattern_of

if TYPE_CHECKING:
    from datasets import Dataset

Encode = Callable[[str], ArrayLike]  # a text -> its ids, none of them special

# Characters that a thread encodes at a time: long beside handing them over, short beside the memory.
BATCH_CHARACTERS = 1_000_000
# Lines of data.txt that are encoded both ways, evenly spread: at 4 kB each they take less than a second.
CHECKED_LINES = 500
SECONDS_BETWEEN_LINES = 10  # of progress in a log, where a bar would not move
ABANDONED_SECONDS = 86_400  # a part takes minutes


class TextEncoder:
    """Encodes with splintr or tiktoken, and with tokenizers what these cannot: the ids are the same."""

    def __init__(self, folder: Path, end_of_text_id: int | None = None) -> None:
        """end_of_text_id: the token that closes a document, if it is not <|endoftext|>.

        Raises: UserError if the folder has no tokenizer.json that can be used.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        remedy = f"{path.absolute()}: make it again: python preprocess/tokenizer.py -t"
        if not path.is_file():
            raise UserError(f"no tokenizer: {remedy.replace('again', 'first')}")
        content = path.read_bytes()
        try:
            self.tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # tokenizers raises nothing narrower
            raise UserError(f"this is not a tokenizer ({error}): {remedy}") from error
        self.tokenizer.encode_special_tokens = True  # not part of the file
        end_of_text = self.tokenizer.token_to_id(END_OF_TEXT) if end_of_text_id is None else end_of_text_id
        if end_of_text is None:
            raise UserError(f"this tokenizer has no {END_OF_TEXT}: {remedy}")
        self.end_of_text_id: int = end_of_text
        self.vocab_size: int = self.tokenizer.get_vocab_size()
        self.sha256 = hashlib.sha256(content).hexdigest()
        parsed = json.loads(content)
        self.fast: Encode | None = as_splintr(parsed) or as_tiktoken(parsed)

    def encode(self, text: str) -> NDArray[np.uint32]:
        """The ids of the text, none of them special."""
        if self.fast:
            try:
                return np.asarray(self.fast(text), np.uint32)
            except ValueError:
                pass  # a run of a million blanks exceeds the stack of tiktoken's regular expressions
        return self.encode_slowly(text)

    def encode_slowly(self, text: str) -> NDArray[np.uint32]:
        """The same by tokenizers itself."""
        encoding = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]
        return np.array(encoding.ids, np.uint32)

    def verify(self, texts: Iterable[str]) -> bool:
        """Whether both ways give the same ids for these texts. If not, encode() is slow from then on."""
        if not all(np.array_equal(self.encode(text), self.encode_slowly(text)) for text in texts):
            self.fast = None
        return self.fast is not None


def as_splintr(tokenizer: dict[str, Any]) -> Encode | None:
    """splintr's encoder of a parsed tokenizer.json; None if it does not know its kind or pre-tokenizer."""
    import splintr

    if pattern_of(tokenizer) not in (GPT2_PATTERN, CL100K_PATTERN):
        return None
    try:
        return splintr.from_json_bytes(json.dumps(tokenizer).encode()).encode_ordinary
    except ValueError:
        return None


def as_tiktoken(tokenizer: dict[str, Any]) -> Encode | None:
    """tiktoken's encoder with the merges of a parsed tokenizer.json; None if that is not byte-level BPE."""
    import tiktoken

    byte = byte_of_character()
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    try:
        ranks = {
            bytes(byte[character] for character in spelling): rank
            for spelling, rank in tokenizer["model"]["vocab"].items()
            if spelling not in special
        }
    except (KeyError, AttributeError):
        return None
    pattern = pattern_of(tokenizer)
    # tiktoken panics if a byte is missing
    if pattern is None or not all(bytes([b]) in ranks for b in range(256)):
        return None
    encoding = tiktoken.Encoding("json", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    # No special token is allowed unless named; encode_ordinary would make a list of Python numbers.
    return partial(encoding.encode_to_numpy, disallowed_special=())


def encode_part(
    part: Part, folder: Path, encoder: TextEncoder, threads: int, meta: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """Encode a part of a corpus into a folder of token files, whole or not at all. Returns its meta.json.

    meta: what else meta.json says. While encoding, the folder beside also holds a table of `datasets` as
    large as the part.
    """
    beside, before = folder.parent, progress.counts
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"partial-{_host()}-{os.getpid()}-", dir=beside) as scratch:
        tokens = Path(scratch) / "tokens"
        tokens.mkdir()
        documents = load_documents(part, Path(scratch) / "arrow")
        _verify(encoder, documents, progress.silent)
        dtype = np.dtype(np.uint16 if encoder.vocab_size <= 1 << 16 else np.uint32)
        writers = {split: SplitWriter(tokens, split, dtype) for split in SPLITS}
        files = iter_source_files(documents)
        for file, ids, text_bytes in progress.follow(_encoded(files, encoder, threads)):
            writers[file.split].add(file, ids, text_bytes)
        write_json(tokens / "names.json", {split: writer.close() for split, writer in writers.items()})
        meta = {**meta, **meta_of(encoder, tokens)}
        meta["documents"] = {split: len(writer.text_bytes) for split, writer in writers.items()}
        meta["counts"] = [after - before for after, before in zip(progress.counts, before, strict=True)]
        write_json(tokens / "meta.json", meta)
        if folder.exists():  # damaged, or another process was quicker
            shutil.rmtree(folder)
        tokens.replace(folder)
    return meta


def meta_of(encoder: TextEncoder, folder: Path) -> dict[str, Any]:
    """What meta.json says of the tokens in a folder that is complete but for it."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "meta.json" and "partial" not in str(path.relative_to(folder))
    ]
    return {
        "format": FORMAT,
        "dtype": np.dtype(np.uint16 if encoder.vocab_size <= 1 << 16 else np.uint32).name,
        "vocab_size": encoder.vocab_size,
        "end_of_text_id": encoder.end_of_text_id,
        "sizes": {str(path.relative_to(folder)): path.stat().st_size for path in files},
    }


def _verify(encoder: TextEncoder, documents: Dataset, silent: bool) -> None:
    step = max(1, len(documents) // CHECKED_LINES)
    if not encoder.verify(documents.select(range(0, len(documents), step))["text"]) and not silent:
        print(
            "no fast encoder gives this tokenizer's ids: encoding more slowly, with tokenizers",
            file=sys.stderr,
        )


Encoded = tuple[SourceFile, Ids, int]  # a file, its ids and a closing <|endoftext|>, bytes of its text


def _encoded(files: Iterator[SourceFile], encoder: TextEncoder, threads: int) -> Iterator[Encoded]:
    """Encode the files in threads; they come out in order."""

    def encode(batch: list[SourceFile]) -> list[Encoded]:
        # The encoders release the interpreter's lock.
        end = encoder.end_of_text_id
        return [(f, np.append(encoder.encode(f.text), np.uint32(end)), len(f.text.encode())) for f in batch]

    waiting: deque[Future[list[Encoded]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(files):
            waiting.append(pool.submit(encode, batch))
            if len(waiting) > 2 * threads:  # bounds the memory
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _batches(files: Iterator[SourceFile]) -> Iterator[list[SourceFile]]:
    batch: list[SourceFile] = []
    characters = 0
    for file in files:
        batch.append(file)
        characters += len(file.text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class Progress:
    """Counts what is encoded, with progress on standard error and, at the end, what came out."""

    def __init__(self, data: Path, total: int, *, silent: bool = False) -> None:
        """total: about how many bytes of lines there are."""
        self.data, self.total, self.silent = data, total, silent
        self.files = self.tokens = self.text_bytes = 0
        self.started = self.told = time.monotonic()

    @property
    def counts(self) -> list[int]:
        return [self.files, self.tokens, self.text_bytes]

    def follow(self, encoded: Iterator[Encoded]) -> Iterator[Encoded]:
        """The same, counted."""
        from tqdm import tqdm

        quiet = not sys.stderr.isatty() or self.silent
        with tqdm(
            total=self.total,
            initial=self.text_bytes,
            unit="B",
            unit_scale=True,
            desc="encoding",
            disable=quiet,
            leave=False,
        ) as bar:
            for document in encoded:
                self.add(1, len(document[1]), document[2])
                bar.update(document[2])
                yield document

    def add(self, files: int, tokens: int, text_bytes: int) -> None:
        self.files, self.tokens, self.text_bytes = (
            self.files + files, self.tokens + tokens, self.text_bytes + text_bytes
        )  # fmt: skip
        quiet = self.silent or sys.stderr.isatty()
        if not quiet and time.monotonic() - self.told > SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            done, total = f"{self.text_bytes / 1e6:,.0f}", f"{self.total / 1e6:,.0f}"
            print(f"encoding: {done} of {total} MB", file=sys.stderr, flush=True)

    def end(self) -> None:
        print(
            f"encoded {self.data.absolute()}: {self.files:,} files, {self.text_bytes / 1e6:,.1f} MB, "
            f"{self.tokens:,} tokens in {time.monotonic() - self.started:.1f} s",
            file=sys.stderr,
        )


def _host() -> str:
    """This machine's name, as a part of a file name: several may share the cache."""
    return re.sub(r"\W", "_", platform.node()) or "here"


def remove_abandoned(cache: Path) -> None:
    """Remove what killed processes left unfinished; those of another machine only when a day has passed."""
    for folder in [*cache.glob("partial-*-*"), *cache.glob("tokens-*/partial-*-*")]:
        _, host, pid, *_ = folder.name.split("-", 3)
        if host == _host():
            is_left = pid.isdecimal() and not _is_running(int(pid))
        else:
            is_left = time.time() - folder.stat().st_mtime > ABANDONED_SECONDS
        if is_left:
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True
