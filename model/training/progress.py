"""Progress on standard error, training_log.jsonl and TensorBoard.

On a terminal progress is a bar; elsewhere each step is a line that a program can read:

step=412 steps=1597 progress=0.258 loss=3.84 bits_per_byte=1.68 tokens_per_second=22147 memory_gb=0.61 ...
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrained.atomic_write import write_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

    from training.schedule import Schedule

PLAN_INDENT = 11  # of the lines of a plan: "  corpus   1,024 files"
# Columns of the terminal, and of the bar in front of the figures
WIDE, BAR_COLUMNS = 70, {True: 12, False: 6}
NOTICED_CHANGE = 0.1  # of the planned steps: less is not worth a line
NEWEST = 0.1  # weight of the newest step in the speed, so that the figure can be read
TENSORBOARD = "tensorboard"  # folder of its event files in GPyT/
TENSORBOARD_FIGURES = ("loss", "bits_per_byte", "held_out", "learning_rate", "tokens_per_second", "mfu")


class Progress:
    """Shows the newest step and the speed, and prints lines that stay."""

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
        self.held_out: float | None = None  # bits per byte, when they were last measured
        self.change_told = False  # that the machine proved faster or slower than planned
        self.bar: Any = None

    def speed(self, row: dict[str, Any]) -> dict[str, float]:
        """tokens_per_second, averaged over the last steps, and the MFU if the peak of the device is known."""
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

    def show(self, schedule: Schedule, row: dict[str, Any], seconds_left: float, peak_memory: int) -> None:
        """Show the newest step, whose row for the log this is."""
        if self.silent:
            return
        if self.terminal:
            self._draw(schedule, row, seconds_left, peak_memory)
            return
        figures: dict[str, Any] = {
            "step": schedule.step,
            "steps": schedule.steps,
            "progress": round(schedule.progress, 4),
            **{name: "nan" if row[name] is None else row[name] for name in ("loss", "bits_per_byte")},
            **{name: row[name] for name in ("tokens_per_second", "mfu", "skipped") if name in row},
            "memory_gb": round(peak_memory / 1e9, 2),
            "seconds_left": round(seconds_left),
        }
        print(*(f"{name}={value}" for name, value in figures.items()), file=sys.stderr, flush=True)

    def _draw(self, schedule: Schedule, row: dict[str, Any], seconds_left: float, peak_memory: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=1000, dynamic_ncols=True, leave=True)
        columns = shutil.get_terminal_size().columns
        is_wide = columns >= WIDE
        width = BAR_COLUMNS[is_wide]
        mfu = f" ({row['mfu']:.0%} MFU)" if "mfu" in row else ""
        learnt = "loss nan" if row["loss"] is None else f"training {row['bits_per_byte']:.3f}"
        figures = [
            f"{clock(seconds_left)} left",
            f"bits/byte: {learnt}" if is_wide and row["loss"] is not None else learnt,
            "" if self.held_out is None else f"held out {self.held_out:.3f}",
            f"step {schedule.step:,}/{schedule.steps:,}",
            f"{row['tokens_per_second']:,} tokens/s{mfu}",
            f"{peak_memory / 1e9:.1f} GB",
        ]
        self.bar.bar_format = f"{{percentage:3.0f}}% |{{bar:{width}}}| {{desc}}"
        self.bar.n = round(1000 * schedule.progress)
        self.bar.set_description_str(fit(figures, columns - width - len("100% || ") - 1), refresh=True)

    def tell_change(self, planned: int, steps: int) -> None:
        """Say once that the clock has changed the number of steps."""
        if not self.change_told and abs(steps - planned) > NOTICED_CHANGE * planned:
            self.change_told = True
            pace = "faster" if steps > planned else "slower"
            self.say(
                f"steps are {pace} than planned: about {steps:,} instead of {planned:,} in the same time"
            )

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.silent:
            return
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            say(text)

    def show_sample(self, text: str) -> None:
        """Print a few lines that the model wrote, with a mark in front."""
        self.say("\n".join(f"  | {line}" for line in without_controls(text).split("\n")))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def say(text: str) -> None:
    """Print a line on standard error; on a terminal wrapped, the rest below the first figure."""
    if sys.stderr.isatty():
        indent = " " * PLAN_INDENT if text.startswith("  ") else ""
        text = textwrap.fill(
            text,
            max(2 * PLAN_INDENT, shutil.get_terminal_size().columns - 1),
            subsequent_indent=indent,
            replace_whitespace=False,
            drop_whitespace=True,
            break_long_words=False,
            break_on_hyphens=False,
        )
    print(text, file=sys.stderr, flush=True)


def without_controls(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def fit(figures: list[str], columns: int) -> str:
    """The figures that fit into so many columns, the first ones first; empty ones are left out.

    fit(["3:12 left", "training 1.234", "0.6 GB"], 20) -> "3:12 left  0.6 GB"
    """
    line = ""
    for figure in filter(None, figures):
        longer = f"{line}  {figure}" if line else figure
        line = longer if len(longer) <= columns else line
    return line


def clock(seconds: float) -> str:
    """83 -> "1:23", 7283 -> "2:01:23"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class TrainingLog:
    """The rows of training_log.jsonl: kept in memory until the folder exists, then appended one by one."""

    def __init__(self, report: TensorBoardReport | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.report = report
        self.path: Path | None = None

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.report is not None:
            self.report.add(row)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(row) + "\n")

    def flush(self, path: Path) -> None:
        """Write all rows so far and append from now on."""
        if self.path is None:
            write_atomic(path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
            self.path = path
            if self.report is not None:
                self.report.open(path.parent, self.rows)

    def close(self) -> None:
        if self.report is not None:
            self.report.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, without a last line torn by a kill."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


class TensorBoardReport:
    """--report-to tensorboard: event files in GPyT/tensorboard. A resumed run rewrites them from its log."""

    def __init__(self) -> None:
        self.writer: SummaryWriter | None = None

    def open(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """Write the rows so far."""
        from torch.utils.tensorboard.writer import SummaryWriter

        shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
        self.writer = SummaryWriter(str(folder / TENSORBOARD))
        for row in rows:
            self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        if self.writer is None:
            return
        for name in TENSORBOARD_FIGURES:
            if isinstance(row.get(name), int | float):
                self.writer.add_scalar(name, row[name], row["step"])
        if "sample" in row:
            self.writer.add_text("sample", f"    {row['sample']}".replace("\n", "\n    "), row["step"])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
