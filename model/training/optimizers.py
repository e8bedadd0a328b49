"""The optimisers: Muon for the matrices inside the blocks, AdamW for the rest; the loss scale for float16.

Why not torch.optim.Muon: it always computes in bfloat16. On two threads of a CPU without bfloat16
instructions a step for 4 x 256 takes 8,915 ms with it and 803 ms with ours in float32. It treats the fused
c_attn as one matrix instead of three, does not know found_inf (below), and every rank repeats the same work.
Why not torch.amp.GradScaler: it asks the device after each step whether gradients overflowed, and the host
waits for the answer. Ours keeps the question and the answer on the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gpt2.distributed import ALONE, Ranks, full_tensor, local_tensor, rows_of_rank

# Coefficients of the quintic iteration, tuned for a steep slope at zero; five rounds bring singular values
# into about [0.7, 1.2], which is all that Muon needs. Source: Jordan et al. 2024, "Muon".
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_ROUNDS = 5

# Measured together on runs of 300 and 1,500 steps (benchmarks/LOG.md). The momentum is lower than the 0.95 of
# Jordan et al. 2024: an average over 20 steps is old in a run of a few hundred.
MUON_LEARNING_RATE = 0.02
MUON_MOMENTUM = 0.8
# Lower than without embeddings from pairs, which need not be learnt from nothing any more.
ADAMW_LEARNING_RATE = 6e-3
# Batches are small, and most entries of a vocabulary are in few of them: the second moment averages longer
# than with the 0.95 of GPT-3. Measured: benchmarks/LOG.md; nanoGPT uses the same for small models.
ADAMW_BETAS = (0.9, 0.99)

# The numbers of torch.amp.GradScaler
INITIAL_LOSS_SCALE = 65536.0
GROWTH, BACKOFF, GROWTH_INTERVAL = 2.0, 0.5, 2000


# From this ratio of the sides on, iterating on X @ X.mT costs fewer operations: a round takes four products
# of the small side, where iterating on X takes one of the small side and two of the whole matrix.
WIDE = 2


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """A stack of matrices (M, rows, columns), rows <= columns, with all singular values brought near 1."""
    # divided first: a small gradient would vanish in float16
    X: Tensor = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    rows, columns = X.shape[1:]
    if dtype == torch.float32 and columns >= WIDE * rows:
        return torch.bmm(_iterated_factor(X), X)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_ROUNDS):
        A = X @ X.mT
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)
        X = torch.baddbmm(X, B, X, beta=a)
    return X


def _iterated_factor(X: Tensor) -> Tensor:
    """The product of the rounds' factors (M, rows, rows): polynomials of A = X @ X.mT, which commute.

    A round turns X into P @ X and so A into P @ A @ P. In float32 the result differs by 1e-4 at most; in half
    precision squares of small singular values would be lost.
    """
    a, b, c = NEWTON_SCHULZ
    A = X @ X.mT
    factor = None
    for left in reversed(range(NEWTON_SCHULZ_ROUNDS)):
        P = torch.baddbmm(A, A, A, beta=b, alpha=c)
        P.diagonal(dim1=1, dim2=2).add_(a)
        factor = P if factor is None else torch.bmm(P, factor)
        if left:
            A = torch.bmm(P, torch.bmm(A, P))
    assert factor is not None
    return factor


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is orthogonalised: each direction of a matrix moves by the same amount.

    The updates are those of torch.optim.Muon with adjust_lr_fn="original" and Nesterov momentum, with three
    differences: the fused c_attn counts as the three matrices that it holds, all matrices of one shape go
    through the iteration in one batch, and several ranks share that batch.
    Source: Jordan et al. 2024; q, k, v apart: modded-nanogpt.

    found_inf: None, or a tensor that is 1 if this step must change nothing, as GradScaler sets it for AdamW.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        dtype: torch.dtype,
        ranks: Ranks = ALONE,
        fused: Iterable[nn.Parameter] = (),
    ) -> None:
        """fused: those of the weights that hold q, k and v side by side."""
        self.compute_dtype = dtype
        self.fused = {id(weight) for weight in fused}
        self.ranks = ranks
        super().__init__(weights, {"lr": MUON_LEARNING_RATE, "momentum": MUON_MOMENTUM})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                update = full_tensor(self._update(weight, group))
                updates = torch.chunk(update, 3, dim=1) if id(weight) in self.fused else (update,)
                rows, columns = updates[0].shape
                parts = torch.split(local_tensor(weight), columns, dim=1)
                for part, its_update in zip(parts, updates, strict=True):
                    by_shape.setdefault((rows, columns), []).append((part, its_update))
            for (rows, columns), pairs in by_shape.items():
                # GPT-2 stores (inputs, outputs): an update of unit spectral norm per output is scaled by this
                rate = group["lr"] * math.sqrt(max(1.0, columns / rows))
                steps = self._steps([update for _, update in pairs])
                for (part, _), step in zip(pairs, steps, strict=True):
                    if len(part) < rows:  # this rank holds some rows of the weight
                        step = rows_of_rank(step, self.ranks)
                    if self.found_inf is not None:
                        step = torch.where(self.found_inf > 0, 0.0, step)
                    part.add_(step, alpha=-rate)

    def _steps(self, updates: list[Tensor]) -> Tensor:
        """Updates of one shape, (inputs, outputs) each -> their directions (M, inputs, outputs)."""
        inputs, outputs = updates[0].shape
        if inputs <= outputs:
            return self._orthogonalized(updates)
        return self._orthogonalized([update.mT for update in updates]).mT

    def _orthogonalized(self, updates: list[Tensor]) -> Tensor:
        """The updates (M, rows, columns) after the iteration; each rank computes its part of them."""
        each = -(-len(updates) // self.ranks.world_size)
        mine = updates[self.ranks.rank * each : (self.ranks.rank + 1) * each]
        missing = [torch.zeros_like(updates[0])] * (each - len(mine))
        steps = orthogonalize(torch.stack([*mine, *missing]), self.compute_dtype)
        return self.ranks.all_gather(steps)[: len(updates)]

    def _update(self, weight: Tensor, group: dict[str, float]) -> Tensor:
        """The weight's Nesterov momentum after its new gradient."""
        assert weight.grad is not None, "Muon steps after a backward pass"
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        if self.found_inf is None:
            momentum.lerp_(weight.grad, 1 - group["momentum"])
        else:
            moved = momentum.lerp(weight.grad, 1 - group["momentum"])
            momentum.copy_(torch.where(self.found_inf > 0, momentum, moved))
        return weight.grad.lerp(momentum, group["momentum"])


def build_optimizers(
    model: nn.Module, dtype: torch.dtype, ranks: Ranks = ALONE
) -> tuple[Muon, torch.optim.AdamW]:
    """Muon over the matrices of the blocks, AdamW over everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    fused: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        (matrices if ".h." in name and weight.dim() == 2 else others).append(weight)
        if name.endswith("c_attn.weight"):
            fused.append(weight)
    adamw = torch.optim.AdamW(others, lr=ADAMW_LEARNING_RATE, betas=ADAMW_BETAS, weight_decay=0.0, fused=True)
    return Muon(matrices, dtype, ranks, fused), adamw


class LossScale:
    """A factor on the loss that keeps small gradients alive in float16: halved on overflow, slowly raised.

    Only float16 needs it, which GPUs before Ampere multiply fastest.
    Source: Micikevicius et al. 2018, "Mixed precision training", section 3.2; the numbers are GradScaler's.
    """

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.full((), INITIAL_LOSS_SCALE, device=device)
        self.steps = torch.zeros((), dtype=torch.int32, device=device)

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide the gradients by the factor, in place."""
        torch._foreach_mul_(gradients, 1.0 / self.factor)

    def update(self, overflowed: Tensor) -> None:
        """Adjust the factor after a step; overflowed: 1 if its gradients were not finite, else 0."""
        torch._amp_update_scale_(self.factor, self.steps, overflowed, GROWTH, BACKOFF, GROWTH_INTERVAL)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by name."""
        return {"loss_scale/factor": self.factor, "loss_scale/steps": self.steps}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        for name, own in self.state_dict().items():
            own.copy_(tensors[name])
