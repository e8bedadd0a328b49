"""What a run prints: how far it is; at its end counts in and out, what is missing and why; what a plan costs.

On a terminal the state is in lines that change, in a pipe it is a plain line now and then.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from collection.record import Collection
from collection.request import Request
from collection.search_record import LISTED
from collection.status import PlannedDay, Tally
from collector_cli import SHOWN_NAMES, first_lines, plural, printable, warn
from sources.local_source import TakenSource

PLAIN_SECONDS = 10.0  # between two lines in a pipe; in a long run a twentieth of its time so far
LONGEST_SILENCE = 300.0

SHOWN_SOURCES = 12

# Python files alone, as part of the size that GitHub gives, history included: 5.4 of 291.6 MB in 13 of them.
PARTIAL_SHARE = 0.019
# Seconds of one of eight clones at once with 80 ms to the server, by `benchmarks/collect.py clones` on two
# cores; a partial one sends two requests. The transfer comes on top.
SMALL_SECONDS = 0.7
LARGE_SECONDS = 1.2
BYTES_A_SECOND = 2_000_000

MAX_ROWS = 45  # of a plan; a longer one is shown by week, month or year
BAR = 40


def size_text(size: int) -> str:
    """A number of bytes: 1234567 -> "1.2 MB"; 12345 -> "12 kB"; 1 -> "1 byte" """
    if size < 1000:
        return plural(size, "byte")
    return f"{size / 1e3:.0f} kB" if size < 999_500 else f"{size / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s" """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def clock_in(seconds: float) -> str:
    """The time of day so many seconds from now: "16:04:30" """
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))


def in_lines(state: str, width: int) -> list[str]:
    """A state in lines of at most width characters, cut between its parts: "a · b · c", 5 -> "a · b", "c" """
    lines: list[str] = []
    for part in state.split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part[:width])
    return lines


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Progress:
    """The state of a run on standard error."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._mutex = threading.Lock()
        self._lines = 0  # that are shown now
        self._started = time.monotonic()
        self._next = self._started + (0.0 if self._on_terminal else PLAIN_SECONDS)

    def show(self, describe: Callable[[], str]) -> None:
        """Show the state if it is time to; describe is called only then."""
        with self._mutex:
            if (now := time.monotonic()) < self._next:
                return
            silence = min(max(PLAIN_SECONDS, (now - self._started) / 20), LONGEST_SILENCE)
            self._next = now + (0.1 if self._on_terminal else silence)
            state = describe()
            if self._on_terminal:
                self._clear()
                lines = in_lines(state, _terminal_width() - 1)
                warn("\n".join(lines), end="")
                self._lines = len(lines)
            else:
                warn(state)

    def say(self, line: str) -> None:
        """In a pipe, print a line now; a terminal shows the same in its changing line."""
        with self._mutex:
            if not self._on_terminal:
                warn(line)

    def note(self, lines: list[str]) -> None:
        """Print lines that stay, the first of many."""
        with self._mutex:
            self._clear()
            for line in first_lines(lines):
                warn(line)

    def end(self) -> None:
        """Clear the changing line."""
        with self._mutex:
            self._clear()

    def _clear(self) -> None:
        if self._lines:
            up = f"\x1b[{self._lines - 1}A" if self._lines > 1 else ""
            warn(f"\r{up}\x1b[J", end="")
            self._lines = 0


def row(label: str, text: str) -> str:
    """ "time", "2 s" -> "  time       2 s" """
    return f"  {label:<10} {text}".rstrip()


def terminal_width() -> int:
    """Columns for a table on standard output; in a pipe those that a wide one needs."""
    return shutil.get_terminal_size((110, 24)).columns


def local_report(taken: list[TakenSource], unchanged: int, removed: list[str], max_mb: float) -> str:
    """What was taken from this machine, the largest sources first."""
    by_size = sorted(taken, key=lambda each: (-each.bytes, each.full_name))
    cut_ones = [each for each in taken if each.source.is_cut]
    width = terminal_width()
    is_wide = width >= 70  # room for licences
    others = 16 + (19 if is_wide else 0) + (18 if is_wide and cut_ones else 0)
    name_width = min(max(width - others, 12), 30)
    lines = [_columns("source", name_width, "files", "MB") + ("   licence" if is_wide else "")]
    for each in by_size[:SHOWN_SOURCES]:
        line = _columns(printable(each.full_name), name_width, f"{each.files:,}", f"{each.bytes / 1e6:.2f}")
        cut = f"cut from {each.source.whole_bytes / 1e6:,.1f} MB" if each.source.is_cut else ""
        more = f"   {_short(each.license) or '-':<16} {cut}" if is_wide else ""
        lines.append(f"{line}{more}".rstrip())
    sums = {"together": taken}
    if smaller := by_size[SHOWN_SOURCES:]:
        sums = {plural(len(smaller), "smaller one"): smaller, **sums}
    for label, part in sums.items():
        files, size = sum(each.files for each in part), sum(each.bytes for each in part)
        lines.append(_columns(label, name_width, f"{files:,}", f"{size / 1e6:.2f}"))
    if cut_ones:
        whole = sum(each.source.whole_bytes if each.source.kind == "installed" else 0 for each in taken)
        text = (
            f"{plural(len(cut_ones), 'package was', 'packages were')} cut, the largest first, to stay within"
            f" --max-mb {max_mb:g}; whole they have {whole / 1e6:,.1f} MB (--max-mb 0)"
        )
        lines += ["", textwrap.fill(text, width, break_on_hyphens=False)]
    if unchanged:
        lines += ["", f"{plural(unchanged, 'other source')} unchanged since the last run"]
    if removed:
        lines += ["", f"removed, no longer installed: {', '.join(map(printable, removed))}"]
    if skipped := [f"{each.full_name}: {name}" for each in taken for name in each.skipped]:
        lines += ["", *_names("left out, their names have no safe place", skipped)]
    return "\n".join(lines)


def _short(license_id: str) -> str:
    """ "Apache-2.0 AND MIT AND ..." -> "Apache-2.0 ..." """
    return license_id if len(license_id) <= 16 else f"{license_id.split()[0][:12]} ..."


def _columns(name: str, width: int, files: str, size: str) -> str:
    name = name if len(name) <= width else f"{name[: width - 3]}..."
    return f"{name:<{width}} {files:>7} {size:>7}"


def _names(title: str, names: list[str], count: int = 0) -> list[str]:
    """A title and the first names; count is the number of all, if names holds only some."""
    lines = [f"{title}:", *(f"  {printable(name)}" for name in names[:SHOWN_NAMES])]
    more = max(count, len(names)) - SHOWN_NAMES
    return [*lines, f"  ... and {more:,} more"] if more > 0 else lines


def github_report(collection: Collection, request: Request, requests: int, seconds: float) -> str:
    """What became of everything that the search found."""
    tally = collection.tally.of(request)

    def of(state: str) -> Tally:
        return tally.get(state, Tally())

    found = sum(part.repositories for part in tally.values())
    nouns = ("request", "requests") if request.source == LISTED else ("search", "searches")
    asked = plural(requests, *nouns)
    fetched = of("fetched")
    size = f"{plural(fetched.files, 'Python file')}, {size_text(fetched.bytes)}"
    rows = [
        row(
            "listed" if request.source == LISTED else "found",
            plural(found, "repository", "repositories") + (f" ({asked})" if requests else ""),
        ),
        row("fetched", f"{fetched.repositories:,} ({size})"),
    ]
    reasons = {
        "found": ("waits to be fetched", "wait to be fetched"),
        "empty": ("holds no Python file", "hold no Python file"),
        "gone": ("cannot be fetched", "cannot be fetched"),
        "failed": ("failed: --retry-failed tries it again", "failed: --retry-failed tries them again"),
    }
    rows += [
        row("", plural(of(state).repositories, *words)) for state, words in reasons.items() if state in tally
    ]
    return "\n".join([*rows, row("time", duration(seconds))])


def missing_report(collection: Collection, request: Request) -> list[str]:
    """What a request has not got, by name and by reason: [] if it has got everything."""
    missing = collection.outstanding(request)
    count = collection.tally.count(request, "failed", "gone")
    lines = []
    if count:
        failures = missing.failures(SHOWN_NAMES)
        lines += _names(
            "could not be fetched (--retry-failed tries again)",
            [f"{name}: {reason}" for name, reason in failures],
            count,
        )
    if count > SHOWN_NAMES:
        reasons = missing.failure_reasons(SHOWN_NAMES)
        lines += ["by reason:", *(f"  {number:>7,} {printable(reason)}" for reason, number in reasons)]
    count, windows = missing.short_windows(SHOWN_NAMES)
    if count:
        short = [
            f"{first} to {last}: {found:,} of {f'{total:,}' if found < total else 'more'}"
            for first, last, total, found in windows
        ]
        lines += _names("GitHub did not show all repositories made from", short, count)
    count, partly = missing.partly_fetched(SHOWN_NAMES)
    if count:
        lines += _names(
            "fetched without some of their files", [f"{name}: {why}" for name, why in partly], count
        )
    return lines


# Plans


@dataclass(frozen=True)
class PlannedPeriod:
    """A day or a longer period: repositories that wait, their bytes, the time they take."""

    first: str
    repositories: int
    bytes: int
    seconds: float

    def plus(self, other: PlannedPeriod) -> PlannedPeriod:
        count, size = self.repositories + other.repositories, self.bytes + other.bytes
        return PlannedPeriod(self.first, count, size, self.seconds + other.seconds)


def estimate(day: PlannedDay, jobs: int) -> PlannedPeriod:
    """A day's download and time: small repositories are cloned whole, large ones in part."""
    size = round((day.small_kb + PARTIAL_SHARE * day.large_kb) * 1000)
    small = day.repositories - day.large
    latency = small * SMALL_SECONDS + day.large * LARGE_SECONDS
    return PlannedPeriod(day.day, day.repositories, size, latency / jobs + size / BYTES_A_SECOND)


def monday_of(day: str) -> str:
    """ "2024-03-07" -> "2024-03-04" """
    moment = date.fromisoformat(day)
    return (moment - timedelta(days=moment.weekday())).isoformat()


# Rows of a plan: by day while there are few of them, else by week, by month, by year.
PERIODS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("day", str),
    ("week from", monday_of),
    ("month", lambda day: day[:7]),
    ("year", lambda day: day[:4]),
)


def by_period(days: Iterable[PlannedPeriod], name_of: Callable[[str], str]) -> list[PlannedPeriod]:
    """Days summed into longer periods, in order."""
    periods: dict[str, PlannedPeriod] = {}
    for day in days:
        name = name_of(day.first)
        periods[name] = periods.get(name, PlannedPeriod(name, 0, 0, 0.0)).plus(day)
    return list(periods.values())


def list_plan_report(days: list[PlannedDay], jobs: int) -> str:
    """What the repositories of a list will cost; those that the API tells nothing of have no day."""
    together = sum_of(estimate(day, jobs) for day in days)
    unknown = sum(day.repositories for day in days if not day.day)
    lines = [
        f"{plural(together.repositories, 'repository waits', 'repositories wait')}, "
        f"about {duration(together.seconds)} with {plural(jobs, 'clone')} at a time"
    ]
    if unknown < together.repositories:
        lines.append(f"about {size_text(together.bytes)} to download, by the sizes that GitHub gives")
    if unknown:
        count = plural(unknown, "repository", "repositories")
        lines.append(f"the size of {count} is not known: only GitHub tells sizes, and only with a token")
    return "\n".join(textwrap.fill(line, terminal_width(), break_on_hyphens=False) for line in lines)


def plan_report(days: list[PlannedDay], jobs: int, encoding: str) -> str:
    """A row with a bar for each day, or for each week, month or year of a long plan, and their sum."""
    periods = [estimate(day, jobs) for day in days]
    together = sum_of(periods)
    for unit, name_of in PERIODS:  # noqa: B007 - the last one that is tried stays
        rows_of_plan = by_period(periods, name_of)
        if len(rows_of_plan) <= MAX_ROWS:
            break
    periods = rows_of_plan
    most = max(period.repositories for period in periods)
    block = "█" if "utf" in encoding.lower() else "#"
    title = f"{unit:<10} {'repos':>7} {'MB':>9} {'time':>11}"
    bar = min(terminal_width() - len(title) - 2, BAR)
    rows = [
        f"{_row(period)}  {block * max(round(bar * period.repositories / most), bar > 0)}".rstrip()
        for period in periods
    ]
    sums = [
        f"{plural(together.repositories, 'repository waits', 'repositories wait')}, "
        f"about {size_text(together.bytes)} to download, about {duration(together.seconds)} with "
        f"{plural(jobs, 'clone')} at a time",
        "(estimated from the sizes that GitHub gives, with 80 ms to its servers)",
    ]
    prose = [textwrap.fill(line, terminal_width(), break_on_hyphens=False) for line in sums]
    return "\n".join([title, *rows, _row(together), "", *prose])


def sum_of(periods: Iterable[PlannedPeriod]) -> PlannedPeriod:
    total = PlannedPeriod("together", 0, 0, 0.0)
    for period in periods:
        total = total.plus(period)
    return total


def _row(period: PlannedPeriod) -> str:
    size = f"{period.bytes / 1e6:,.1f}"
    return f"{period.first:<10} {period.repositories:>7,} {size:>9} {duration(period.seconds):>11}"
