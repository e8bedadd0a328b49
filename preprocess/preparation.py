"""The bytes of one Python file -> the pieces of text that a model will read, or why there are none.

decode -> is it generated? -> comments off -> is it code that somebody wrote? -> does it compile? -> pieces
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from comments import UnlexableError, keeps_code, strip_comments
from decoding import UndecodableError, decode_source
from deduplication import content_digest
from filters import ON_CODE, ON_SOURCE, Finding, first_finding
from splitting import split_source


@dataclass(frozen=True, slots=True)
class Rules:
    """The options that decide what becomes of a file."""

    max_chars: int
    filters: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that can be kept: its pieces, and what it shares with copies of itself."""

    pieces: list[str]
    digest: str


def prepare_source(source: bytes, rules: Rules) -> Prepared | Finding:
    """What becomes of a file by itself, before it is compared with any other.

    >>> prepare_source(b"x = 1  # one", Rules(max_chars=4000, filters=True))
    Prepared(pieces=['x = 1\\n'], digest='...')
    """
    try:
        text = decode_source(source)
    except UndecodableError as error:
        return Finding("undecodable", detail=str(error))
    if rules.filters and (finding := first_finding(ON_SOURCE, text)):
        return finding
    try:
        code = strip_comments(text)
    except UnlexableError as error:
        return Finding("unparsable", detail=str(error))
    if not code:
        return Finding("empty", 0, 1)
    if rules.filters and (finding := first_finding(ON_CODE, code)):
        return finding
    if reason := compile_error(code):
        return Finding("unparsable", detail=reason)
    if not keeps_code(text, code):
        return Finding("changed", detail="the lines of code are not those of the file")
    return Prepared(split_source(code, rules.max_chars), content_digest(code))


def compile_error(code: str) -> str:
    """Why the interpreter does not accept the code; "" if it does. Nothing of it is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a stranger's code is warned about is not ours to print
        try:
            compile(code, "<source>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{error.msg} (line {error.lineno})" if error.lineno else str(error.msg)
        # NUL and half surrogate pairs; brackets too deep for the parser, trees too deep for the compiler.
        except (ValueError, MemoryError, RecursionError, OverflowError, SystemError) as error:
            return f"{type(error).__name__}: {error}".removesuffix(": ")
    return ""


def rules_digest(rules: Rules) -> str:
    """What a prepared file depends on besides its bytes: the options, this code, the interpreter."""
    digest = blake2b(repr((rules, sys.implementation.name, sys.version_info)).encode(), digest_size=16)
    for module in ("comments", "decoding", "deduplication", "filters", "preparation", "splitting"):
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return digest.hexdigest()
