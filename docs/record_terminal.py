"""Record a real session of the interactive prompt as an animated picture: GPyT/ -> docs/terminal.svg.

    python docs/record_terminal.py
    python docs/record_terminal.py --model GPyT --output docs/terminal.svg --seed 7 --prompt "class Stack:"

Runs model/code_generator.py in a pseudo-terminal, types the prompts, and keeps what it shows, and when. A
terminal emulator (`pip install pyte`, needed by nothing else in this project) turns that into screens. The
picture holds each line of the screen once for each time that it stands there. It needs no script, so it plays
where pages only allow pictures.
"""

from __future__ import annotations

import argparse
import functools
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 96, 26
PROMPTS = ["class Stack:", "def read_json(path):"]
SECONDS_A_KEY = 0.07
LONGEST_PAUSE = 1.2  # seconds in which nothing changes; the first start compiles for longer
LAST_SCREEN = 4.0  # seconds until it begins again
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"  # browsers drop other spaces where a line begins
CELL_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 14
BACKGROUND, FOREGROUND = "#ffffff", "#24292f"  # light: the prompt's own colours are made for that
COLOURS = {
    "black": "#24292f", "red": "#cf222e", "green": "#116329", "brown": "#9a6700", "blue": "#0550ae",
    "magenta": "#8250df", "cyan": "#1b7c83", "white": "#6e7781", "default": FOREGROUND,
    "brightblack": "#6e7781", "brightred": "#cf222e", "brightgreen": "#116329", "brightbrown": "#9a6700",
    "brightblue": "#0550ae", "brightmagenta": "#8250df", "brightcyan": "#1b7c83", "brightwhite": "#8c959f",
}  # fmt: skip


@dataclass(frozen=True)
class Output:
    """What the program showed, and when, in seconds from its start."""

    at: float
    text: bytes


@dataclass
class Shown:
    """A line of the screen while it stood at its row."""

    row: int
    markup: str
    start: float
    end: float


class Session:
    """The prompt in a pseudo-terminal whose output is kept."""

    def __init__(self, command: Sequence[str], history: Path) -> None:
        self.screen, inner = pty.openpty()
        subprocess.run(["stty", "cols", str(COLUMNS), "rows", str(ROWS)], stdin=inner, check=True)
        # No history of the user's, and no question to the terminal that this one does not answer.
        ours = {"TERM": "xterm-256color", "XDG_STATE_HOME": str(history), "PROMPT_TOOLKIT_NO_CPR": "1"}
        env = {**os.environ, **ours}
        self.process = subprocess.Popen(
            command, env=env, pass_fds=[inner], preexec_fn=functools.partial(os.login_tty, inner)
        )
        os.close(inner)
        self.start = time.monotonic()
        self.outputs: list[Output] = []
        self.seen = 0  # bytes, up to the end of what was waited for last

    def watch(self, seconds: float, until: bytes = b"") -> None:
        """Keep what is shown, until these bytes come or the time is over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            text = b"".join(output.text for output in self.outputs)
            if until and (place := text.find(until, self.seen)) >= 0:
                self.seen = place + len(until)
                return
            if select.select([self.screen], [], [], left)[0]:
                try:
                    text = os.read(self.screen, 65536)
                except OSError:  # it has ended
                    return
                self.outputs.append(Output(time.monotonic() - self.start, text))
        if until:
            raise SystemExit(f"error: {until!r} was not shown within {seconds:g} s: is there a model?")

    def type(self, text: str) -> None:
        for key in text:
            os.write(self.screen, key.encode())
            self.watch(SECONDS_A_KEY)


def record(model: Path, prompts: Sequence[str], seed: int, tokens: int) -> list[Output]:
    """What a session shows in which these prompts are typed, each after the last one's completion."""
    script = [sys.executable, str(PROJECT / "model/code_generator.py"), "--model", str(model)]
    options = ["--seed", str(seed), "--max-new-tokens", str(tokens)]
    with tempfile.TemporaryDirectory() as history:
        session = Session([*script, *options], Path(history))
        session.watch(60, until=b">>>")
        for prompt in prompts:
            session.watch(0.8)
            session.type(prompt)
            session.watch(0.4)
            session.type("\r")
            session.watch(120, until=b"tokens in")
            session.watch(1.5)
        session.type("\x04")
        session.watch(2)
        session.process.wait(20)
        os.close(session.screen)
    return session.outputs


def without_long_pauses(outputs: Sequence[Output]) -> list[Output]:
    shortened, now, last = [], 0.0, outputs[0].at
    for output in outputs:
        now += min(output.at - last, LONGEST_PAUSE)
        last = output.at
        shortened.append(Output(now, output.text))
    return shortened


def line_markup(cells: Any) -> str:
    """A line of the emulator's screen as tspans, one for each run of cells of the same look."""
    runs: list[tuple[str, str]] = []
    for column in range(COLUMNS):
        cell = cells[column]
        colour = COLOURS.get(cell.fg) or f"#{cell.fg}"
        style = f'fill="{colour}"' + (' font-weight="bold"' if cell.bold else "")
        if runs and (runs[-1][0] == style or not cell.data.strip()):
            runs[-1] = (runs[-1][0], runs[-1][1] + cell.data)
        else:
            runs.append((style, cell.data))
    if runs:
        runs[-1] = (runs[-1][0], runs[-1][1].rstrip())
    default = f'fill="{FOREGROUND}"'
    markup = ""
    for style, text in runs:
        escaped = escape(text, quote=False).replace(" ", NO_BREAK_SPACE)
        markup += escaped if style == default or not text else f"<tspan {style}>{escaped}</tspan>"
    return markup


def lines_over_time(outputs: Sequence[Output]) -> list[Shown]:
    """Every line that stood on the screen, with its row and how long."""
    import pyte

    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    standing: dict[int, Shown] = {}
    finished: list[Shown] = []
    for output in outputs:
        stream.feed(output.text)
        for row in range(ROWS):
            markup = line_markup(screen.buffer[row])
            before = standing.get(row)
            if before and before.markup == markup:
                continue
            if before:
                before.end = output.at
                finished.append(before)
            standing[row] = Shown(row, markup, output.at, 0.0)
    end = outputs[-1].at + LAST_SCREEN
    for shown in standing.values():
        shown.end = end
        finished.append(shown)
    return [shown for shown in finished if shown.markup and shown.end > shown.start]


def picture(lines: Sequence[Shown], title: str) -> str:
    """The animated SVG: each line is visible from its start to its end; still, it is the last screen."""
    seconds = max(line.end for line in lines)
    rows = max(line.row for line in lines) + 1
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, rows * LINE_HEIGHT + 2 * MARGIN
    body = []
    for line in sorted(lines, key=lambda line: (line.start, line.row)):
        y = MARGIN + (line.row + 0.8) * LINE_HEIGHT
        is_last = line.end == seconds
        times = [0.0, line.start / seconds] if is_last else [0.0, line.start / seconds, line.end / seconds]
        values = ["hidden", "visible"] if is_last else ["hidden", "visible", "hidden"]
        if line.start == 0:
            times, values = times[1:], values[1:]
        still = "visible" if is_last else "hidden"
        body.append(
            f'<text y="{y:.0f}" visibility="{still}">{line.markup}'
            f'<animate attributeName="visibility" calcMode="discrete" values="{";".join(values)}"'
            f' keyTimes="{";".join(f"{moment:.4f}" for moment in times)}"'
            f' dur="{seconds:.2f}s" repeatCount="indefinite"/></text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n'
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}" stroke="#d0d7de"/>\n'
        f'<g transform="translate({MARGIN} 0)" fill="{FOREGROUND}" font-size="14"'
        f" font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\">\n"
        + "\n".join(body)
        + "\n</g>\n</svg>\n"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=Path("GPyT"), help="the model's folder (default: GPyT)")
    output = PROJECT / "docs/terminal.svg"
    add("--output", type=Path, default=output, help="the picture (default: docs/terminal.svg)")
    add("--prompt", action="append", help="what is typed; may be given again (default: two prompts)")
    add("--seed", type=int, default=7, help="of what is written (default: 7)")
    add("--max-new-tokens", type=int, default=96, help="of each completion (default: 96)")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    try:
        import pyte  # noqa: F401
    except ImportError:
        print("error: the terminal emulator is missing: pip install pyte", file=sys.stderr)
        return 1
    prompts = options.prompt or PROMPTS
    outputs = without_long_pauses(record(options.model, prompts, options.seed, options.max_new_tokens))
    title = f"A session of the interactive prompt: {', '.join(prompts)}"
    options.output.write_text(picture(lines_over_time(outputs), title), encoding="utf-8", newline="\n")
    print(f"wrote {options.output.absolute()} ({options.output.stat().st_size / 1e3:.0f} kB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
