"""What is searched for, in GitHub's words: licences, stars, sizes, and whatever else the user adds.

One query asks for at most one licence: that several of them mean "any of these" is nowhere promised, and a
search for each finds the same repositories.

Source: https://docs.github.com/en/search-github/searching-on-github/searching-for-repositories
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from math import ceil, isqrt

from collector_error import CollectorError

LANGUAGE = "language:Python"
MAX_STARS = MAX_SIZE = 100_000_000  # stands for "no upper end"

# The most frequent first: with --limit the first ones are taken.
PERMISSIVE = (
    "mit apache-2.0 bsd-3-clause bsd-2-clause unlicense isc cc0-1.0 0bsd mit-0 bsl-1.0 zlib"
    " bsd-3-clause-clear ncsa postgresql"
).split()
LICENSES = {  # all that GitHub tells apart, by https://choosealicense.com/appendix/ and the source above
    *PERMISSIVE,
    *(
        "afl-3.0 agpl-3.0 artistic-2.0 blueoak-1.0.0 bsd-2-clause-patent bsd-4-clause cc cc-by-4.0"
        " cc-by-sa-4.0 cecill-2.1 cern-ohl-p-2.0 cern-ohl-s-2.0 cern-ohl-w-2.0 ecl-2.0 epl-1.0 epl-2.0"
        " eupl-1.1 eupl-1.2 gfdl-1.3 gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mpl-2.0"
        " ms-pl ms-rl mulanpsl-2.0 odbl-1.0 ofl-1.1 osl-3.0 upl-1.0 vim wtfpl"
    ).split(),
}
REFUSED = {
    "created": "give the days with --start-date and --end-date",
    "language": "only Python is collected",
    "sort": "the order is the collector's: it has to be a stable one",
}


class QueryError(CollectorError):
    """Words that cannot be searched for: which, and what to write instead."""


@dataclass(frozen=True)
class Span:
    """Whole numbers from low to high, both included."""

    low: int
    high: int

    def cut(self, parts: int) -> list[Span]:
        """Equal parts, fewer where there are not enough numbers: Span(0, 9).cut(3) -> 0..3, 4..6, 7..9"""
        count = self.high - self.low + 1
        edges = [self.low + ceil(count * part / parts) for part in range(parts + 1)]
        return [Span(low, high - 1) for low, high in itertools.pairwise(edges) if low < high]

    def cut_geometrically(self) -> list[Span]:
        """Two parts at the geometric mean, for mostly small numbers: 0..999,999 -> 0..999 and above."""
        middle = isqrt((self.low + 1) * (self.high + 1)) - 1
        return [Span(self.low, middle), Span(middle + 1, self.high)] if self.low < self.high else []

    def within(self, other: Span) -> Span:
        """What both have; QueryError where that is nothing."""
        both = Span(max(self.low, other.low), min(self.high, other.high))
        if both.low > both.high:
            raise QueryError(f"nothing is in {self.low}..{self.high} and in {other.low}..{other.high}")
        return both


ANY_STARS = Span(0, MAX_STARS)
ANY_SIZE = Span(0, MAX_SIZE)  # in KB, as the API counts


def ranges(stars: Span, size: Span) -> list[str]:
    """The qualifiers of stars and size, without those that exclude nothing: ["stars:10..*"]"""
    words = []
    for name, span, most in (("stars", stars, MAX_STARS), ("size", size, MAX_SIZE)):
        if span != Span(0, most):
            words.append(f"{name}:{span.low}..{'*' if span.high == most else span.high}")
    return words


@dataclass(frozen=True)
class SearchQuery:
    """A query without its dates. Stars and size are numbers, because a crowded second is cut by them."""

    words: str
    stars: Span = ANY_STARS
    size: Span = ANY_SIZE

    def __str__(self) -> str:
        return " ".join([self.words, *ranges(self.stars, self.size)])


def build_queries(
    text: str = "",
    *,
    min_stars: int = 0,
    max_repo_mb: float = 0,
    include_forks: bool = False,
    licenses: str = "",
) -> tuple[SearchQuery, ...]:
    """The queries that together ask for what the options say; QueryError where they cannot be asked."""
    words, stars, size = [LANGUAGE], ANY_STARS, ANY_SIZE
    for word in _words(text):
        key, colon, value = word.partition(":")
        name = key.lstrip("-").lower()
        if colon and name in REFUSED:
            raise QueryError(f"{name}: is not for --query: {REFUSED[name]}")
        if colon and key == "stars":
            stars = stars.within(_parse_span(word, value, MAX_STARS))
        elif colon and key == "size":
            size = size.within(_parse_span(word, value, MAX_SIZE))
        else:
            words.append(word)
    if min_stars:
        stars = stars.within(Span(min_stars, MAX_STARS))
    if max_repo_mb:
        size = size.within(Span(0, max(int(max_repo_mb * 1000), 1)))
    if include_forks and not any(word.startswith("fork:") for word in words):
        words.append("fork:true")
    base = " ".join(words)
    names = [f"{base} license:{name}" for name in parse_licenses(licenses)] if licenses else [base]
    return tuple(SearchQuery(name, stars, size) for name in names)


def _words(text: str) -> list[str]:
    """The words of a query, quoted ones together: 'a "b c" topic:x' -> ['a', '"b c"', 'topic:x']"""
    if not text.isprintable() or text.count('"') % 2:
        raise QueryError(f"--query cannot be asked: {text!r}: a quote is not closed, or it is no plain line")
    return re.findall(r'(?:[^\s"]|"[^"]*")+', text)


def _parse_span(word: str, value: str, most: int) -> Span:
    """A qualifier's numbers: ">=10" -> 10 and more, "5..9", "*..9", "7"."""
    if match := re.fullmatch(r"(\d+|\*)\.\.(\d+|\*)", value):
        low, high = (None if end == "*" else int(end) for end in match.groups())
    elif match := re.fullmatch(r"(>=|<=|>|<|)(\d+)", value):
        sign, number = match[1], int(match[2])
        low = None if "<" in sign else number + (sign == ">")
        high = None if ">" in sign else number - (sign == "<")
    else:
        raise QueryError(f"not a range of numbers: {word}: write it as stars:10..50, stars:>=10 or stars:<50")
    span = Span(low or 0, most if high is None else high)
    if span.low > span.high:
        raise QueryError(f"nothing is in this range: {word}")
    return span


def parse_licenses(text: str) -> list[str]:
    """GitHub's names of licences: "MIT,GPL-3.0-only" -> ["mit", "gpl-3.0"]; "permissive" -> a dozen."""
    names: list[str] = []
    for name in re.split(r"[,\s]+", text.strip().lower()):
        name = re.sub(r"-(only|or-later)$", "", name)
        if name != "permissive" and name not in LICENSES:
            raise QueryError(
                f"no licence that GitHub tells apart: {name!r}: "
                "give SPDX names, e.g. mit,apache-2.0, or permissive"
            )
        names += PERMISSIVE if name == "permissive" else [name]
    return list(dict.fromkeys(names))
