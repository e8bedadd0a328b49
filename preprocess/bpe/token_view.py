"""A text shown as its tokens: coloured in place on a terminal, one token a line in a pipe, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Two alternating backgrounds show where tokens end; black on pastel reads on dark and on light terminals.
COLOURS = ("\x1b[38;5;16;48;5;153m", "\x1b[38;5;16;48;5;222m")
RESET = "\x1b[0m"

VISIBLE = {" ": "·", "\n": "⏎\n", "\t": "→", "\r": "␍"}


@dataclass(frozen=True)
class Token:
    """One token of a text: its id and its bytes, perhaps only a part of a character."""

    id: int
    content: bytes

    def literal(self) -> str:
        """The token as Python writes it: `'def'`, or `b'\\xe2\\x82'` for a part of a character."""
        try:
            return repr(self.content.decode())
        except UnicodeDecodeError:
            return repr(self.content)

    def visible(self) -> str:
        """The token with visible blanks and line ends, without anything that a terminal would obey."""
        try:
            text = self.content.decode()
        except UnicodeDecodeError:
            return "".join(f"\\x{byte:02x}" for byte in self.content)
        return "".join(VISIBLE.get(c) or (c if c.isprintable() else repr(c)[1:-1]) for c in text)


def byte_of_character() -> dict[str, int]:
    """The printable alphabet in which byte-level BPE spells the 256 bytes: "a" -> 0x61, "Ġ" -> 0x20.

    Source: GPT-2's encoder.py: printable Latin-1 stays, the other bytes follow in order from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def tokens_of(ids: Sequence[int], spellings: Iterable[str]) -> list[Token]:
    """Ids and their spellings in the vocabulary ("Ġos") -> tokens with their bytes."""
    byte = byte_of_character()
    return [Token(i, bytes(byte[c] for c in spelling)) for i, spelling in zip(ids, spellings, strict=True)]


def plain_view(tokens: Iterable[Token]) -> str:
    """A line per token: its id, a tab, the token as a Python literal."""
    return "".join(f"{token.id}\t{token.literal()}\n" for token in tokens)


def json_view(text: str, tokens: Sequence[Token]) -> str:
    """A text as its tokens for other programs: one JSON object on one line."""
    size = len(text.encode())
    described = {
        "ids": [token.id for token in tokens],
        "tokens": [token.literal() for token in tokens],
        "count": len(tokens),
        "bytes": size,
        "bytes_per_token": round(size / len(tokens), 4) if tokens else None,
    }
    return json.dumps(described, ensure_ascii=False)


def coloured_view(tokens: Sequence[Token], width: int) -> str:
    """The text, each token on its own background, with visible blanks and line ends; below it the ids."""
    text = "".join(_coloured(token.visible(), i) for i, token in enumerate(tokens))
    if tokens and not tokens[-1].content.endswith(b"\n"):
        text += "\n"
    ids, column = "", 0
    for i, token in enumerate(tokens):
        cell = f" {token.id} "
        if column and column + len(cell) > width:
            ids, column = ids + "\n", 0
        ids, column = ids + _coloured(cell, i), column + len(cell)
    return f"{text}\n{ids}\n" if tokens else ""


def _coloured(text: str, i: int) -> str:
    colour = COLOURS[i % 2]
    # The colour ends with the line: terminals would paint the rest of the line too.
    return colour + text.replace("\n", f"{RESET}\n{colour}") + RESET
