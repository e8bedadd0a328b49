"""Ours against what people would use instead: equal wall time, data, tokenizer and shape, in one table.

    python benchmarks/train_against.py --seconds 180 --seeds 0 1 2 --nanogpt ~/nanoGPT
    python benchmarks/train_against.py --seconds 30 --contenders ours adamw
    python benchmarks/train_against.py --seconds 1800 --paces train_against.jsonl --device cuda --jobs 6 ...

ours              model/train.py with that shape and as many seconds
adamw             a plain PyTorch loop: GPT2LMHeadModel, float32, AdamW with cosine decay, random rows; its
                  rate is --rate, its batch --batch, to be tuned
trainer           transformers' Trainer with CodeParrot's settings: 5e-4, cosine, weight decay 0.1
trainer-defaults  the same with the Trainer's own: 5e-5, linear decay
nanogpt           train.py of a checkout of karpathy/nanoGPT, its rates as for small models: 1e-3 to 1e-4,
                  warm-up 20, beta2 0.99, no dropout

The clock counts the seconds of stepping alone. The Trainer and nanoGPT first make a pilot run, whose speed
sets their number of steps, so that their schedules end on time. On a machine that others use the speed
changes, and the column of seconds shows by how much. All are scored by the same code on the same whole
files, of held-out repositories that none of them sees (reporting_split.py). The rows: tokens per second,
bits per byte (mean, lowest and highest of the seeds), and ours as a share of it.

With --paces the clock does not count: each contender makes the steps that it would make in the seconds at its
mean speed in that record of earlier runs. The result is the same on every device to within rounding (use
float32), so a GPU finishes in a minute what takes the machine of the record hours.
The contenders themselves are in training_contenders.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from journey import HelpFormatter
from reporting_split import set_apart
from training_contenders import CONTENDERS, Result, corpus, run_one


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    parser.add_argument("--seconds", type=float, default=180, help="of stepping, for each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run for each")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="(default: all of them)")
    parser.add_argument("--nanogpt", type=Path, help="checkout of nanoGPT (default: it does not take part)")
    parser.add_argument(
        "--shape", type=int, nargs=4, default=[4, 4, 256, 256], help="layers heads width context"
    )
    parser.add_argument("--batch", type=int, default=8, help="sequences per step of the others")
    parser.add_argument(
        "--rate",
        type=float,
        default=1e-3,
        help="highest learning rate of adamw and nanogpt; the lowest is a tenth",
    )
    parser.add_argument("--paces", type=Path, help="record of runs whose speed counts instead of the clock")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute")
    parser.add_argument(
        "--dtype", default="auto", help="precision of ours, by the clock; the others compute in their own"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, with --paces")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    parser.add_argument("--held-out-kb", type=int, default=1000, help="of the files that are reported on")
    parser.add_argument(
        "--work", type=Path, default=Path("train_against"), help="folder of the divided documents"
    )
    parser.add_argument(
        "--record", type=Path, default=Path("train_against.jsonl"), help="file to which each run adds a line"
    )
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one contender and seed, in a process of its own
    return parser


def table(results: list[Result]) -> str:
    """A row for each contender, the best first."""
    by_name = {name: [r for r in results if r.contender == name] for name in CONTENDERS}
    means = {name: statistics.mean(r.bits_per_byte for r in rows) for name, rows in by_name.items() if rows}
    lines = [
        f"{'':<18}{'seeds':>5}{'tokens/s':>10}{'tokens':>11}{'seconds':>9}"
        f"{'bits/byte':>11}{'low':>8}{'high':>8}{'ours is':>9}"
    ]
    for name in sorted(means, key=lambda name: means[name]):
        rows = by_name[name]
        speed = statistics.mean(r.tokens / r.seconds for r in rows)
        tokens, seconds = (
            statistics.mean(getattr(r, field) for r in rows) for field in ("tokens", "seconds")
        )
        bits = [r.bits_per_byte for r in rows]
        ratio = f"{means['ours'] / means[name]:.3f}" if "ours" in means else ""
        lines.append(
            f"{name:<18}{len(rows):>5}{speed:>10,.0f}{tokens:>11,.0f}{seconds:>9.1f}"
            f"{means[name]:>11.4f}{min(bits):>8.4f}{max(bits):>8.4f}{ratio:>9}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    options.tokenizer = options.tokenizer.absolute()
    parts = set_apart(options.data, options.work.absolute())
    options.data, options.reported = parts.seen, parts.reported
    if options.nanogpt is not None:
        options.nanogpt = options.nanogpt.absolute()
    if options.paces is None and (options.device != "cpu" or options.jobs > 1):
        raise SystemExit("--device and --jobs need --paces: by the clock such runs cannot be compared")
    if options.run:
        import torch

        torch.set_num_threads(options.threads)
        name, seed = options.run.split(":")
        print(json.dumps(asdict(run_one(options, name, int(seed)))))
        return 0
    chosen = options.contenders or [name for name in CONTENDERS if name != "nanogpt" or options.nanogpt]
    if "nanogpt" in chosen and options.nanogpt is None:
        raise SystemExit("nanogpt takes part with --nanogpt PATH, a checkout of karpathy/nanoGPT")
    print(parts, file=sys.stderr)
    corpus(options)
    arguments = sys.argv[1:] if argv is None else argv
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}

    def run(name: str, seed: int) -> Result:
        command = [sys.executable, __file__, *arguments, "--run", f"{name}:{seed}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        result = Result(**json.loads(done.stdout.splitlines()[-1]))
        with options.record.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        print(result, file=sys.stderr, flush=True)
        return result

    # in turn, so that a busy hour of the machine meets all of them
    runs = [(name, seed) for seed in options.seeds for name in chosen]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(run, *zip(*runs, strict=True)))
    print(table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
