"""What does model/train.py spend beside its steps, and how much more than a bare step does a step cost?

    python benchmarks/train_overhead.py --minutes 3 --shape 4 4 256 256 --threads 2
    python benchmarks/train_overhead.py --minutes 1 --threads 1 --data data.txt --tokenizer tokenizer

Makes one run of model/train.py in this process with a clock around each of its parts, then the same number
of seconds of bare steps (forward, backward, both optimisers, always on the same tokens). Prints a row for
each part: how often, CPU seconds and seconds of the clock, and the share of the stepping time; then the cost
of a step in the run and bare, and the tokens per second of both. On a busy machine compare the CPU seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from training.run import Run

PARTS = {  # what a run does beside the loop itself: methods of Run
    "observe": "_observe",
    "save": "save",
    "measure": "_measure",
    "show a sample": "_show_sample",
}


@dataclass
class Cost:
    """What one part cost, without the parts inside it."""

    times: int = 0
    cpu: float = 0.0
    wall: float = 0.0


class Clock:
    """Adds up what parts cost; a part inside another one is subtracted from the outer one."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}
        self.open: list[str] = []

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*arguments: Any, **named: Any) -> Any:
            cost = self.costs.setdefault(part, Cost())
            outer = self.costs[self.open[-1]] if self.open else None
            self.open.append(part)
            before = time.process_time(), time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                cpu, wall = time.process_time() - before[0], time.perf_counter() - before[1]
                self.open.pop()
                cost.times, cost.cpu, cost.wall = cost.times + 1, cost.cpu + cpu, cost.wall + wall
                if outer is not None:
                    outer.cpu, outer.wall = outer.cpu - cpu, outer.wall - wall

        return clocked


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    parser.add_argument("--minutes", type=float, default=3, help="of the run")
    parser.add_argument(
        "--shape", type=int, nargs=4, default=[4, 4, 256, 256], help="layers heads width context"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    return parser


def bare_steps(run: Run, seconds: float) -> tuple[float, float]:
    """The median CPU and clock seconds of a step without anything around it."""
    import torch

    from gpt2.network import GPT2
    from training.optimizers import build_optimizers

    plan, machine = run.plan, run.trainer.machine
    model = GPT2(plan.shape, machine.dtype)
    optimizers = build_optimizers(model, machine.dtype)
    tokens = torch.randint(plan.shape.vocab_size, (plan.rows, plan.shape.block_size + 1))
    cpu, wall, started = [], [], time.perf_counter()
    while time.perf_counter() - started < seconds:
        before = time.process_time(), time.perf_counter()
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        cpu.append(time.process_time() - before[0])
        wall.append(time.perf_counter() - before[1])
    return statistics.median(cpu), statistics.median(wall)


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    from gpt2.device import limit_spinning

    limit_spinning()
    import train
    from training import report
    from training import trainer as training
    from training.run import Run

    clock, runs = Clock(), []  # type: Clock, list[Run]
    training.Trainer.step = clock.around("step", training.Trainer.step)  # type: ignore[method-assign]
    for part, method in PARTS.items():
        setattr(Run, method, clock.around(part, getattr(Run, method)))

    stepping = Run.train

    def whole(run: Run) -> Any:
        runs.append(run)
        return stepping(run)

    Run.train = clock.around("the rest of the loop", whole)  # type: ignore[method-assign]
    report.write_report = clock.around("after the last step", report.write_report)
    with tempfile.TemporaryDirectory() as folder:
        names = ("--n-layer", "--n-head", "--n-embd", "--block-size")
        shape = [word for pair in zip(names, map(str, options.shape), strict=True) for word in pair]
        files = ["--data", str(options.data), "--tokenizer", str(options.tokenizer), "--any-tokenizer"]
        length = ["--minutes", str(options.minutes), "--threads", str(options.threads), "--device", "cpu"]
        with contextlib.redirect_stderr(Path(folder, "progress").open("w", encoding="utf-8")):
            code = train.main([*files, *shape, *length, "--no-sources", "--output", f"{folder}/GPyT"])
    if code:
        return code
    run = runs[0]
    cpu, wall = bare_steps(run, min(60.0, 15 * options.minutes))
    loop = {name: cost for name, cost in clock.costs.items() if name != "after the last step"}
    all_cpu, all_wall = (sum(getattr(cost, kind) for cost in loop.values()) for kind in ("cpu", "wall"))
    print(f"{'':<22}{'times':>7}{'CPU s':>9}{'of loop':>9}{'clock s':>9}{'of loop':>9}")
    for name, cost in sorted(clock.costs.items(), key=lambda item: -item[1].wall):
        shares = f"{cost.cpu / all_cpu:>9.1%}", f"{cost.wall / all_wall:>9.1%}"
        print(f"{name:<22}{cost.times:>7,}{cost.cpu:>9.2f}{shares[0]}{cost.wall:>9.2f}{shares[1]}")
    steps, tokens, learnt = clock.costs["step"], run.plan.tokens_per_step, run.trainer.tokens
    print(
        f"a step: {steps.cpu / steps.times:.4f} CPU s, bare {cpu:.4f}; tokens per CPU second of the loop"
        f" {learnt / all_cpu:,.0f}, bare {tokens / cpu:,.0f} ({learnt / all_cpu * cpu / tokens:.1%});"
        f" by the clock {learnt / all_wall:,.0f}, bare {tokens / wall:,.0f}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
