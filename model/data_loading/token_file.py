"""The corpus as a memory-mapped file of token ids per split, with what is known of each document beside it.

A document here is one whole source file, its pieces joined. In `tokens` each is followed by <|endoftext|>:

    tokens   [def, ·f, (, ... <|endoftext|>, import, ·os, ... <|endoftext|>]
    offsets  [0,                             57,                             212]

A folder data.cache/tokens-<key>/ has these files and meta.json, written last: data, tokenizer, sizes. Of a
corpus in several parts it has a folder for each, of the same form, made by whoever is free. Of these, tokens
and paths stay where they are and are read as if they were one; the rest is joined, 24 bytes a document.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from pretrained.atomic_write import write_atomic

if TYPE_CHECKING:
    from data_loading.source_files import SourceFile

FORMAT = 3  # of the files in the folder

INDEXES = {"offsets": np.int64, "text_bytes": np.int64, "repository": np.int32, "origin": np.int32}

Ids = NDArray[np.uint16] | NDArray[np.uint32]


class JoinedTokens:
    """The tokens of several files as if they were one; a slice within one of them is not copied."""

    def __init__(self, files: Sequence[Path], dtype: np.dtype[Any]) -> None:
        self.files = [path for path in files if path.stat().st_size]  # an empty file cannot be mapped
        self.dtype = dtype
        sizes = (path.stat().st_size // dtype.itemsize for path in self.files)
        self.starts = list(accumulate(sizes, initial=0))
        self._map = lru_cache(maxsize=None)(lambda number: np.memmap(self.files[number], dtype, mode="r"))

    def __len__(self) -> int:
        return self.starts[-1]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def __getitem__(self, place: slice) -> Ids:
        start, stop, step = place.indices(len(self))
        if step != 1:
            raise IndexError("tokens are read in their order")
        pieces = []
        while start < stop:
            number = bisect_right(self.starts, start) - 1
            begin, end = self.starts[number], min(stop, self.starts[number + 1])
            pieces.append(self._map(number)[start - begin : end - begin])
            start = end
        if len(pieces) == 1:
            return pieces[0]
        joined: Ids = np.concatenate(pieces) if pieces else np.empty(0, self.dtype)
        return joined


class JoinedPaths(Sequence[str]):
    """The paths of several JSON files as if they were one; in order, each file is read once."""

    def __init__(self, files: Sequence[Path], counts: Sequence[int]) -> None:
        self.files = files
        self.starts = list(accumulate(counts, initial=0))
        self._read = lru_cache(maxsize=2)(lambda number: read_paths(files[number]))

    def __len__(self) -> int:
        return self.starts[-1]

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        number = bisect_right(self.starts, place) - 1
        return self._read(number)[place - self.starts[number]]


def read_paths(path: Path) -> list[str]:
    paths: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return paths


@dataclass(frozen=True)
class TokenSplit:
    """The documents of one split: D documents, N tokens."""

    # (N,) memory-mapped: each document's tokens and one closing <|endoftext|>. Read by slices alone: they may
    # be JoinedTokens.
    tokens: Ids
    offsets: NDArray[np.int64]  # (D + 1,) document i is tokens[offsets[i] : offsets[i + 1]]
    text_bytes: NDArray[np.int64]  # (D,) length of its text in UTF-8
    repository: NDArray[np.int32]  # (D,) index into repositories
    repositories: list[str]
    paths_from: Path | Sequence[str]  # the paths of the documents, or the JSON file that lists them
    origin: NDArray[np.int32] | None = None  # (D,) index into origins
    origins: Sequence[tuple[str, str]] = ()  # commit and licence, "" if unknown
    # The documents to learn from, if these are not all. One that stands here twice is read twice an epoch.
    kept: NDArray[np.int64] | None = None

    @cached_property
    def paths(self) -> Sequence[str]:
        """(D,) read when they are first needed: those of 10 GB of tokens are 3 million strings, 300 MB."""
        if isinstance(self.paths_from, Path):
            return read_paths(self.paths_from)
        return self.paths_from

    def keep(self, places: NDArray[np.int64]) -> TokenSplit:
        """The same with these documents alone to learn from: places among those that there are."""
        return replace(self, kept=places if self.kept is None else self.kept[places])

    def of_kept(self, column: NDArray[Any]) -> NDArray[Any]:
        """What a column (D,) says of the documents to learn from."""
        return column if self.kept is None else column[self.kept]

    @cached_property
    def once(self) -> TokenSplit:
        """The same with each document to learn from once."""
        return self if self.kept is None else replace(self, kept=np.unique(self.kept))

    @property
    def times(self) -> int:
        """How often the document that is read most often stands in an epoch."""
        return 1 if self.kept is None or not len(self.kept) else int(np.bincount(self.kept).max())

    @property
    def left_out(self) -> int:
        """How many documents are not learnt from."""
        return len(self.text_bytes) - len(self.once.lengths)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where in tokens each document to learn from begins."""
        return self.of_kept(np.asarray(self.offsets[:-1]))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document to learn from, its closing <|endoftext|> included."""
        return self.of_kept(np.diff(self.offsets))

    @cached_property
    def size(self) -> int:
        """Tokens of all documents to learn from."""
        return int(self.lengths.sum())

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of their texts."""
        return int(self.of_kept(self.text_bytes).sum())

    def sample(self, most: int) -> Ids:
        """About `most` tokens at most: whole documents from all over the split, in their order."""
        step = -(-self.size // most)
        chosen = range(0, len(self.starts), step)
        spans = [(int(self.starts[i]), int(self.starts[i] + self.lengths[i])) for i in chosen]
        return np.concatenate([self.tokens[start:end] for start, end in spans])

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text that a token stands for, on average."""
        return self.size_bytes / self.size


@dataclass(frozen=True)
class TokenDataset:
    """Both splits of a data.txt in the ids of one tokenizer."""

    train: TokenSplit
    held_out: TokenSplit
    vocab_size: int
    end_of_text_id: int
    data_sha256: str
    tokenizer_sha256: str  # of tokenizer.json


class SplitWriter:
    """Writes the files of one split: tokens as they come, the rest at the end."""

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
        """Write the rest. Returns what names.json has of the split: repositories, commits and licences."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        np.save(self.folder / f"{self.split}.offsets.npy", np.cumsum(self.lengths, dtype=np.int64))
        np.save(self.folder / f"{self.split}.text_bytes.npy", np.array(self.text_bytes, np.int64))
        np.save(self.folder / f"{self.split}.repository.npy", np.array(self.repository, np.int32))
        np.save(self.folder / f"{self.split}.origin.npy", np.array(self.origin, np.int32))
        write_json(self.folder / f"{self.split}.paths.json", self.paths)
        return {"repositories": list(self.repositories), "origins": list(self.origins)}


def join_parts(folder: Path, parts: Sequence[Path]) -> None:
    """Write what is joined of the parts: where documents begin, and the names of their sources."""
    names: dict[str, Any] = {}
    of_parts = [json.loads((part / "names.json").read_text(encoding="utf-8")) for part in parts]
    for split in of_parts[0]:
        numbers: dict[str, dict[Any, int]] = {"repositories": {}, "origins": {}}
        renumbered: dict[str, list[NDArray[np.int32]]] = {"repository": [], "origin": []}
        for kind, column in (("repositories", "repository"), ("origins", "origin")):
            known = numbers[kind]
            for each in of_parts:
                names_of_part = (tuple(name) if kind == "origins" else name for name in each[split][kind])
                order = [known.setdefault(name, len(known)) for name in names_of_part]
                renumbered[column].append(np.array(order, np.int32))
        names[split] = {kind: list(known) for kind, known in numbers.items()}
        for column, dtype in INDEXES.items():
            files = [np.load(part / f"{split}.{column}.npy", mmap_mode="r") for part in parts]
            count = sum(len(file) for file in files) - (len(files) - 1) * (column == "offsets")
            beside = folder / f"{split}.{column}.npy.partial"
            joined = np.lib.format.open_memmap(beside, "w+", dtype, (count,))
            place = before = 0
            for number, file in enumerate(files):
                if column in renumbered:
                    joined[place : place + len(file)] = renumbered[column][number][file]
                    place += len(file)
                elif column == "offsets":
                    joined[place : place + len(file)] = file + before
                    place, before = place + len(file) - 1, before + int(file[-1])
                else:
                    joined[place : place + len(file)] = file
                    place += len(file)
            joined.flush()
            beside.replace(folder / f"{split}.{column}.npy")
    write_json(folder / "names.json", names)


def load_tokens(folder: Path, meta: dict[str, Any]) -> TokenDataset:
    """Both splits of a folder; of the tokens nothing is read yet."""
    names, dtype = json.loads((folder / "names.json").read_text(encoding="utf-8")), np.dtype(meta["dtype"])
    parts = [folder / name for name in meta.get("parts", [])]

    def split(name: str) -> TokenSplit:
        path = folder / f"{name}.tokens"
        tokens: Ids
        paths_from: Path | Sequence[str]
        if parts:
            tokens = cast("Ids", JoinedTokens([part / path.name for part in parts], dtype))
            paths = [part / f"{name}.paths.json" for part in parts]
            paths_from = JoinedPaths(paths, meta["documents"][name])
        else:
            # An empty file cannot be mapped.
            tokens = np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)
            paths_from = folder / f"{name}.paths.json"
        # Those of parts may be larger than the memory: all processes of a machine share the mapped pages.
        index = {
            column: np.load(folder / f"{name}.{column}.npy", mmap_mode="r" if parts else None)
            for column in INDEXES
        }
        return TokenSplit(
            tokens=tokens,
            repositories=names[name]["repositories"],
            paths_from=paths_from,
            origins=[(commit, licence) for commit, licence in names[name]["origins"]],
            **index,
        )

    return TokenDataset(
        train=split("train"),
        held_out=split("held_out"),
        vocab_size=meta["vocab_size"],
        end_of_text_id=meta["end_of_text_id"],
        data_sha256=meta["data_sha256"],
        tokenizer_sha256=meta["tokenizer_sha256"],
    )


def read_meta(folder: Path) -> dict[str, Any] | None:
    """meta.json of a folder; None if it is missing, or a file has not the size that it says."""
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in meta["sizes"].items())
        return meta if whole and meta["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_json(path: Path, content: dict[str, Any] | list[str]) -> None:
    write_atomic(path, json.dumps(content, ensure_ascii=False, indent=1).encode())
