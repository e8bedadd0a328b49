"""The plan of a run: minutes, machine and corpus -> shape, batch, steps and a forecast of bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gpt2.config import GPT2Config
from gpt2.device import Machine
from model_cli import UserError
from training.step_time import StepTime, mean_step_time, measure_step_time, measuring_seconds

if TYPE_CHECKING:
    from training.sampled_softmax import SoftmaxSampler

GIGABYTE = 1e9

# (n_layer, n_head, n_embd, block_size): from a toy to GPT-2 medium, heads of 64 as in GPT-2. With heads that
# copy in place from the first step (initial_weights.py) a long context pays in minutes too: 2 x 128 after
# 2.5 M tokens 1.519, 1.467 and 1.425 bits per byte with 128, 256 and 512, at 7 to 10 % more time a doubling
# (benchmarks/LOG.md).
PRESETS = (
    (2, 2, 128, 512),
    (2, 3, 192, 512),
    (3, 3, 192, 512),
    (4, 4, 256, 512),
    (6, 6, 384, 512),
    (8, 8, 512, 1024),
    (12, 12, 768, 1024),
    (24, 16, 1024, 1024),
)
# More shapes for --size, between and beyond the presets: as wide as 64 times their depth, like most presets
SIZES = tuple((depth, depth, 64 * depth, 512 if depth < 10 else 1024) for depth in range(2, 17))
# The presets that measure the machine, and with how many rows: on a CPU the largest that takes a second on
# two cores; a GPU waits for its next command unless it gets more to do at a time (not yet measured on one).
REFERENCE, GPU_REFERENCE = (3, 4), (5, 8)

# A preset is chosen if the budget gives it this many tokens per parameter, counted as if it used the
# processor as well as the reference does. Fewer than the 20 of Chinchilla (Hoffmann et al. 2022), because
# small models do not. In the same 260 CPU seconds (benchmarks/LOG.md): 2 x 128 1.285 bits per byte, 2 x 192
# 1.268 and 3 x 192 1.300, with 7.6, 2.8 and 1.6 tokens per parameter.
TOKENS_PER_PARAMETER = 3.0

# Tokens per step: 2,048 did best in minutes on two cores, and grow with the square root of the run.
# Source of the growth: McCandlish et al. 2018; Zhang et al. 2024 ("How does critical batch size scale").
BATCH_TOKENS = 2048
BATCH_TOKENS_AT = 2e6  # tokens of the whole run

# How often the step time is measured: again for a batch that has grown to twice the one before.
MOST_MEASUREMENTS = 3

# Share of a run after which all rows have the whole context (data_loading/batches.py). Measured:
# benchmarks/LOG.md.
LENGTH_WARMUP = 1.0

# Four epochs are nearly as good as new text, and beyond 16 repetition teaches nothing more.
# Source: Muennighoff et al. 2023, "Scaling data-constrained language models", section 6.
MOST_EPOCHS = 16

PROCESS_MEMORY = 1.2 * GIGABYTE  # Python, torch, and what counting the pairs of a corpus leaves
SETUP_MEMORY = 0.55 * GIGABYTE  # of that what comes after the plan, so that it has to be free
ACTIVATIONS = 18  # numbers kept per token, layer and channel: measured in bfloat16
MEMORY_SHARE = 0.7  # of what is free; the rest stays with the user's other programs

# Source: Muennighoff et al. 2023, "Scaling data-constrained language models", equation 5: R*_D.
REPETITION_HALF_LIFE = 15.4

# Fitted to three runs on the code that every machine has, of 7 and 18 MB of text. They leave one of the five
# constants open: E is set low enough for long runs. With these, forecasts for 3, 10 and 30 minutes on other
# packages are within 3.1 % (benchmarks/LOG.md).
E, A, ALPHA, B, BETA = 0.30, 33.0, 0.34, 13.76, 0.199

# A run of less than a minute ends before the power law holds: the excess in bits per byte at its start, and
# the text after which it has fallen to 1 / e (benchmarks/LOG.md).
START, START_BYTES = 0.6, 0.5e6

# How far a run may be from its forecast; the runs so far were within 7 % (benchmarks/LOG.md).
FORECAST_WITHIN = 0.10

# What a record of a plan says of a model beside its "variant", which holds the settings of GPT2Config.
NUMBERS = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")


@dataclass(frozen=True)
class Corpus:
    """What a plan needs to know about the training documents."""

    tokens: int
    vocab_size: int
    softmax: SoftmaxSampler | None = None  # by which a run on a CPU compares some of the entries


@dataclass(frozen=True)
class PlanRequest:
    """What the user asked for; None leaves the choice to the plan."""

    seconds: float | None
    steps: int | None
    n_layer: int | None = None
    n_head: int | None = None
    n_embd: int | None = None
    block_size: int | None = None
    batch_size: int | None = None  # rows per step, of all processes
    parameters: float | None = None  # --size
    base: GPT2Config | None = None  # of the model that training continues
    rate: float = 1.0
    most_epochs: int = MOST_EPOCHS

    @property
    def leaves_shape_open(self) -> bool:
        return not (self.n_layer or self.n_embd or self.parameters or self.base)


@dataclass(frozen=True)
class Plan:
    """A run before its first step: fixed then, recorded, and read back by a resumed run."""

    shape: GPT2Config
    rows: int  # sequences per step
    micro_rows: int  # sequences at a time on the device; their gradients add up
    steps: int
    seconds: float | None  # the budget of a run by the clock, None with a fixed number of steps
    seconds_per_step: float
    memory: float  # bytes, estimated
    rate: float = 1.0  # share of the full learning rates
    length_warmup: float = 0.0  # share of the steps after which all rows are whole
    sampled_softmax: bool = False  # whether a step compares some entries of the vocabulary alone
    chooses_documents: bool = False  # whether it leaves documents out if it has no time for all
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


def make_plan(
    request: PlanRequest, corpus: Corpus, machine: Machine, ranks: int = 1, *, sharded: bool = False
) -> Plan:
    """Measure the machine and choose what was not asked for.

    ranks: how many processes share each step; sharded: whether they also divide the weights.
    Raises: UserError for a model that does not fit the memory, or a batch smaller than the ranks.
    """
    memory = MemoryBudget(machine, ranks if sharded else 1)
    warmup = LENGTH_WARMUP if request.base is None else 0.0  # a trained model knows what short rows teach
    measured = measuring_seconds(request.seconds)
    if request.steps is not None:
        # Without a look at the clock: with --steps the same command gives the same model everywhere.
        tokens = request.steps * BATCH_TOKENS
        shape = _choose_shape(request, corpus, lambda preset: tokens / preset.parameters)
        rows = _rows(request, shape, tokens, ranks)
        micro_rows = memory.micro_rows(shape, _share(rows, ranks))
        time = mean_step_time(shape, micro_rows, machine, warmup, corpus.softmax, measured)
        steps = request.steps
    else:
        assert request.seconds is not None, "a run has a budget in seconds or in steps"
        flops = (
            request.seconds * _speed(corpus, machine, ranks, measured) if request.leaves_shape_open else 0.0
        )
        shape = _choose_shape(
            request,
            corpus,
            lambda preset: flops / preset.flops_per_token / preset.parameters,
            lambda preset: memory.fits(preset, 1),
        )
        rows = _rows(request, shape, BATCH_TOKENS_AT, ranks)
        micro_rows = memory.micro_rows(shape, _share(rows, ranks))
        for _ in range(MOST_MEASUREMENTS):  # a GPU takes hardly longer for more rows, so it can read more
            time = mean_step_time(shape, micro_rows, machine, warmup, corpus.softmax, measured)
            rows = _rows_by_the_clock(request, shape, time, rows, ranks)
            micro_rows = memory.micro_rows(shape, _share(rows, ranks))
            if micro_rows < 2 * time.rows:
                break
        steps = max(1, round(request.seconds / time.seconds(_share(rows, ranks))))
    plan = Plan(
        shape,
        rows,
        micro_rows,
        steps,
        None if request.steps is not None else request.seconds,
        time.seconds(_share(rows, ranks)),
        memory.shown(shape, micro_rows),
        request.rate,
        warmup,
        corpus.softmax is not None,
    )
    return plan if request.steps is not None else _within_epochs(plan, corpus, request.most_epochs)


def _speed(corpus: Corpus, machine: Machine, ranks: int, measured: float) -> float:
    """Floating point operations per second of all ranks, measured with the preset for this kind of device.

    measured: seconds to measure it for.
    """
    preset, rows = REFERENCE if machine.device.type == "cpu" else GPU_REFERENCE
    reference = _preset(PRESETS[preset], corpus)
    seconds = measure_step_time(reference, rows, machine, corpus.softmax, measured).seconds(rows)
    return ranks * rows * reference.block_size * reference.flops_per_token / seconds


def _within_epochs(plan: Plan, corpus: Corpus, most_epochs: int) -> Plan:
    """The plan, shortened where the corpus would be repeated beyond use."""
    most = max(1, most_epochs * corpus.tokens // plan.tokens_per_step)
    if plan.steps <= most:
        return plan
    return replace(plan, steps=most, seconds=most * plan.seconds_per_step)


def _choose_shape(
    request: PlanRequest,
    corpus: Corpus,
    tokens_per_parameter: Callable[[GPT2Config], float],
    fits: Callable[[GPT2Config], bool] = lambda _: True,
) -> GPT2Config:
    """The shape asked for, or the largest preset that fits and for which budget and corpus suffice."""
    if request.base is not None:
        return replace(
            request.base, block_size=_context(request.block_size or request.base.block_size, corpus)
        )
    chosen = _preset(PRESETS[REFERENCE[0]], corpus)
    if request.leaves_shape_open:
        chosen = _preset(PRESETS[0], corpus)
        for preset in (_preset(numbers, corpus) for numbers in PRESETS[1:]):
            most = request.most_epochs * corpus.tokens / preset.parameters
            if min(tokens_per_parameter(preset), most) >= TOKENS_PER_PARAMETER and fits(preset):
                chosen = preset
    elif request.parameters is not None:
        chosen = _nearest(request.parameters, corpus)
    n_embd = request.n_embd or chosen.n_embd
    n_head = request.n_head or max(1, n_embd // 64)
    while request.n_head is None and n_embd % n_head:
        n_head -= 1
    if n_embd % n_head:
        raise UserError(
            f"--n-embd {n_embd} is not a multiple of --n-head {n_head}: choose another of the two"
        )
    block_size = _context(request.block_size or chosen.block_size, corpus)
    return GPT2Config(request.n_layer or chosen.n_layer, n_head, n_embd, block_size, corpus.vocab_size)


def _nearest(parameters: float, corpus: Corpus) -> GPT2Config:
    """The shape whose number of parameters is nearest to the one asked for; of two the preset."""
    shapes = [_preset(numbers, corpus) for numbers in (*PRESETS, *SIZES)]
    return min(shapes, key=lambda shape: abs(math.log(shape.parameters / parameters)))


def _context(block_size: int, corpus: Corpus) -> int:
    """block_size, or the largest power of two that the corpus fills at least once."""
    if corpus.tokens >= block_size:
        return block_size
    return max(8, 1 << (corpus.tokens.bit_length() - 1))


def _preset(numbers: tuple[int, int, int, int], corpus: Corpus) -> GPT2Config:
    return GPT2Config(*numbers, corpus.vocab_size)


def batch_tokens(run_tokens: float) -> int:
    """Tokens per step in a run of run_tokens."""
    return int(BATCH_TOKENS * math.sqrt(max(1.0, run_tokens / BATCH_TOKENS_AT)))


def _rows(request: PlanRequest, shape: GPT2Config, run_tokens: float, ranks: int) -> int:
    """Sequences per step: at least one for each rank."""
    if request.batch_size is None:
        return max(ranks, round(batch_tokens(run_tokens) / shape.block_size))
    if request.batch_size < ranks:
        raise UserError(f"--batch-size {request.batch_size} leaves some of {ranks} processes without a row")
    return request.batch_size


def _share(rows: int, ranks: int) -> int:
    """The most rows that one of the ranks has."""
    return -(-rows // ranks)


def _rows_by_the_clock(request: PlanRequest, shape: GPT2Config, time: StepTime, rows: int, ranks: int) -> int:
    """Sequences per step of a run by the clock: the batch follows the tokens, and these follow the batch."""
    assert request.seconds is not None
    for _ in range(3):  # a larger batch has fewer updates, so the run reads more tokens
        rows_per_second = rows / time.seconds(_share(rows, ranks))
        rows = _rows(request, shape, request.seconds * rows_per_second * shape.block_size, ranks)
    return rows


@dataclass(frozen=True)
class MemoryBudget:
    """The memory of a machine, and among how many ranks the weights are divided."""

    machine: Machine
    divided: int = 1

    def needed(self, shape: GPT2Config, micro_rows: int) -> float:
        """Bytes still to be taken: weights, gradients, moments, and activations of micro_rows sequences."""
        weights = 18 * shape.parameters / self.divided  # weight, gradient, two moments, half of it to compute
        tokens = micro_rows * shape.block_size
        numbers = ACTIVATIONS * tokens * shape.n_embd * shape.n_layer
        return SETUP_MEMORY + weights + self.machine.dtype.itemsize * numbers

    def fits(self, shape: GPT2Config, micro_rows: int) -> bool:
        """Whether that is free, with something left for other programs."""
        return self.needed(shape, micro_rows) <= MEMORY_SHARE * self.machine.free_memory

    def shown(self, shape: GPT2Config, micro_rows: int) -> float:
        """Bytes of the process, or on a GPU of its part there."""
        held = PROCESS_MEMORY - SETUP_MEMORY if self.machine.device.type == "cpu" else 0.0
        return held + self.needed(shape, micro_rows)

    def micro_rows(self, shape: GPT2Config, rows: int) -> int:
        """As many rows at a time as fit the memory: a divisor of rows. Raises UserError if one does not."""
        free = self.machine.free_memory
        for parts in range(1, rows + 1):
            if rows % parts == 0 and self.fits(shape, rows // parts):
                return rows // parts
        wanted = self.needed(shape, 1) / MEMORY_SHARE
        raise UserError(
            f"a model of {shape.parameters:,} parameters needs {wanted / GIGABYTE:.1f} GB of free memory and"
            f" {free / GIGABYTE:.1f} GB are free: choose a smaller --size or --block-size"
        )


def plan_record(plan: Plan, machine: Machine) -> dict[str, Any]:
    """A plan as JSON, for provenance.json, the model card and a resume."""
    record = asdict(plan)
    shape = record.pop("shape")
    numbers = {name: shape.pop(name) for name in NUMBERS}
    return {
        **numbers,
        "variant": shape,
        "parameters": plan.shape.parameters,
        **record,
        "machine": machine.name,
        "device": machine.device.type,
        "precision": machine.precision,
    }


def plan_from_record(record: dict[str, Any]) -> Plan:
    """The plan that a record describes; fields that an earlier version did not record keep their defaults."""
    shape = GPT2Config(**{name: record[name] for name in NUMBERS}, **record["variant"])
    rest = {name: record[name] for name in Plan.__dataclass_fields__ if name in record}
    return Plan(shape, **rest)


def effective_bytes(text_bytes: float, corpus_bytes: float) -> float:
    """How much new text is worth as much as text_bytes that repeat a corpus of corpus_bytes."""
    repetitions = text_bytes / corpus_bytes - 1
    if repetitions <= 0:
        return text_bytes
    R = REPETITION_HALF_LIFE
    return corpus_bytes * (1 + R * (1 - math.exp(-repetitions / R)))


def missing_start(text_bytes: float) -> float:
    """Bits per byte above the power law at the start of a run."""
    return START * math.exp(-text_bytes / START_BYTES)


def expected_bits_per_byte(
    parameters: float, text_bytes: float, corpus_bytes: float, difficulty: float
) -> float:
    """The scaling law: held-out bits per byte after reading text_bytes of a corpus of corpus_bytes.

    L(N, D) = E + A / N^alpha + B / D^beta with N parameters and D bytes of text, those of a repeated corpus
    counted for what they are still worth, and what a run still lacks at its start. Bytes, not tokens as in
    the source, so that a fine and a coarse vocabulary get the same forecast. The constants are a fit to
    whole runs of this program: `python benchmarks/forecast.py` makes the points and prints them.

    difficulty: tokens per byte of the held-out sample over tokens per byte of the corpus, times what cutting
    its files costs. A tokenizer needs more tokens for a byte of some files than of others, and every model
    more bits. (One model had 2.018, 2.152 and 2.104 bits per byte on samples of 0.286, 0.314 and 0.310 tokens
    a byte.)
    Source of the form: Hoffmann et al. 2022, "Training compute-optimal large language models", section 3.3.
    """
    D = effective_bytes(text_bytes, corpus_bytes)
    learnt = E + A / math.pow(parameters, ALPHA) + B / math.pow(D, BETA)
    return difficulty * (learnt + missing_start(text_bytes))
