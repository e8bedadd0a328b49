"""tokenizer.json -> the bytes of each token, the special tokens, and the pattern that splits text.

A byte-level vocabulary spells bytes as printable characters ("Ġimport" is b" import"). Generation works with
the bytes themselves: a token may end in the middle of a UTF-8 character, and only bytes can be joined.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cached_property
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
FIM_TOKENS = (
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
)  # before a gap, after it, its filling

# The pre-tokenizer patterns of GPT-2, which tokenizer.json only names (ByteLevel, use_regex), and of GPT-4.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Bytes that no Python source needs and that control a terminal: all controls but tab, newline and form feed.
CONTROL_BYTES = frozenset(range(0x20)) - frozenset(b"\t\n\f") | {0x7F}


def byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for: {"Ġ": 32, "!": 33, ...}.

    Source: bytes_to_unicode of GPT-2's encoder: printable bytes stand for themselves, others for U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def pattern_of(tokenizer: dict[str, Any]) -> str | None:
    """The regular expression by which a parsed tokenizer.json splits text; None unless it is one alone."""
    match tokenizer.get("pre_tokenizer"):
        case {"type": "ByteLevel", "add_prefix_space": False, **rest} if rest.get("use_regex", True):
            return GPT2_PATTERN  # files of before 2022 have no use_regex: the Hub's GPT-2
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": str(pattern)},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return pattern
    return None


class Vocabulary:
    """The tokens of a byte-level tokenizer as bytes. Text that it encodes never becomes a special id."""

    def __init__(
        self, tokenizer: Tokenizer, end_ids: frozenset[int], model_size: int, begin_id: int | None = None
    ) -> None:
        """model_size: the model's rows of logits, which may be padded beyond the tokenizer's ids.

        begin_id: the id that every text begins with, None where the model was trained without one.
        """
        self.tokenizer = tokenizer
        self.begin_id = begin_id
        self.end_ids = end_ids
        self.model_size = model_size
        tokenizer.encode_special_tokens = True  # not saved with the tokenizer: set after every load
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def encode(self, text: str) -> list[int]:
        """encode("import os") -> [281, 437]; "<|endoftext|>" is encoded like any other text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of every id of the model; b"" for special and unused ids."""
        byte_of = byte_of_character()
        added = self.tokenizer.get_added_tokens_decoder()
        of_id = [b""] * max(self.model_size, self.tokenizer.get_vocab_size())
        for token, token_id in self.tokenizer.get_vocab().items():
            if token_id not in added:
                of_id[token_id] = bytes(map(byte_of.__getitem__, token))
            elif not added[token_id].special:
                of_id[token_id] = token.encode()
        return of_id[: self.model_size]

    @cached_property
    def never_written(self) -> list[int]:
        """The ids that are never sampled: special (but the end of text), unused, and control bytes."""
        return [
            token_id
            for token_id, spelling in enumerate(self.token_bytes)
            if token_id not in self.end_ids and (not spelling or not CONTROL_BYTES.isdisjoint(spelling))
        ]

    @cached_property
    def by_spelling(self) -> list[int]:
        """The ids of all tokens that have bytes, sorted by these."""
        spelt = [token_id for token_id, spelling in enumerate(self.token_bytes) if spelling]
        return sorted(spelt, key=self.token_bytes.__getitem__)

    @cached_property
    def longest(self) -> int:
        """The length of the longest token in bytes."""
        return max(map(len, self.token_bytes))

    @cached_property
    def is_never_written(self) -> frozenset[int]:
        return frozenset(self.never_written)

    def continuing(self, start: bytes) -> list[int]:
        """The ids of the tokens that begin with these bytes, or that these bytes begin with.

        continuing(b" impo") -> ids of b" import", b" importlib", b" imp", b" im", b" i", b" "
        """
        spelling = self.token_bytes.__getitem__
        found: list[int] = []
        for end in range(1, min(len(start), self.longest) + 1):
            first = bisect_left(self.by_spelling, start[:end], key=spelling)
            last = bisect_right(self.by_spelling, start[:end], key=spelling)
            found += self.by_spelling[first:last]
        place = bisect_left(self.by_spelling, start, key=spelling)
        longer = takewhile(lambda i: spelling(i).startswith(start), islice(self.by_spelling, place, None))
        found += (i for i in longer if spelling(i) != start and i not in self.is_never_written)
        return sorted(found)


def impossible(spellings: list[bytes], skip: int, allows: Callable[[bytes], bool]) -> set[int]:
    """The ids of the tokens that are not allowed. A token whose beginning is refused is refused itself.

    skip: how many bytes at the beginning of each to pass over. A beginning that may end within a UTF-8
    character is not judged.
    """
    known: dict[bytes, bool] = {}
    refused = set()
    for token_id, spelling in enumerate(spellings):
        for length in (skip + 1, skip + 2, len(spelling)):
            beginning = spelling[:length]
            if length < len(spelling) and not beginning.isascii():
                continue
            if beginning not in known:
                known[beginning] = allows(beginning)
            if not known[beginning]:
                refused.add(token_id)
                break
    return refused
