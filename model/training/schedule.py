"""The learning-rate schedule (warm-up, stable, decay) over steps whose number the clock may correct."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WARM_UP = 0.03  # of the run; measured, as the decay: benchmarks/LOG.md
DECAY = 0.60  # the last part of the run, in which the rate falls linearly to zero
CORRECTIONS = 100  # times that a run by the clock compares its steps with its seconds
NEWEST = 0.3  # weight of the newest measurement: a machine that slows down is noticed within some steps


def learning_rate_factor(progress: float) -> float:
    """Share of the full learning rate at `progress` of the run: 0 -> 0, 0.03 ... 0.40 -> 1, 1 -> 0.

    Warm-up-stable-decay. Source: Zhai et al. 2022; Haegele et al. 2024.
    """
    return min(1.0, progress / WARM_UP, (1.0 - progress) / DECAY)


@dataclass
class Schedule:
    """Where a run stands between its first step and its last.

    With --minutes the planned number of steps is corrected as the machine proves faster or slower. Progress
    then continues from where it is, at another speed: the learning rate never jumps and always ends at zero.
    Every correction is recorded, and a resumed run replays the recorded ones.
    """

    steps: int  # planned in total; a correction changes it
    seconds: float | None = None  # the budget of a run by the clock
    step: int = 0
    progress: float = 0.0
    corrections: dict[int, int] = field(default_factory=dict)  # step -> planned steps from there on
    last_check: tuple[int, float] = (0, 0.0)  # step and second of the last look at the clock
    seconds_per_step: float | None = None  # lately

    @property
    def done(self) -> bool:
        return self.step >= self.steps

    @property
    def factor(self) -> float:
        """The learning rate's share for the step about to be made: taken at the middle of the step."""
        half_a_step = 0.5 * (1.0 - self.progress) / max(1, self.steps - self.step)
        return learning_rate_factor(self.progress + half_a_step)

    def advance(self) -> None:
        """Count one more finished step."""
        self.progress += (1.0 - self.progress) / max(1, self.steps - self.step)
        self.step += 1

    def is_correction_due(self) -> bool:
        """Whether to look at the clock after this step: a hundred times a run, and always near its end."""
        if self.seconds is None or self.step < 2 or self.done:
            return False
        left = self.steps - self.step
        return self.step % max(1, self.steps // CORRECTIONS) == 0 or left <= self.steps // CORRECTIONS

    def start_clock(self, elapsed: float) -> None:
        """Measure the seconds per step from here: at the first step, or after a return to a checkpoint."""
        self.last_check = (self.step, elapsed)

    def correct(self, elapsed: float) -> None:
        """Fit the remaining steps into the remaining seconds.

        A resumed run takes the recorded correction of this step instead, if there is one.
        """
        assert self.seconds is not None, "a run of a fixed number of steps is not corrected"
        latest = (elapsed - self.last_check[1]) / (self.step - self.last_check[0])
        known = latest if self.seconds_per_step is None else self.seconds_per_step
        self.seconds_per_step = known + NEWEST * (latest - known)
        self.last_check = (self.step, elapsed)
        steps = self.corrections.get(self.step)
        if steps is None:
            left = max(0.0, self.seconds - elapsed) / max(self.seconds_per_step, 1e-9)
            steps = self.step + max(1, round(left))
        self.steps = steps
        self.corrections[self.step] = steps

    def seconds_left(self, elapsed: float) -> float:
        """Seconds until the end, after `elapsed` seconds of stepping."""
        if self.seconds is not None:
            return max(0.0, self.seconds - elapsed)
        return elapsed / self.step * (self.steps - self.step)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint records."""
        return {
            "step": self.step,
            "steps": self.steps,
            "progress": self.progress,
            "corrections": dict(self.corrections),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where state_dict() was taken; JSON has turned the keys of the corrections into text."""
        self.step, self.steps, self.progress = state["step"], state["steps"], state["progress"]
        self.corrections = {int(step): steps for step, steps in state["corrections"].items()}
