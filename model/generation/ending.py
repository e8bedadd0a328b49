"""How a completion ends: after the function that was asked for, in the middle of a gap, or cut off cleanly.

A gap is filled by a model that was trained to: it reads prefix and suffix and writes the middle, which has to
fit both. Source: Bavarian et al. 2022, "Efficient training of language models to fill in the middle".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_syntax.compiler import Accepted, is_complete, logical_line_starts
from python_syntax.endings import clean_end, shared_length

if TYPE_CHECKING:
    from python_syntax.endings import Cut
    from python_syntax.prefix_parser import PrefixParser

HEADER = re.compile(r"[ \t]*(?:async[ \t]+def|def|class)\b")
OPENS_BLOCK = re.compile(r":[ \t]*$")
CONTINUES = re.compile(r"[ \t]*(?:else|elif|except|finally)\b")  # clauses of the statement before them


@dataclass(frozen=True)
class Draft:
    """A judged text that has to end: from the prompt's last top-level statement on."""

    text: str
    begins: int  # where the completion begins in it
    accepted: Accepted  # the state of its whole lines
    cuts: list[Cut]  # where it may be cut, the last first

    def clean_end(self, *, is_whole: bool) -> tuple[str, int]:
        """The completion as it can stand, and how much of it the model wrote, in characters.

        is_whole: the model has ended it, so nothing is added to its last line.
        """
        text = clean_end(self.text, self.begins, self.accepted, self.cuts, is_whole=is_whole)
        return text[self.begins :], shared_length(text, self.text) - self.begins


@dataclass(frozen=True)
class Gap:
    """The code before and after the place that a completion fills."""

    prefix: str
    suffix: str

    def line_end(self, text: str, parser: PrefixParser | None, accepted: Accepted) -> str | None:
        """What lets a text compile together with the suffix: nothing, or a line end; None if neither does.

        parser, accepted: the states of the text and of its whole lines.
        """
        first_line = self.suffix[: self.suffix.find("\n") + 1] or self.suffix
        for end in ("", "\n"):
            after = parser.after(end) if parser else None
            is_allowed = parser is None or (after is not None and after.after(first_line) is not None)
            if is_allowed and accepted.compiles(f"{text}{end}{self.suffix}\n"):
                return end
        return None

    def longest_middle(self, draft: Draft) -> str | None:
        """As much of a draft's completion as makes the whole compile; None if no part of it does."""
        for place, parser in draft.cuts:
            end = self.line_end(draft.text[:place], parser, draft.accepted)
            if end is not None:
                return draft.text[draft.begins : place] + end
        return self.fit(draft.text[draft.begins :])

    def fit(self, middle: str) -> str | None:
        """As many of the middle's lines as make the whole compile; None if no number of them does.

        The last line's end, which a completion lacks, is added if the suffix needs it.
        """
        cut = middle
        while True:
            for whole in (cut, f"{cut}\n"):
                if is_complete(self.prefix + whole + self.suffix + "\n", 0):
                    return whole
            if not cut:
                return None
            cut = cut[: max(0, cut.rfind("\n"))]


def place_to_stop(text: str, written_from: int, stop: str) -> int | None:
    """The place in a text where its completion, which begins at `written_from`, is what was asked for.

    stop: "statement", the one that the completion begins in or with, its block included; "function", the
    innermost one (or class) around that place, or else the first one that is written. None: not yet.

    place_to_stop("def f(x):\\n    return x\\n\\ny", 9, "function") -> 24, where "y" is
    """
    starts = [start for start in logical_line_starts(text) if text[start:].strip()]
    if not starts:
        return None
    lines = [(start, text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    lines = [(start, line) for start, line in lines if line.strip() and not line.lstrip().startswith("#")]
    first = max((i for i, (start, _) in enumerate(lines) if start < written_from), default=0)
    if lines and lines[first][0] < written_from and text[lines[first][0] : written_from].endswith("\n"):
        # The completion begins in the block of the prompt's last line, or is a line of its own.
        first += stop == "function" or not OPENS_BLOCK.search(lines[first][1].rstrip())
    top = header_of(lines, first) if stop == "function" else first
    if top is None or top >= len(lines):
        return None
    start, line = lines[top]
    if stop == "statement" and not OPENS_BLOCK.search(line.rstrip()):
        end = start + len(line.rstrip())
        return end if line.endswith("\n") or top + 1 < len(lines) else None
    for place, later in lines[top + 1 :]:
        if indentation(later) <= indentation(line) and not CONTINUES.match(later) and place >= written_from:
            return place
    return None


def header_of(lines: list[tuple[int, str]], first: int) -> int | None:
    """The innermost definition around a line, or the first one after it."""
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
