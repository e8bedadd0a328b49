"""What a person sees of a run: on a terminal lines that change, in a pipe a plain one now and then."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

PLAIN_SECONDS = 10.0  # between two lines in a pipe, and a twentieth of the time that a long run has taken
LONGEST_SILENCE = 300.0


def megabytes(size: int) -> str:
    """1234567 -> "1.2 MB" """
    return f"{size / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s" """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """1, "file" -> "1 file"; 1200, "file" -> "1,200 files" """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def printable(text: str) -> str:
    """A stranger's words without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def in_lines(state: str, width: int) -> list[str]:
    """A state as lines of at most width characters, broken between parts: "a · b · c", 5 -> "a · b", "c" """
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
        """Show the state, if it is time for it: describe is only then called."""
        with self._mutex:
            if (now := time.monotonic()) < self._next:
                return
            silence = min(max(PLAIN_SECONDS, (now - self._started) / 20), LONGEST_SILENCE)
            self._next = now + (0.1 if self._on_terminal else silence)
            state = describe()
            if self._on_terminal:
                self._clear()
                lines = in_lines(state, _terminal_width() - 1)
                print("\n".join(lines), end="", file=sys.stderr, flush=True)
                self._lines = len(lines)
            else:
                print(state, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print a line now, in a pipe; on a terminal the changing line tells it."""
        with self._mutex:
            if not self._on_terminal:
                print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the changing line away."""
        with self._mutex:
            self._clear()

    def _clear(self) -> None:
        if self._lines:
            up = f"\x1b[{self._lines - 1}A" if self._lines > 1 else ""
            print(f"\r{up}\x1b[J", end="", file=sys.stderr, flush=True)
            self._lines = 0
