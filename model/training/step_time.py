"""Step time: what a machine needs for one step of a shape, measured for seconds before a run is planned."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from data_loading.batches import short_rows_of
from gpt2.config import GPT2Config
from gpt2.device import Machine
from gpt2.network import GPT2
from training.optimizers import build_optimizers

if TYPE_CHECKING:
    from training.sampled_softmax import SoftmaxSampler

# How long a shape is measured: for a thousandth of the run, because a machine that others use as well changes
# its speed from second to second (benchmarks/LOG.md).
MEASURED_SHARE, LEAST_SECONDS, MOST_SECONDS = 1e-3, 1.5, 15.0


def measuring_seconds(run_seconds: float | None) -> float:
    """Seconds to measure a shape for, before a run of run_seconds (None: of a number of steps)."""
    return min(MOST_SECONDS, max(LEAST_SECONDS, MEASURED_SHARE * (run_seconds or 0.0)))


@dataclass(frozen=True)
class StepTime:
    """Seconds that the two parts of a step take."""

    rows: int  # in the measured forward and backward pass
    gradients: float
    update: float  # of the optimisers, once a step for any number of rows

    def seconds(self, rows: int) -> float:
        """Seconds of a step with this many rows in one process."""
        return self.gradients * rows / self.rows + self.update


def mean_step_time(
    shape: GPT2Config,
    micro_rows: int,
    machine: Machine,
    warmup: float,
    softmax: SoftmaxSampler | None,
    seconds: float,
) -> StepTime:
    """The average over a run: half of the steps of a length warmup have short rows."""
    whole = measure_step_time(shape, micro_rows, machine, softmax, seconds)
    each = short_rows_of(shape.block_size)
    if not warmup or each == 1:
        return whole
    cut = replace(shape, block_size=shape.block_size // each)
    short = measure_step_time(cut, micro_rows * each, machine, softmax, seconds)
    share = warmup / 2
    return replace(whole, gradients=whole.gradients + share * (short.gradients - whole.gradients))


def measure_step_time(
    shape: GPT2Config, rows: int, machine: Machine, softmax: SoftmaxSampler | None, seconds: float
) -> StepTime:
    """Measure a step of `rows` sequences: the medians of as many steps as fit these seconds."""
    model = GPT2(shape, machine.dtype).to(machine.device)
    if machine.compiles:
        model.compile_blocks()
    optimizers = build_optimizers(model, machine.dtype)
    size = (rows, shape.block_size + 1)
    # how many entries a step compares depends on how many different tokens stand in it
    tokens = torch.randint(shape.vocab_size, size) if softmax is None else softmax.random_tokens(size)
    tokens = tokens.to(machine.device)
    times = [time.perf_counter()]  # before and after each part of each step
    while len(times) < 9 or times[-1] - times[4] < seconds:
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        candidates = None if softmax is None else softmax.draw(targets, step=len(times))
        model(inputs, targets, candidates).backward()
        machine.synchronize()
        times.append(time.perf_counter())
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        machine.synchronize()
        times.append(time.perf_counter())
    durations = [after - before for before, after in pairwise(times[4:])]
    return StepTime(rows, statistics.median(durations[::2]), statistics.median(durations[1::2]))
