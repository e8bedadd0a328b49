"""Text -> token ids with the tokenizer of tokenizer.json, fast: splintr reads the same file.

splintr gives the same ids many times as fast as tokenizers; that it does is checked on the corpus's own
documents before it is relied upon. Text never becomes a special id in either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from splintr import AnyTokenizer

END_OF_TEXT = "<|endoftext|>"


class EncoderError(ValueError):
    """A tokenizer folder that cannot be used: what is wrong, where, and the command that puts it right."""


class TextEncoder:
    """Encodes with splintr what it can read, and the rest with tokenizers: the ids are the same."""

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
        self.fast: AnyTokenizer | None = as_splintr(content)

    def encode(self, text: str) -> NDArray[np.uint32]:
        """The ids of the text, none of them special."""
        if self.fast:
            return np.array(self.fast.encode_ordinary(text), np.uint32)
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


def as_splintr(content: bytes) -> AnyTokenizer | None:
    """The tokenizer of a tokenizer.json in splintr; None where it is of a kind that splintr does not read."""
    import splintr

    try:
        return splintr.from_json_bytes(content)
    except ValueError:
        return None
