"""What a training run may do otherwise: one short function for each choice, over the project's own parts.

A choice of PREPARING changes what the run is made of, one of ADAPTING the trainer that came out. They patch
the modules of model/ where nothing else would reach: a trial has a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import cross_entropy
import gpt2
import numpy as np
import optimizers
import schedule
import torch
import torch.nn.functional as F
from fill_in_the_middle import FillInTheMiddle, Marks
from torch import Tensor

if TYPE_CHECKING:
    from token_dataset import TokenDataset
    from training import Trainer

STEP_TOKENS = 2048
SECOND_MOMENT = 0.95  # of NorMuon (arXiv 2510.05491, algorithm 1)
MARKS = Marks(prefix=2, suffix=3, middle=4)  # the ids that every tokenizer of the project gives them

# Amsel et al. 2025, "The Polar Express", section 3.3: a polynomial for each round instead of one for all
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749493, 0.4188073119525673),
)


@dataclass
class Preparation:
    """What a trial is made of before its trainer is there."""

    dataset: TokenDataset
    context: int
    tokens: int  # of the run: choices of rows and context change its steps
    rows: int = 0  # 0: as many as make STEP_TOKENS
    seed: int = 0
    turning: FillInTheMiddle | None = None


@dataclass
class Trial:
    """A trainer, and what else happens around its steps."""

    trainer: Trainer
    dataset: TokenDataset
    before: list[Callable[[int], None]] = field(default_factory=list)  # a step; it is given its number
    after: list[Callable[[], None]] = field(default_factory=list)
    finally_: list[Callable[[], None]] = field(default_factory=list)


# What the run is made of -------------------------------------------------------------------------


def context(made_of: Preparation, value: float) -> None:
    """Tokens of a row; as many fewer rows a step."""
    made_of.context = int(value)


def rows(made_of: Preparation, value: float) -> None:
    """Rows of a step; as many fewer steps."""
    made_of.rows = int(value)


def epochs(made_of: Preparation, value: float) -> None:
    """So few documents that the run reads each of them so many times: what copies in a corpus cost."""
    train = made_of.dataset.train
    order = np.random.default_rng(made_of.seed).permutation(len(train.lengths))
    enough = int(np.searchsorted(np.cumsum(train.lengths[order]), made_of.tokens / value)) + 1
    made_of.dataset = replace(made_of.dataset, train=replace(train, kept=np.sort(order[:enough])))


def fim(made_of: Preparation, value: float) -> None:
    """The share of documents whose middle comes last."""
    made_of.turning = FillInTheMiddle(value, MARKS)


def seed(made_of: Preparation, value: float) -> None:
    """Other first weights and another order: how far two runs of the same choices lie apart."""
    made_of.seed = int(value)


def warm_up(_: Preparation, value: float) -> None:
    """Share of the run in which the rate rises."""
    schedule.WARM_UP = value


def decay(_: Preparation, value: float) -> None:
    """Share of the run in which the rate falls to zero."""
    schedule.DECAY = value


def std(_: Preparation, value: float) -> None:
    """Standard deviation of the first weights."""
    gpt2.INITIALIZER_RANGE = value


def rounds(_: Preparation, value: float) -> None:
    """Rounds of Newton and Schulz, with Jordan's coefficients."""
    optimizers.NEWTON_SCHULZ_ROUNDS = int(value)


def polar(_: Preparation, value: float) -> None:
    """Rounds of the iteration, with Polar Express' coefficients."""

    def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
        X: Tensor = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-7)).to(dtype)
        for a, b, c in POLAR_EXPRESS[: int(value)]:
            A = X @ X.mT
            X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
        return X

    optimizers.orthogonalize = orthogonalize


def unshuffled_rows(made_of: Preparation, _: float) -> None:
    """Rows as they follow each other in the shuffled documents: a long file fills a batch."""
    from row_order import RowOrder

    RowOrder.__getitem__ = lambda order, number: number  # type: ignore[method-assign]


def z_loss(_: Preparation, value: float) -> None:
    """value * logsumexp(logits) ** 2 on top of the loss (PaLM, section 5), which is reported with it."""

    def with_z(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        scores = (hidden @ weight.T).float()
        return F.cross_entropy(scores, targets) + value * scores.logsumexp(-1).square().mean()

    vars(gpt2)["linear_cross_entropy"] = with_z


# The trainer -------------------------------------------------------------------------------------


def momentum(trial: Trial, value: float) -> None:
    """Muon's momentum."""
    trial.trainer.optimizers[0].param_groups[0]["momentum"] = value


def muon(trial: Trial, value: float) -> None:
    """Muon's learning rate."""
    trial.trainer.full_rates[0] = value


def adamw(trial: Trial, value: float) -> None:
    """AdamW's learning rate."""
    trial.trainer.full_rates[1] = value


def beta2(trial: Trial, value: float) -> None:
    """How slowly AdamW's second moment forgets."""
    trial.trainer.optimizers[1].param_groups[0]["betas"] = (optimizers.ADAMW_BETAS[0], value)


def normuon(trial: Trial, _: float) -> None:
    """Muon's directions, each output neuron's divided by its usual length. Source: arXiv 2510.05491.

    The second moment is that of the orthogonalised update, averaged over the inputs of a neuron: GPT-2
    stores (inputs, outputs), so over the rows. The length of the whole matrix stays.
    """
    muon = trial.trainer.optimizers[0]
    plain = muon._steps
    moments: dict[tuple[int, ...], Tensor] = {}

    def evenly(updates: list[Tensor]) -> Tensor:
        steps = plain(updates).float()
        squares = steps.square().mean(dim=1, keepdim=True)  # (M, 1, outputs)
        known = moments.get(tuple(steps.shape), torch.zeros_like(squares))
        moments[tuple(steps.shape)] = moment = known.lerp(squares, 1 - SECOND_MOMENT)
        even: Tensor = steps / (moment.sqrt() + 1e-8)
        length = even.norm(dim=(1, 2), keepdim=True).clamp_min(1e-8)  # zero where a gradient is, as at first
        evened: Tensor = even * (steps.norm(dim=(1, 2), keepdim=True) / length)
        return evened

    muon._steps = evenly  # type: ignore[method-assign]


def unigram(trial: Trial, value: float) -> None:
    """The output layer begins with the frequencies of the tokens, through ln_f's bias of this size."""
    trunk, split = trial.trainer.model.transformer, trial.dataset.train
    counts = np.bincount(split.tokens[:5_000_000], minlength=trial.dataset.vocab_size) + 1.0
    logs = torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)
    with torch.no_grad():
        trunk.ln_f.bias[0] = value
        trunk.wte.weight[:, 0] += (logs - logs.mean()) / value


def positions(trial: Trial, value: float) -> None:
    """Position embeddings begin at so many times their usual size; 0: none."""
    with torch.no_grad():
        trial.trainer.model.transformer.wpe.weight.mul_(value)


def sinusoids(trial: Trial, value: float) -> None:
    """Position embeddings begin as sines and cosines of this root mean square, neighbours alike.

    Source: Vaswani et al. 2017, section 3.5.
    """
    weight = trial.trainer.model.transformer.wpe.weight
    T, C = weight.shape
    angles = torch.arange(T)[:, None] * 10_000 ** (-torch.arange(0, C, 2) / C)  # (T, C / 2)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).view(T, C)
    with torch.no_grad():
        weight.copy_(waves * value * math.sqrt(2))


def alike(trial: Trial, value: float) -> None:
    """Keys begin as queries, so many times as large: tokens look at what is like them, places at near ones.

    Source of the idea: Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers".
    """
    with torch.no_grad():
        for name, weight in trial.trainer.model.named_parameters():
            if name.endswith("c_attn.weight"):
                C = len(weight)
                weight[:, :C] *= value
                weight[:, C : 2 * C] = weight[:, :C]


def wpe_rate(trial: Trial, value: float) -> None:
    """Position embeddings learn at so many times AdamW's rate."""
    trainer = trial.trainer
    weight = trainer.model.transformer.wpe.weight
    before = weight.detach().clone()

    def remember(_: int) -> None:
        before.copy_(weight.detach())

    def go_further() -> None:
        with torch.no_grad():
            weight.copy_(before + value * (weight - before))

    trial.before.append(remember)
    trial.after.append(go_further)


def ema(trial: Trial, value: float) -> None:
    """Measure the exponential mean of the weights, which forgets so slowly a step."""
    weights = list(trial.trainer.model.parameters())
    means = [weight.detach().clone() for weight in weights]

    def follow() -> None:
        for mean, weight in zip(means, weights, strict=True):
            mean.lerp_(weight.detach(), 1 - value)

    trial.after.append(follow)
    trial.finally_.append(lambda: put(weights, means))


def tail(trial: Trial, value: float) -> None:
    """Measure the plain mean of the weights after the steps of this last share of the run."""
    weights = list(trial.trainer.model.parameters())
    sums = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
    counted = 0

    def add() -> None:
        nonlocal counted
        if trial.trainer.timetable.progress > 1 - value:
            counted += 1
            for total, weight in zip(sums, weights, strict=True):
                total += weight.detach()

    trial.after.append(add)
    trial.finally_.append(lambda: put(weights, [total / counted for total in sums]))


def put(weights: list[torch.nn.Parameter], values: list[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


def masks(trial: Trial, _: float) -> None:
    """No token attends across the <|endoftext|> that its document begins with."""
    model, end = trial.trainer.model, trial.dataset.end_of_text_id
    hidden = model.hidden
    seen: dict[str, Tensor] = {}

    def with_documents(tokens: Tensor) -> Tensor:
        document = (tokens == end).cumsum(1)
        seen["mask"] = (document[:, :, None] == document[:, None, :]).tril()[:, None]
        return hidden(tokens)

    def within_documents(qkv: Tensor, n_head: int, scale: float) -> Tensor:
        B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = qkv.view(B, T, 3, n_head, C // n_head).transpose(1, 3).unbind(2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen["mask"], scale=scale)
        return y.transpose(1, 2).reshape(B, T, C)

    model.hidden = with_documents  # type: ignore[method-assign]
    vars(gpt2)["causal_attention"] = within_documents


def unlearnt_starts(trial: Trial, _: float) -> None:
    """The first token of a document, which comes after the end of another one, is not learnt."""
    model, end = trial.trainer.model, trial.dataset.end_of_text_id

    def forward(tokens: Tensor, targets: Tensor) -> Tensor:
        learnt = (tokens != end).flatten()
        hidden = model.hidden(tokens)[learnt]
        return cross_entropy.linear_cross_entropy(hidden, model.output_weight(), targets.flatten()[learnt])

    model.forward = forward  # type: ignore[method-assign]


def ramp(trial: Trial, value: float) -> None:
    """Rows grow along the run from a `value`th of the mean, in as many tokens and steps."""
    trainer = trial.trainer
    plan, steps = trainer.plan, trainer.timetable.steps
    ends = np.linspace(0, 1, steps + 1)
    share = ends / value + (1 - 1 / value) * ends**2  # its slope goes from 1 / value to 2 - 1 / value
    first = np.round(share * steps * plan.rows).astype(int)

    def parts(step: int) -> list[tuple[int, int]]:
        step = min(step, steps - 1)
        return [(int(first[step]), int(first[step + 1] - first[step]))]

    def resize(step: int) -> None:
        trainer.plan = replace(plan, rows=max(1, parts(step)[0][1]))

    trainer._parts = parts  # type: ignore[method-assign]
    trial.before.append(resize)


def short_first(trial: Trial, value: float) -> None:
    """Rows of half the context, twice as many of them, until this share of the run."""
    trainer = trial.trainer
    whole = trainer.prefetcher.get

    def get(*numbers: Any) -> tuple[Tensor, Tensor]:
        inputs, targets = whole(*numbers)
        half = inputs.shape[1] // 2 if trainer.timetable.progress < value else inputs.shape[1]
        return inputs.reshape(-1, half), targets.reshape(-1, half)

    trainer.prefetcher.get = get  # type: ignore[assignment, method-assign]


PREPARING: dict[str, Callable[[Preparation, float], None]] = {
    choice.__name__.replace("_", "-"): choice
    for choice in (
        *(context, rows, epochs, fim, seed, warm_up, decay, std, rounds, polar, unshuffled_rows, z_loss),
    )
}
ADAPTING: dict[str, Callable[[Trial, float], None]] = {
    choice.__name__.replace("_", "-"): choice
    for choice in (
        *(momentum, muon, adamw, beta2, normuon, unigram, positions, sinusoids),
        *(alike, wpe_rate, ema, tail, masks, unlearnt_starts, ramp, short_first),
    )
}


def parse_variant(text: str) -> dict[str, float]:
    """ "momentum=0.9+normuon" -> {"momentum": 0.9, "normuon": 1.0}; "base" -> {}. Raises ValueError."""
    choices: dict[str, float] = {}
    for part in text.split("+") if text != "base" else ():
        name, _, value = part.partition("=")
        if name not in PREPARING and name not in ADAPTING:
            raise ValueError(f"there is no choice {name!r}: {', '.join([*PREPARING, *ADAPTING])}")
        choices[name] = float(value or 1)
        if not math.isfinite(choices[name]):
            raise ValueError(f"{part} is no number")
    return choices
