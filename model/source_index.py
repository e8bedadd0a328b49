"""sources.index: where any 30 tokens in a row stand in the training data, in less than a byte a token.

    header   a line of JSON: what the index was made of, where its parts lie
    lengths  of the documents, in tokens: uint32, zlib
    names    repository, path, commit and licence, by blocks of documents: JSON, zlib
    checks   four bits for each token: a hash of it and of the token before it
    samples  grams 0, 1, 2, ... in the order of their hashes; gram s is tokens 16 s to 16 s + 14
    buckets  where in samples each value of the hash's first bits begins: uint32

Every 30 tokens in a row hold one gram whole (15 + 16 - 1 = 30). So whoever looks up all grams of a text, at
every token, meets each copy of 30 tokens, with certainty; and the checks beside a gram's place say how far
the copy goes, without the training data. One wrong token passes a check with probability 1/16: one copy in
eight seems a token longer than it is, and other text passes the 29 checks of 30 tokens with 16 ** -29.

Source: the guarantee is that of Schleimer, Wilkerson, Aiken 2003, "Winnowing", section 3. Winnowing picks
grams by content so that two texts pick the same ones, 2 of 17 here; where one side looks up all of them the
other may keep every 16th. That halves the grams, and the room pays for the checks.
"""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from whole_files import whole_or_absent

if TYPE_CHECKING:
    from token_dataset import TokenSplit

INDEX = "sources.index"  # in the model's folder
FORMAT = "GPyT sources 1"
SPAN = 30  # tokens: a shorter run is no copy but Python
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


def ancestor_index(generation: int | str) -> str:
    """The name of the index of the model before this one (1), of the one before that (2)."""
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
    """Four bits for each token (N,): a hash of it and of the one before; before: the one before the first."""
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
    """How many grams there are of so many tokens, and how they are kept."""

    tokens: int

    @property
    def grams(self) -> int:
        return (self.tokens + GRID - GRAM) // GRID

    @property
    def width(self) -> int:
        """Bytes of a gram's number."""
        return max(1, (max(0, self.grams - 1).bit_length() + 7) // 8)

    @property
    def bits(self) -> int:
        """First bits of the hash that choose the bucket: four to eight grams share one."""
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


def describe_split(split: TokenSplit) -> tuple[dict[str, Any], list[bytes]]:
    """The header's part about a split's documents, and the bytes that follow the header."""
    chosen = np.arange(len(split.text_bytes)) if split.kept is None else split.kept
    parts = [zlib.compress(split.lengths.astype("<u4").tobytes(), 9)]
    blocks = []
    for first in range(0, len(chosen), NAMES):
        block = [_name(split, int(document)) for document in chosen[first : first + NAMES]]
        columns = [list(column) for column in zip(*block, strict=True)]  # alike stands beside alike
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
    """Put the index of a split's documents there, whole or not at all; False where it lay there already.

    record: what the header has to say beside the documents. Memory: 300 MB, the names, and a sixteenth of a
    byte a token; 0.25 bytes of disk a token are needed in passing.
    """
    described, parts = describe_split(split)
    header = {"format": FORMAT, **record, **described}
    line = json.dumps(header, ensure_ascii=False).encode() + b"\n"
    size = len(line) + sum(described["parts"].values())
    if path.is_file() and path.stat().st_size == size:
        with path.open("rb") as file:
            if file.read(len(line)) == line:
                return False
    with whole_or_absent(path) as file, tempfile.TemporaryFile(dir=path.parent) as scratch:
        file.write(line)
        file.writelines(parts)
        _write_checks(split, file, scratch)
        _write_grams(Layout(split.size), file, scratch)
    return True


def _write_checks(split: TokenSplit, file: BinaryIO, scratch: BinaryIO) -> None:
    """One pass over the tokens: their checks to the file, the hashes of their grams to scratch (uint32)."""
    before = 0
    for tokens in _blocks(split):
        checks = check_bits(tokens, before)
        before = int(tokens[-1])
        low, high = checks[0::2], checks[1::2]
        packed = low.copy()
        packed[: len(high)] |= high << 4
        file.write(packed.tobytes())
        grams = Layout(len(tokens)).grams
        padded = np.resize(tokens, grams * GRID)  # of the last gram the gap after it may be missing
        scratch.write(gram_hashes(padded.reshape(grams, GRID)[:, :GRAM]).astype("<u4").tobytes())
    scratch.flush()


def _write_grams(layout: Layout, file: BinaryIO, scratch: BinaryIO) -> None:
    """The grams in the order of their buckets, then where each bucket begins."""
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
