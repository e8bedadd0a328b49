"""Tokens per second and MFU of training GPT-2 124M at a context of 1,024, beside what the card can do.

    python benchmarks/train_gpu.py
    python benchmarks/train_gpu.py --rows 32 --steps 50 --no-compile
    python benchmarks/train_gpu.py --device cpu --shape 2 2 128 128 --vocab-size 4096 --rows 4 --steps 5

Measures first how fast the device multiplies square matrices (the best of several sizes), then the steps
of the training loop on random tokens: forward, backward and both optimisers, nothing left out. Prints
both, and the second as a share of the first and of the data sheet's peak. To be beaten: nanoGPT 107,000
tokens/s on an A100 (29 % MFU), llm.c 468,000 on an H100 (40 %). Aim: half of the measured matrix rate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

SIZES = (2048, 4096, 8192)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "mps", "cpu"], help="where to compute")
    parser.add_argument("--dtype", default="auto", help="precision of the products")
    parser.add_argument(
        "--shape", type=int, nargs=4, default=[12, 12, 768, 1024], help="layers heads width context"
    )
    parser.add_argument("--vocab-size", type=int, default=50304, help="entries; a multiple of 64 is faster")
    parser.add_argument("--rows", type=int, default=32, help="sequences per step")
    parser.add_argument("--steps", type=int, default=30, help="measured, after as many as the compiler needs")
    parser.add_argument("--no-compile", action="store_true", help="also where Triton is there")
    return parser


def seconds_of(work: Callable[[], object], synchronize: Callable[[], None], times: int) -> float:
    """Mean seconds of a piece of work, queued several times as training would queue it."""
    work()
    synchronize()
    started = time.perf_counter()
    for _ in range(times):
        work()
    synchronize()
    return (time.perf_counter() - started) / times


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    import torch

    from data_loading.batches import PackedRows
    from data_loading.token_file import TokenSplit
    from gpt2.config import GPT2Config
    from gpt2.device import find_machine
    from model_cli import UserError
    from training.plan import Plan
    from training.schedule import Schedule
    from training.trainer import Trainer

    try:
        machine = find_machine(options.device, options.dtype, None)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    if options.no_compile:
        torch.compiler.set_stance("force_eager")
    sizes = SIZES if options.device != "cpu" else (1024,)
    rate = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, device=machine.device).to(machine.dtype) for _ in range(2))
        rate = max(rate, 2 * size**3 / seconds_of(lambda a=a, b=b: a @ b, machine.synchronize, 20))  # type: ignore[misc]
    print(f"{machine.name}: {rate / 1e12:,.1f} TFLOP/s in matrix products")

    import numpy as np

    n_layer, n_head, n_embd, block_size = options.shape
    shape = GPT2Config(n_layer, n_head, n_embd, block_size, options.vocab_size)
    tokens = np.random.default_rng(0).integers(0, options.vocab_size, 4_000_000).astype(np.uint16)
    lengths = np.array([len(tokens)])
    split = TokenSplit(tokens, np.array([0, len(tokens)]), lengths, np.zeros(1, np.int32), [""], [""])
    plan = Plan(shape, options.rows, options.rows, 10**6, None, 1.0, 0.0)
    trainer = Trainer(plan, machine, PackedRows(split, shape.block_size, 0), Schedule(10**6), 0)
    for _ in range(3):
        trainer.step()
    machine.synchronize()
    seconds = seconds_of(trainer.step, machine.synchronize, options.steps)
    speed = plan.tokens_per_step / seconds
    achieved = speed * shape.flops_per_token
    print(f"{shape.parameters / 1e6:.1f} M parameters, {options.rows} x {shape.block_size} tokens a step")
    print(f"{speed:,.0f} tokens/s, {1000 * seconds:.1f} ms a step, {machine.peak_memory / 1e9:.1f} GB")
    print(f"{achieved / 1e12:,.1f} TFLOP/s: {achieved / rate:.1%} of the measured matrix rate", end="")
    print(
        "" if machine.peak_flops is None else f", {achieved / machine.peak_flops:.1%} MFU by the data sheet"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
