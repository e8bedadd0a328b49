"""What somebody asked to leave out: a list of owners, repositories and paths, one a line.

    # asked on 2026-11-24
    ann
    ben/compiler
    */tests/data/*
    carol/site/settings*.py

A line stands for what it names and for all that lies in it. `*` stands for anything, slashes too; case does
not matter; what follows a # is a comment.
"""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import translate
from pathlib import Path


class ExclusionError(ValueError):
    """A list that cannot be read: what is wrong, where, what to do."""


class Exclusion:
    """The lines of such a list, and how many files each of them left out."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.matched: Counter[str] = Counter()
        self.patterns = [(line, re.compile(pattern_of(line), re.IGNORECASE)) for line in lines]
        self.any = re.compile("|".join(pattern_of(line) for line in lines) or r"(?!)", re.IGNORECASE)

    def line_for(self, repo: str, path: str) -> str:
        """The first line that leaves a file out; "" if none does."""
        name = f"{repo}/{path}"
        if not self.any.match(name):
            return ""
        line = next(line for line, pattern in self.patterns if pattern.match(name))
        self.matched[line] += 1
        return line

    def idle(self) -> list[str]:
        """The lines that left nothing out: a misspelt name should not go unnoticed."""
        return [line for line in self.lines if not self.matched[line]]


def pattern_of(line: str) -> str:
    """A regular expression for the names that a line stands for."""
    name = line.strip("/")
    return f"(?:{translate(name)}|{translate(name + '/*')})"


def read_exclusion(path: Path | None) -> Exclusion:
    """The list in a file; an empty one without a file. Raises ExclusionError."""
    if path is None:
        return Exclusion([])
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ExclusionError(
            f"the list cannot be read ({error.strerror}): {path.absolute()}: "
            "write one owner, owner/repository or path a line"
        ) from None
    except UnicodeDecodeError:
        raise ExclusionError(f"the list is not UTF-8: {path.absolute()}: save it as UTF-8") from None
    lines = [line.partition("#")[0].strip() for line in text.split("\n")]
    return Exclusion([line for line in dict.fromkeys(lines) if line.strip("/")])
