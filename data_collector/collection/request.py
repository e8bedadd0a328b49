"""What the user asks for: repositories made in a range of time, and GitHub's qualifiers.

One query asks for at most one licence: GitHub nowhere promises that several of them mean "any of these", and
a search for each finds the same repositories.

Source: https://docs.github.com/en/search-github/searching-on-github/searching-for-repositories
"""

from __future__ import annotations

import calendar
import itertools
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, isqrt

from collector_cli import UserError, warn

FIRST_DAY = datetime(2007, 10, 1, tzinfo=UTC)  # nothing on GitHub is older
LANGUAGE = "language:Python"
MAX_STARS = MAX_SIZE = 100_000_000  # stands for "no upper end"

# The most frequent licence first: --limit takes the first repositories that are found.
PERMISSIVE = (
    "mit apache-2.0 bsd-3-clause bsd-2-clause unlicense isc cc0-1.0 0bsd mit-0 bsl-1.0 zlib"
    " bsd-3-clause-clear ncsa postgresql"
).split()
LICENSES = {  # all that GitHub can search for, by https://choosealicense.com/appendix/ and the source above
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
    "sort": "the collector sorts by date; --sort stars --limit N gives the N most starred",
}


class DateRangeError(UserError):
    """Dates that cannot be searched: which, and how to write them."""


class QueryError(UserError):
    """Words that cannot be searched for: which, and what to write instead."""


# Dates


@dataclass(frozen=True)
class DateRange:
    """From the first to the last second, both included."""

    first: datetime
    last: datetime

    def part(self, number: int, parts: int) -> DateRange:
        """One of equal parts, counted from 1: of four days the second of four is the second day.

        Raises: DateRangeError if it has not begun yet.
        """
        seconds = int(self.first.timestamp()), int(self.last.timestamp())
        if parts > seconds[1] - seconds[0] + 1:
            raise DateRangeError(f"fewer seconds than parts: {self}: give more days or fewer parts")
        span = Span(*seconds).cut(parts)[number - 1]
        first, last = (datetime.fromtimestamp(end, UTC) for end in (span.low, span.high))
        if first > datetime.now(UTC):
            raise DateRangeError(
                f"part {number}/{parts} begins later than now: {first}: wait, or cut days that are over"
            )
        return DateRange(first, last)

    def __str__(self) -> str:
        return f"{self.first:%Y-%m-%d %H:%M:%S} to {self.last:%Y-%m-%d %H:%M:%S} UTC"


def parse_moment(text: str, *, is_end: bool) -> datetime:
    """A day's first (or last) second, or the second itself: "2024-03-01" -> 00:00:00 (or 23:59:59) of it."""
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=moment.tzinfo or UTC, microsecond=0).astimezone(UTC)
    except (ValueError, OverflowError):  # a time zone can push the first and the last year over the edge
        raise DateRangeError(
            f"no such date: {text!r}: write it as 2024-03-01, or as 2024-03-01T12:00:00Z"
        ) from None
    is_day = len(text.strip()) <= len("2024-03-01")
    return moment + timedelta(days=1, seconds=-1) if is_end and is_day else moment


def parse_range(start: str, end: str) -> DateRange:
    """The range between two dates; DateRangeError if it is empty or ends in the future."""
    span = DateRange(parse_moment(start, is_end=False), parse_moment(end, is_end=True))
    today = datetime.now(UTC).replace(hour=23, minute=59, second=59, microsecond=0)
    if span.last > today:
        raise DateRangeError(f"the end is after today: {end}: give --end-date {today:%Y-%m-%d} or earlier")
    if span.first > span.last:
        raise DateRangeError(f"the start {start} is after the end {end}: swap --start-date and --end-date")
    return DateRange(max(span.first, FIRST_DAY), max(span.last, FIRST_DAY))


def ask_range(start: str | None, end: str | None, *, is_narrow: bool = False) -> DateRange:
    """The range of the two options; on a terminal the user is asked for what is missing.

    With is_narrow, because a query narrows the search, it begins with GitHub itself and ends today.
    """
    if is_narrow:
        today = datetime.now(UTC)
        return parse_range(start or f"{FIRST_DAY:%Y-%m-%d}", end or f"{today:%Y-%m-%d}")
    if start and end:
        return parse_range(start, end)
    if not sys.stdin.isatty():
        missing = " and ".join(
            option for option, given in (("--start-date", start), ("--end-date", end)) if not given
        )
        raise DateRangeError(
            f"{missing} missing: give e.g. --start-date 2024-03-01 --end-date 2024-03-02, "
            "a --query, or --local for the Python of this machine"
        )
    while True:
        first = start or _ask("repositories made from which day on (e.g. 2024-03-01)? ")
        last = end or _ask("up to which day? ")
        try:
            return parse_range(first, last)
        except DateRangeError as error:
            warn(str(error))
            start = end = None


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise KeyboardInterrupt from None


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as GitHub writes them: 0 -> "1970-01-01T00:00:00Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def seconds_of(moment: str) -> int:
    """ "1970-01-01T00:01:00Z" -> 60"""
    return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))


# Queries


@dataclass(frozen=True)
class Span:
    """Whole numbers from low to high, both included."""

    low: int
    high: int

    def cut(self, parts: int) -> list[Span]:
        """Equal parts, fewer if there are not enough numbers: Span(0, 9).cut(3) -> 0..3, 4..6, 7..9"""
        count = self.high - self.low + 1
        edges = [self.low + ceil(count * part / parts) for part in range(parts + 1)]
        return [Span(low, high - 1) for low, high in itertools.pairwise(edges) if low < high]

    def cut_geometrically(self) -> list[Span]:
        """Two parts at the geometric mean, for mostly small numbers: 0..999,999 -> 0..999 and above."""
        middle = isqrt((self.low + 1) * (self.high + 1)) - 1
        return [Span(self.low, middle), Span(middle + 1, self.high)] if self.low < self.high else []

    def within(self, other: Span) -> Span:
        """The numbers in both; QueryError if there are none."""
        both = Span(max(self.low, other.low), min(self.high, other.high))
        if both.low > both.high:
            raise QueryError(
                f"no number is in both {self.low}..{self.high} and {other.low}..{other.high}: change one"
            )
        return both


ANY_STARS = Span(0, MAX_STARS)
ANY_SIZE = Span(0, MAX_SIZE)  # in KB, as the API counts


def ranges(stars: Span, size: Span) -> list[str]:
    """The qualifiers of stars and size that exclude anything: ["stars:10..*"]"""
    words = []
    for name, span, most in (("stars", stars, MAX_STARS), ("size", size, MAX_SIZE)):
        if span != Span(0, most):
            words.append(f"{name}:{span.low}..{'*' if span.high == most else span.high}")
    return words


@dataclass(frozen=True)
class SearchQuery:
    """A query without its dates. Stars and size are numbers: a crowded second is cut by them."""

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
    """The queries that together find what the options ask for; QueryError for what cannot be searched."""
    words, stars, size = [LANGUAGE], ANY_STARS, ANY_SIZE
    for word in _words(text):
        key, colon, value = word.partition(":")
        name = key.lstrip("-").lower()
        if colon and name in REFUSED:
            raise QueryError(f"{name}: cannot be part of --query: {REFUSED[name]}")
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
        raise QueryError(
            f"--query cannot be searched for: {text!r}: close every quote and write it on one line"
        )
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
        raise QueryError(f"an empty range: {word}: write the smaller number first")
    return span


def parse_licenses(text: str) -> list[str]:
    """GitHub's names of licences: "MIT,GPL-3.0-only" -> ["mit", "gpl-3.0"]; "permissive" -> PERMISSIVE."""
    names: list[str] = []
    for name in re.split(r"[,\s]+", text.strip().lower()):
        name = re.sub(r"-(only|or-later)$", "", name)
        if name != "permissive" and name not in LICENSES:
            raise QueryError(
                f"no licence that GitHub can search for: {name!r}: "
                "give SPDX names, e.g. mit,apache-2.0, or permissive"
            )
        names += PERMISSIVE if name == "permissive" else [name]
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Request:
    """Everything that the queries find among the repositories that were made in a range of time."""

    source: str  # the API's host
    queries: tuple[SearchQuery, ...]
    first_second: str
    last_second: str
