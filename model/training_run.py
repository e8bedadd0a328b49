"""A run from its plan to its end: saves, resumes, measures, reports, and stops when it is asked to."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from checkpoint import newest_checkpoint, save_checkpoint
from glimpses import SHARES, glimpse
from held_out_watch import Best, HeldOutWatch
from packing import PackedRows
from ranks import ALONE, Ranks
from run_record import plan_record
from schedule import Timetable
from training import DivergedError, Trainer, Weights
from training_log import TrainingLog, read_log

if TYPE_CHECKING:
    from pathlib import Path

    from budget import Plan
    from fill_in_the_middle import FillInTheMiddle
    from held_out import HeldOutScore
    from machine import Machine
    from model_folder import ModelFolder
    from progress import Progress
    from tensorboard_report import TensorBoardReport
    from token_dataset import TokenDataset
    from torch import Tensor

LOG_ROWS = 500  # rows of training_log.jsonl in a run, whatever its length
CHECKPOINT_SECONDS = 30.0  # between two checkpoints, and longer where saving takes more than 2 % of it
CHECKPOINT_SHARE = 0.02
CHECKPOINTS = 6  # at least, in a run of less than three minutes
MOST_RESTARTS = 3  # of a diverging run, at half the learning rate each time


class RunFailedError(RuntimeError):
    """A run that cannot go on."""


@dataclass(frozen=True)
class Ending:
    """How a run stopped."""

    interrupted: bool
    seconds: float


@dataclass(frozen=True)
class Extras:
    """What a plain run does without."""

    ranks: Ranks = ALONE
    sharded: bool = False
    turning: FillInTheMiddle | None = None
    first_weights: Callable[[], Weights] | None = None  # of the model that the run goes on from
    report: TensorBoardReport | None = None


class Run:
    """A trainer with everything that a person or a crash may ask of it."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        dataset: TokenDataset,
        folder: ModelFolder,
        progress: Progress,
        seed: int,
        extras: Extras = Extras(),
    ) -> None:
        self.plan = plan
        self.dataset = dataset
        self.folder = folder
        self.progress = progress
        self.extras = extras
        self.ranks = extras.ranks
        self.timetable = Timetable(plan.steps, plan.seconds)
        self.rows = PackedRows(dataset.train, plan.shape.block_size, seed, extras.turning)
        self.trainer = self._new_trainer(machine)
        self.log = TrainingLog(report=extras.report)
        self.bytes_per_token = dataset.train.size_bytes / dataset.train.size
        self.watch = HeldOutWatch(plan, dataset, self.bytes_per_token)
        self.log_every = max(1, plan.steps // LOG_ROWS)
        self.elapsed_before = 0.0  # seconds of stepping in earlier starts of this run
        self.started = time.perf_counter()
        self.elapsed = 0.0  # seconds of stepping, by the clock of the first rank
        self.losses: list[Tensor] = []  # since the last row of the log
        self.divergences = 0
        self.interrupted = False
        self.last_save = self.started
        self.save_seconds = 0.0

    def _new_trainer(self, machine: Machine) -> Trainer:
        return Trainer(
            self.plan,
            machine,
            self.rows,
            self.timetable,
            self.rows.seed,
            self.ranks,
            sharded=self.extras.sharded,
            first_weights=self.extras.first_weights,
        )

    @property
    def tokens(self) -> int:
        return self.timetable.step * self.plan.tokens_per_step

    def bits_per_byte(self, loss: float) -> float:
        """Nats per training token -> bits per byte of training text."""
        return loss / math.log(2) / self.bytes_per_token

    # Going on where it stopped

    def resume(self) -> Path:
        """Continue from the newest sound checkpoint, which is returned.

        Corrections that the log knows beyond it will be made again, at the same steps.
        """
        path, record = self._go_back()
        rows = self.ranks.from_first(read_log(self.folder.log) if self.ranks.first else [])
        for row in rows:
            if "planned_steps" in row:
                self.timetable.corrections.setdefault(row["step"], row["planned_steps"])
        self.folder.begun = True
        best = self.ranks.from_first(self.folder.saved_best() if self.ranks.first else None)
        self.watch.best = None if best is None else Best(*best)
        self.log = TrainingLog(
            [row for row in rows if row["step"] <= self.timetable.step], self.extras.report
        )
        if self.ranks.first:
            self.log.settle(self.folder.log)
        self.elapsed_before = record["elapsed"]
        self.divergences = record["divergences"]
        return path

    def _go_back(self) -> tuple[Path, dict[str, Any]]:
        """Restore the newest sound checkpoint, which the first rank reads for all."""
        path, tensors = self.folder.checkpoints, None
        record: dict[str, Any] = {}
        if self.ranks.first:
            path, tensors, record, torn = newest_checkpoint(self.folder.checkpoints, self.folder.identity.key)
            for problem in torn:
                self.progress.say(f"{problem}; the one before is used")
        record = self.ranks.from_first(record)
        self.trainer.load(self.ranks.tensors_from_first(tensors))
        self.trainer.mean_loss, self.trainer.worst_loss = record["mean_loss"], record["worst_loss"]
        self.trainer.caution = record["caution"]
        self.timetable.step = record["step"]
        self.timetable.steps = record["steps"]
        self.timetable.progress = record["progress"]
        self.timetable.corrections = {int(step): steps for step, steps in record["corrections"].items()}
        return path, record

    # Stepping

    def train(self) -> Ending:
        """Step until the timetable is done or somebody interrupts; either way the last state is saved."""
        previous = [signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)]
        looks = self.watch.points(self.timetable.progress)
        glimpses = [share for share in SHARES if share > self.timetable.progress]
        stop = False
        try:
            self.trainer.warm_up()
            self.started = self.last_save = time.perf_counter()
            self.elapsed = self.elapsed_before
            self.timetable.start(self.elapsed)
            if self.extras.first_weights is not None and self.timetable.step == 0:
                self.save()
                self._look("before")
            while not self.timetable.done and not stop:
                self.losses.append(self.trainer.step())
                stop, save = self._agree()
                try:
                    self._observe()
                except DivergedError as error:
                    self._recover(error)
                    continue
                self._follow_the_clock()
                if looks and self.timetable.progress >= looks[0]:
                    self.save()
                    self._look(f"at {looks.pop(0):.0%} of the run")
                elif save:
                    self.save()
                if glimpses and self.timetable.progress >= glimpses[0] - 1e-9:
                    glimpses.pop(0)
                    self._glimpse()
            self.save()
        finally:
            self.progress.close()
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous, strict=True):
                signal.signal(number, handler)
        return Ending(stop and not self.timetable.done, self.elapsed)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Let the step finish; a second signal is taken by the system's own handler."""
        self.interrupted = True
        signal.signal(number, signal.default_int_handler)
        self.progress.say("stopping after this step: the model and its place in the data are saved")

    def _agree(self) -> tuple[bool, bool]:
        """Whether to stop and whether to save: any rank may be asked, the first one's clock counts."""
        now = time.perf_counter()
        elapsed = self.elapsed_before + now - self.started
        save = now - self.last_save >= self._save_interval()
        clock = [elapsed, float(save)] if self.ranks.first else [0.0, 0.0]
        self.elapsed, save_asked, stop_asked = self.ranks.sum([*clock, float(self.interrupted)])
        return stop_asked > 0, save_asked > 0

    def _observe(self) -> None:
        """Report the newest steps; a GPU's losses are asked for only when a row of the log is due."""
        due = self.timetable.step % self.log_every == 0 or self.timetable.done
        if self.trainer.deferred and not due:
            return
        values = [float(loss) for loss in self.losses[-1:]]
        if self.trainer.deferred:
            values = [float(loss) for loss in self.losses]
        for value in values:
            self.trainer.observe(value)
        finite = [value for value in map(float, self.losses) if math.isfinite(value)]
        loss = sum(finite) / len(finite) if finite else math.nan
        row: dict[str, Any] = {
            "step": self.timetable.step,
            "tokens": self.tokens,
            "seconds": round(self.elapsed, 2),
            "loss": round(loss, 4) if finite else None,
            "bits_per_byte": round(self.bits_per_byte(loss), 4) if finite else None,
            "learning_rate": round(self.timetable.factor * self.trainer.caution * self.plan.rate, 4),
        }
        if skipped := int(self.trainer.skipped):
            row["skipped"] = skipped
        row |= self.progress.speed(row)
        if due:
            if finite:
                self.log.add(row)
            self.losses.clear()
        self.progress.show(self.timetable, row, self._seconds_left(), self.trainer.machine.peak_memory)

    def _follow_the_clock(self) -> None:
        if self.timetable.wants_correction():
            self.timetable.correct(self.elapsed)
            self.log.add({"step": self.timetable.step, "planned_steps": self.timetable.steps})

    def _seconds_left(self) -> float:
        if self.timetable.seconds is not None:
            return max(0.0, self.timetable.seconds - self.elapsed)
        return self.elapsed / self.timetable.step * (self.timetable.steps - self.timetable.step)

    def _save_interval(self) -> float:
        budget = self.plan.seconds or self.plan.steps * self.plan.seconds_per_step
        return max(min(CHECKPOINT_SECONDS, budget / CHECKPOINTS), self.save_seconds / CHECKPOINT_SHARE)

    # Saving

    def save(self) -> None:
        """Write a checkpoint of all that the next step needs, and the model, unless a better one is there."""
        before = time.perf_counter()
        if not self.trainer.weights_are_finite():
            return
        tensors = self.trainer.tensors()  # of all ranks
        if self.ranks.first:
            if not self.folder.begun:
                figures = {
                    "step": self.timetable.step,
                    "tokens": self.tokens,
                    "seconds": round(self.elapsed, 1),
                }
                self.folder.describe(plan_record(self.plan, self.trainer.machine), figures, finished=False)
            if self.watch.best is None:
                self.folder.save({name: tensors[f"model/{name}"] for name in self._names()})
            self._write_checkpoint(tensors)
            self.log.settle(self.folder.log)
        self.folder.begun = True
        self.last_save = time.perf_counter()
        self.save_seconds = self.last_save - before

    def _names(self) -> list[str]:
        return [name for name, _ in self.trainer.model.named_parameters()]

    def _write_checkpoint(self, tensors: Weights) -> None:
        record = {
            "identity": self.folder.identity.key,
            "plan": plan_record(self.plan, self.trainer.machine),
            "step": self.timetable.step,
            "steps": self.timetable.steps,
            "progress": self.timetable.progress,
            "corrections": self.timetable.corrections,
            "caution": self.trainer.caution,
            "mean_loss": self.trainer.mean_loss,
            "worst_loss": self.trainer.worst_loss,
            "elapsed": self.elapsed,
            "divergences": self.divergences,
        }
        save_checkpoint(self.folder.checkpoints, self.timetable.step, tensors, record)

    def _recover(self, error: DivergedError) -> None:
        """Go back to the last checkpoint, or the beginning, and on at half the learning rate."""
        self.divergences += 1
        if self.divergences > MOST_RESTARTS:
            raise RunFailedError(
                f"training diverged {self.divergences} times ({error}) although the learning rate was halved"
                f" each time; the last good weights are kept: {self.folder.path.absolute()}"
            )
        caution = self.trainer.caution / 2
        self.losses.clear()
        if self.folder.begun:
            self._go_back()
        else:
            self._begin_again()
        self.trainer.caution = caution
        self.log.add({"step": self.timetable.step, "diverged": str(error), "caution": caution})
        self.progress.say(
            f"{error}: diverged; back to step {self.timetable.step:,} at {caution:g} of the learning rate"
        )

    def _begin_again(self) -> None:
        """The state before the first step."""
        self.timetable.step, self.timetable.progress = 0, 0.0
        self.trainer = self._new_trainer(self.trainer.machine)

    # Looking

    def _look(self, when: str) -> None:
        """Measure the model, whose run is saved already; keep its weights if it is the best so far."""
        if not self.watch.files:
            return
        measured = self.evaluate()
        row = {"step": self.timetable.step, "tokens": self.tokens, "seconds": round(self.elapsed, 2)}
        self.log.add({**row, "held_out": round(measured.bits_per_byte, 4)})
        self.progress.say(f"held out: {measured.bits_per_byte:.3f} bits per byte {when}")

    def evaluate(self) -> HeldOutScore:
        """Score the model on a fixed sample of whole held-out files; the folder holds the best so far."""
        measured = self.watch.measure(self.trainer.model, self.ranks)
        if self.watch.is_best(measured, self.timetable.step):
            weights = self.trainer.weights()
            if self.ranks.first:
                self.folder.save_best(weights, measured.bits_per_byte, self.timetable.step)
        return measured

    def _glimpse(self) -> None:
        weights = self.trainer.weights()  # of all ranks
        if not self.ranks.first:
            return
        tokenizer = self.folder.read_tokenizer()
        end, seed = self.dataset.end_of_text_id, self.rows.seed
        text = glimpse(self.plan.shape, weights, tokenizer, end, seed)
        self.log.add({"step": self.timetable.step, "sample": text})
        self.progress.show_sample(text)
