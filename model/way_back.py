"""The states that a completion can be taken back to: one before each token, and the lines of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from valid_code import Standing

if TYPE_CHECKING:
    from reading import Reading
    from sampling import Array


@dataclass
class Step:
    """The state before a token, and what the model says there: (1, V)."""

    ids: int
    characters: int
    tokens: int
    owed: bytes
    closing: bytes
    decoder: tuple[bytes, int]
    logits: Array
    reading: Reading | None
    log_probability: float = 0.0
    banned: set[int] = field(default_factory=set)  # tokens that led nowhere here


@dataclass
class Line:
    """A line end that was accepted."""

    step: int  # the first of the steps after it
    standing: Standing
    tries: int = 0  # at the line after it
