"""The days that a user asks for: whole days in UTC, both included, or seconds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from collector_error import CollectorError

FIRST_DAY = datetime(2007, 10, 1, tzinfo=UTC)  # nothing on GitHub is older


class DateRangeError(CollectorError):
    """Dates that cannot be searched: which, and how they are written."""


@dataclass(frozen=True)
class DateRange:
    """From the first to the last second, both included."""

    first: datetime
    last: datetime

    def __str__(self) -> str:
        return f"{self.first:%Y-%m-%d %H:%M:%S} to {self.last:%Y-%m-%d %H:%M:%S} UTC"


def parse_moment(text: str, *, is_end: bool) -> datetime:
    """A day's first (or last) second, or the second itself: "2024-03-01" -> 00:00:00 (or 23:59:59) of it."""
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=moment.tzinfo or UTC, microsecond=0).astimezone(UTC)
    except (ValueError, OverflowError):  # a zone can push the first and the last year over the edge
        raise DateRangeError(
            f"no such date: {text!r}: write it as 2024-03-01, or as 2024-03-01T12:00:00Z"
        ) from None
    is_day = len(text.strip()) <= len("2024-03-01")
    return moment + timedelta(days=1, seconds=-1) if is_end and is_day else moment


def parse_range(start: str, end: str) -> DateRange:
    """The range between two dates; DateRangeError where it is empty or lies in the future."""
    span = DateRange(parse_moment(start, is_end=False), parse_moment(end, is_end=True))
    today = datetime.now(UTC).replace(hour=23, minute=59, second=59, microsecond=0)
    if span.last > today:
        raise DateRangeError(f"the end is after today: {end}: give --end-date {today:%Y-%m-%d} or earlier")
    if span.first > span.last:
        raise DateRangeError(
            f"the start {start} is after the end {end}: exchange --start-date and --end-date"
        )
    return DateRange(max(span.first, FIRST_DAY), max(span.last, FIRST_DAY))


def ask_range(start: str | None, end: str | None) -> DateRange:
    """The range of the two options; on a terminal the user is asked for what is missing."""
    if start and end:
        return parse_range(start, end)
    if not sys.stdin.isatty():
        missing = " and ".join(
            option for option, given in (("--start-date", start), ("--end-date", end)) if not given
        )
        raise DateRangeError(
            f"{missing} missing: give e.g. --start-date 2024-03-01 --end-date 2024-03-02, "
            "or --local for the Python of this machine"
        )
    while True:
        first = start or _ask("repositories made from which day on (e.g. 2024-03-01)? ")
        last = end or _ask("up to which day? ")
        try:
            return parse_range(first, last)
        except DateRangeError as error:
            print(error, file=sys.stderr)
            start = end = None


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise KeyboardInterrupt from None
