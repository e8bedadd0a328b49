"""The budget dial: from the machine, the corpus and the minutes to a model that can be trained in them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import psutil
import torch
from gpt2 import GPT2, Shape
from optimizers import build_optimizers

GIGABYTE = 1e9

# (n_layer, n_head, n_embd, block_size): from a toy to GPT-2 medium, heads of 64 as in GPT-2
LADDER = (
    (2, 2, 128, 256),
    (3, 3, 192, 256),
    (4, 4, 256, 256),
    (6, 6, 384, 512),
    (8, 8, 512, 512),
    (12, 12, 768, 1024),
    (24, 16, 1024, 1024),
)
REFERENCE = 2  # the rung that measures the machine: the largest that takes a second on two cores

# A rung is taken when the budget gives it this many tokens per parameter. Fewer than the 20 of Chinchilla
# (Hoffmann et al. 2022), because a small model uses a processor less well. A first measurement, on two cores:
# 2.2 M parameters on 5.3 M tokens (some 250 s) end at 1.35 bits per byte, 4.3 M on 2.1 M (180 s) at 1.66.
TOKENS_PER_PARAMETER = 1.5

# Tokens per step: 2,048 did best in minutes on two cores, and grow with the square root of the run.
# Source of the growth: McCandlish et al. 2018; Zhang et al. 2024 ("How does critical batch size scale").
BATCH_TOKENS = 2048
BATCH_TOKENS_AT = 2e6  # tokens of the whole run

# Four epochs are nearly as good as new text, and beyond 16 repetition teaches nothing more.
# Source: Muennighoff et al. 2023, "Scaling data-constrained language models", section 6.
MOST_EPOCHS = 16

MEASURED_SECONDS = 1.5
PROCESS_MEMORY = 0.55 * GIGABYTE  # Python, torch and datasets before the first tensor
ACTIVATION_BYTES = 36  # per token, layer and channel in 2-byte precision: measured, benchmarks/LOG.md
MEMORY_SHARE = 0.7  # of what is free; the rest stays with the user's other programs


class BudgetError(ValueError):
    """The corpus, the machine and the budget do not make a run."""


@dataclass(frozen=True)
class Machine:
    """Where and how to compute."""

    device: torch.device
    dtype: torch.dtype
    threads: int

    @property
    def name(self) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        if self.device.type == "cpu":
            return f"{self.threads} CPU thread{'s' * (self.threads > 1)}, {precision}"
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {precision}"
        return f"{self.device.type}, {precision}"

    @property
    def free_memory(self) -> int:
        """Bytes that a model may take on the device."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def find_machine(device: str, dtype: str, threads: int | None) -> Machine:
    """The machine behind --device, --dtype and --threads, where "auto" takes the fastest."""
    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    elif (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise BudgetError(f"this torch ({torch.__version__}) finds no {device} device: use --device cpu")
    if threads:
        torch.set_num_threads(threads)
    chosen = torch.device(device)
    precision: torch.dtype = getattr(torch, dtype) if dtype != "auto" else _fastest_dtype(chosen)
    return Machine(chosen, precision, torch.get_num_threads())


def _fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it natively; elsewhere emulation costs more than it saves."""
    if device.type == "cpu":
        native = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # AVX512-BF16 or AMX
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


@dataclass(frozen=True)
class Corpus:
    """What the dial needs to know about the training documents."""

    tokens: int
    vocab_size: int


@dataclass(frozen=True)
class Wish:
    """What the user asked for; None leaves the choice to the dial."""

    seconds: float | None
    steps: int | None
    n_layer: int | None = None
    n_head: int | None = None
    n_embd: int | None = None
    block_size: int | None = None

    @property
    def free(self) -> bool:
        return self.n_layer is None and self.n_embd is None


@dataclass(frozen=True)
class Plan:
    """A run before its first step; fixed then, stored, and found again by a resumed run."""

    shape: Shape
    rows: int  # sequences per step
    micro_rows: int  # sequences at a time on the device; their gradients add up
    steps: int
    seconds: float | None  # the budget of a run by the clock, None with a fixed number of steps
    seconds_per_step: float
    memory: float  # bytes, estimated

    @property
    def tokens_per_step(self) -> int:
        return self.rows * self.shape.block_size

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.seconds_per_step


def make_plan(wish: Wish, corpus: Corpus, machine: Machine) -> Plan:
    """Measure the machine, choose what was not asked for, and say how long it will take."""
    if wish.steps is not None:
        # Without a look at the clock: with --steps the same command gives the same model everywhere.
        tokens = wish.steps * BATCH_TOKENS
        shape = _fit(wish, corpus, lambda rung: tokens / rung.parameters)
        rows = _rows(shape, tokens)
        micro_rows = _micro_rows(shape, rows, machine)
        seconds_per_step = measure_step(shape, micro_rows, machine) * rows / micro_rows
        return Plan(shape, rows, micro_rows, wish.steps, None, seconds_per_step, memory_of(shape, micro_rows))
    assert wish.seconds is not None, "a run has a budget in seconds or in steps"
    seconds = wish.seconds
    flops = 0.0
    if wish.free:
        reference = _shape(LADDER[REFERENCE], corpus)
        rows = BATCH_TOKENS // reference.block_size
        flops = (
            rows * reference.block_size * reference.flops_per_token / measure_step(reference, rows, machine)
        )
    shape = _fit(wish, corpus, lambda rung: flops * seconds / rung.flops_per_token / rung.parameters)
    rows = _rows(shape, BATCH_TOKENS_AT)
    micro_rows = _micro_rows(shape, rows, machine)
    per_row = measure_step(shape, micro_rows, machine) / micro_rows
    rows = _rows(shape, seconds / per_row * shape.block_size)
    micro_rows = _micro_rows(shape, rows, machine)
    steps = max(1, round(seconds / (per_row * rows)))
    plan = Plan(shape, rows, micro_rows, steps, seconds, per_row * rows, memory_of(shape, micro_rows))
    return _within_epochs(plan, corpus)


def _within_epochs(plan: Plan, corpus: Corpus) -> Plan:
    """The plan, shortened where the corpus would be repeated beyond use."""
    most = max(1, MOST_EPOCHS * corpus.tokens // plan.tokens_per_step)
    if plan.steps <= most:
        return plan
    return replace(plan, steps=most, seconds=most * plan.seconds_per_step)


def _fit(wish: Wish, corpus: Corpus, tokens_per_parameter: Callable[[Shape], float]) -> Shape:
    """The shape asked for, or the largest rung for which the budget and the corpus suffice."""
    chosen = _shape(LADDER[0], corpus)
    if wish.free:
        for rung in (_shape(numbers, corpus) for numbers in LADDER):
            if tokens_per_parameter(rung) >= TOKENS_PER_PARAMETER:
                chosen = rung
    else:
        chosen = _shape(LADDER[REFERENCE], corpus)
    n_embd = wish.n_embd or chosen.n_embd
    n_head = wish.n_head or max(1, n_embd // 64)
    while wish.n_head is None and n_embd % n_head:
        n_head -= 1
    if n_embd % n_head:
        raise BudgetError(
            f"--n-embd {n_embd} is not a multiple of --n-head {n_head}: choose another of the two"
        )
    block_size = wish.block_size or chosen.block_size
    return Shape(
        wish.n_layer or chosen.n_layer, n_head, n_embd, _context(block_size, corpus), corpus.vocab_size
    )


def _context(block_size: int, corpus: Corpus) -> int:
    """block_size, or the largest power of two that the corpus fills at least once."""
    if corpus.tokens >= block_size:
        return block_size
    return max(8, 1 << (corpus.tokens.bit_length() - 1))


def _shape(numbers: tuple[int, int, int, int], corpus: Corpus) -> Shape:
    return Shape(*numbers, corpus.vocab_size)


def _batch_tokens(run_tokens: float) -> int:
    return int(BATCH_TOKENS * math.sqrt(max(1.0, run_tokens / BATCH_TOKENS_AT)))


def _rows(shape: Shape, run_tokens: float) -> int:
    return max(1, round(_batch_tokens(run_tokens) / shape.block_size))


def _micro_rows(shape: Shape, rows: int, machine: Machine) -> int:
    """As many rows at a time as fit the memory: a divisor of rows."""
    for parts in range(1, rows + 1):
        if rows % parts == 0 and memory_of(shape, rows // parts) <= MEMORY_SHARE * machine.free_memory:
            return rows // parts
    needed, free = memory_of(shape, 1) / GIGABYTE, machine.free_memory / GIGABYTE
    raise BudgetError(
        f"a model of {shape.parameters:,} parameters needs {needed:.1f} GB and {free:.1f} GB are free:"
        " choose a smaller --n-layer, --n-embd or --block-size"
    )


def memory_of(shape: Shape, micro_rows: int) -> float:
    """Bytes that training takes: the process, weights with gradients and moments, activations of a batch."""
    weights = 18 * shape.parameters  # 4 each: weight, gradient, two moments; 2 for the copy that computes
    activations = ACTIVATION_BYTES * 2 * micro_rows * shape.block_size * shape.n_embd * shape.n_layer / 2
    return PROCESS_MEMORY + weights + activations


def measure_step(shape: Shape, rows: int, machine: Machine) -> float:
    """Seconds that a step of `rows` sequences takes: the median of as many as fit a second and a half."""
    model = GPT2(shape, machine.dtype).to(machine.device)
    optimizers = build_optimizers(model, machine.dtype)
    tokens = torch.randint(shape.vocab_size, (rows, shape.block_size + 1), device=machine.device)
    times = [time.perf_counter()]
    while len(times) < 5 or (times[-1] - times[0] < MEASURED_SECONDS and len(times) < 50):
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        machine.synchronize()
        times.append(time.perf_counter())
    durations = sorted(after - before for before, after in pairwise(times[2:]))
    return durations[len(durations) // 2]
