"""Proof that a file says what it said: syntax trees compared node by node, by nothing that made the text.

>>> list(differences(ast.parse("x = 'a'"), ast.parse("x = 'b'")))
[('a', 'b')]
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from credentials import EMAIL, IP_ADDRESS, KEY, PASSWORD

PLACEHOLDERS = tuple(f"<{kind}>" for kind in (KEY, PASSWORD, EMAIL, IP_ADDRESS))


def what_changed(source: bytes, code: str, written: str) -> str:
    """What is wrong with a file without comments, or with the text that is written of it; "" if nothing is.

    The tree of code must be that of source; that of written may differ in the values of strings alone, and
    only where these hold a placeholder.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            original, stripped = ast.parse(source), ast.parse(code)
            redacted = stripped if written == code else ast.parse(written)
    # A tree too deep for ast to show, of code that compiles.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"its syntax tree cannot be compared ({type(error).__name__})"
    if difference := next(differences(original, stripped), None):
        return f"without comments its syntax tree is another: {shown(difference)}"
    for before, after in differences(stripped, redacted):
        if not (type(before) is type(after) and has_placeholder(after)):
            return f"redaction changed more than a string: {shown((before, after))}"
    return ""


def differences(first: object, second: object) -> Iterator[tuple[object, object]]:
    """The pairs of parts in which two syntax trees differ; without recursion, for trees are deep."""
    pairs = [(first, second)]
    while pairs:
        first, second = pairs.pop()
        if type(first) is not type(second):
            yield first, second
        elif isinstance(first, ast.AST):
            pairs += [(getattr(first, name, None), getattr(second, name, None)) for name in first._fields]
        elif isinstance(first, list) and isinstance(second, list):
            if len(first) != len(second):
                yield first, second
            else:
                pairs += zip(first, second, strict=True)
        elif first != second and repr(first) != repr(second):  # a NaN is no other than itself here
            yield first, second


def has_placeholder(value: object) -> bool:
    if not isinstance(value, str | bytes):
        return False
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return any(placeholder in text for placeholder in PLACEHOLDERS)


def shown(pair: tuple[object, object]) -> str:
    """Both sides, short; a secret that only one of them holds is not shown."""
    return " is now ".join(type(side).__name__ for side in pair)
