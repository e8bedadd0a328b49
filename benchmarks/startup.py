"""How long every script takes to answer --help, beside the interpreter's own start.

    python benchmarks/startup.py

Prints a row a script: median, fastest and slowest of several runs in milliseconds, taken in turn so that a
change in the machine's speed hits all alike. The limit is 300 ms.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from journey import PROJECT, SCRIPTS


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring as written, each option with its default."""


def milliseconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - start)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="runs of each command")
    options = parser.parse_args(argv)
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    commands |= {script: [sys.executable, str(PROJECT / script), "--help"] for script in SCRIPTS.values()}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, command in commands.items():
            times[name].append(milliseconds(command))
    print(f"{'command':<36}{'median':>8}{'min':>8}{'max':>8}  ms")
    for name, taken in times.items():
        print(f"{name:<36}{statistics.median(taken):8.0f}{min(taken):8.0f}{max(taken):8.0f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
