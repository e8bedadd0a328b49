"""What is open where a text breaks off, as a chain from the innermost outwards."""

from __future__ import annotations

import sys
from typing import NamedTuple

MOST_OPEN = 80  # CPython's parser gives up at about 100 brackets in each other
NESTED_QUOTES = sys.version_info >= (3, 12)  # inside the fields of f-strings, backslashes and comments too


class Open(NamedTuple):
    """A bracket, a string, or a replacement field that is open."""

    kind: str
    outer: Open | None
    depth: int
    quote: str = ""  # the string's, or that of the one that the field stands in
    is_raw: bool = False
    named: frozenset[str] | None = None  # the parameters, or the arguments by name, of a "(" so far
    has_parameters: bool = False

    def forbids(self, lexeme: str) -> bool:
        """Whether an f-string's field around it may not have this lexeme, as before Python 3.12."""
        if NESTED_QUOTES or not self.quote:
            return False
        around: Open | None = self
        while around is not None:
            if around.quote and around.quote in lexeme:
                return True
            around = around.outer
        return "\\" in lexeme

    @property
    def forbids_comments(self) -> bool:
        """Whether it is an f-string's field, as before Python 3.12."""
        return not NESTED_QUOTES and bool(self.quote)
