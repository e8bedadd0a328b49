"""What a run prints when it ends: counts in and out, what is missing and why."""

from __future__ import annotations

from collecting_progress import duration, megabytes, plural, printable
from collection import Collection
from collection_format import Request, Tally
from local_source import TakenSource

SHOWN_SOURCES = 12
SHOWN_NAMES = 20


def row(label: str, text: str) -> str:
    """ "time", "2 s" -> "  time             2 s" """
    return f"  {label:<16} {text}".rstrip()


def local_report(taken: list[TakenSource], unchanged: int, removed: list[str], max_mb: float) -> str:
    """The sources that were taken from this machine, the largest first."""
    by_size = sorted(taken, key=lambda each: (-each.bytes, each.full_name))
    lines = [f"{'source':<30} {'files':>7} {'MB':>7}   licence"]
    for each in by_size[:SHOWN_SOURCES]:
        cut = f"cut from {each.source.whole_bytes / 1e6:,.1f} MB" if each.source.is_cut else ""
        columns = f"{printable(each.full_name):<30} {each.files:>7,} {each.bytes / 1e6:>7.2f}"
        lines.append(f"{columns}   {_short(each.license) or '-':<16} {cut}".rstrip())
    if smaller := by_size[SHOWN_SOURCES:]:
        lines.append(_sum_row(plural(len(smaller), "smaller one"), smaller))
    lines.append(_sum_row("together", taken))
    cut_ones = [each for each in taken if each.source.is_cut]
    if cut_ones:
        whole = sum(each.source.whole_bytes if each.source.kind == "installed" else 0 for each in taken)
        lines += [
            "",
            f"{plural(len(cut_ones), 'package was', 'packages were')} cut, the largest first, to stay within",
        ]
        lines[-1] += f" --max-mb {max_mb:g}; whole they have {whole / 1e6:,.1f} MB (--max-mb 0)"
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


def _sum_row(label: str, taken: list[TakenSource]) -> str:
    files, size = sum(each.files for each in taken), sum(each.bytes for each in taken)
    return f"{label:<30} {files:>7,} {size / 1e6:>7.2f}"


def _names(title: str, names: list[str], count: int = 0) -> list[str]:
    """A title and the first of many names; count of them where names are not all."""
    lines = [f"{title}:", *(f"  {printable(name)}" for name in names[:SHOWN_NAMES])]
    more = max(count, len(names)) - SHOWN_NAMES
    return [*lines, f"  ... and {more:,} more"] if more > 0 else lines


def github_report(collection: Collection, request: Request, requests: int, seconds: float) -> str:
    """What became of everything that the search found."""
    tally = collection.tally(request)

    def of(state: str) -> Tally:
        return tally.get(state, Tally())

    found = sum(part.repositories for part in tally.values())
    fetched = of("fetched")
    size = f"{plural(fetched.files, 'Python file')}, {megabytes(fetched.bytes)}"
    rows = [
        row(
            "found",
            f"{plural(found, 'repository', 'repositories')} ({plural(requests, 'search', 'searches')})",
        ),
        row("fetched", f"{fetched.repositories:,} ({size})"),
    ]
    reasons = {
        "found": "wait to be fetched",
        "empty": "hold no Python file",
        "gone": "cannot be had",
        "failed": "failed: try them again with --retry-failed",
    }
    rows += [row("", f"{of(state).repositories:,} {why}") for state, why in reasons.items() if state in tally]
    return "\n".join([*rows, row("time", duration(seconds))])


def missing_report(collection: Collection, request: Request) -> list[str]:
    """What could not be had, by name and by reason: [] when nothing is missing."""
    tally, missing = collection.tally(request), collection.missing(request)
    count = sum(tally.get(state, Tally()).repositories for state in ("failed", "gone"))
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
