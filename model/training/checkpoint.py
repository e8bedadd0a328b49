"""Checkpoints: the state of an unfinished run in one safetensors file, whole or absent, never a pickle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from model_cli import UserError
from pretrained.atomic_write import write_tensors
from training.plan import plan_record

if TYPE_CHECKING:
    from torch import Tensor

    from pretrained.save import ModelFolder
    from training.trainer import Trainer

KEPT = 2  # the newest and, should a disk lose it, the one before
CHECKPOINT_SECONDS = 30.0  # between two checkpoints, and longer where saving takes more than 2 % of it
CHECKPOINT_SHARE = 0.02
CHECKPOINTS = 6  # at least, in a run of less than three minutes


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or that belongs to another run."""


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], record: dict[str, Any]) -> Path:
    """Write folder/step-<step>.safetensors and remove all but the newest two."""
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:09d}.safetensors"
    write_tensors(path, tensors, {"record": json.dumps(record)})
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a checkpoint. Raises CheckpointError for a torn file."""
    try:
        with safe_open(path, framework="pt") as file:
            record: dict[str, Any] = json.loads(file.metadata()["record"])
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"this checkpoint cannot be read ({error}): {path.absolute()}") from error


def newest_checkpoint(
    folder: Path, identity: dict[str, Any]
) -> tuple[Path, dict[str, Tensor], dict[str, Any], list[str]]:
    """The newest whole checkpoint of this run: path, tensors, record, and what is wrong with newer ones.

    identity: the key of the run's fingerprint.
    Raises: CheckpointError, which names them all, if no checkpoint can be used.
    """
    problems: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            tensors, record = load_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if record["identity"] == identity:
            return path, tensors, record, problems
        problems.append(f"this checkpoint belongs to other data, tokenizer or options: {path.absolute()}")
    reason = "; ".join(problems) or f"there is no checkpoint: {folder.absolute()}"
    raise CheckpointError(f"{reason}: to start again add --restart")


class Checkpointer:
    """Saves a run to its folder, every half minute or less often where saving is slow, and restores it."""

    def __init__(self, trainer: Trainer, folder: ModelFolder, say: Callable[[str], None]) -> None:
        """say: prints a line for the user."""
        self.trainer = trainer
        self.folder = folder
        self.say = say
        plan = trainer.plan
        self.run_seconds = plan.seconds or plan.steps * plan.seconds_per_step
        self.last_save = time.perf_counter()
        self.save_seconds = 0.0

    def start(self) -> None:
        """Count the seconds to the next checkpoint from now on."""
        self.last_save = time.perf_counter()

    def is_due(self) -> bool:
        interval = min(CHECKPOINT_SECONDS, self.run_seconds / CHECKPOINTS)
        interval = max(interval, self.save_seconds / CHECKPOINT_SHARE)
        return time.perf_counter() - self.last_save >= interval

    def save(self, elapsed: float, divergences: int, *, with_model: bool) -> None:
        """Write a checkpoint and, with_model, the weights as the model of the folder. All ranks take part.

        elapsed: seconds of stepping. Weights that are not finite are not saved.
        """
        trainer, folder = self.trainer, self.folder
        started = time.perf_counter()
        if not trainer.weights_are_finite():
            return
        tensors = trainer.state_tensors()
        if trainer.ranks.is_main:
            step, plan = trainer.schedule.step, plan_record(trainer.plan, trainer.machine)
            if not folder.begun:
                figures = {"step": step, "tokens": trainer.tokens, "seconds": round(elapsed, 1)}
                folder.describe(plan, figures, finished=False)
            if with_model:
                names = (name for name, _ in trainer.model.named_parameters())
                folder.save({name: tensors[f"model/{name}"] for name in names})
            record = {"identity": folder.fingerprint.key, "plan": plan, **trainer.state_dict()}
            record |= {"elapsed": elapsed, "divergences": divergences}
            save_checkpoint(folder.checkpoints, step, tensors, record)
        folder.begun = True
        self.last_save = time.perf_counter()
        self.save_seconds = self.last_save - started

    def load(self) -> tuple[Path, dict[str, Any]]:
        """Restore the newest sound checkpoint, which rank 0 reads for all; its path and record."""
        ranks = self.trainer.ranks
        path, tensors = self.folder.checkpoints, None
        record: dict[str, Any] = {}
        if ranks.is_main:
            path, tensors, record, problems = newest_checkpoint(path, self.folder.fingerprint.key)
            for problem in problems:
                self.say(f"{problem}; the one before is used")
        record = ranks.broadcast(record)
        self.trainer.load_state(ranks.broadcast_tensors(tensors), record)
        return path, record
