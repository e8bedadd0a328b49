"""The training step: gradients, both optimisers, the learning rate, and the state that a checkpoint keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data_loading.batches import BatchLoader, StepSampler
from gpt2.distributed import ALONE, Ranks, full_tensor, shard_like, shard_model
from gpt2.network import GPT2
from model_cli import UserError
from training.optimizers import LossScale, build_optimizers
from training.plan import Plan

if TYPE_CHECKING:
    from data_loading.batches import PackedRows
    from gpt2.device import Machine
    from training.sampled_softmax import SoftmaxSampler
    from training.schedule import Schedule

SMOOTHING = 0.05  # weight of the newest loss in the running mean
DIVERGED = 1.0  # nats above a uniform guess, or above its start: a sound run never gets there

# Steps in a row with non-finite gradients after which the run has diverged. In float16 the first steps
# overflow until the loss scale has come down.
MOST_SKIPPED = 5
MOST_SKIPPED_FLOAT16 = 30

Weights = dict[str, Tensor]


class DivergedError(ArithmeticError):
    """The gradients are not finite any more, or the loss is worse than guessing."""


class Trainer:
    """A model, its optimisers, and its place in the data and in the schedule."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        rows: PackedRows,
        schedule: Schedule,
        seed: int,
        ranks: Ranks = ALONE,
        *,
        sharded: bool = False,
        first_weights: Callable[[GPT2], None] | None = None,
        is_trained: bool = False,
        softmax: SoftmaxSampler | None = None,
    ) -> None:
        """sharded: divide the weights among the ranks. first_weights: sets those that are not to be drawn.

        is_trained: they are those of a base model. softmax: chooses what the loss compares, without it all.
        """
        self.plan = plan
        self.machine = machine
        self.rows = rows
        self.schedule, self.seed = schedule, seed
        self.ranks, self.sharded = ranks, sharded
        self.first_weights = first_weights
        self.is_trained = is_trained
        self.softmax = softmax
        block_size, share = plan.shape.block_size, ranks.share(plan.rows)
        self.sampler = StepSampler(block_size, plan.length_warmup, plan.steps, plan.rows, seed)
        self.loader = BatchLoader(rows, self.sampler, share, plan.micro_rows, machine.device)
        # A GPU is not asked after each step whether its gradients were finite: it skips the step by itself.
        self.deferred = machine.device.type == "cuda"
        self.reset()

    def reset(self) -> None:
        """Go to the state before the first step."""
        torch.manual_seed(self.seed)
        device, dtype = self.machine.device, self.machine.dtype
        # Drawn on the CPU in float32 on every machine, so that a seed means the same weights everywhere.
        self.model = GPT2(self.plan.shape, dtype)
        if self.first_weights is not None:
            self.first_weights(self.model)
        self.model.to(device)
        self.network = self._connect()
        self.optimizers = build_optimizers(self.model, dtype, self.ranks)
        self.full_rates = [self.plan.rate * each.param_groups[0]["lr"] for each in self.optimizers]
        self.loss_scale = LossScale(device) if dtype == torch.float16 else None
        self.lr_scale = 1.0  # halved each time that the run diverges
        self.mean_loss: float | None = None
        self.worst_loss = math.log(self.plan.shape.vocab_size)  # of a sound run: that of guessing
        self.skipped = torch.zeros((), device=device)  # steps with non-finite gradients, in all
        self.skipped_in_a_row = torch.zeros((), device=device)
        self.schedule.step, self.schedule.progress, self.schedule.corrections = 0, 0.0, {}

    @property
    def tokens(self) -> int:
        """Tokens that the run has learnt from."""
        return self.schedule.step * self.plan.tokens_per_step

    def _connect(self) -> nn.Module:
        """The model as all ranks train it together: compiled, and wrapped for DDP or divided by FSDP."""
        if self.machine.compiles:
            self.model.compile_blocks()
        if self.ranks.world_size == 1:
            return self.model
        if self.sharded:
            shard_model(self.model, self.model.transformer.h, self.machine.dtype)
            return self.model
        from torch.nn.parallel import DistributedDataParallel

        devices = [self.machine.device] if self.machine.device.type == "cuda" else None
        return DistributedDataParallel(self.model, device_ids=devices, gradient_as_bucket_view=True)

    def warm_up(self) -> None:
        """Compile the network before the clock starts, by gradients that are thrown away."""
        if not self.machine.compiles:
            return
        steps = range(self.schedule.step, self.schedule.steps)
        for short in (True, False):
            first = next((step for step in steps if self.sampler.is_short(step) is short), None)
            if first is not None:
                self._accumulate(first)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.machine.synchronize()

    def step(self) -> Tensor:
        """Make one step. Returns its loss in nats per token, on the device: nan if the step was skipped."""
        for optimizer, rate in zip(self.optimizers, self.full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * self.schedule.factor * self.lr_scale
        loss = self.ranks.all_reduce(self._accumulate())
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        if self.loss_scale is not None:
            self.loss_scale.unscale(gradients)
        norm = full_tensor(nn.utils.get_total_norm(gradients))  # not finite as soon as one number is not
        non_finite = (~torch.isfinite(norm + loss)).float()
        self._update_weights(non_finite)
        if self.loss_scale is not None:
            self.loss_scale.update(non_finite)
        self.skipped += non_finite
        self.skipped_in_a_row = (self.skipped_in_a_row + non_finite) * non_finite
        self.schedule.advance()
        return torch.where(non_finite > 0, torch.nan, loss)

    def _update_weights(self, non_finite: Tensor) -> None:
        """Let the optimisers step; with non-finite gradients nothing changes."""
        for optimizer in self.optimizers:
            if self.deferred:
                for name, value in (("found_inf", non_finite), ("grad_scale", None)):
                    setattr(optimizer, name, value)
            if self.deferred or not non_finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _accumulate(self, step: int | None = None) -> Tensor:
        """Add up the gradients of this rank's rows, a few at a time. Returns its part of the loss."""
        step = self.schedule.step if step is None else step
        total = torch.zeros((), device=self.machine.device)
        for number, (tokens, targets) in enumerate(self.loader.batches(step)):
            with self._gradient_sync(is_last=number + 1 == len(self.loader.parts)):
                candidates = None if self.softmax is None else self.softmax.draw(targets, step, number)
                loss = self.network(tokens, targets, candidates) * (
                    targets.numel() / self.plan.tokens_per_step
                )
                total += loss.detach()
                loss = loss * self.ranks.world_size  # DDP and FSDP average over them: the sum is wanted
                (loss if self.loss_scale is None else loss * self.loss_scale.factor).backward()
        return total

    def _gradient_sync(self, is_last: bool) -> AbstractContextManager[None]:
        """The ranks exchange gradients once a step, after the last part."""
        if self.ranks.world_size == 1:
            return nullcontext()
        if self.sharded:
            self.network.set_requires_gradient_sync(is_last)  # type: ignore[operator]
            return nullcontext()
        return nullcontext() if is_last else self.network.no_sync()  # type: ignore[operator]

    def observe(self, loss: float) -> None:
        """Update the mean loss. Raises DivergedError if training has diverged."""
        if not math.isfinite(loss):
            most = MOST_SKIPPED if self.loss_scale is None else MOST_SKIPPED_FLOAT16
            if self.skipped_in_a_row >= most:
                raise DivergedError(f"no finite gradient in {most} steps until {self.schedule.step:,}")
            return
        mean = loss if self.mean_loss is None else self.mean_loss + SMOOTHING * (loss - self.mean_loss)
        if self.first_weights is not None and self.mean_loss is None:
            # For a base model new files may be harder than guessing, and embeddings that are alike first
            # predict the token that was.
            self.worst_loss = max(self.worst_loss, loss)
        if mean > self.worst_loss + DIVERGED:
            raise DivergedError(f"loss {loss:.2f} at step {self.schedule.step:,}")
        self.mean_loss = mean

    def check_learnt(self) -> None:
        """Raise UserError if every step of the run was skipped."""
        if int(self.skipped) == self.schedule.step:
            raise UserError(
                f"none of {self.schedule.step:,} steps had finite gradients, so nothing was learnt:"
                " try --dtype float32, or other weights"
            )

    def weights_are_finite(self) -> bool:
        """Whether the weights can be saved. Every rank must ask."""
        broken = sum(not bool(torch.isfinite(weight).all()) for weight in self.model.parameters())
        return not self.ranks.all_reduce_list([broken])[0]

    def weights(self) -> Weights:
        """The whole weights by name. Every rank must ask."""
        return {name: full_tensor(weight.detach()) for name, weight in self.model.named_parameters()}

    def state_tensors(self) -> Weights:
        """The tensors that the next step depends on, whole, by name. Every rank must ask."""
        tensors = gather_tensors(self.model, self.optimizers)
        tensors |= {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}
        return tensors | (self.loss_scale.state_dict() if self.loss_scale is not None else {})

    def state_dict(self) -> dict[str, Any]:
        """The numbers that the next step depends on, for the record of a checkpoint."""
        return {
            **self.schedule.state_dict(),
            "caution": self.lr_scale,  # the name that checkpoints of earlier versions have
            "mean_loss": self.mean_loss,
            "worst_loss": self.worst_loss,
        }

    def load_state(self, tensors: Weights, record: dict[str, Any]) -> None:
        """Continue from what state_tensors() and state_dict() gave."""
        restore_tensors(self.model, self.optimizers, tensors)
        if self.loss_scale is not None:
            self.loss_scale.load_state_dict(tensors)
        self.skipped.copy_(tensors["skipped"])
        self.skipped_in_a_row.copy_(tensors["skipped_in_a_row"])
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.schedule.load_state_dict(record)
        self.lr_scale = record["caution"]
        self.mean_loss, self.worst_loss = record["mean_loss"], record["worst_loss"]


def gather_tensors(model: nn.Module, optimizers: tuple[torch.optim.Optimizer, ...]) -> Weights:
    """Weights and the optimisers' moments by name, each one whole. Every rank must ask."""
    tensors: Weights = {}
    for name, weight in model.named_parameters():
        tensors[f"model/{name}"] = full_tensor(weight.detach())
        for optimizer in optimizers:
            for key, moment in optimizer.state.get(weight, {}).items():
                tensors[f"{key}/{name}"] = full_tensor(moment)
    return tensors


@torch.no_grad()
def restore_tensors(
    model: nn.Module, optimizers: tuple[torch.optim.Optimizer, ...], tensors: Weights
) -> None:
    """Put the tensors of a checkpoint back where gather_tensors found them."""
    owner = {weight: optimizer for optimizer in optimizers for weight in optimizer.param_groups[0]["params"]}
    for name, weight in model.named_parameters():
        weight.copy_(shard_like(tensors[f"model/{name}"], weight))
        state = owner[weight].state
        state.pop(weight, None)
        moments = {
            key.removesuffix(f"/{name}"): shard_like(moment, weight)
            if moment.dim()
            else moment.to(weight.device)
            for key, moment in tensors.items()
            if key.endswith(f"/{name}") and not key.startswith("model/")
        }
        if moments:
            state[weight] = moments
