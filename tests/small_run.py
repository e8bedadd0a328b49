"""A run of seconds, made without train.py: a network of one layer on documents of numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_loading.batches import PackedRows
from data_loading.token_file import TokenDataset
from evaluation.bits_per_byte import draw_whole_files
from gpt2.config import GPT2Config
from gpt2.device import Machine
from numbered_documents import split_of
from pretrained.provenance import RunFingerprint
from pretrained.save import ModelFolder
from training.monitor import HeldOutMonitor
from training.plan import Plan
from training.progress import Progress, TrainingLog
from training.run import Run
from training.sampled_softmax import SoftmaxSampler
from training.schedule import Schedule
from training.trainer import Trainer

torch.set_num_threads(1)  # at these sizes a second thread only waits

MACHINE = Machine(torch.device("cpu"), torch.bfloat16, threads=1)
FINGERPRINT = RunFingerprint({"sha256": "d"}, {"sha256": "t"}, {"seed": 0})


def make_run(
    output: Path, tokenizer: Path, steps: int = 50, seconds: float | None = None, **choices: Any
) -> Run:
    """choices: those of a Plan."""
    shape = GPT2Config(1, 2, 16, 16, 512)
    plan = Plan(shape, 4, 2, steps, seconds, seconds_per_step=0.01, memory=0.0, **choices)
    return run_of(plan, output, tokenizer)


def run_of(plan: Plan, output: Path, tokenizer: Path) -> Run:
    """A run of this plan on documents of numbers below its vocab_size."""
    vocab_size = plan.shape.vocab_size
    train, held_out = (
        replace(split, tokens=split.tokens % vocab_size)
        for split in (split_of([40] * 10), split_of([20] * 4))
    )
    dataset = TokenDataset(train, held_out, vocab_size, 0, "d", "t")
    rows = PackedRows(dataset.train, plan.shape.block_size, 0)
    softmax = SoftmaxSampler(np.ones(vocab_size, np.int64), seed=0) if plan.sampled_softmax else None
    trainer = Trainer(plan, MACHINE, rows, Schedule(plan.steps, plan.seconds), 0, softmax=softmax)
    sample = draw_whole_files(dataset.held_out, 64_000)
    folder = ModelFolder(output, plan.shape, tokenizer, FINGERPRINT)
    progress = Progress(plan.tokens_per_step)
    return Run(trainer, dataset, folder, HeldOutMonitor(plan, dataset, sample), progress, TrainingLog())


def stop_at(run: Run, step: int) -> None:
    """Interrupt a run when so many steps are done."""
    make_step = run.trainer.step

    def step_and_stop() -> torch.Tensor:
        loss = make_step()
        run.interrupt.asked = run.schedule.step >= step
        return loss

    run.trainer.step = step_and_stop  # type: ignore[method-assign]
