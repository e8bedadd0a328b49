"""How far a run is: a bar on a terminal, a line every ten seconds anywhere else, on standard error."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schedule import Timetable

LINE_SECONDS = 10.0  # between two lines of a log
BAR = "{percentage:3.0f}% |{bar:24}| {postfix}"


class Progress:
    """Shows the newest row of the training log."""

    def __init__(self, tokens_per_step: int) -> None:
        self.tokens_per_step = tokens_per_step
        self.terminal = sys.stderr.isatty()
        self.last_line = 0.0
        self.last_row: tuple[float, int] | None = None
        self.speed = 0.0
        self.bar: Any = None

    def show(self, timetable: Timetable, row: dict[str, Any], seconds_left: float) -> None:
        """Show a row as the user should see it now, or not at all when it comes too soon after another."""
        self._follow_speed(row)
        text = (
            f"step {timetable.step:,}/{timetable.steps:,}  loss {row['loss']:.3f}"
            f"  {row['bits_per_byte']:.3f} bits/byte  {self.speed:,.0f} tokens/s  {clock(seconds_left)} left"
        )
        if self.terminal:
            self._draw(timetable.progress, text)
        elif time.monotonic() - self.last_line >= LINE_SECONDS or timetable.done:
            self.last_line = time.monotonic()
            print(f"{timetable.progress:4.0%}  {text}", file=sys.stderr, flush=True)

    def _follow_speed(self, row: dict[str, Any]) -> None:
        """A running mean over the last rows, so that the figure can be read."""
        now = (row["seconds"], row["tokens"])
        if self.last_row and now[0] > self.last_row[0]:
            latest = (now[1] - self.last_row[1]) / (now[0] - self.last_row[0])
            self.speed = latest if not self.speed else 0.8 * self.speed + 0.2 * latest
        elif not self.last_row:
            self.speed = now[1] / max(now[0], 1e-3)
        self.last_row = now

    def _draw(self, progress: float, text: str) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=1000, bar_format=BAR, dynamic_ncols=True, leave=True)
        self.bar.n = round(1000 * progress)
        self.bar.set_postfix_str(text, refresh=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def clock(seconds: float) -> str:
    """83 -> "1:23", 7283 -> "2:01:23"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
