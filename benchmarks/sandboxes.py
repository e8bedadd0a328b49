"""What a sandbox costs a program, and what programs can do in it with and without our lists of system calls.

    python benchmarks/sandboxes.py                  # time: plain Python, bubblewrap and sandlock in turn
    python benchmarks/sandboxes.py --attempts       # the 53 attempts of tests/escape_attempts.py
    python benchmarks/sandboxes.py --hold-mb 1200   # time, started from a process that holds so much memory

The programs are the 164 canonical solutions of HumanEval with their tests. Each tool runs each program in
turn, so that the load of the machine meets all alike; then each runs all of them, several at a time, as
evaluate.py does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import struct
import sys
import time
from pathlib import Path
from unittest import mock

from journey import HelpFormatter

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "model"), str(PROJECT / "tests")]

import escape_attempts  # noqa: E402
from evaluation import sandbox  # noqa: E402
from evaluation.problems import read_problems, run_program, run_programs  # noqa: E402

TOOLS = ("none", "bwrap", "sandlock")
ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--attempts", action="store_true", help="what programs can do, instead of times")
    parser.add_argument("--hold-mb", type=int, default=0, metavar="MB", help="memory of this process")
    return parser


def print_times() -> None:
    programs = [(problem.prompt + problem.solution, problem.test) for problem in read_problems()]
    found = [tool for tool in map(sandbox.find, TOOLS) if isinstance(tool, sandbox.Sandbox)]
    seconds: dict[str, list[float]] = {tool.tool: [] for tool in found}
    passed = dict.fromkeys(seconds, 0)
    for program, test in programs:
        for tool in found:
            start = time.perf_counter()
            passed[tool.tool] += run_program(tool, program, test).kind == "passed"
            seconds[tool.tool].append(time.perf_counter() - start)
    print("tool                passed  median ms  least ms  all, one by one  several at a time")
    for tool in found:
        start, each = time.perf_counter(), seconds[tool.tool]
        run_programs(tool, programs)
        together = time.perf_counter() - start
        name, median = f"{tool.tool} {tool.version}", 1e3 * statistics.median(each)
        print(
            f"{name:18} {passed[tool.tool]:>7} {median:>10.1f} {1e3 * min(each):>9.1f} {sum(each):>16.2f}"
            f" {together:>18.2f}"
        )


def succeeded(tool: str) -> list[str]:
    """The attempts that succeed in a tool."""
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        escape_attempts.main(tool)
    results: dict[str, str] = json.loads(answer.getvalue()).get("results", {})
    return [attempt for attempt, result in results.items() if result == "done"]


def print_attempts() -> None:
    print(f"{len(escape_attempts.ATTEMPTS)} attempts")
    for tool in TOOLS[1:]:
        print(f"{tool}: succeeded {succeeded(tool) or 'none'}")
    with (
        mock.patch.object(sandbox, "seccomp_filter", return_value=ALLOW_ALL),
        mock.patch.multiple(sandbox, DENIED_IN_SANDLOCK="", DENIED_ON_X86="", _probe=mock.DEFAULT),
    ):
        for tool in TOOLS[1:]:
            bare = succeeded(tool)
            print(f"{tool} without our list: {len(bare)} succeeded: {', '.join(bare)}")


def main() -> int:
    arguments = build_parser().parse_args()
    held = bytearray(arguments.hold_mb << 20)
    held[::4096] = b"x" * len(held[::4096])  # every page is there
    print_attempts() if arguments.attempts else print_times()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
