"""Text -> token ids with the tokenizer of tokenizer.json, fast: splintr or tiktoken with the same merges.

Both give the same ids many times as fast as tokenizers; that they do is checked on the corpus's own documents
before it is relied upon. Text never becomes a special id in any of them. splintr is three times as fast as
tiktoken where it knows the rule that cuts words, and no faster than tokenizers where it does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

END_OF_TEXT = "<|endoftext|>"

# GPT-2's rule, which tokenizer.json names (ByteLevel, use_regex) but does not spell out, and GPT-4's.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Encode = Callable[[str], ArrayLike]  # a text -> its ids, none of them special


class EncoderError(ValueError):
    """A tokenizer folder that cannot be used: what is wrong, where, and the command that puts it right."""


class TextEncoder:
    """Encodes with splintr or tiktoken what they can, and the rest with tokenizers: the ids are the same."""

    def __init__(self, folder: Path, end_of_text_id: int | None = None) -> None:
        """end_of_text_id: the token that closes a document, where that is not <|endoftext|>."""
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        remedy = f"{path.absolute()}: make it again: python preprocess/tokenizer.py -t"
        if not path.is_file():
            raise EncoderError(f"there is no such file: {remedy.replace('again', 'first')}")
        content = path.read_bytes()
        try:
            self.tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # tokenizers raises nothing narrower, whatever is wrong with the file
            raise EncoderError(f"it is no tokenizer ({error}): {remedy}") from error
        self.tokenizer.encode_special_tokens = True  # not part of the file
        end_of_text = self.tokenizer.token_to_id(END_OF_TEXT) if end_of_text_id is None else end_of_text_id
        if end_of_text is None:
            raise EncoderError(f"it has no {END_OF_TEXT}: {remedy}")
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
        """The ids of the text by tokenizers itself."""
        encoding = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]
        return np.array(encoding.ids, np.uint32)

    def verify(self, texts: Iterable[str]) -> bool:
        """Whether both ways give the same ids for these texts. If not, encode() goes slowly from then on."""
        if not all(np.array_equal(self.encode(text), self.encode_slowly(text)) for text in texts):
            self.fast = None
        return self.fast is not None


def pattern_of(tokenizer: dict[str, Any]) -> str | None:
    """The regular expression by which a parsed tokenizer.json cuts text; None where it is not one alone."""
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


def as_splintr(tokenizer: dict[str, Any]) -> Encode | None:
    """splintr's encoder of a parsed tokenizer.json; None if it does not know its kind or its rule."""
    import splintr

    if pattern_of(tokenizer) not in (GPT2_PATTERN, CL100K_PATTERN):
        return None
    try:
        return splintr.from_json_bytes(json.dumps(tokenizer).encode()).encode_ordinary
    except ValueError:
        return None


def as_tiktoken(tokenizer: dict[str, Any]) -> Encode | None:
    """tiktoken's encoder with the merges of a parsed tokenizer.json; None if it is no byte-level BPE.

    Source: GPT-2's encoder.py for the alphabet that spells bytes: printable Latin-1 stands for itself, the
    others follow in order from U+0100.
    """
    import tiktoken

    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
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
    # tiktoken would panic at the first byte that is missing
    if pattern is None or not all(bytes([b]) in ranks for b in range(256)):
        return None
    encoding = tiktoken.Encoding("json", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    # No special token is allowed unless named; encode_ordinary would make a list of Python numbers.
    return partial(encoding.encode_to_numpy, disallowed_special=())
