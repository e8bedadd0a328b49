"""A run from its plan to its end: saves, resumes, measures, reports, and stops when it is asked to."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import asdict, dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from budget import Plan
from checkpoint import CheckpointError, checkpoints, load_checkpoint, save_checkpoint
from gpt2 import Shape
from held_out import HeldOutScore, sample_files, score
from packing import PackedRows
from schedule import Timetable
from training import DivergedError, Trainer
from training_log import TrainingLog, read_log

if TYPE_CHECKING:
    from pathlib import Path

    from budget import Machine
    from model_folder import ModelFolder
    from progress import Progress
    from token_dataset import TokenDataset
    from torch import Tensor

LOG_ROWS = 500  # rows of training_log.jsonl in a run, whatever its length
CHECKPOINT_SECONDS = 30.0  # between two checkpoints, and longer where saving takes more than 2 % of it
CHECKPOINT_SHARE = 0.02
EVALUATION_SECONDS = 12.0  # for a measurement at most
EVALUATION_SHARE = 0.02  # of the run, for those on the way
FORWARD_GAIN = 1.5  # a scored token against a trained one: a third of the work, half of it twice
MOST_RESTARTS = 3  # of a diverging run, at half the learning rate each time
DELTA = 1e-9


class RunFailedError(RuntimeError):
    """A run that cannot go on."""


@dataclass(frozen=True)
class Ending:
    """How a run stopped."""

    interrupted: bool
    seconds: float


def plan_record(plan: Plan, machine: Machine) -> dict[str, Any]:
    """A plan as JSON, for provenance.json, the model card and a resume."""
    record = asdict(plan)
    shape = record.pop("shape")
    return {**shape, "parameters": plan.shape.parameters, **record, "machine": machine.name}


def plan_from_record(record: dict[str, Any]) -> Plan:
    """The plan that a record describes."""
    shape = Shape(**{name: record[name] for name in Shape.__dataclass_fields__})
    rest = {name: record[name] for name in Plan.__dataclass_fields__ if name != "shape"}
    return Plan(shape, **rest)


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
    ) -> None:
        self.plan = plan
        self.dataset = dataset
        self.folder = folder
        self.progress = progress
        self.timetable = Timetable(plan.steps, plan.seconds)
        rows = PackedRows(dataset.train, plan.shape.block_size, seed)
        self.trainer = Trainer(plan, machine, rows, self.timetable, seed)
        self.log = TrainingLog()
        self.bytes_per_token = int(dataset.train.text_bytes.sum()) / len(dataset.train.tokens)
        self.log_every = max(1, plan.steps // LOG_ROWS)
        self.elapsed_before = 0.0  # seconds of stepping in earlier starts of this run
        self.started = time.perf_counter()
        self.divergences = 0
        self.interrupted = False
        self.last_save = self.started
        self.save_seconds = 0.0

    @property
    def elapsed(self) -> float:
        return self.elapsed_before + time.perf_counter() - self.started

    @property
    def tokens(self) -> int:
        return self.timetable.step * self.plan.tokens_per_step

    def bits_per_byte(self, loss: float) -> float:
        """Nats per training token -> bits per byte of training text."""
        return loss / math.log(2) / self.bytes_per_token

    def resume(self) -> Path:
        """Continue from the newest sound checkpoint, which is returned.

        Corrections that the log knows beyond it will be made again, at the same steps.
        """
        path, tensors, record = self._newest_checkpoint()
        self._restore(record, tensors)
        rows = read_log(self.folder.path / "training_log.jsonl")
        for row in rows:
            if "planned_steps" in row:
                self.timetable.corrections.setdefault(row["step"], row["planned_steps"])
        self.folder.begun = True
        self.log = TrainingLog([row for row in rows if row["step"] <= self.timetable.step])
        self.log.settle(self.folder.path / "training_log.jsonl")
        self.elapsed_before = record["elapsed"]
        self.divergences = record["divergences"]
        return path

    def _newest_checkpoint(self) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
        """The newest checkpoint that is whole and of this run. Raises CheckpointError if there is none."""
        problems = []
        for path in reversed(checkpoints(self.folder.checkpoints)):
            try:
                tensors, record = load_checkpoint(path)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if record["identity"] == self.folder.identity.key:
                for problem in problems:
                    self.progress.say(f"{problem}; the one before is used")
                return path, tensors, record
            problems.append(f"this checkpoint belongs to other data, tokenizer or options: {path.absolute()}")
        reason = "; ".join(problems) or f"there is no checkpoint: {self.folder.checkpoints.absolute()}"
        raise CheckpointError(f"{reason}: to begin anew add --restart")

    def _restore(self, record: dict[str, Any], tensors: dict[str, Any]) -> None:
        self.trainer.load(tensors)
        self.trainer.mean_loss = record["mean_loss"]
        self.timetable.step = record["step"]
        self.timetable.steps = record["steps"]
        self.timetable.progress = record["progress"]
        self.timetable.corrections = {int(step): steps for step, steps in record["corrections"].items()}
        self.trainer.caution = record["caution"]

    def train(self) -> Ending:
        """Step until the timetable is done or somebody interrupts; either way the last state is saved."""
        previous = [signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)]
        self.started = self.last_save = time.perf_counter()
        self.timetable.start(self.elapsed)
        evaluations = self._evaluation_points()
        losses: list[float] = []
        try:
            while not self.timetable.done and not self.interrupted:
                try:
                    losses.append(self.trainer.step())
                except DivergedError as error:
                    self._recover(error)
                    losses.clear()
                    continue
                self._follow_the_clock()
                if self.timetable.step % self.log_every == 0 or self.timetable.done:
                    self._report(losses)
                    losses.clear()
                if evaluations and self.timetable.progress >= evaluations[0]:
                    self.save()
                    self._evaluate_on_the_way(evaluations.pop(0))
                elif time.perf_counter() - self.last_save >= self._save_interval():
                    self.save()
            self.save()
        finally:
            self.progress.close()
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous, strict=True):
                signal.signal(number, handler)
        return Ending(self.interrupted and not self.timetable.done, self.elapsed)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Let the step finish; a second signal is taken by the system's own handler."""
        self.interrupted = True
        signal.signal(number, signal.default_int_handler)
        self.progress.say("stopping after this step: the model and its place in the data are saved")

    def _follow_the_clock(self) -> None:
        if self.timetable.wants_correction():
            self.timetable.correct(self.elapsed)
            self.log.add({"step": self.timetable.step, "planned_steps": self.timetable.steps})

    def _report(self, losses: list[float]) -> None:
        loss = sum(losses) / len(losses)
        row = {
            "step": self.timetable.step,
            "tokens": self.tokens,
            "seconds": round(self.elapsed, 2),
            "loss": round(loss, 4),
            "bits_per_byte": round(self.bits_per_byte(loss), 4),
            "learning_rate": round(self.timetable.factor * self.trainer.caution, 4),
        }
        self.log.add(row)
        self.progress.show(self.timetable, row, self._seconds_left())

    def _seconds_left(self) -> float:
        if self.timetable.seconds is not None:
            return max(0.0, self.timetable.seconds - self.elapsed)
        return self.elapsed / self.timetable.step * (self.timetable.steps - self.timetable.step)

    def _save_interval(self) -> float:
        budget = self.plan.seconds or self.plan.steps * self.plan.seconds_per_step
        return max(min(CHECKPOINT_SECONDS, budget / 8), self.save_seconds / CHECKPOINT_SHARE)

    def save(self) -> None:
        """Write the model and a checkpoint of everything the next step depends on."""
        before = time.perf_counter()
        if not self.trainer.weights_are_finite():
            return
        figures = {"step": self.timetable.step, "tokens": self.tokens, "seconds": round(self.elapsed, 1)}
        if not self.folder.begun:
            self.folder.describe(plan_record(self.plan, self.trainer.machine), figures, finished=False)
        self.folder.save(dict(self.trainer.model.named_parameters()))
        record = {
            "identity": self.folder.identity.key,
            "plan": plan_record(self.plan, self.trainer.machine),
            "step": self.timetable.step,
            "steps": self.timetable.steps,
            "progress": self.timetable.progress,
            "corrections": self.timetable.corrections,
            "caution": self.trainer.caution,
            "mean_loss": self.trainer.mean_loss,
            "elapsed": self.elapsed,
            "divergences": self.divergences,
        }
        save_checkpoint(self.folder.checkpoints, self.timetable.step, self.trainer.tensors(), record)
        self.log.settle(self.folder.path / "training_log.jsonl")
        self.last_save = time.perf_counter()
        self.save_seconds = self.last_save - before

    def _recover(self, error: DivergedError) -> None:
        """Go back to the last checkpoint, or the beginning, and on at half the learning rate."""
        self.divergences += 1
        if self.divergences > MOST_RESTARTS:
            raise RunFailedError(
                f"training diverged {self.divergences} times ({error}) although the learning rate was halved"
                f" each time; the last good weights are kept: {self.folder.path.absolute()}"
            )
        caution = self.trainer.caution / 2
        if self.folder.begun:
            _, tensors, record = self._newest_checkpoint()
            self._restore(record, tensors)
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
        rows, seed = self.trainer.rows, self.trainer.rows.seed
        self.trainer = Trainer(self.plan, self.trainer.machine, rows, self.timetable, seed)

    def sample_bytes(self) -> int:
        """Held-out bytes that can be scored in time: a power of two of kilobytes, 64 kB to 16 MB.

        A coarse step, so that runs of similar speed are measured on the same files. Whole files differ by so
        much (one model had 1.57 bits per byte on 10 of them, 1.66 on 83) that only the same files compare.
        """
        bytes_per_second = self.plan.tokens_per_second * FORWARD_GAIN * self.bytes_per_token
        kilobytes = min(16_384, max(64.0, EVALUATION_SECONDS * bytes_per_second / 1000))
        return int(1000 * 2 ** math.floor(math.log2(kilobytes)))

    def _evaluation_points(self) -> list[float]:
        """At which shares of the run to look at held-out files: as often as 2 % of its time allow."""
        if not len(self.dataset.held_out.text_bytes):
            return []
        budget = self.plan.seconds or self.plan.steps * self.plan.seconds_per_step
        count = min(20, int(budget * EVALUATION_SHARE / EVALUATION_SECONDS))
        points = [(number + 1) / (count + 1) for number in range(count)]
        return [point for point in points if point > self.timetable.progress + DELTA]

    def _evaluate_on_the_way(self, share: float) -> None:
        measured = self.evaluate()
        row = {"step": self.timetable.step, "tokens": self.tokens, "seconds": round(self.elapsed, 2)}
        self.log.add({**row, "held_out": round(measured.bits_per_byte, 4)})
        self.progress.say(f"held out: {measured.bits_per_byte:.3f} bits per byte at {share:.0%} of the run")

    def evaluate(self) -> HeldOutScore:
        """Score the model on a fixed sample of whole held-out files."""
        split = self.dataset.held_out
        return score(self.trainer.model, split, sample_files(split, self.sample_bytes()))
