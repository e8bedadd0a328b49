"""Time, memory and disk of the whole journey on the embedded default, stage by stage.

    python benchmarks/journey.py                 in a new directory under /tmp, 4 minutes of training
    python benchmarks/journey.py --minutes 0.5 --max-mb 10 --folder /tmp/journey

Runs the six commands of the README one after the other and prints a row each: wall-clock seconds, CPU
seconds, the peak of the resident memory of the stage's whole process tree (sampled ten times a second), and
what it wrote.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parent.parent
SCRIPTS = {
    "collect": "data_collector/data_collector.py",
    "clean": "preprocess/data_cleaner.py",
    "preprocess": "preprocess/data_preprocess.py",
    "tokenize": "preprocess/tokenizer.py",
    "train": "model/train.py",
    "generate": "model/code_generator.py",
}


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring as written, each option with its default."""


@dataclass(frozen=True)
class StageCost:
    """What one stage took: seconds, seconds, bytes."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and all its descendants; pages they share are counted in each."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def measure(command: list[str], folder: Path) -> StageCost:
    """Run a command in folder, its output on the terminal, and return what it took.

    Raises: SystemExit with the command's own exit code when it fails.
    """
    start = time.monotonic()
    before = os.times()
    stage = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL)
    peak = 0
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        process = psutil.Process(stage.pid)
        while not ended.wait(0.1):
            peak = max(peak, resident_bytes(process))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    code = stage.wait()
    ended.set()
    sampler.join()
    if code:
        raise SystemExit(code)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return StageCost(time.monotonic() - start, cpu, peak)


def disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--minutes", default="4", help="minutes of training")
    parser.add_argument("--max-mb", default="40", help="megabytes of Python to collect")
    parser.add_argument("--folder", type=Path, help="where to travel (default: a new directory under /tmp)")
    return parser


def row(stage: str, cost: StageCost, written: int) -> str:
    times = f"{cost.wall_seconds:9.1f}{cost.cpu_seconds:9.1f}"
    return f"{stage:<12}{times}{cost.peak_bytes / 1e6:9.0f}{written / 1e6:9.1f}"


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="journey-"))
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "collect": ["--local", "--max-mb", options.max_mb],
        "tokenize": ["-t"],
        "train": ["--minutes", options.minutes],
        "generate": ["--prompt", "import os", "--seed", "1"],
    }
    rows = []
    written = at_start = disk_bytes(folder)
    costs = []
    for stage, script in SCRIPTS.items():
        costs.append(measure([sys.executable, str(PROJECT / script), *arguments.get(stage, [])], folder))
        rows.append(row(stage, costs[-1], disk_bytes(folder) - written))
        written = disk_bytes(folder)
    seconds, cpu = sum(cost.wall_seconds for cost in costs), sum(cost.cpu_seconds for cost in costs)
    together = StageCost(seconds, cpu, max(cost.peak_bytes for cost in costs))
    print(f"\n{folder}\n{'stage':<12}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}{'disk MB':>9}")
    print("\n".join([*rows, row("together", together, written - at_start)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
