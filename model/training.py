"""One step after another: the loop that the project exists for, without anything around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from budget import Plan
from checkpoint import restore, run_tensors
from gpt2 import GPT2
from length_warmup import LengthWarmup
from loss_scale import LossScale
from optimizers import build_optimizers
from pace import compile_blocks
from prefetching import Prefetcher
from ranks import ALONE, Ranks, shard, whole
from torch import Tensor, nn

if TYPE_CHECKING:
    from machine import Machine
    from packing import PackedRows
    from schedule import Timetable

SMOOTHING = 0.05  # weight of the newest loss in the running mean
DIVERGED = 1.0  # nats above a uniform guess, or above its start: a model that is learning never gets there

# Steps in a row whose gradients were no numbers, after which the run goes back. In float16 the first ones
# overflow until the loss scale has come down.
MOST_SKIPPED = 5
MOST_SKIPPED_FLOAT16 = 30

Weights = dict[str, Tensor]


class DivergedError(ArithmeticError):
    """The gradients are not numbers any more, or the loss is worse than guessing."""


class Trainer:
    """A model, its optimisers and its place in the data."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        rows: PackedRows,
        timetable: Timetable,
        seed: int,
        ranks: Ranks = ALONE,
        *,
        sharded: bool = False,
        first_weights: Callable[[], Weights] | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.plan = plan
        self.machine = machine
        self.rows = rows
        self.timetable = timetable
        self.ranks = ranks
        self.sharded = sharded
        # Drawn on the CPU in float32 on every machine, so that a seed means the same weights everywhere.
        self.model = GPT2(plan.shape, machine.dtype)
        self.goes_on = first_weights is not None
        if first_weights is not None:
            self.model.load_state_dict(first_weights())
        self.model.to(machine.device)
        self.network = self._connect()
        self.optimizers = build_optimizers(self.model, machine.dtype, ranks)
        self.full_rates = [plan.rate * optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.length_warmup = LengthWarmup(rows, plan.length_warmup, plan.steps, plan.rows)
        self.prefetcher = Prefetcher(self.length_warmup, machine.device)
        self.loss_scale = LossScale(machine.device) if machine.dtype == torch.float16 else None
        # A GPU is not asked after each step whether its gradients were sound: it skips by itself.
        self.deferred = machine.device.type == "cuda"
        self.caution = 1.0  # halved each time that the run diverges
        self.mean_loss: float | None = None
        self.worst_loss = math.log(plan.shape.vocab_size)  # of a sound run: that of guessing
        self.skipped = torch.zeros((), device=machine.device)  # steps in all whose gradients were no numbers
        self.skipped_in_a_row = torch.zeros((), device=machine.device)

    def _connect(self) -> nn.Module:
        """The model as all ranks train it together."""
        if self.machine.compiles:
            compile_blocks(self.model)
        if self.ranks.world == 1:
            return self.model
        if self.sharded:
            shard(self.model, self.model.transformer.h, self.machine.dtype)
            return self.model
        from torch.nn.parallel import DistributedDataParallel

        devices = [self.machine.device] if self.machine.device.type == "cuda" else None
        return DistributedDataParallel(self.model, device_ids=devices, gradient_as_bucket_view=True)

    def warm_up(self) -> None:
        """Have the network compiled, by gradients that are thrown away, before a clock counts the seconds."""
        if not self.machine.compiles:
            return
        steps = range(self.timetable.step, self.timetable.steps)
        for short in (True, False):
            first = next((step for step in steps if self.length_warmup.is_short(step) is short), None)
            if first is not None:
                self._accumulate(first)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.machine.synchronize()

    def step(self) -> Tensor:
        """Make one step; its loss in nats per token, on the device: not finite where the step was skipped."""
        for optimizer, rate in zip(self.optimizers, self.full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * self.timetable.factor * self.caution
        loss = self.ranks.add(self._accumulate())
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        if self.loss_scale is not None:
            self.loss_scale.unscale(gradients)
        norm = whole(nn.utils.get_total_norm(gradients))  # not finite as soon as one number is not
        unsound = (~torch.isfinite(norm + loss)).float()
        self._move(unsound)
        if self.loss_scale is not None:
            self.loss_scale.update(unsound)
        self.skipped += unsound
        self.skipped_in_a_row = (self.skipped_in_a_row + unsound) * unsound
        self.timetable.advance()
        return torch.where(unsound > 0, torch.nan, loss)

    def _move(self, unsound: Tensor) -> None:
        """Let the optimisers step, unless the gradients are unsound: then nothing changes."""
        for optimizer in self.optimizers:
            if self.deferred:
                for name, value in (("found_inf", unsound), ("grad_scale", None)):
                    setattr(optimizer, name, value)
            if self.deferred or not unsound:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _accumulate(self, step: int | None = None) -> Tensor:
        """Form the gradients of this rank's part of a batch, a few rows at a time; its part of the loss."""
        step = self.timetable.step if step is None else step
        parts = self._parts(step)
        total = torch.zeros((), device=self.machine.device)
        for number, (first_row, count) in enumerate(parts):
            is_last = number == len(parts) - 1
            following = self._parts(step + 1)[0] if is_last else parts[number + 1]
            tokens, targets = self.prefetcher.get(first_row, count, following)
            with self._adding_up(is_last):
                loss = self.network(tokens, targets) * (count / self.plan.rows)
                total += loss.detach()
                loss = loss * self.ranks.world  # what the ranks share is divided by their number
                (loss if self.loss_scale is None else loss * self.loss_scale.factor).backward()
        return total

    def _parts(self, step: int) -> list[tuple[int, int]]:
        """This rank's rows of a step: the first and the number of each part that fits the device."""
        share = self.ranks.share(self.plan.rows)
        most = min(self.plan.micro_rows, len(share))
        return [
            (step * self.plan.rows + first, min(most, share.stop - first))
            for first in range(share.start, share.stop, most)
        ]

    def _adding_up(self, is_last: bool) -> AbstractContextManager[None]:
        """The ranks exchange gradients once a step, after the last part."""
        if self.ranks.world == 1:
            return nullcontext()
        if self.sharded:
            self.network.set_requires_gradient_sync(is_last)  # type: ignore[operator]
            return nullcontext()
        return nullcontext() if is_last else self.network.no_sync()  # type: ignore[operator]

    def observe(self, loss: float) -> None:
        """Take note of a step's loss. Raises DivergedError where the run had better go back."""
        if not math.isfinite(loss):
            most = MOST_SKIPPED if self.loss_scale is None else MOST_SKIPPED_FLOAT16
            if self.skipped_in_a_row >= most:
                raise DivergedError(f"no finite gradient in {most} steps until {self.timetable.step:,}")
            return
        mean = loss if self.mean_loss is None else self.mean_loss + SMOOTHING * (loss - self.mean_loss)
        if self.goes_on and self.mean_loss is None:
            self.worst_loss = max(self.worst_loss, loss)  # on new files a model may be worse than a guess
        if mean > self.worst_loss + DIVERGED:
            raise DivergedError(f"loss {loss:.2f} at step {self.timetable.step:,}")
        self.mean_loss = mean

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth saving."""
        broken = sum(not bool(torch.isfinite(weight).all()) for weight in self.model.parameters())
        return not self.ranks.sum([broken])[0]

    def weights(self) -> Weights:
        """The whole weights by name; every rank has to ask where they are divided."""
        return {name: whole(weight.detach()) for name, weight in self.model.named_parameters()}

    def tensors(self) -> Weights:
        """Every number that the next step depends on, by name."""
        tensors = run_tensors(self.model, self.optimizers)
        tensors |= {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}
        return tensors | (self.loss_scale.tensors() if self.loss_scale is not None else {})

    def load(self, tensors: Weights) -> None:
        """Continue from what tensors() gave."""
        restore(self.model, self.optimizers, tensors)
        if self.loss_scale is not None:
            self.loss_scale.load(tensors)
        self.skipped.copy_(tensors["skipped"])
        self.skipped_in_a_row.copy_(tensors["skipped_in_a_row"])
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.mean_loss = None
