"""--report: a page that shows what was kept of a corpus, what was dropped and why, and where it comes from.

It needs nothing else: no script, font or picture from elsewhere, so it can be mailed, archived and opened
without a network. Every name in it comes from other people and is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from corpus.data_file import iter_documents
from corpus.output_files import names_of_repos
from preprocess_cli import plural, size_of

MOST_ROWS = 15  # of licences and repositories; the others go together
TRAIN, HELD_OUT, DROPPED, QUIET = "#3e7cb1", "#e07a1f", "#b8c2cc", "#7b8794"
NO_LICENSE = "unknown"
TITLE = "Where the corpus went"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 56rem; margin: 2.5rem auto;
       padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p { color: #52606d } code { font-size: .92em }
.sums { display: flex; gap: 1rem; flex-wrap: wrap }
.sums div { flex: 1; min-width: 8rem; background: #f5f7fa; border-radius: 8px; padding: .7rem 1rem }
.sums b { display: block; font-size: 1.5rem } svg { display: block; width: 100%; height: auto }
table { border-collapse: collapse; width: 100% } tr + tr { border-top: 1px solid #e4e7eb }
td, th { padding: .22rem .5rem; text-align: right; font-weight: normal; white-space: nowrap }
th { color: #7b8794 } td.bar { width: 45% }
td:first-child, th:first-child { text-align: left; white-space: normal }
td.bar div { height: .8rem; border-radius: 2px; min-width: 2px }
"""


@dataclass(frozen=True)
class Row:
    """A line of a table: a name, files, bytes, and the colour of its bar."""

    name: str
    files: int
    bytes: int
    colour: str = TRAIN


def corpus_page(summary: dict[str, Any], data: Path) -> str:
    """The HTML of a finished run: its summary, and the licences and repositories that data.txt names."""
    licenses, repositories = by_origin(data)
    repos = names_of_repos(summary["options"])
    splits, read, kept = summary["written"], summary["input"], summary["kept"]
    dropped = [Row(rule, each["files"], each["bytes"], DROPPED) for rule, each in summary["dropped"].items()]
    text = sum(split["bytes"] for split in splits.values())
    train, held_out = splits["train"], splits["held_out"]
    sums = [
        ("files read", f"{read['files']:,}", size_of(read["bytes"])),
        ("files kept", f"{kept['files']:,}", f"{share(kept['files'], read['files'])} of the files"),
        ("text to learn from", size_of(train["bytes"]), plural(train["documents"], "document")),
        ("held out", size_of(held_out["bytes"]), f"{share(held_out['bytes'], text)} of the text"),
        ("redacted", f"{summary['redacted']['places']:,}", "secrets and addresses"),
    ]
    removed = max(0, kept["bytes"] - text)
    shares = [
        ("train", train["bytes"], TRAIN),
        ("held out", held_out["bytes"], HELD_OUT),
        ("comments and blanks of kept files", removed, "#dfe5ea"),
        ("dropped files", read["bytes"] - kept["bytes"], DROPPED),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f"<title>{TITLE}: {escape(data.name)}</title>",
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>',
            f"<h1>{TITLE}</h1>",
            f"<p>{escape(repos)} &rarr; <code>{escape(data.name)}</code></p>",
            '<div class="sums">' + "".join(card(*each) for each in sums) + "</div>",
            "<h2>Every byte that was read</h2>",
            stacked_bar(shares),
            "<h2>Files that were dropped, by reason</h2>",
            table("reason", dropped) if dropped else "<p>None.</p>",
            "<p>Each file's own reason: <code>data_preprocess.py --explain PATH</code>.</p>",
            "<h2>Licences of what was kept</h2>",
            table("licence", largest(licenses, "other licences")),
            "<h2>Largest repositories of what was kept</h2>",
            table("repository", largest(repositories, "smaller ones")),
            f"<p>sha256 of the data: <code>{summary['data']['sha256']}</code></p>",
            "</body></html>",
            "",
        ]
    )


def by_origin(data: Path) -> tuple[list[Row], list[Row]]:
    """Files and bytes of text in data.txt by licence and by repository."""
    tallies: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    sizes: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for document in iter_documents(data):
        size = len(document.text.encode())
        for files, total, name in zip(tallies, sizes, (document.license, document.repo), strict=True):
            files[name] += document.piece == 0
            total[name] += size
    licenses, repositories = (
        [Row(name or NO_LICENSE, files[name], total[name]) for name in total]
        for files, total in zip(tallies, sizes, strict=True)
    )
    return licenses, repositories


def largest(rows: Sequence[Row], rest: str) -> list[Row]:
    """The largest rows, and all others added up in one."""
    ordered = sorted(rows, key=lambda row: (-row.bytes, row.name))
    others = ordered[MOST_ROWS:]
    if not others:
        return ordered
    files, size = sum(row.files for row in others), sum(row.bytes for row in others)
    return [*ordered[:MOST_ROWS], Row(f"{len(others):,} {rest}", files, size, QUIET)]


def card(title: str, figure: str, remark: str) -> str:
    return f"<div>{escape(title)}<b>{escape(figure)}</b>{escape(remark)}</div>"


def table(title: str, rows: Iterable[Row]) -> str:
    """A table with a bar for the bytes of each row."""
    rows = list(rows)
    most = max(1, *(row.bytes for row in rows))
    head = f"<tr><th>{escape(title)}</th><th>files</th><th>size</th><th></th></tr>"
    lines = []
    for row in rows:
        bar = f'<div style="width:{100 * row.bytes / most:.1f}%;background:{row.colour}"></div>'
        cells = f"<td>{escape(row.name)}</td><td>{row.files:,}</td><td>{size_of(row.bytes)}</td>"
        lines.append(f'<tr>{cells}<td class="bar">{bar}</td></tr>')
    return f"<table>{head}{''.join(lines)}</table>"


def stacked_bar(shares: Sequence[tuple[str, int, str]]) -> str:
    """One bar for the whole, with a part for each share and a legend below."""
    whole = max(1, sum(size for _, size, _ in shares))
    parts, legend, left = [], [], 0.0
    for number, (name, size, colour) in enumerate(shares):
        width = 900 * size / whole
        parts.append(f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="34" fill="{colour}"/>')
        x, y = 450 * (number % 2), 62 + 24 * (number // 2)
        words = f"{name}: {size_of(size)}, {share(size, whole)}"
        legend.append(
            f'<rect x="{x}" y="{y - 11}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{x + 18}" y="{y}" font-size="14" fill="#1f2933">{escape(words)}</text>'
        )
        left += width
    drawn = "".join(parts + legend)
    return f'<svg viewBox="0 0 900 96" role="img" aria-label="shares of the bytes read">{drawn}</svg>'


def share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.1%}"
