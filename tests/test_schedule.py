"""The learning rate over a run, and runs that end on time whatever the machine does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from schedule import Timetable, learning_rate_factor


def run_by_the_clock(
    seconds: float, planned: int, speed: list[float]
) -> tuple[float, Timetable, list[float]]:
    """Simulate a run whose steps take speed[i] seconds in the i-th fifth of the budget."""
    timetable, elapsed, factors = Timetable(planned, seconds), 0.0, []
    while not timetable.done:
        factors.append(timetable.factor)
        elapsed += speed[min(4, int(5 * elapsed / seconds))]
        timetable.advance()
        if timetable.wants_correction():
            timetable.correct(elapsed)
    return elapsed, timetable, factors


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    assert [learning_rate_factor(progress) for progress in (0, 0.03, 0.2, 0.4, 1)] == [0, 1, 1, 1, 0]
    assert learning_rate_factor(0.7) == pytest.approx(0.5)


def test_a_fixed_number_of_steps_is_spread_evenly() -> None:
    timetable = Timetable(40)
    for step in range(40):
        assert timetable.progress == pytest.approx(step / 40)
        assert timetable.factor == pytest.approx(learning_rate_factor((step + 0.5) / 40))
        timetable.advance()
    assert timetable.done


@pytest.mark.parametrize(
    "speed",
    [[0.1] * 5, [0.05] * 5, [0.3] * 5, [0.1, 0.1, 0.1, 0.3, 0.3], [0.3, 0.3, 0.1, 0.1, 0.1]],
    ids=["as planned", "twice as fast", "a third", "slower later", "faster later"],
)
def test_a_run_by_the_clock_ends_on_time_with_a_rate_of_zero(speed: list[float]) -> None:
    elapsed, timetable, factors = run_by_the_clock(100.0, 1000, speed)
    assert elapsed == pytest.approx(100, rel=0.02)
    assert timetable.progress == pytest.approx(1)
    assert factors[-1] < 0.05
    assert max(abs(after - before) for before, after in pairwise(factors)) < 0.11


def test_a_resumed_run_replays_the_corrections_it_knows() -> None:
    _, first, _ = run_by_the_clock(100.0, 1000, [0.1, 0.3, 0.1, 0.3, 0.1])
    again = Timetable(1000, 100.0, corrections=dict(first.corrections))
    while not again.done:
        again.advance()
        if again.wants_correction():
            again.correct(elapsed=again.step * 123.0)  # a clock that says something else
    assert (again.step, again.corrections) == (first.step, first.corrections)
