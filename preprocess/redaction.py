"""Source -> the same with placeholders such as <EMAIL> in place of secrets and personal data.

Only the contents of string literals are changed, so that all else of the program stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from comments import QUOTES_NEST, UP_TO_STRING, hide_fstrings, may_nest_quotes
from credentials import KEY, Secret, find_secrets


@dataclass(frozen=True, slots=True)
class Redacted:
    """The text to write, how many secrets were taken out of it, and the first that no string holds."""

    text: str
    number: int
    outside: Secret | None = None


def redact(code: str) -> Redacted:
    """The code without its secrets. code is Python without comments.

    >>> redact("owner = 'ann@python.org'").text
    "owner = '<EMAIL>'"

    A token that lies outside all strings, such as in a name, is left in and returned: the file is not to be
    used. What reaches over several strings, such as a private key written line by line, goes from each.
    """
    secrets = find_secrets(code)
    if not secrets:
        return Redacted(code, 0)
    literals = list(string_contents(code))
    parts: list[str] = []
    position = number = 0
    outside = None
    for secret in secrets:
        spans = [(max(start, secret.start), min(end, secret.end)) for start, end in literals]
        spans = [(start, end) for start, end in spans if start < end]
        if spans:
            number += 1
        elif secret.kind == KEY:
            outside = outside or secret
        for start, end in spans:
            parts += [code[position:start], f"<{secret.kind}>"]
            position = end
    return Redacted("".join([*parts, code[position:]]), number, outside)


def string_contents(code: str) -> Iterator[tuple[int, int]]:
    """Where the contents of the string literals begin and end, quotes not included."""
    if QUOTES_NEST and may_nest_quotes(code):
        code, _ = hide_fstrings(code)  # of the same length
    position = 0
    while match := UP_TO_STRING.match(code, position):
        start, position = match.span("string")
        if start == position:
            return
        quotes = 3 if code[start : start + 3] in ('"""', "'''") and position - start >= 6 else 1
        yield start + quotes, position - quotes
