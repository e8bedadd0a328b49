"""--verify: check that a file is still the same program, by comparing syntax trees node by node.

The check shares no code with the rules that made the text.

>>> list(differences(ast.parse("x = 'a'"), ast.parse("x = 'b'")))
[('a', 'b')]
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from documents.named_secrets import KEY, PASSWORD
from documents.redaction import EMAIL, IP_ADDRESS

PLACEHOLDERS = tuple(f"<{kind}>" for kind in (KEY, PASSWORD, EMAIL, IP_ADDRESS))


def what_changed(source: bytes, code: str, written: str) -> str:
    """How a file without comments, or the text to be written, differs from the source; "" if it does not.

    The tree of code must be that of source. The tree of written may differ only in the values of strings, and
    only in those that hold a placeholder.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            original, stripped = ast.parse(source), ast.parse(code)
            redacted = stripped if written == code else ast.parse(written)
    # A tree too deep for ast, of code that compiles.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"its syntax tree cannot be compared ({type(error).__name__})"
    if difference := next(differences(original, stripped), None):
        return f"without comments its syntax tree is another: {shown(difference)}"
    for before, after in differences(stripped, redacted):
        if not (type(before) is type(after) and has_placeholder(after)):
            return f"redaction changed more than a string: {shown((before, after))}"
    return ""


def differences(first: object, second: object) -> Iterator[tuple[object, object]]:
    """The pairs of parts in which two syntax trees differ; without recursion, because trees are deep."""
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
        elif first != second and repr(first) != repr(second):  # a NaN equals itself here
            yield first, second


def has_placeholder(value: object) -> bool:
    if not isinstance(value, str | bytes):
        return False
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return any(placeholder in text for placeholder in PLACEHOLDERS)


def shown(pair: tuple[object, object]) -> str:
    """The types of both sides: their values might hold a secret."""
    return " is now ".join(type(side).__name__ for side in pair)
