"""Where a completion should end that is asked for one statement or one function: --stop."""

from __future__ import annotations

import re

from open_brackets import logical_line_starts

HEADER = re.compile(r"[ \t]*(?:async[ \t]+def|def|class)\b")
BLOCK = re.compile(r":[ \t]*$")
# These go on with the statement before them.
GOES_ON = re.compile(r"[ \t]*(?:else|elif|except|finally)\b")


def place_to_stop(text: str, written_from: int, stop: str) -> int | None:
    """The place in a text at which its completion, which begins at `written_from`, has done what was asked.

    stop: "statement", the one that the completion begins in or with, its block included; "function", the
    innermost one (or class) around that place, or else the first one that is written. None: not yet.

    place_to_stop("def f(x):\\n    return x\\n\\ny", 9, "function") -> 24, where "y" is
    """
    starts = [start for start in logical_line_starts(text) if text[start:].strip()]
    lines = [(start, text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    lines = [(start, line) for start, line in lines if line.strip() and not line.lstrip().startswith("#")]
    first = max((i for i, (start, _) in enumerate(lines) if start < written_from), default=0)
    if lines and lines[first][0] < written_from and text[lines[first][0] : written_from].endswith("\n"):
        # What is written goes on with the block of the prompt's last line, or is a line of its own.
        first += stop == "function" or not BLOCK.search(lines[first][1].rstrip())
    top = header_of(lines, first) if stop == "function" else first
    if top is None or top >= len(lines):
        return None
    start, line = lines[top]
    if stop == "statement" and not BLOCK.search(line.rstrip()):
        end = start + len(line.rstrip())
        return end if line.endswith("\n") or top + 1 < len(lines) else None
    for place, later in lines[top + 1 :]:
        if indentation(later) <= indentation(line) and not GOES_ON.match(later) and place >= written_from:
            return place
    return None


def header_of(lines: list[tuple[int, str]], first: int) -> int | None:
    """The innermost definition around a line, or the first one from there on."""
    if first < len(lines):
        level = indentation(lines[first][1])
        if HEADER.match(lines[first][1]):
            return first
        for index in range(first - 1, -1, -1):
            line = lines[index][1]
            if indentation(line) < level:
                level = indentation(line)
                if HEADER.match(line):
                    return index
    elif lines and HEADER.match(lines[-1][1]):
        return len(lines) - 1
    return next((i for i in range(first, len(lines)) if HEADER.match(lines[i][1])), None)


def indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
