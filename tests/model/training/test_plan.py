"""The plan: sizes that are asked for, memory that bounds the choice, a corpus not repeated beyond use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gpt2.config import GPT2Config
from gpt2.device import Machine
from training import plan as budget
from training import step_time
from training.plan import (
    PRESETS,
    TOKENS_PER_PARAMETER,
    Corpus,
    PlanRequest,
    effective_bytes,
    expected_bits_per_byte,
    make_plan,
)
from training.sampled_softmax import SoftmaxSampler
from training.step_time import StepTime

MACHINE = Machine(torch.device("cpu"), torch.float32, threads=1)
CORPUS = Corpus(tokens=9_000_000, vocab_size=4096)
FLOPS = 4e11  # of the pretended machine, per second
UPDATE = 0.01  # seconds of the pretended optimisers, per step


def pretend(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[GPT2Config, int], float]) -> list[float]:
    """Have gradients of so many rows measured as these seconds. Returns: for how long each was measured."""
    durations = []

    def measured(
        shape: GPT2Config, rows: int, machine: Machine, _: SoftmaxSampler | None, duration: float
    ) -> StepTime:
        durations.append(duration)
        return StepTime(rows, seconds(shape, rows), UPDATE)

    for module in (budget, step_time):
        monkeypatch.setattr(module, "measure_step_time", measured)
    return durations


@pytest.fixture(autouse=True)
def pretended_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda shape, rows: rows * shape.block_size * shape.flops_per_token / FLOPS)


@pytest.mark.parametrize(
    ("size", "shape"), [(124e6, (12, 768)), (5e6, (4, 256)), (1e3, (2, 128)), (9.5e6, (5, 320))]
)
def test_a_size_is_the_nearest_shape(size: float, shape: tuple[int, int]) -> None:
    plan = make_plan(
        PlanRequest(60, None, parameters=size), Corpus(10**9, 50257 if size > 1e8 else 4096), MACHINE
    )
    assert (plan.shape.n_layer, plan.shape.n_embd) == shape


def test_more_minutes_never_make_a_smaller_model_and_fill_their_time() -> None:
    plans = [
        make_plan(PlanRequest(60 * minutes, None), Corpus(10**9, 4096), MACHINE)
        for minutes in (1, 10, 100, 1000)
    ]
    sizes = [plan.shape.parameters for plan in plans]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    for plan, minutes in zip(plans, (1, 10, 100, 1000), strict=True):
        assert plan.steps * plan.seconds_per_step == pytest.approx(60 * minutes, rel=0.05)


@pytest.mark.parametrize(("minutes", "duration"), [(None, 1.5), (4, 1.5), (100, 6), (600, 15)])
def test_the_machine_is_measured_for_longer_before_a_longer_run(
    minutes: float | None, duration: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    durations = pretend(monkeypatch, lambda shape, rows: 1.0)
    request = PlanRequest(None, 50) if minutes is None else PlanRequest(60 * minutes, None)
    make_plan(request, CORPUS, MACHINE)
    assert durations
    assert set(durations) == {duration}


def test_the_smallest_model_needs_less_than_a_gigabyte_of_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = PlanRequest(60, None, n_layer=2, n_embd=128)
    monkeypatch.setattr(Machine, "free_memory", property(lambda _: 1.0e9))
    assert make_plan(request, CORPUS, MACHINE).memory > 1.2e9  # with what the process holds by then
    monkeypatch.setattr(Machine, "free_memory", property(lambda _: 0.7e9))
    with pytest.raises(match=r"needs 0\.8 GB of free memory and 0\.7 GB are free"):
        make_plan(request, CORPUS, MACHINE)


def test_the_model_grows_no_further_than_memory_and_corpus_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    request = PlanRequest(60_000, None)
    free = make_plan(request, Corpus(10**9, 4096), MACHINE).shape
    assert make_plan(request, Corpus(2 * 10**6, 4096), MACHINE).shape.parameters < free.parameters
    monkeypatch.setattr(Machine, "free_memory", property(lambda _: 1.2e9))
    assert make_plan(request, Corpus(10**9, 4096), MACHINE).shape.parameters < free.parameters


def test_a_small_corpus_shortens_the_run() -> None:
    plan = make_plan(PlanRequest(3600, None), Corpus(50_000, 4096), MACHINE)
    assert plan.seconds is not None and plan.seconds < 3600
    assert plan.tokens <= 16 * 50_000


def test_a_model_beyond_the_memory_is_refused_with_its_size() -> None:
    with pytest.raises(match=r"needs \d+.* GB .* choose a smaller --size"):
        make_plan(PlanRequest(60, None, n_layer=200, n_embd=8192), CORPUS, MACHINE)


def test_ranks_share_the_rows_and_steps_of_one_process_stay_the_same() -> None:
    alone, four = (make_plan(PlanRequest(None, 500), CORPUS, MACHINE, ranks) for ranks in (1, 4))
    assert (alone.rows, alone.shape) == (four.rows, four.shape)
    assert four.seconds_per_step < alone.seconds_per_step
    assert make_plan(PlanRequest(None, 500), CORPUS, MACHINE, 64).rows == 64


def test_a_batch_that_is_asked_for_is_taken_and_its_updates_are_counted() -> None:
    small, large = (make_plan(PlanRequest(60, None, batch_size=rows), CORPUS, MACHINE) for rows in (2, 32))
    assert (small.rows, large.rows) == (2, 32)
    assert small.shape == large.shape
    assert small.steps == pytest.approx(60 / small.seconds_per_step, abs=1)
    assert small.seconds_per_step - UPDATE == pytest.approx((large.seconds_per_step - UPDATE) / 16)
    assert large.tokens > small.tokens  # fewer updates leave more time for text
    assert make_plan(PlanRequest(None, 500, batch_size=7), CORPUS, MACHINE).rows == 7
    with pytest.raises(match="--batch-size 2 leaves some of 4 processes without a row"):
        make_plan(PlanRequest(None, 500, batch_size=2), CORPUS, MACHINE, 4)


def test_a_machine_that_takes_no_longer_for_more_rows_is_measured_with_the_rows_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = 100 * FLOPS

    def seconds(shape: GPT2Config, rows: int) -> float:
        return max(0.02, rows * shape.block_size * shape.flops_per_token / fast)

    pretend(monkeypatch, seconds)
    gpu = Machine(torch.device("mps"), torch.float16, threads=1)
    plan = make_plan(PlanRequest(600, None, parameters=5e6), Corpus(10**9, 4096), gpu)
    assert plan.rows > 20
    step = seconds(plan.shape, plan.micro_rows) * plan.rows / plan.micro_rows + UPDATE
    assert plan.steps * step == pytest.approx(600, rel=0.1)
    # with a free choice the plan takes the preset that is right for what the device can do when it is busy
    chosen = make_plan(PlanRequest(600, None), Corpus(10**9, 4096), gpu).shape
    enough = [
        shape
        for shape in (GPT2Config(*preset, 4096) for preset in PRESETS)
        if 600 * fast / shape.flops_per_token / shape.parameters >= TOKENS_PER_PARAMETER
    ]
    assert chosen == enough[-1]


def test_the_forecast_falls_with_text_and_not_beyond_what_repetition_gives() -> None:
    bits = [expected_bits_per_byte(1e6, size, 1e7, 1.0) for size in (1e6, 3e6, 1e7, 1e8, 1e10)]
    assert bits == sorted(bits, reverse=True)
    assert effective_bytes(5e6, 1e7) == 5e6
    assert effective_bytes(1e12, 1e7) == pytest.approx(1e7 * 16.4)
    assert expected_bits_per_byte(1e6, 3e6, 1e7, 1.1) == pytest.approx(1.1 * bits[1])
