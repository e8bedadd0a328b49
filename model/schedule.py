"""How fast to learn and when to stop: warm-up, stable, decay over steps whose number a clock may correct."""

from __future__ import annotations

from dataclasses import dataclass, field

WARM_UP = 0.03  # of the run; measured, as the decay: benchmarks/LOG.md
DECAY = 0.60  # the last part of the run, in which the rate falls linearly to zero
CORRECTIONS = 100  # times that a run by the clock compares its steps with its seconds
NEWEST = 0.3  # weight of the newest pace: a machine that slows down is noticed within some steps


def learning_rate_factor(progress: float) -> float:
    """Share of the full learning rate at `progress` of the run: 0 -> 0, 0.03 ... 0.40 -> 1, 1 -> 0.

    Warm-up-stable-decay. Source: Zhai et al. 2022; Haegele et al. 2024.
    """
    return min(1.0, progress / WARM_UP, (1.0 - progress) / DECAY)


@dataclass
class Timetable:
    """Where a run stands between its first step and its last.

    With `minutes` the planned number of steps is corrected as the speed of the machine shows. Progress then
    continues from where it is, at another pace: the learning rate never jumps and always ends at zero.
    Every correction is kept, and a resumed run replays those that it already knows.
    """

    steps: int  # planned in total; a correction changes it
    seconds: float | None = None  # the budget of a run by the clock
    step: int = 0
    progress: float = 0.0
    corrections: dict[int, int] = field(default_factory=dict)  # step -> planned steps from there on
    looked: tuple[int, float] = (0, 0.0)  # the step and the second of the last look at the clock
    pace: float | None = None  # seconds per step, lately

    @property
    def done(self) -> bool:
        return self.step >= self.steps

    @property
    def factor(self) -> float:
        """The learning rate's share for the step about to be made: taken at the middle of the step."""
        half_a_step = 0.5 * (1.0 - self.progress) / max(1, self.steps - self.step)
        return learning_rate_factor(self.progress + half_a_step)

    def advance(self) -> None:
        """Account for one more finished step."""
        self.progress += (1.0 - self.progress) / max(1, self.steps - self.step)
        self.step += 1

    def wants_correction(self) -> bool:
        """Whether to look at the clock after this step: a hundred times a run, and always near its end."""
        if self.seconds is None or self.step < 2 or self.done:
            return False
        left = self.steps - self.step
        return self.step % max(1, self.steps // CORRECTIONS) == 0 or left <= self.steps // CORRECTIONS

    def start(self, elapsed: float) -> None:
        """Begin to watch the clock, at the first step or where an earlier run stopped."""
        self.looked = (self.step, elapsed)

    def correct(self, elapsed: float) -> None:
        """Fit the remaining steps into the remaining seconds.

        At a step whose correction is already known (a resumed run) that one is taken again.
        """
        assert self.seconds is not None, "a run of a fixed number of steps is not corrected"
        latest = (elapsed - self.looked[1]) / (self.step - self.looked[0])
        self.pace = latest if self.pace is None else self.pace + NEWEST * (latest - self.pace)
        self.looked = (self.step, elapsed)
        steps = self.corrections.get(self.step)
        if steps is None:
            left = max(0.0, self.seconds - elapsed) / max(self.pace, 1e-9)
            steps = self.step + max(1, round(left))
        self.steps = steps
        self.corrections[self.step] = steps
