"""How fast is a training step, beside the loop that one writes first? No data, no learning: random tokens.

    python benchmarks/step_speed.py
    python benchmarks/step_speed.py --shapes 2x2x128x512 4x4x256x256 --threads 1 2 --vocab 8192 --rounds 5
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 NUMBA_CPU_NAME=haswell \\
        python benchmarks/step_speed.py --dtypes float32       # a newer processor as one with AVX2 alone

ours: GPT2, Muon and AdamW of model/train.py. sampled: the same with the sampled softmax that train.py takes
from 4,096 entries on. plain: transformers' GPT2LMHeadModel in float32, cross-entropy, clipping, torch's
AdamW. Tokens are as frequent as Zipf's law says. Each shape is layers x heads x width x context, with the
same rows a step. Every figure is the median of the steps of all rounds; the contenders go in turn, each in a
process of its own.
Prints a row each: milliseconds forward, backward and for the update; tokens per second; GFLOP/s by
`GPT2Config.flops_per_token`, which counts all of the attention; and what a product of two square matrices of
1,024 reaches on the same threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journey import PROJECT, HelpFormatter
from training_contenders import stock_model

sys.path.insert(0, str(PROJECT / "model"))

WARM_UP = 3
STEPS = 8  # of each round
SQUARE = 1024
Times = tuple[float, float, float]  # seconds forward, backward, update


@dataclass(frozen=True)
class Case:
    """What a process measures."""

    contender: str  # "ours", "sampled" or "plain"
    shape: tuple[int, int, int, int]
    dtype: str
    threads: int
    vocab: int
    tokens: int

    @property
    def rows(self) -> int:
        return max(1, round(self.tokens / self.shape[3]))


def zipf(vocab: int) -> Any:
    """(V,): how often each token stands in a text of a hundred million. Source: Mandelbrot 1953."""
    import numpy as np

    shares = 1 / (np.arange(vocab) + 2.7)
    return np.round(1e8 * shares / shares.sum()).astype(np.int64)


def step_of_ours(case: Case, tokens: Any, targets: Any) -> Callable[[], Times]:
    import torch

    from gpt2.config import GPT2Config
    from gpt2.network import GPT2
    from training.optimizers import build_optimizers
    from training.sampled_softmax import SoftmaxSampler

    softmax = SoftmaxSampler(zipf(case.vocab), seed=0) if case.contender == "sampled" else None
    dtype = getattr(torch, case.dtype)
    model = GPT2(GPT2Config(*case.shape, case.vocab), dtype)
    optimizers = build_optimizers(model, dtype)

    def step() -> Times:
        times = [time.perf_counter()]
        candidates = None if softmax is None else softmax.draw(targets, step=0)
        loss = model(tokens, targets, candidates)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter())
        return times[1] - times[0], times[2] - times[1], times[3] - times[2]

    return step


def step_of_plain(case: Case, tokens: Any, targets: Any) -> Callable[[], Times]:
    import torch

    options = argparse.Namespace(shape=case.shape)
    model = stock_model(options, case.vocab, 0, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def step() -> Times:
        times = [time.perf_counter()]
        logits = model(input_ids=tokens).logits
        loss: Any = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
        return times[1] - times[0], times[2] - times[1], times[3] - times[2]

    return step


def measure(case: Case) -> dict[str, Any]:
    """The times of each step, and the operations per second of a plain product."""
    import torch

    from gpt2.device import keep_freed_memory

    if case.contender != "plain":
        keep_freed_memory()
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    size = (case.rows, case.shape[3] + 1)
    frequencies = torch.from_numpy(zipf(case.vocab)).double()
    batch = torch.multinomial(frequencies, size[0] * size[1], replacement=True).view(size)
    make = step_of_plain if case.contender == "plain" else step_of_ours
    step = make(case, batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
    times = [step() for _ in range(WARM_UP + STEPS)][WARM_UP:]
    square = torch.randn(SQUARE, SQUARE, dtype=getattr(torch, case.dtype))
    products = []
    for _ in range(10):
        began = time.perf_counter()
        square @ square
        products.append(time.perf_counter() - began)
    return {"times": times, "peak": 2 * SQUARE**3 / statistics.median(products)}


def in_a_process(case: Case) -> dict[str, Any]:
    """Threads spin as briefly as in train.py: that is read when torch is loaded."""
    from gpt2.device import SPIN_COUNT

    environment = {**os.environ, "OMP_NUM_THREADS": str(case.threads), "GOMP_SPINCOUNT": SPIN_COUNT}
    environment["HF_HUB_OFFLINE"] = "1"
    command = [sys.executable, str(Path(__file__)), "--run", json.dumps(vars(case))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row_of(case: Case, found: list[dict[str, Any]], plain: float | None) -> tuple[str, float]:
    """The row of a case, and its tokens per second."""
    from gpt2.config import GPT2Config

    parts = [
        statistics.median(column)
        for column in zip(*(step for each in found for step in each["times"]), strict=True)
    ]
    tokens = case.rows * case.shape[3]
    speed = tokens / sum(parts)
    flops = speed * GPT2Config(*case.shape, case.vocab).flops_per_token
    peak = statistics.median(each["peak"] for each in found)
    share = f"{speed / plain:.2f}" if plain else ""
    name = f"{'x'.join(map(str, case.shape))} {case.contender} {case.dtype} {case.threads} threads"
    figures = "".join(f"{1000 * part:>9.1f}" for part in parts)
    row = f"{name:<44}{figures}{speed:>11,.0f}{flops / 1e9:>10.0f}{peak / 1e9:>7.0f}{share:>10}"
    return row, speed


def shape_of(text: str) -> tuple[int, int, int, int]:
    """2x2x128x512 -> its four numbers. Raises: ValueError."""
    layers, heads, width, context = map(int, text.split("x"))
    return layers, heads, width, context


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    shapes = ["2x2x128x512", "3x3x192x512", "4x4x256x256"]
    parser.add_argument("--shapes", type=shape_of, nargs="+", default=[shape_of(shape) for shape in shapes])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="of ours")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--vocab", type=int, default=2048, help="entries of the vocabulary")
    parser.add_argument("--tokens", type=int, default=3584, help="of a step, about")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each row")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one case, as JSON
    options = parser.parse_args(argv)
    if options.run:
        values = json.loads(options.run)
        print(json.dumps(measure(Case(**{**values, "shape": tuple(values["shape"])}))))
        return 0
    from training.sampled_softmax import SMALLEST_VOCABULARY

    columns = ("forward", "backward", "update")
    print(f"{'':<44}" + "".join(f"{name:>9}" for name in columns), end="")
    print(f"{'tokens/s':>11}{'GFLOP/s':>10}{'peak':>7}{'of plain':>10}")
    for threads in options.threads:
        for shape in options.shapes:
            ours = ["ours", "sampled"] if options.vocab >= SMALLEST_VOCABULARY else ["ours"]
            contenders = [
                ("plain", "float32"),
                *((name, dtype) for dtype in options.dtypes for name in ours),
            ]
            cases = [
                Case(name, shape, dtype, threads, options.vocab, options.tokens) for name, dtype in contenders
            ]
            found: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
            for _ in range(options.rounds):
                for case in cases:
                    found[case].append(in_a_process(case))
            plain = None
            for case in cases:
                row, speed = row_of(case, found[case], plain)
                plain = plain or speed
                print(row, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
