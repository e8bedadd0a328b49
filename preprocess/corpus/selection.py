"""Which files are kept of those that can be: by who asked to be left out, by licence, the best of all copies.

The list of --exclude has an owner, a repository or a path a line:

    # asked on 2026-11-24
    ann
    ben/compiler
    */tests/data/*
    carol/site/settings*.py

A line stands for what it names and for everything in it. `*` stands for anything, slashes too; case does not
matter; what follows a # is a comment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.inventory import Inventory, Repository, SourceFile, as_text
from corpus.shards import Outcome, Shard
from documents.filters import Finding
from documents.spdx_licenses import PERMISSIVE, is_allowed
from preprocess_cli import UserError

if TYPE_CHECKING:  # they import numpy
    from corpus.partitioned_duplicates import Means

NEAR_DUPLICATE = "near_duplicate"
SIMILAR = 0.7  # SantaCoder, The Stack: word 5-grams, Jaccard 0.7

SECOND = re.compile(r"~\d+$")  # what the collector puts behind a name that is taken

FOLDED_PERMISSIVE = frozenset(name.casefold() for name in PERMISSIVE)


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

    def line_for_file(self, file: SourceFile) -> str:
        """The same by where it lies too: that was its name while the record knew no true paths.

        A repository that was collected from a second source as well is "ann/tool~2": ann/tool means both.
        """
        line = self.line_for(file.repo, file.path) or self.line_for(SECOND.sub("", file.repo), file.path)
        if line or file.location.endswith(file.path):
            return line
        levels = 3 + file.path.count("/")  # owner, name and what is in it, wherever repos/ is
        owner, _, rest = "/".join(as_text(file.location).split("/")[-levels:]).partition("/")
        return self.line_for(owner, rest)

    def unused(self) -> list[str]:
        """The lines that left nothing out: a misspelt name should be noticed."""
        return [line for line in self.lines if not self.matched[line]]


def pattern_of(line: str) -> str:
    """A regular expression for the names that a line stands for."""
    name = line.strip("/")
    return f"(?:{translate(name)}|{translate(name + '/*')})"


def read_exclusion(path: Path | None) -> Exclusion:
    """The list in a file; an empty one without a file. Raises UserError if it cannot be read."""
    if path is None:
        return Exclusion([])
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"the list cannot be read ({error.strerror}): {path.absolute()}: "
            "write one owner, owner/repository or path a line"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"the list is not UTF-8: {path.absolute()}: save it as UTF-8") from None
    lines = [line.partition("#")[0].strip() for line in text.split("\n")]
    return Exclusion([line for line in dict.fromkeys(lines) if line.strip("/")])


@dataclass(frozen=True, slots=True)
class Choice:
    """The options that decide between files."""

    licenses: frozenset[str] | None = None  # case folded; None: any
    similar: float | None = (
        SIMILAR  # a file this similar to a better one is a copy; None: only an equal one is
    )
    train_on: tuple[str, ...] = ()  # patterns of repositories that are not held out


@dataclass(frozen=True)
class Findings:
    """What drops files, or None, for those of an inventory one after the other.

    copies: (number, number of the better one, similarity or 0) of each copy, by number.
    """

    inventory: Inventory
    choice: Choice
    copies: Iterable[tuple[int, int, float]]

    def of(self, files: Iterable[tuple[SourceFile, Outcome]]) -> Iterator[Finding | None]:
        """For all files with their outcomes, from the first on."""
        coming = iter(self.copies)
        copy = next(coming, None)
        for number, (file, outcome) in enumerate(files):
            if copy is None or copy[0] != number:
                yield by_itself(self.inventory, self.choice, file, outcome)
                continue
            name, similarity = name_of(self.inventory.files[copy[1]]), round(copy[2], 4)
            if similarity:
                yield Finding(NEAR_DUPLICATE, similarity, self.choice.similar, name)
            else:
                yield Finding("duplicate", detail=name)
            copy = next(coming, None)


def select(
    inventory: Inventory, shards: Iterable[Shard], choice: Choice, prepared: Path, folder: Path, means: Means
) -> Findings:
    """What drops each file. prepared, folder, means: see find_copies."""
    from corpus.copies import find_copies, rank_of

    by_rank = sorted(inventory.repositories, key=lambda name: inventory.repositories[name].rank())
    places = {name: place for place, name in enumerate(by_rank)}

    def rank(shard: Shard, position: int, outcome: Outcome) -> int | None:
        file = shard.files[position]
        if by_itself(inventory, choice, file, outcome):
            return None
        license_name = license_of(inventory.repositories[file.repo], outcome)
        return rank_of(license_rank(license_name), places[file.repo], shard.numbers[position])

    return Findings(inventory, choice, find_copies(shards, rank, prepared, folder, choice.similar, means))


def by_itself(inventory: Inventory, choice: Choice, file: SourceFile, outcome: Outcome) -> Finding | None:
    """What drops a file whatever the others are: a rule, or its licence."""
    if outcome.finding or choice.licenses is None:
        return outcome.finding
    license_name = license_of(inventory.repositories[file.repo], outcome)
    if is_allowed_cached(license_name, choice.licenses):
        return None
    return Finding("license", detail=license_name or "unknown")


def license_of(repository: Repository, outcome: Outcome) -> str:
    """The licence of a file: its own header counts before what is known of its repository."""
    return outcome.license or repository.license


@cache
def license_rank(license_name: str) -> int:
    """0 for a permissive licence, 1 for another, 2 for none: what decides first which copy is kept.

    Source: BigCode's near-deduplication keeps by licence, then stars, then forks, then age.
    """
    return 0 if is_allowed(license_name, FOLDED_PERMISSIVE) else 1 if license_name else 2


@cache
def is_allowed_cached(license_name: str, licenses: frozenset[str]) -> bool:
    return is_allowed(license_name, licenses)


def name_of(file: SourceFile) -> str:
    return f"{file.repo}/{file.path}"
