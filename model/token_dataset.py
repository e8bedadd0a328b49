"""data.txt -> a memory-mapped file of token ids per split, made once and kept in data.cache/.

One document here is one source file, whole: its pieces joined. In `tokens` each is followed by <|endoftext|>:

    tokens   [def, ·f, (, ... <|endoftext|>, import, ·os, ... <|endoftext|>]
    offsets  [0,                             57,                             212]
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from document_paths import DocumentPaths
from numpy.typing import NDArray
from source_files import SPLITS, SourceFile, SourceFilesError, iter_source_files, load_documents
from text_encoder import EncoderError, TextEncoder

if TYPE_CHECKING:
    from datasets import Dataset

FORMAT = 3  # of the cached files
BATCH_CHARACTERS = (
    1_000_000  # handed to a thread at a time: large beside the hand-over, small beside the memory
)
CHECKED_LINES = (
    500  # of data.txt, evenly spread and of 4 kB each: encoding them both ways takes under a second
)
SECONDS_BETWEEN_LINES = 10  # of progress, where nobody sees a bar move

Ids = NDArray[np.uint16] | NDArray[np.uint32]


class TokenDatasetError(ValueError):
    """A data.txt or a tokenizer that cannot be used: what is wrong, where, and what to do about it."""


@dataclass(frozen=True)
class TokenSplit:
    """The documents of one split: D documents, N tokens."""

    tokens: Ids  # (N,) memory-mapped: each document's tokens and one closing <|endoftext|>
    offsets: NDArray[np.int64]  # (D + 1,) document i is tokens[offsets[i] : offsets[i + 1]]
    text_bytes: NDArray[np.int64]  # (D,) length of its text in UTF-8
    repository: NDArray[np.int32]  # (D,) index into repositories
    repositories: list[str]
    paths: Sequence[str]
    origin: NDArray[np.int32] | None = None  # (D,) index into origins
    origins: Sequence[tuple[str, str]] = ()  # commit and licence, "" where unknown
    kept: NDArray[np.int64] | None = None  # the documents to learn from, where these are not all

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where in tokens each document to learn from begins."""
        starts = np.asarray(self.offsets[:-1])
        return starts if self.kept is None else starts[self.kept]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document to learn from, its closing <|endoftext|> among them."""
        lengths = np.diff(self.offsets)
        return lengths if self.kept is None else lengths[self.kept]

    @cached_property
    def size(self) -> int:
        """Tokens of all documents to learn from."""
        return int(self.lengths.sum())

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of their texts."""
        return int((self.text_bytes if self.kept is None else self.text_bytes[self.kept]).sum())


@dataclass(frozen=True)
class TokenDataset:
    """Both splits of a data.txt in the ids of one tokenizer."""

    train: TokenSplit
    held_out: TokenSplit
    vocab_size: int
    end_of_text_id: int
    data_sha256: str
    tokenizer_sha256: str  # of tokenizer.json


def encode_corpus(
    data: Path, tokenizer: Path, cache: Path, *, threads: int, end_of_text_id: int | None = None
) -> TokenDataset:
    """The documents of data.txt as ids of the tokenizer in that folder; from cache if they are there already.

    Whether they are is decided by size and mtime of data.txt first, then by its content. While encoding, the
    cache also holds a copy of data.txt, the table of `datasets`. A kill leaves nothing that counts. Several
    processes may start at once, but each would encode: let one go first.
    end_of_text_id: what closes a document where that is not <|endoftext|>.

    Raises: TokenDatasetError for a data.txt or a tokenizer that is missing or damaged.
    """
    try:
        return _encode_corpus(data, TextEncoder(tokenizer, end_of_text_id), cache, threads)
    except (EncoderError, SourceFilesError) as error:
        raise TokenDatasetError(str(error)) from None


def _encode_corpus(data: Path, encoder: TextEncoder, cache: Path, threads: int) -> TokenDataset:
    if not data.is_file():
        raise TokenDatasetError(
            f"there is no such file: {data.absolute()}: make it first: python preprocess/data_preprocess.py"
        )
    stat = data.stat()
    state = {"path": str(data.resolve()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    for folder in sorted(cache.glob("tokens-*")):
        meta = _read_meta(folder)
        same_ids = ("tokenizer_sha256", encoder.sha256), ("end_of_text_id", encoder.end_of_text_id)
        if meta and meta["state"] == state and all(meta[name] == value for name, value in same_ids):
            return _load(folder, meta)
    with data.open("rb") as file:
        data_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    identity = f"{FORMAT} {data_sha256} {encoder.sha256} {encoder.end_of_text_id}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = cache / f"tokens-{key}"
    meta = _read_meta(folder)
    if meta is None:
        meta = {"state": state, "data_sha256": data_sha256, "tokenizer_sha256": encoder.sha256}
        meta = _encode_whole(folder, data, encoder, threads, meta)
    elif meta["state"] != state:  # the same content, touched or moved: next time its state will do
        meta["state"] = state
        _write_json(folder / "meta.json", meta)
    return _load(folder, meta)


# Encoding ----------------------------------------------------------------------------------------


class SplitWriter:
    """The files of one split: tokens as they come, the rest at the end."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype[Any]) -> None:
        self.folder, self.split, self.dtype = folder, split, dtype
        self.file = (folder / f"{split}.tokens").open("wb")
        self.lengths: list[int] = [0]
        self.text_bytes: list[int] = []
        self.repository: list[int] = []
        self.repositories: dict[str, int] = {}
        self.origin: list[int] = []
        self.origins: dict[tuple[str, str], int] = {}
        self.paths: list[str] = []

    def add(self, file: SourceFile, ids: Ids, text_bytes: int) -> None:
        self.file.write(ids.astype(self.dtype, copy=False).tobytes())
        self.lengths.append(len(ids))
        self.text_bytes.append(text_bytes)
        self.repository.append(self.repositories.setdefault(file.repo, len(self.repositories)))
        self.origin.append(self.origins.setdefault((file.commit, file.license), len(self.origins)))
        self.paths.append(file.path)

    def close(self) -> dict[str, Any]:
        """Write what remains. Returns the names: of repositories, commits and licences."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        np.save(self.folder / f"{self.split}.offsets.npy", np.cumsum(self.lengths, dtype=np.int64))
        np.save(self.folder / f"{self.split}.text_bytes.npy", np.array(self.text_bytes, np.int64))
        np.save(self.folder / f"{self.split}.repository.npy", np.array(self.repository, np.int32))
        np.save(self.folder / f"{self.split}.origin.npy", np.array(self.origin, np.int32))
        _write_json(self.folder / f"{self.split}.paths.json", self.paths)
        return {"repositories": list(self.repositories), "origins": list(self.origins)}


def _encode_whole(
    folder: Path, data: Path, encoder: TextEncoder, threads: int, meta: dict[str, Any]
) -> dict[str, Any]:
    """Encode data.txt beside the folder, then put it into its place. Returns its meta.json."""
    cache = folder.parent
    cache.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(cache)
    with tempfile.TemporaryDirectory(prefix=f"partial-{os.getpid()}-", dir=cache) as scratch:
        tokens = Path(scratch) / "tokens"
        tokens.mkdir()
        documents = load_documents(data, Path(scratch) / "arrow")
        _verify(encoder, documents)
        dtype = np.dtype(np.uint16 if encoder.vocab_size <= 1 << 16 else np.uint32)
        writers = {split: SplitWriter(tokens, split, dtype) for split in SPLITS}
        files = iter_source_files(documents, data)
        for file, ids, text_bytes in _with_progress(_encoded(files, encoder, threads), data):
            writers[file.split].add(file, ids, text_bytes)
        _write_json(tokens / "names.json", {split: writer.close() for split, writer in writers.items()})
        meta |= {
            "format": FORMAT,
            "dtype": dtype.name,
            "vocab_size": encoder.vocab_size,
            "end_of_text_id": encoder.end_of_text_id,
            "sizes": {path.name: path.stat().st_size for path in sorted(tokens.iterdir())},
        }
        _write_json(tokens / "meta.json", meta)
        if folder.exists():  # damaged, or another process was quicker
            shutil.rmtree(folder)
        tokens.replace(folder)
    return meta


def _verify(encoder: TextEncoder, documents: Dataset) -> None:
    step = max(1, len(documents) // CHECKED_LINES)
    if not encoder.verify(documents.select(range(0, len(documents), step))["text"]):
        print(
            "no faster encoder gives the ids of this tokenizer: encoding by tokenizers, more slowly",
            file=sys.stderr,
        )


Encoded = tuple[SourceFile, Ids, int]


def _encoded(files: Iterator[SourceFile], encoder: TextEncoder, threads: int) -> Iterator[Encoded]:
    """Each file with its ids and a closing <|endoftext|>, and the bytes of its text; in order, by threads."""

    def encode(batch: list[SourceFile]) -> list[Encoded]:
        # Both encoders release the interpreter's lock.
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


def _with_progress(encoded: Iterator[Encoded], data: Path) -> Iterator[Encoded]:
    """The same, telling on standard error how far it is and, at the end, what came out."""
    from tqdm import tqdm

    quiet, started = not sys.stderr.isatty(), time.monotonic()
    told, files, tokens, text_bytes, total = started, 0, 0, 0, data.stat().st_size
    with tqdm(total=total, unit="B", unit_scale=True, desc="encoding", disable=quiet, leave=False) as bar:
        for document in encoded:
            files, tokens, text_bytes = files + 1, tokens + len(document[1]), text_bytes + document[2]
            bar.update(document[2])
            if quiet and time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                print(
                    f"encoding: {text_bytes / 1e6:,.0f} of {total / 1e6:,.0f} MB", file=sys.stderr, flush=True
                )
            yield document
    print(
        f"encoded {data.absolute()}: {files:,} files, {text_bytes / 1e6:,.1f} MB, {tokens:,} tokens "
        f"in {time.monotonic() - started:.1f} s",
        file=sys.stderr,
    )


# The cache ---------------------------------------------------------------------------------------


def _load(folder: Path, meta: dict[str, Any]) -> TokenDataset:
    names, dtype = json.loads((folder / "names.json").read_text(encoding="utf-8")), np.dtype(meta["dtype"])

    def split(name: str) -> TokenSplit:
        path = folder / f"{name}.tokens"
        return TokenSplit(
            # An empty file cannot be mapped.
            tokens=np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype),
            offsets=np.load(folder / f"{name}.offsets.npy"),
            text_bytes=np.load(folder / f"{name}.text_bytes.npy"),
            repository=np.load(folder / f"{name}.repository.npy"),
            repositories=names[name]["repositories"],
            paths=DocumentPaths(folder / f"{name}.paths.json"),
            origin=np.load(folder / f"{name}.origin.npy"),
            origins=[(commit, licence) for commit, licence in names[name]["origins"]],
        )

    return TokenDataset(
        train=split("train"),
        held_out=split("held_out"),
        vocab_size=meta["vocab_size"],
        end_of_text_id=meta["end_of_text_id"],
        data_sha256=meta["data_sha256"],
        tokenizer_sha256=meta["tokenizer_sha256"],
    )


def _read_meta(folder: Path) -> dict[str, Any] | None:
    """meta.json of a cached folder; None where it is missing or a file has not the size that it says."""
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in meta["sizes"].items())
        return meta if whole and meta["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_json(path: Path, content: dict[str, Any] | list[str]) -> None:
    beside = path.with_name(f"{path.name}.partial")
    with beside.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _remove_abandoned(cache: Path) -> None:
    """Remove what killed processes left unfinished."""
    for folder in cache.glob("partial-*-*"):
        if not _is_running(int(folder.name.split("-")[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
