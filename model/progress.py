"""How far a run is, on standard error: a bar on a terminal, elsewhere a line a step for a program to read.

step=412 steps=1597 progress=0.258 loss=3.84 bits_per_byte=1.68 tokens_per_second=22147 memory_gb=0.61 ...
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schedule import Timetable

BAR = "{percentage:3.0f}% |{bar:24}| {postfix}"
NEWEST = 0.1  # weight of the newest step in the speed, so that the figure can be read


class Progress:
    """Shows the newest step, how fast they come, and lines that stay."""

    def __init__(
        self,
        tokens_per_step: int,
        flops_per_token: int = 0,
        peak_flops: float | None = None,
        *,
        silent: bool = False,
    ) -> None:
        """peak_flops: of all devices together, where it is known. silent: another rank speaks."""
        self.tokens_per_step = tokens_per_step
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        self.silent = silent
        self.terminal = sys.stderr.isatty()
        self.last: tuple[float, int] | None = None
        self.tokens_per_second = 0.0
        self.bar: Any = None

    def speed(self, row: dict[str, Any]) -> dict[str, float]:
        """tokens_per_second lately and, where the peak of the device is known, the used share of it."""
        now = (float(row["seconds"]), int(row["tokens"]))
        if self.last is None:
            self.tokens_per_second = self.tokens_per_step / max(now[0], 1e-3) if now[0] < 60 else 0.0
        elif now[0] > self.last[0]:
            latest = (now[1] - self.last[1]) / (now[0] - self.last[0])
            known = self.tokens_per_second or latest
            self.tokens_per_second = known + NEWEST * (latest - known)
        else:
            return self._figures()
        self.last = now
        return self._figures()

    def _figures(self) -> dict[str, float]:
        figures: dict[str, float] = {"tokens_per_second": round(self.tokens_per_second)}
        if self.peak_flops is not None:
            figures["mfu"] = round(self.tokens_per_second * self.flops_per_token / self.peak_flops, 4)
        return figures

    def show(self, timetable: Timetable, row: dict[str, Any], seconds_left: float, peak_memory: int) -> None:
        """Show a step as the user should see it now."""
        if self.silent:
            return
        if self.terminal:
            self._draw(timetable, row, seconds_left, peak_memory)
            return
        figures: dict[str, Any] = {
            "step": timetable.step,
            "steps": timetable.steps,
            "progress": round(timetable.progress, 4),
            **{name: "nan" if row[name] is None else row[name] for name in ("loss", "bits_per_byte")},
            **{name: row[name] for name in ("tokens_per_second", "mfu", "skipped") if name in row},
            "memory_gb": round(peak_memory / 1e9, 2),
            "seconds_left": round(seconds_left),
        }
        print(*(f"{name}={value}" for name, value in figures.items()), file=sys.stderr, flush=True)

    def _draw(self, timetable: Timetable, row: dict[str, Any], seconds_left: float, peak_memory: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=1000, bar_format=BAR, dynamic_ncols=True, leave=True)
        mfu = f" ({row['mfu']:.0%} MFU)" if "mfu" in row else ""
        loss = "no number" if row["loss"] is None else f"{row['bits_per_byte']:.3f} bits/byte"
        self.bar.n = round(1000 * timetable.progress)
        self.bar.set_postfix_str(
            f"step {timetable.step:,}/{timetable.steps:,}  {loss}  {row['tokens_per_second']:,} tokens/s{mfu}"
            f"  {peak_memory / 1e9:.1f} GB  {clock(seconds_left)} left",
            refresh=True,
        )

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.silent:
            return
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def show_sample(self, text: str) -> None:
        """Print a few lines that the model wrote, marked as such."""
        self.say("\n".join(f"  | {line}" for line in printable(text).split("\n")))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def clock(seconds: float) -> str:
    """83 -> "1:23", 7283 -> "2:01:23"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
