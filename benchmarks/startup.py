"""How long every script takes to answer --help, and the code generator to write its first token.

    python benchmarks/startup.py
    python benchmarks/startup.py --model GPyT --runs 9

Prints a row a command: median, fastest and slowest of several runs on the clock and the median of the CPU
time, in milliseconds, taken in turn so that a change in the machine's speed hits all alike. The limit of
--help is 300 ms. With --model: a start that writes one token beside `import torch`, and the ratio of the two
in the same turn; the limit is 1.5.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from journey import PROJECT, SCRIPTS, HelpFormatter

IMPORT, START = "python -c 'import torch'", "one token, --prompt"
Times = tuple[float, float]


def milliseconds(command: list[str]) -> Times:
    """On the clock and of CPU time."""
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return 1000 * (time.perf_counter() - start), 1000 * cpu


def take_turns(commands: dict[str, list[str]], runs: int) -> dict[str, list[Times]]:
    """Each command's times in every run, after one that fills the caches of the disk."""
    for command in commands.values():
        milliseconds(command)
    times: dict[str, list[Times]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(milliseconds(command))
    return times


def show(times: dict[str, list[Times]]) -> None:
    print(f"{'command':<36}{'median':>8}{'min':>8}{'max':>8}{'CPU':>8}  ms")
    for name, taken in times.items():
        clock, cpu = zip(*taken, strict=True)
        middle, spent = statistics.median(clock), statistics.median(cpu)
        print(f"{name:<36}{middle:8.0f}{min(clock):8.0f}{max(clock):8.0f}{spent:8.0f}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="runs of each command")
    parser.add_argument("--model", type=Path, help="measure the start with this model (default: --help)")
    options = parser.parse_args(argv)
    python = sys.executable
    if options.model is None:
        commands = {"python -c pass": [python, "-c", "pass"]}
        commands |= {script: [python, str(PROJECT / script), "--help"] for script in SCRIPTS.values()}
        show(take_turns(commands, options.runs))
        return 0
    script = [python, str(PROJECT / "model" / "code_generator.py"), "--model", str(options.model)]
    asked = ["--prompt", "x", "--max-new-tokens", "1"]
    times = take_turns({IMPORT: [python, "-c", "import torch"], START: [*script, *asked]}, options.runs)
    show(times)
    pairs = list(zip(times[START], times[IMPORT], strict=True))
    clock, cpu = (statistics.median(start[i] / bare[i] for start, bare in pairs) for i in (0, 1))
    print(f"a start takes {clock:.2f} times as long as importing torch, {cpu:.2f} times the CPU time")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
