"""A run from its first step to its last: saving, resuming, measuring, logging, and Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from model_cli import INTERRUPTED, UserError
from training.checkpoint import Checkpointer
from training.monitor import SAMPLES_AT, Best, Milestones, sample_code
from training.progress import read_log
from training.trainer import DivergedError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from data_loading.token_file import TokenDataset
    from evaluation.bits_per_byte import HeldOutScore
    from pretrained.save import ModelFolder
    from training.monitor import HeldOutMonitor
    from training.progress import Progress, TrainingLog
    from training.trainer import Trainer

LOG_ROWS = 500  # rows of training_log.jsonl in a run of any length
GRACE_SECONDS = 1.0  # between two Ctrl-C that mean the same
MOST_RESTARTS = 3  # of a diverging run, at half the learning rate each time


@dataclass(frozen=True)
class Ending:
    """How a run stopped."""

    interrupted: bool
    seconds: float


class Interrupt:
    """Ctrl-C and SIGTERM as a flag, so that a step is finished and saved.

    A second signal within GRACE_SECONDS is the same wish. A later one ends the process at once, which costs
    no more than a kill: every file is written beside its place first.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.asked = False
        self.since: float | None = None  # when the first signal came, by the monotonic clock
        self.previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.since is not None:
            return  # the run ends: a second signal must not disturb its report or the end of the interpreter
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.since is None:
            self.asked, self.since = True, now
            self._say("stopping after this step; a second Ctrl-C ends at once, with the last checkpoint")
        elif now - self.since > GRACE_SECONDS:
            self._say("ended at once: the same command continues from the last checkpoint, if there is one")
            os._exit(INTERRUPTED)

    def _say(self, text: str) -> None:
        """Past the buffer of standard error, in which the signal may have interrupted a print."""
        if not self.silent:
            start = "\r\x1b[K" if os.isatty(2) else ""  # over the bar
            os.write(2, f"{start}{text}\n".encode())


class Run:
    """The training loop around a Trainer: it saves, resumes, measures, logs and recovers."""

    def __init__(
        self,
        trainer: Trainer,
        dataset: TokenDataset,
        folder: ModelFolder,
        monitor: HeldOutMonitor,
        progress: Progress,
        log: TrainingLog,
    ) -> None:
        self.trainer = trainer
        self.plan = trainer.plan
        self.schedule = trainer.schedule
        self.ranks = trainer.ranks
        self.dataset = dataset
        self.folder = folder
        self.monitor = monitor
        self.progress = progress
        self.log = log
        self.log_every = max(1, self.plan.steps // LOG_ROWS)
        self.losses: list[Tensor] = []  # since the last row of the log
        self.samples = Milestones(SAMPLES_AT)
        self.interrupt = Interrupt(silent=progress.silent)
        self.checkpointer = Checkpointer(trainer, folder, progress.say)
        # Start of stepping; moved back by the seconds of earlier parts of the run
        self.started = time.perf_counter()
        self.elapsed = 0.0  # seconds of stepping, earlier parts included, by the clock of rank 0
        self.divergences = 0

    def resume(self) -> Path:
        """Continue from the newest sound checkpoint, which is returned.

        Corrections of the schedule that the log has beyond it will be made again, at the same steps.
        """
        path, record = self.checkpointer.load()
        rows = self.ranks.broadcast(read_log(self.folder.log) if self.ranks.is_main else [])
        for row in rows:
            if "planned_steps" in row:
                self.schedule.corrections.setdefault(row["step"], row["planned_steps"])
        self.log.rows = [row for row in rows if row["step"] <= self.schedule.step]
        if self.ranks.is_main:
            self.log.flush(self.folder.log)
        best = self.ranks.broadcast(self.folder.saved_best() if self.ranks.is_main else None)
        self.monitor.best = None if best is None else Best(*best)
        self.folder.begun = True
        self.elapsed = record["elapsed"]
        self.divergences = record["divergences"]
        self.progress.change_told = True
        return path

    def train(self) -> Ending:
        """Step until the schedule is done or the user interrupts; either way the last state is saved."""
        stop = False
        with self.interrupt:
            try:
                self._begin()
                while not self.schedule.done and not stop:
                    stop = self._step()
                if self.schedule.done:
                    self.trainer.check_learnt()
                self.save()
                if stop and self.folder.begun:
                    self.progress.say("saved the model and its place in the data")
            finally:
                self.progress.close()
        return Ending(stop and not self.schedule.done, self.elapsed)

    def _begin(self) -> None:
        """Start the clock; measure a base model before its first step."""
        self.trainer.warm_up()
        self.monitor.milestones.start(self.schedule.progress)
        self.samples.start(self.schedule.progress)
        self.checkpointer.start()
        self.started = time.perf_counter() - self.elapsed
        self.schedule.start_clock(self.elapsed)
        if self.trainer.is_trained and self.schedule.step == 0:
            self.save()
            self._measure("before")

    def _step(self) -> bool:
        """Make a step and do what is due after it. Returns whether to stop."""
        self.losses.append(self.trainer.step())
        stop, save = self._agree()
        try:
            self._observe()
        except DivergedError as error:
            self._recover(error)
            return stop
        if self.schedule.is_correction_due():
            self.schedule.correct(self.elapsed)
            self.progress.tell_change(self.plan.steps, self.schedule.steps)
            self.log.add({"step": self.schedule.step, "planned_steps": self.schedule.steps})
        share = self.monitor.milestones.reached(self.schedule.progress)
        if share is not None:
            self.save()
            self._measure(f"at {share:.0%} of the run")
        elif save:
            self.save()
        if self.samples.reached(self.schedule.progress) is not None:
            self._show_sample()
        return stop

    def _agree(self) -> tuple[bool, bool]:
        """Whether to stop and whether to save: any rank may be interrupted, the clock of rank 0 counts."""
        elapsed = time.perf_counter() - self.started
        clock = [elapsed, float(self.checkpointer.is_due())] if self.ranks.is_main else [0.0, 0.0]
        self.elapsed, save, stop = self.ranks.all_reduce_list([*clock, float(self.interrupt.asked)])
        return stop > 0, save > 0

    def _observe(self) -> None:
        """Show the newest step and log it if a row is due; only then is a GPU asked for its losses.

        Raises DivergedError if training has diverged.
        """
        due = self.schedule.step % self.log_every == 0 or self.schedule.done
        if self.trainer.deferred and not due:
            return
        losses = [float(loss) for loss in self.losses]
        for loss in losses if self.trainer.deferred else losses[-1:]:
            self.trainer.observe(loss)
        row = self._row([loss for loss in losses if math.isfinite(loss)])
        if due:
            if row["loss"] is not None:
                self.log.add(row)
            self.losses.clear()
        seconds_left = self.schedule.seconds_left(self.elapsed)
        self.progress.show(self.schedule, row, seconds_left, self.trainer.machine.peak_memory)

    def _row(self, losses: list[float]) -> dict[str, Any]:
        """A row of training_log.jsonl; losses: the finite ones since the last row."""
        loss = sum(losses) / len(losses) if losses else math.nan  # nats per token
        bits_per_byte = loss / math.log(2) / self.dataset.train.bytes_per_token
        row: dict[str, Any] = {
            "step": self.schedule.step,
            "tokens": self.trainer.tokens,
            "seconds": round(self.elapsed, 2),
            "loss": round(loss, 4) if losses else None,
            "bits_per_byte": round(bits_per_byte, 4) if losses else None,
            "learning_rate": round(self.schedule.factor * self.trainer.lr_scale * self.plan.rate, 4),
        }
        if skipped := int(self.trainer.skipped):
            row["skipped"] = skipped
        return row | self.progress.speed(row)

    def _recover(self, error: DivergedError) -> None:
        """Return to the last checkpoint, or to the start, and continue at half the learning rate."""
        self.divergences += 1
        if self.divergences > MOST_RESTARTS:
            raise UserError(
                f"training diverged {self.divergences} times ({error}) although the learning rate was halved"
                f" each time; the last good weights are kept: {self.folder.path.absolute()}"
            )
        lr_scale = self.trainer.lr_scale / 2
        self.losses.clear()
        if self.folder.begun:
            self.checkpointer.load()
        else:
            self.trainer.reset()
        self.trainer.lr_scale = lr_scale
        self.schedule.start_clock(self.elapsed)
        self.log.add({"step": self.schedule.step, "diverged": str(error), "caution": lr_scale})
        self.progress.say(
            f"{error}: diverged; back to step {self.schedule.step:,} at {lr_scale:g} of the learning rate"
        )

    def save(self) -> None:
        """Write a checkpoint, and the model unless the folder holds a better one. All ranks take part."""
        self.checkpointer.save(self.elapsed, self.divergences, with_model=self.monitor.best is None)
        if self.folder.begun and self.ranks.is_main:
            self.log.flush(self.folder.log)

    def evaluate(self) -> HeldOutScore:
        """Score the model on the held-out sample. If it is the best so far, the folder keeps its weights."""
        score = self.monitor.score(self.trainer.model, self.ranks)
        if self.monitor.is_best(score, self.schedule.step):
            weights = self.trainer.weights()
            if self.ranks.is_main:
                self.folder.save_best(weights, score.bits_per_byte, self.schedule.step)
        return score

    def _measure(self, when: str) -> None:
        """Evaluate on the way, after a save: a measurement that fails costs nothing."""
        if not self.monitor.sample.excerpts:
            return
        bits_per_byte = self.evaluate().bits_per_byte
        self.progress.held_out = bits_per_byte
        row = {"step": self.schedule.step, "tokens": self.trainer.tokens, "seconds": round(self.elapsed, 2)}
        self.log.add({**row, "held_out": round(bits_per_byte, 4)})
        self.progress.say(f"held out: {bits_per_byte:.3f} bits per byte {when}")

    def _show_sample(self) -> None:
        weights = self.trainer.weights()  # of all ranks
        if not self.ranks.is_main:
            return
        end, seed = self.dataset.end_of_text_id, self.trainer.seed
        text = sample_code(self.plan.shape, weights, self.folder.read_tokenizer(), end, seed)
        self.log.add({"step": self.schedule.step, "sample": text})
        self.progress.show_sample(text)
