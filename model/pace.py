"""How fast a machine makes the steps of a shape: measured for a few seconds before a run is planned."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from gpt2 import GPT2, Shape
from length_warmup import short_rows_of
from machine import Machine
from optimizers import build_optimizers

MEASURED_SECONDS = 1.5


@dataclass(frozen=True)
class Pace:
    """Seconds that the two parts of a step take."""

    rows: int  # that the gradients were formed of
    gradients: float
    update: float  # of the weights, once a step however many rows it has

    @property
    def step(self) -> float:
        return self.gradients + self.update

    def seconds(self, rows: int) -> float:
        """Of a step of so many rows in one process."""
        return self.gradients * rows / self.rows + self.update


def mean_pace(shape: Shape, micro_rows: int, machine: Machine, warmup: float) -> Pace:
    """On average over a run: half of the steps of a length warmup have short rows."""
    whole = measure_pace(shape, micro_rows, machine)
    each = short_rows_of(shape.block_size)
    if not warmup or each == 1:
        return whole
    short = measure_pace(replace(shape, block_size=shape.block_size // each), micro_rows * each, machine)
    share = warmup / 2
    return replace(whole, gradients=whole.gradients + share * (short.gradients - whole.gradients))


def compile_blocks(model: GPT2) -> None:
    """Have the blocks compiled at their first use: one is built, and the others, being alike, share it."""
    for block in model.transformer.h:
        block.compile()


def measure_pace(shape: Shape, rows: int, machine: Machine) -> Pace:
    """What a step of `rows` sequences takes: the medians of as many as fit a second and a half."""
    model = GPT2(shape, machine.dtype).to(machine.device)
    if machine.compiles:
        compile_blocks(model)
    optimizers = build_optimizers(model, machine.dtype)
    tokens = torch.randint(shape.vocab_size, (rows, shape.block_size + 1), device=machine.device)
    times = [time.perf_counter()]  # before and after each part of each step
    while len(times) < 9 or (times[-1] - times[4] < MEASURED_SECONDS and len(times) < 99):
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        machine.synchronize()
        times.append(time.perf_counter())
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        machine.synchronize()
        times.append(time.perf_counter())
    durations = [after - before for before, after in pairwise(times[4:])]
    return Pace(rows, statistics.median(durations[::2]), statistics.median(durations[1::2]))
