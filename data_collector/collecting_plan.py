"""What a plan shows: how much waits to be fetched, how large it is, how long it takes; as table and chart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from collecting_progress import duration, megabytes, plural
from collection_format import PlannedDay

# Of the size that GitHub gives, history and all, Python files alone were 5.4 of 291.6 MB in 13 repositories.
PARTIAL_SHARE = 0.019
# Seconds that one of eight clones at once takes with 80 ms to the server, as `benchmarks/collect.py clones`
# measures them on two cores; a partial one asks twice. What travels comes on top.
SMALL_SECONDS = 0.7
LARGE_SECONDS = 1.2
BYTES_A_SECOND = 2_000_000

MAX_DAYS = 45  # rows that are read at a glance; a longer plan goes by week
BAR = 40


@dataclass(frozen=True)
class PlannedPeriod:
    """A day, or a week from Monday on: what waits, what it weighs, what it takes."""

    first: str
    repositories: int
    bytes: int
    seconds: float

    def plus(self, other: PlannedPeriod) -> PlannedPeriod:
        count, size = self.repositories + other.repositories, self.bytes + other.bytes
        return PlannedPeriod(self.first, count, size, self.seconds + other.seconds)


def estimate(day: PlannedDay, jobs: int) -> PlannedPeriod:
    """A day's download and time: small repositories travel whole, of large ones the Python files."""
    size = round((day.small_kb + PARTIAL_SHARE * day.large_kb) * 1000)
    small = day.repositories - day.large
    latency = small * SMALL_SECONDS + day.large * LARGE_SECONDS
    return PlannedPeriod(day.day, day.repositories, size, latency / jobs + size / BYTES_A_SECOND)


def by_week(days: Iterable[PlannedPeriod]) -> list[PlannedPeriod]:
    """Days put together in weeks, named by their Mondays."""
    weeks: dict[str, PlannedPeriod] = {}
    for day in days:
        moment = date.fromisoformat(day.first)
        monday = (moment - timedelta(days=moment.weekday())).isoformat()
        weeks[monday] = weeks.get(monday, PlannedPeriod(monday, 0, 0, 0.0)).plus(day)
    return list(weeks.values())


def plan_report(days: list[PlannedDay], jobs: int, encoding: str) -> str:
    """A row with a bar for each day, or each week of a long plan, and their sum."""
    periods = [estimate(day, jobs) for day in days]
    together = sum_of(periods)
    is_long = len(periods) > MAX_DAYS
    periods = by_week(periods) if is_long else periods
    most = max(period.repositories for period in periods)
    block = "█" if "utf" in encoding.lower() else "#"
    title = f"{'week from' if is_long else 'day':<12} {'repositories':>12} {'MB':>10} {'time':>12}"
    rows = [
        _row(period) + f"  {block * max(round(BAR * period.repositories / most), 1)}" for period in periods
    ]
    sums = [
        f"{plural(together.repositories, 'repository waits', 'repositories wait')}, "
        f"about {megabytes(together.bytes)} to download, about {duration(together.seconds)} with "
        f"{plural(jobs, 'clone')} at a time",
        "(estimated from the sizes that GitHub gives, and 80 ms to its servers)",
    ]
    return "\n".join([title, *rows, _row(together), "", *sums])


def sum_of(periods: Iterable[PlannedPeriod]) -> PlannedPeriod:
    total = PlannedPeriod("together", 0, 0, 0.0)
    for period in periods:
        total = total.plus(period)
    return total


def _row(period: PlannedPeriod) -> str:
    size = f"{period.bytes / 1e6:,.1f}"
    return f"{period.first:<12} {period.repositories:>12,} {size:>10} {duration(period.seconds):>12}"
