"""The learning rate over a run, and runs that end on time on a machine that slows down or speeds up."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from training.schedule import Schedule, learning_rate_factor


def run_by_the_clock(seconds: float, planned: int, speed: list[float]) -> tuple[float, Schedule, list[float]]:
    """Simulate a run whose steps take speed[i] seconds in the i-th fifth of the budget."""
    schedule, elapsed, factors = Schedule(planned, seconds), 0.0, []
    while not schedule.done:
        factors.append(schedule.factor)
        elapsed += speed[min(4, int(5 * elapsed / seconds))]
        schedule.advance()
        if schedule.is_correction_due():
            schedule.correct(elapsed)
    return elapsed, schedule, factors


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    assert [learning_rate_factor(progress) for progress in (0, 0.03, 0.2, 0.4, 1)] == [0, 1, 1, 1, 0]
    assert learning_rate_factor(0.7) == pytest.approx(0.5)


def test_a_fixed_number_of_steps_is_spread_evenly() -> None:
    schedule = Schedule(40)
    for step in range(40):
        assert schedule.progress == pytest.approx(step / 40)
        assert schedule.factor == pytest.approx(learning_rate_factor((step + 0.5) / 40))
        schedule.advance()
    assert schedule.done


@pytest.mark.parametrize(
    "speed",
    [[0.1] * 5, [0.05] * 5, [0.3] * 5, [0.1, 0.1, 0.1, 0.3, 0.3], [0.3, 0.3, 0.1, 0.1, 0.1]],
    ids=["as planned", "twice as fast", "a third", "slower later", "faster later"],
)
def test_a_run_by_the_clock_ends_on_time_with_a_rate_of_zero(speed: list[float]) -> None:
    elapsed, schedule, factors = run_by_the_clock(100.0, 1000, speed)
    assert elapsed == pytest.approx(100, rel=0.02)
    assert schedule.progress == pytest.approx(1)
    assert factors[-1] < 0.05
    assert max(abs(after - before) for before, after in pairwise(factors)) < 0.11


def test_after_a_return_to_a_checkpoint_the_speed_is_measured_anew() -> None:
    schedule = Schedule(1000, 100.0)
    for _ in range(20):
        schedule.advance()
    schedule.correct(elapsed=2.0)
    schedule.load_state_dict({"step": 15, "steps": 1000, "progress": 0.015, "corrections": {}})
    schedule.start_clock(elapsed=3.0)
    for _ in range(5):
        schedule.advance()
    schedule.correct(elapsed=4.0)  # at the step of the correction before: no steps lie between
    assert schedule.seconds_per_step == pytest.approx(0.1 + 0.3 * (0.2 - 0.1))


def test_the_state_survives_json() -> None:
    _, first, _ = run_by_the_clock(100.0, 1000, [0.1, 0.3, 0.1, 0.3, 0.1])
    again = Schedule(1000, 100.0)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (again.step, again.progress, again.corrections) == (first.step, first.progress, first.corrections)


def test_a_resumed_run_replays_the_corrections_it_knows() -> None:
    _, first, _ = run_by_the_clock(100.0, 1000, [0.1, 0.3, 0.1, 0.3, 0.1])
    again = Schedule(1000, 100.0, corrections=dict(first.corrections))
    while not again.done:
        again.advance()
        if again.is_correction_due():
            again.correct(elapsed=again.step * 123.0)  # a clock that says something else
    assert (again.step, again.corrections) == (first.step, first.corrections)
