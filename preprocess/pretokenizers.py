"""The rule that cuts text into words before byte pairs are merged: no token crosses the border of a word.

`gpt2` and `cl100k` are the rules of GPT-2 and GPT-4, which other programs know too (llama.cpp among them).
`python` is made for source code: punctuation may take the newline and the next line's indentation with it, so
that `):\\n        ` can become one token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

# As published with tiktoken; the alternatives are tried in this order at each position.
CL100K_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PYTHON_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+(?:(?:\r?\n)+[ \t]*)?|[ \t]*(?:\r?\n)+[ \t]*"
    r"|\s+(?!\S)|\s+"
)

PRETOKENIZERS = ("gpt2", "cl100k", "python")


def build_pretokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer of that name, mapping bytes to the printable alphabet of byte-level BPE.

    "python": "if x:\\n    pass" -> "if", " x", ":\\n    ", "pass"
    """
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    if name == "gpt2":  # tokenizers has this one built in
        return ByteLevel(add_prefix_space=False, use_regex=True)
    pattern = {"cl100k": CL100K_PATTERN, "python": PYTHON_PATTERN}[name]
    return Sequence(
        [Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)],
    )
