"""The budget dial: from the machine, the corpus and the minutes to a model that can be trained in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from gpt2 import Shape
from machine import Machine
from pace import Pace, mean_pace, measure_pace

GIGABYTE = 1e9

# (n_layer, n_head, n_embd, block_size): from a toy to GPT-2 medium, heads of 64 as in GPT-2. With heads that
# copy in place from the first step (induction.py) a long context pays in minutes too: 2 x 128 after 2.5 M
# tokens 1.519, 1.467 and 1.425 bits per byte with 128, 256 and 512, at 7 to 10 % more time a doubling
# (benchmarks/LOG.md).
LADDER = (
    (2, 2, 128, 512),
    (2, 3, 192, 512),
    (3, 3, 192, 512),
    (4, 4, 256, 512),
    (6, 6, 384, 512),
    (8, 8, 512, 1024),
    (12, 12, 768, 1024),
    (24, 16, 1024, 1024),
)
# Shapes between and beyond the rungs for --size: as wide as 64 times their depth, as the ladder mostly is
SIZES = tuple((depth, depth, 64 * depth, 512 if depth < 10 else 1024) for depth in range(2, 17))
# The rungs that measure the machine, and with how many rows: on a CPU the largest that takes a second on two
# cores; a GPU waits for its next command unless it gets more to do at a time (not yet seen on one).
REFERENCE, GPU_REFERENCE = (3, 4), (5, 8)

# A rung is taken when the budget gives it this many tokens per parameter, counted as if it used the
# processor as well as the reference does. Fewer than the 20 of Chinchilla (Hoffmann et al. 2022), because
# small models do not. In the same 260 CPU seconds (benchmarks/LOG.md): 2 x 128 1.285 bits per byte, 2 x 192
# 1.268 and 3 x 192 1.300, with 7.6, 2.8 and 1.6 tokens per parameter.
TOKENS_PER_PARAMETER = 3.0

# Tokens per step: 2,048 did best in minutes on two cores, and grow with the square root of the run.
# Source of the growth: McCandlish et al. 2018; Zhang et al. 2024 ("How does critical batch size scale").
BATCH_TOKENS = 2048
BATCH_TOKENS_AT = 2e6  # tokens of the whole run

# How often the pace is measured: again for a batch that has grown to twice the one before.
MOST_PACES = 3

# Share of a run after which all rows are whole (length_warmup.py). Measured: benchmarks/LOG.md.
LENGTH_WARMUP = 1.0

# Four epochs are nearly as good as new text, and beyond 16 repetition teaches nothing more.
# Source: Muennighoff et al. 2023, "Scaling data-constrained language models", section 6.
MOST_EPOCHS = 16

PROCESS_MEMORY = 0.55 * GIGABYTE  # Python, torch and datasets before the first tensor
ACTIVATION_BYTES = 36  # per token, layer and channel in 2-byte precision: measured, benchmarks/LOG.md
MEMORY_SHARE = 0.7  # of what is free; the rest stays with the user's other programs


class BudgetError(ValueError):
    """The corpus, the machine and the budget do not make a run."""


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
    batch_size: int | None = None  # rows per step, of all processes
    parameters: float | None = None  # --size
    first: Shape | None = None  # of the model that training goes on from
    rate: float = 1.0
    most_epochs: int = MOST_EPOCHS

    @property
    def free(self) -> bool:
        return not (self.n_layer or self.n_embd or self.parameters or self.first)


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
    rate: float = 1.0  # share of the full learning rates
    length_warmup: float = 0.0  # share of the steps after which all rows are whole
    forecast: float | None = None  # of the held-out bits per byte at the end

    @property
    def tokens_per_step(self) -> int:
        return self.rows * self.shape.block_size

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.seconds_per_step


def make_plan(wish: Wish, corpus: Corpus, machine: Machine, ranks: int = 1, *, sharded: bool = False) -> Plan:
    """Measure the machine, choose what was not asked for, and say how long it will take.

    ranks: how many processes share each step, with weights divided among them or not.
    """
    room = Room(machine, ranks if sharded else 1)
    warmup = LENGTH_WARMUP if wish.first is None else 0.0  # a trained model knows what short rows teach
    if wish.steps is not None:
        # Without a look at the clock: with --steps the same command gives the same model everywhere.
        tokens = wish.steps * BATCH_TOKENS
        shape = _fit(wish, corpus, lambda rung: tokens / rung.parameters)
        rows = _rows(wish, shape, tokens, ranks)
        micro_rows = room.micro_rows(shape, _share(rows, ranks))
        pace = mean_pace(shape, micro_rows, machine, warmup)
        steps, seconds = wish.steps, None
    else:
        assert wish.seconds is not None, "a run has a budget in seconds or in steps"
        seconds = wish.seconds
        flops = 0.0
        if wish.free:
            rung, rows = REFERENCE if machine.device.type == "cpu" else GPU_REFERENCE
            reference = _shape(LADDER[rung], corpus)
            operations = rows * reference.block_size * reference.flops_per_token
            flops = ranks * operations / measure_pace(reference, rows, machine).step
        budget = flops * seconds
        shape = _fit(wish, corpus, lambda rung: budget / rung.flops_per_token / rung.parameters)
        rows = _rows(wish, shape, BATCH_TOKENS_AT, ranks)
        micro_rows = room.micro_rows(shape, _share(rows, ranks))
        for _ in range(MOST_PACES):  # a GPU takes hardly longer for more rows, so that more can be read
            pace = mean_pace(shape, micro_rows, machine, warmup)
            rows = _rows_of_run(wish, shape, pace, rows, ranks)
            micro_rows = room.micro_rows(shape, _share(rows, ranks))
            if micro_rows < 2 * pace.rows:
                break
        steps = max(1, round(seconds / pace.seconds(_share(rows, ranks))))
    per_step, memory = pace.seconds(_share(rows, ranks)), room.needed(shape, micro_rows)
    plan = Plan(shape, rows, micro_rows, steps, seconds, per_step, memory, wish.rate, warmup)
    return plan if wish.steps is not None else _within_epochs(plan, corpus, wish.most_epochs)


def _within_epochs(plan: Plan, corpus: Corpus, most_epochs: int) -> Plan:
    """The plan, shortened where the corpus would be repeated beyond use."""
    most = max(1, most_epochs * corpus.tokens // plan.tokens_per_step)
    if plan.steps <= most:
        return plan
    return replace(plan, steps=most, seconds=most * plan.seconds_per_step)


def _fit(wish: Wish, corpus: Corpus, tokens_per_parameter: Callable[[Shape], float]) -> Shape:
    """The shape asked for, or the largest rung for which the budget and the corpus suffice."""
    if wish.first is not None:
        return replace(wish.first, block_size=_context(wish.block_size or wish.first.block_size, corpus))
    chosen = _shape(LADDER[REFERENCE[0]], corpus)
    if wish.free:
        chosen = _shape(LADDER[0], corpus)
        for rung in (_shape(numbers, corpus) for numbers in LADDER):
            if tokens_per_parameter(rung) >= TOKENS_PER_PARAMETER:
                chosen = rung
    elif wish.parameters is not None:
        chosen = _nearest(wish.parameters, corpus)
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


def _nearest(parameters: float, corpus: Corpus) -> Shape:
    """The shape with the number of parameters next to the one asked for; a rung before others."""
    shapes = [_shape(numbers, corpus) for numbers in (*LADDER, *SIZES)]
    return min(shapes, key=lambda shape: abs(math.log(shape.parameters / parameters)))


def _context(block_size: int, corpus: Corpus) -> int:
    """block_size, or the largest power of two that the corpus fills at least once."""
    if corpus.tokens >= block_size:
        return block_size
    return max(8, 1 << (corpus.tokens.bit_length() - 1))


def _shape(numbers: tuple[int, int, int, int], corpus: Corpus) -> Shape:
    return Shape(*numbers, corpus.vocab_size)


def batch_tokens(run_tokens: float) -> int:
    """Tokens of a step in a run of so many."""
    return int(BATCH_TOKENS * math.sqrt(max(1.0, run_tokens / BATCH_TOKENS_AT)))


def _rows(wish: Wish, shape: Shape, run_tokens: float, ranks: int) -> int:
    """Sequences per step: at least one for each rank."""
    if wish.batch_size is None:
        return max(ranks, round(batch_tokens(run_tokens) / shape.block_size))
    if wish.batch_size < ranks:
        raise BudgetError(f"--batch-size {wish.batch_size} leaves some of {ranks} processes without a row")
    return wish.batch_size


def _share(rows: int, ranks: int) -> int:
    """The most rows that one of the ranks has."""
    return -(-rows // ranks)


def _rows_of_run(wish: Wish, shape: Shape, pace: Pace, rows: int, ranks: int) -> int:
    """Sequences per step of a run by the clock, where a step of so many rows would tell how much it reads."""
    assert wish.seconds is not None
    for _ in range(3):  # the updates are spread over larger batches, so that these read more
        a_second = rows / pace.seconds(_share(rows, ranks))
        rows = _rows(wish, shape, wish.seconds * a_second * shape.block_size, ranks)
    return rows


@dataclass(frozen=True)
class Room:
    """The memory of a machine, and among how many the weights are divided."""

    machine: Machine
    divided: int = 1

    def needed(self, shape: Shape, micro_rows: int) -> float:
        return memory_of(shape, micro_rows, self.divided)

    def micro_rows(self, shape: Shape, rows: int) -> int:
        """As many rows at a time as fit the memory: a divisor of rows."""
        free = self.machine.free_memory
        for parts in range(1, rows + 1):
            if rows % parts == 0 and self.needed(shape, rows // parts) <= MEMORY_SHARE * free:
                return rows // parts
        raise BudgetError(
            f"a model of {shape.parameters:,} parameters needs {self.needed(shape, 1) / GIGABYTE:.1f} GB and"
            f" {free / GIGABYTE:.1f} GB are free: choose a smaller --size or --block-size"
        )


def memory_of(shape: Shape, micro_rows: int, divided: int = 1) -> float:
    """Bytes that training takes: the process, weights with gradients and moments, activations of a batch."""
    weights = 18 * shape.parameters / divided  # weight, gradient, two moments, and half for what computes
    activations = ACTIVATION_BYTES * 2 * micro_rows * shape.block_size * shape.n_embd * shape.n_layer / 2
    return PROCESS_MEMORY + weights + activations
