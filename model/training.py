"""One step after another: the loop that the project exists for, without anything around it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from checkpoint import restore, run_tensors
from gpt2 import GPT2
from optimizers import build_optimizers

if TYPE_CHECKING:
    from budget import Machine, Plan
    from packing import PackedRows
    from schedule import Timetable
    from torch import Tensor

SMOOTHING = 0.05  # weight of the newest loss in the running mean
DIVERGED = 1.0  # nats above a uniform guess: a model that is learning never gets there


class DivergedError(ArithmeticError):
    """The loss is not a number any more, or worse than guessing."""


class Trainer:
    """A model, its optimisers and its place in the data."""

    def __init__(
        self, plan: Plan, machine: Machine, rows: PackedRows, timetable: Timetable, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.plan = plan
        self.machine = machine
        self.rows = rows
        self.timetable = timetable
        # Drawn on the CPU in float32 on every machine, so that a seed means the same weights everywhere.
        self.model = GPT2(plan.shape, machine.dtype).to(machine.device)
        self.optimizers = build_optimizers(self.model, machine.dtype)
        self.full_rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.caution = 1.0  # halved each time that the run diverges
        self.mean_loss: float | None = None

    def step(self) -> float:
        """Make one step; its loss in nats per token. Raises DivergedError before the weights move."""
        for optimizer, rate in zip(self.optimizers, self.full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * self.timetable.factor * self.caution
        loss = float(self._accumulate())
        self._check(loss)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.timetable.advance()
        return loss

    def _accumulate(self) -> Tensor:
        """Form the gradients of one batch, a part of it at a time; the mean loss."""
        first_row = self.timetable.step * self.plan.rows
        parts = self.plan.rows // self.plan.micro_rows
        total = torch.zeros((), device=self.machine.device)
        for part in range(parts):
            batch = self.rows.batch(first_row + part * self.plan.micro_rows, self.plan.micro_rows)
            tokens, targets = (self._to_device(side) for side in batch)
            loss = self.model(tokens, targets) / parts
            loss.backward()
            total += loss.detach()
        return total

    def _to_device(self, tokens: Tensor) -> Tensor:
        if self.machine.device.type != "cuda":
            return tokens.to(self.machine.device)
        return tokens.pin_memory().to(self.machine.device, non_blocking=True)

    def _check(self, loss: float) -> None:
        mean = loss if self.mean_loss is None else self.mean_loss + SMOOTHING * (loss - self.mean_loss)
        if not mean <= math.log(self.plan.shape.vocab_size) + DIVERGED:  # true for not-a-number, too
            raise DivergedError(f"loss {loss:.2f} at step {self.timetable.step + 1:,}")
        self.mean_loss = mean

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth saving: a gradient can break them after a sound loss."""
        return all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters())

    def tensors(self) -> dict[str, Tensor]:
        return run_tensors(self.model, self.optimizers)

    def load(self, tensors: dict[str, Tensor]) -> None:
        restore(self.model, self.optimizers, tensors)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.mean_loss = None
