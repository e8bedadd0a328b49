"""Where a request wants its text to end, beside the model's own end and the number of tokens.

Text that might be the beginning of a stop string is held back until that is known: what was sent cannot be
taken back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

INDENTATION = re.compile(r"\n([ \t]*)[^ \t\n]")


class Stop(NamedTuple):
    """Where a text ends, and the string that ended it."""

    place: int
    word: str = ""
    is_exact: bool = True  # nothing may be added; otherwise what is open is closed


@dataclass(frozen=True)
class Stops:
    """What ends a text. `follows` and `begins_line` are about the place where the text is inserted."""

    strings: tuple[str, ...] = ()
    indent: int = 0  # a later line that is indented by fewer blanks, as llama.cpp's n_indent has it
    milliseconds: float | None = None  # from the first token on, once a line is whole
    follows: str = ""  # the suffix, for a model that cannot read it: the text stops where that goes on
    begins_line: bool = False

    def find(self, written: str, since: int) -> Stop | None:
        """The first place where a text has to end; what was written before `since` was searched before."""
        found = [
            Stop(place, string)
            for string in self.strings
            if (place := written.find(string, max(0, since - len(string) + 1))) >= 0
        ]
        found += filter(None, (self._dedent(written), self._suffix(written)))
        return min(found, default=None)

    def held(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of what ends it."""
        longest = 0
        for string in (*self.strings, *filter(None, (self.next_line,))):
            for length in range(min(len(string) - 1, len(text)), longest, -1):
                if text.endswith(string[:length]):
                    longest = length
                    break
        return longest

    @property
    def next_line(self) -> str:
        r"""The suffix's first line, whole: "\n    return x\n"; "" if the text is inserted within a line."""
        rest, _, later = self.follows.partition("\n")
        if rest.strip():
            return ""
        line = next((line for line in later.split("\n") if line.strip()), "")
        return f"\n{line.rstrip()}\n" if line else ""

    def _dedent(self, written: str) -> Stop | None:
        if self.indent:
            for line in INDENTATION.finditer(written):
                if len(line[1]) < self.indent:
                    return Stop(line.start(), is_exact=False)
        return None

    def _suffix(self, written: str) -> Stop | None:
        rest = self.follows.partition("\n")[0].strip()
        if (
            rest and (end := written.find("\n")) >= 0
        ):  # the line goes on after the text: it ends with the line
            line = written[:end].rstrip()
            return Stop(len(line) - len(rest) if line.endswith(rest) else end, is_exact=False)
        if self.next_line:
            lead = "\n" if self.begins_line else ""
            place = (lead + written).find(self.next_line)
            if place >= 0:
                return Stop(max(0, place - len(lead)), is_exact=False)
        return None
