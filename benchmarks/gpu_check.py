"""Run every path of GPyT once on a GPU, each within its limit, and write a table for benchmarks/LOG.md.

    bash benchmarks/gpu_check.sh                        finds or makes an environment, then starts this
    bash benchmarks/gpu_check.sh --device cpu           the same steps, tiny, to try the script itself
    python benchmarks/gpu_check.py --corpus FOLDER      with data.txt and tokenizer/ that are there already
    python benchmarks/gpu_check.py --folder FOLDER --only generate evaluate      again, of an earlier run

A step that fails or takes too long does not end the others; all together take --minutes at most. The table
goes to standard output and to --output, what the commands printed to log.txt in --folder. Exit codes: 0 all
passed, 1 a step failed or was not reached, 3 none failed but a package for one is missing, 130 interrupted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpu_place import LeftOutError, Place, StepError
from gpu_steps import SCALES, Step, steps_for
from journey import PROJECT, HelpFormatter

PASSED, FAILED, LEFT_OUT, NOT_RUN = "passed", "**failed**", "left out", "**not run**"
ALWAYS = ("device", "corpus")  # what the heading and every other step need
SHOWN_LINES = 15  # of the log, after a failure
LONGEST_CELL = 200  # characters


@dataclass(frozen=True)
class Row:
    """A row of the table; figure: what was measured, or what went wrong."""

    step: str
    seconds: float
    outcome: str
    figure: str


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--device", choices=sorted(SCALES), default="cuda", help="cpu: tiny sizes")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all steps together")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="steps with this in their names"
    )
    parser.add_argument(
        "--corpus", type=Path, help="a folder with data.txt and tokenizer/ (default: made here)"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: a new directory under /tmp)")
    parser.add_argument("--output", type=Path, default=Path("gpu_check.md"), help="where the table goes too")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the steps")
    return parser


def perform(step: Step, place: Place, until: float) -> Row:
    """Run a step within its limit and until a time by the monotonic clock, and say how it went."""
    started = time.monotonic()
    limit = min(step.seconds * place.scale.patience, until - started)
    if limit <= 0:
        return Row(step.name, 0.0, NOT_RUN, "no time was left")
    log_start = place.begin(step.name, limit)
    try:
        outcome, figure = PASSED, step.work(place)
    except LeftOutError as reason:
        outcome, figure = LEFT_OUT, str(reason)
    except (StepError, OSError, ValueError, LookupError) as error:  # the others: what it printed was garbled
        outcome, figure = FAILED, str(error) if isinstance(error, StepError) else repr(error)
        for line in place.log_since(log_start).splitlines()[-SHOWN_LINES:]:
            print(f"  | {line}", file=sys.stderr)
    return Row(step.name, time.monotonic() - started, outcome, figure)


def heading(place: Place) -> str:
    """Date, device, driver and versions in a line; what is not known because a step failed is left out."""
    about = place.about
    parts = [datetime.date.today().isoformat(), about.get("name", f"{place.scale.device}: not found")]
    with suppress(OSError, subprocess.SubprocessError):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10)
        parts.append(f"driver {answer.stdout.split()[0]}" if answer.stdout.split() else "no driver")
    parts += [f"{name} {about[name]}" for name in ("torch", "cuda", "python") if about.get(name)]
    parts.append(f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    with suppress(OSError, subprocess.SubprocessError):
        asked = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10)
        parts.append(f"commit {answer.stdout.strip()}")
    return "; ".join(parts)


def cell(text: str) -> str:
    """A text as a cell of the table: one line, no bar that would end it."""
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= LONGEST_CELL else line[: LONGEST_CELL - 1] + "…"


def table(about: str, rows: Sequence[Row]) -> str:
    """The entry for the log, as markdown."""
    passed = sum(row.outcome == PASSED for row in rows)
    lines = [f"{about}. {passed} of {len(rows)} steps passed, {sum(row.seconds for row in rows):.0f} s.", ""]
    lines += ["| step | seconds | outcome | figure |", "|---|---|---|---|"]
    lines += [f"| {cell(r.step)} | {r.seconds:.1f} | {r.outcome} | {cell(r.figure)} |" for r in rows]
    return "\n".join(lines) + "\n"


def exit_code(rows: Sequence[Row]) -> int:
    """0 all passed, 1 a step failed or was not reached, 3 a package for one is missing."""
    outcomes = {row.outcome for row in rows}
    return 1 if outcomes & {FAILED, NOT_RUN} else 3 if LEFT_OUT in outcomes else 0


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="gpu-check-"))
    folder.mkdir(parents=True, exist_ok=True)
    python = Path(
        shutil.which(options.python) or options.python
    ).absolute()  # steps have a folder of their own
    place = Place(folder.absolute(), SCALES[options.device], str(python), options.corpus)
    chosen = [
        step
        for step in steps_for(options.device)
        if step.name in ALWAYS or any(word in step.name for word in options.only)
    ]
    until = time.monotonic() + 60 * options.minutes
    rows: list[Row] = []
    interrupted = False
    for number, step in enumerate(chosen, 1):
        print(f"{number} of {len(chosen)}: {step.name}", file=sys.stderr, flush=True)
        try:
            rows.append(perform(step, place, until))
        except KeyboardInterrupt:
            rows += [Row(left.name, 0.0, NOT_RUN, "interrupted") for left in chosen[number - 1 :]]
            interrupted = True
            break
        print(
            f"  {rows[-1].outcome}, {rows[-1].seconds:.1f} s: {rows[-1].figure}", file=sys.stderr, flush=True
        )
    text = table(heading(place), rows)
    options.output.write_text(text, encoding="utf-8", newline="\n")
    print(
        f"\nwhat the commands printed: {place.log}\nthe table: {options.output.absolute()}\n", file=sys.stderr
    )
    print(text, end="")
    return 130 if interrupted else exit_code(rows)


if __name__ == "__main__":
    raise SystemExit(main())
