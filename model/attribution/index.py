"""sources.index: where any 30 tokens in a row occur in the training data, in less than a byte a token.

    header   a line of JSON: what the index was made of, where its parts lie
    lengths  of the documents, in tokens: uint32, zlib
    names    repository, path, commit and licence, by blocks of documents: JSON, zlib
    checks   four bits for each token: a hash of it and of the token before it
    samples  grams 0, 1, 2, ... in the order of their hashes; gram s is tokens 16 s to 16 s + 14
    buckets  where in samples each value of the hash's first bits begins: uint32

Every 30 tokens in a row contain one whole gram (15 + 16 - 1 = 30). Looking up the gram at every token of a
text therefore finds each copy of 30 tokens with certainty. The checks around a gram's place say how far the
copy extends, without the training data. A wrong token passes a check with probability 1/16: one copy in
eight seems a token longer than it is, and other text passes the 29 checks of 30 tokens with 16 ** -29.

Source: the guarantee is that of Schleimer, Wilkerson, Aiken 2003, "Winnowing", section 3. Winnowing picks
grams by content so that two texts pick the same ones, 2 of 17 here. If one side looks up all of its grams,
the other may keep every 16th. That halves the grams, and the space saved holds the checks.
"""

from __future__ import annotations

import json
import mmap
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from model_cli import UserError
from pretrained.atomic_write import open_atomic, temporary_path

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset, TokenSplit

INDEX = "sources.index"  # in the model's folder
FORMAT = "GPyT sources 1"
SPAN = 30  # tokens: shorter runs are ordinary Python, not copies
GRID = 16  # tokens from one gram to the next
GRAM = SPAN - GRID + 1
BLOCK = 1 << 20  # tokens taken at a time: 8 MB in 64 bits; a multiple of GRID and of 2
PARTITION = 1 << 22  # grams sorted at a time: below 200 MB
NAMES = 4096  # documents in a block of names

# Odd multipliers without pattern, for hashes that are linear in the tokens: those of splitmix64.
_SCATTER = (0x9E3779B97F4A7C15 * np.arange(1, GRAM + 2, dtype=object)) % (1 << 64)
WEIGHTS = np.array([int(x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % (1 << 64) | 1 for x in _SCATTER], np.uint64)
MIX = np.uint64(0x94D049BB133111EB)

Numbers = NDArray[Any]


class SourceIndexError(UserError):
    """A sources.index that cannot be used: what is wrong with it, and which file it is."""

    def __init__(self, problem: str, path: Path) -> None:
        super().__init__(f"the index of the training data {problem}: {path}")


def base_model_index(generation: int | str) -> str:
    """The file name of the base model's index (1), of the index of the base model's base model (2)."""
    return f"sources.{generation}.index"


def gram_hashes(grams: Numbers) -> NDArray[np.uint64]:
    """Hashes of 32 bits of grams (M, GRAM) of token ids."""
    hashes = np.zeros(len(grams), np.uint64)
    for column in range(GRAM):
        hashes += grams[:, column].astype(np.uint64) * WEIGHTS[column]
    hashes ^= hashes >> np.uint64(32)
    hashes *= MIX
    return hashes >> np.uint64(32)


def check_bits(tokens: Numbers, before: int) -> NDArray[np.uint8]:
    """A hash of four bits for each token (N,) and the token before it, which for the first is `before`."""
    ids = tokens.astype(np.uint64)
    previous = np.empty_like(ids)
    previous[:1], previous[1:] = before, ids[:-1]
    hashes = ids * WEIGHTS[0] + previous * WEIGHTS[GRAM]
    hashes ^= hashes >> np.uint64(32)
    hashes *= MIX
    checks: NDArray[np.uint8] = (hashes >> np.uint64(60)).astype(np.uint8)
    return checks


@dataclass(frozen=True)
class Layout:
    """The number of grams of an index of so many tokens, and how they are stored."""

    tokens: int

    @property
    def grams(self) -> int:
        return (self.tokens + GRID - GRAM) // GRID

    @property
    def width(self) -> int:
        """Bytes in which a gram's number is stored."""
        return max(1, (max(0, self.grams - 1).bit_length() + 7) // 8)

    @property
    def bits(self) -> int:
        """The first bits of the hash, which choose the bucket: a bucket has four to eight grams."""
        return max(0, (self.grams // 4).bit_length() - 1)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the parts whose size follows from the number of tokens."""
        buckets = 4 * ((1 << self.bits) + 1)
        return {
            "checks": (self.tokens + 1) // 2,
            "samples": self.grams * self.width,
            "buckets": buckets,
        }


def open_index(path: Path, tokenizer_sha256: str) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The header of an index and, memory-mapped, the bytes of the parts that follow it.

    Raises: SourceIndexError if the file is missing, torn, or made with another tokenizer.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 24)
            header = json.loads(line)
            if not isinstance(header, dict) or header["format"] != FORMAT:
                raise SourceIndexError("is of another format", path)
            content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        parts, made_with = header["parts"], header["tokenizer_sha256"]
        fits = all(parts[name] == size for name, size in Layout(header["tokens"]).sizes.items())
        is_whole = fits and len(content) == len(line) + sum(parts.values())
    except FileNotFoundError:
        raise SourceIndexError("is missing", path) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceIndexError(f"cannot be read ({error})", path) from None
    if not is_whole:
        raise SourceIndexError(f"is torn ({len(content):,} bytes)", path)
    if made_with != tokenizer_sha256:
        raise SourceIndexError("was made with another tokenizer", path)
    return header, content[len(line) :]


# Writing


def write_sources(dataset: TokenDataset, folder: Path, base_model: Path | None) -> str:
    """Write the index of the training split into a model's folder, beside those of the base models.

    base_model: the folder of the model that was trained further. Its own index is copied as sources.1.index,
    its base model's as sources.2.index. If it has none that can be used, the header names it as untraced.
    Returns the name of a model that is untraced, "" if there is none.
    """
    known, untraced = ([], "") if base_model is None else _copy_indexes(dataset, base_model, folder)
    record = {"tokenizer_sha256": dataset.tokenizer_sha256, "data_sha256": dataset.data_sha256}
    write_index(dataset.train, folder / INDEX, {**record, "ancestors": known, "untraced": untraced})
    return untraced


def _copy_indexes(dataset: TokenDataset, base_model: Path, folder: Path) -> tuple[list[str], str]:
    """Copy all indexes of a base model or none; the sha256 of their data, and an untraced model."""
    try:
        header, _ = open_index(base_model / INDEX, dataset.tokenizer_sha256)
        known = [header.get("data_sha256", ""), *header.get("ancestors", [])]
        paths = [base_model / (base_model_index(number) if number else INDEX) for number in range(len(known))]
        for path in paths:
            open_index(path, dataset.tokenizer_sha256)
    except SourceIndexError:
        return [], base_model.name
    for generation, path in enumerate(paths, 1):
        target = folder / base_model_index(generation)
        try:
            shutil.copyfile(path, temporary_path(target))
            temporary_path(target).replace(target)
        except BaseException:
            temporary_path(target).unlink(missing_ok=True)
            raise
    return known, header.get("untraced", "")


def remove_sources(folder: Path) -> None:
    """Remove every index that an earlier part of the run may have written."""
    for path in [folder / INDEX, *folder.glob(base_model_index("*"))]:
        path.unlink(missing_ok=True)


def describe_split(split: TokenSplit) -> tuple[dict[str, Any], list[bytes]]:
    """What the header says about a split's documents, and the bytes that follow the header."""
    chosen = split.of_kept(np.arange(len(split.text_bytes)))
    parts = [zlib.compress(split.lengths.astype("<u4").tobytes(), 9)]
    blocks = []
    for first in range(0, len(chosen), NAMES):
        block = [_name(split, int(document)) for document in chosen[first : first + NAMES]]
        columns = [list(column) for column in zip(*block, strict=True)]  # zlib packs columns better
        parts.append(zlib.compress(json.dumps(columns, ensure_ascii=False).encode(), 9))
        blocks.append(len(parts[-1]))
    layout = Layout(split.size)
    sizes = {"lengths": len(parts[0]), "names": sum(blocks), **layout.sizes}
    described = {"tokens": split.size, "documents": len(chosen), "name_blocks": blocks, "parts": sizes}
    return described, parts


def _name(split: TokenSplit, document: int) -> tuple[str, str, str, str]:
    commit, licence = split.origins[split.origin[document]] if split.origin is not None else ("", "")
    return split.repositories[split.repository[document]], split.paths[document], commit, licence


def write_index(split: TokenSplit, path: Path, record: dict[str, Any]) -> bool:
    """Write the index of a split's documents, whole or not at all; False if that index is there already.

    record: what the header says beside the documents. Needs 300 MB of memory, the names, and a sixteenth of
    a byte per token; in passing also 0.25 bytes of disk per token.
    """
    split = split.once
    described, parts = describe_split(split)
    header = {"format": FORMAT, **record, **described}
    line = json.dumps(header, ensure_ascii=False).encode() + b"\n"
    size = len(line) + sum(described["parts"].values())
    if path.is_file() and path.stat().st_size == size:
        with path.open("rb") as file:
            if file.read(len(line)) == line:
                return False
    with open_atomic(path) as file, tempfile.TemporaryFile(dir=path.parent) as scratch:
        file.write(line)
        file.writelines(parts)
        _write_checks(split, file, scratch)
        _write_grams(Layout(split.size), file, scratch)
    return True


def _write_checks(split: TokenSplit, file: BinaryIO, scratch: BinaryIO) -> None:
    """Write the checks of all tokens to the file, and the hashes of their grams (uint32) to scratch."""
    before = 0
    for tokens in _blocks(split):
        checks = check_bits(tokens, before)
        before = int(tokens[-1])
        low, high = checks[0::2], checks[1::2]
        packed = low.copy()
        packed[: len(high)] |= high << 4
        file.write(packed.tobytes())
        grams = Layout(len(tokens)).grams
        padded = np.resize(tokens, grams * GRID)  # the gap after the last gram may be cut off
        scratch.write(gram_hashes(padded.reshape(grams, GRID)[:, :GRAM]).astype("<u4").tobytes())
    scratch.flush()


def _write_grams(layout: Layout, file: BinaryIO, scratch: BinaryIO) -> None:
    """Write the grams in the order of their buckets, then where each bucket begins."""
    hashes: Numbers = np.empty(0, "<u4")
    if layout.grams:
        hashes = np.memmap(scratch, "<u4", "r", shape=(layout.grams,))
    bits = layout.bits
    rounds_bits = min(bits, max(0, (layout.grams // PARTITION).bit_length()))
    begins, starts = 0, [np.zeros(1, "<u4")]
    for part in range(1 << rounds_bits):
        numbers, buckets = _members(hashes, part, rounds_bits, bits)
        order = np.argsort(buckets, kind="stable")
        as_bytes = numbers[order].astype("<u8")[:, None].view(np.uint8)
        file.write(np.ascontiguousarray(as_bytes[:, : layout.width]).tobytes())
        counts = np.bincount(buckets - (part << (bits - rounds_bits)), minlength=1 << (bits - rounds_bits))
        starts.append((begins + np.cumsum(counts)).astype("<u4"))
        begins += len(numbers)
    for ends in starts:
        file.write(ends.tobytes())


def _members(hashes: Numbers, part: int, part_bits: int, bits: int) -> tuple[Numbers, Numbers]:
    """The numbers and buckets of the grams whose hashes begin with the bits of this part, in order."""
    numbers, buckets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first in range(0, len(hashes), BLOCK):
        block = hashes[first : first + BLOCK].astype(np.int64)
        chosen = np.flatnonzero(block >> (32 - part_bits) == part)
        numbers.append(chosen + first)
        buckets.append(block[chosen] >> (32 - bits))
    return np.concatenate(numbers), np.concatenate(buckets)


def _blocks(split: TokenSplit) -> Iterator[Numbers]:
    """The tokens of the documents to learn from, one after another, in blocks of BLOCK."""
    waiting: list[Numbers] = []
    held = 0
    for start, end in _ranges(split):
        for first in range(start, end, BLOCK):
            waiting.append(np.asarray(split.tokens[first : min(end, first + BLOCK)]))
            held += len(waiting[-1])
            while held >= BLOCK:
                joined = np.concatenate(waiting)
                yield joined[:BLOCK]
                waiting, held = [joined[BLOCK:]], held - BLOCK
    if held:
        yield np.concatenate(waiting)


def _ranges(split: TokenSplit) -> Iterator[tuple[int, int]]:
    """From where to where in split.tokens the documents to learn from lie, neighbours joined."""
    starts, ends = split.starts, split.starts + split.lengths
    breaks = np.flatnonzero(starts[1:] != ends[:-1]) + 1
    for first, last in zip([0, *breaks], [*breaks, len(starts)], strict=True):
        if last > first:
            yield int(starts[first]), int(ends[last - 1])
