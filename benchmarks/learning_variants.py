"""Choices of learning that change a finished trainer: one short function each.

Those made before it, of data, schedule and functions, are in learning_preparations.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2 import network as gpt2
from gpt2.initial_weights import PAIR_TOKENS, embed_pairs
from gpt2.network import GPT2
from gpt2.operations import CHUNK_ROWS, Candidates, linear_cross_entropy
from learning_preparations import LIKENESS, LONGEST_WAVE, PREPARING
from training import optimizers
from training.sampled_softmax import SoftmaxSampler, frequencies_of

if TYPE_CHECKING:
    from data_loading.batches import Batch
    from data_loading.token_file import TokenDataset
    from training.trainer import Trainer

SECOND_MOMENT = 0.95  # of NorMuon (arXiv 2510.05491, algorithm 1)


@dataclass
class Trial:
    """A trainer, and what is done around its steps."""

    trainer: Trainer
    dataset: TokenDataset
    before: list[Callable[[int], None]] = field(default_factory=list)  # a step; it is given its number
    after: list[Callable[[], None]] = field(default_factory=list)
    finally_: list[Callable[[], None]] = field(default_factory=list)
    teacher: Path | None = None  # folder of a trained model


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


def heads(trial: Trial, _: float) -> None:
    """Muon makes each head's part of queries, keys and values orthogonal for itself."""
    muon, shape = trial.trainer.optimizers[0], trial.trainer.plan.shape
    plain, H, C = muon._steps, shape.n_head, shape.n_embd

    def by_head(updates: list[Tensor]) -> Tensor:
        M = len(updates)
        if updates[0].shape != (C, C):  # of the MLP
            return plain(updates)
        whole = torch.stack(updates)
        ways_back = torch.arange(M) % 4 == 3  # each block's c_proj follows its q, k and v
        parts = whole[~ways_back].reshape(-1, C, H, C // H).transpose(1, 2).reshape(-1, C, C // H)
        steps = torch.empty_like(whole)
        done = plain(list(parts)).reshape(-1, H, C, C // H)
        steps[~ways_back] = done.transpose(1, 2).reshape(-1, C, C).to(steps.dtype)
        steps[ways_back] = plain(list(whole[ways_back])).to(steps.dtype)
        return steps

    muon._steps = by_head  # type: ignore[method-assign]


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


def embeddings(trial: Trial, value: float) -> None:
    """Token embeddings begin at so many times their usual size."""
    with torch.no_grad():
        trial.trainer.model.transformer.wte.weight.mul_(value)


def sinusoids(trial: Trial, value: float) -> None:
    """Position embeddings begin as sines and cosines of this root mean square, neighbours alike.

    Source: Vaswani et al. 2017, section 3.5.
    """
    weight = trial.trainer.model.transformer.wpe.weight
    T, C = weight.shape
    angles = torch.arange(T)[:, None] * LONGEST_WAVE[0] ** (-torch.arange(0, C, 2) / C)  # (T, C / 2)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).view(T, C)
    with torch.no_grad():
        weight.copy_(waves * value * math.sqrt(2))


def alike(trial: Trial, value: float) -> None:
    """Keys begin as queries, both so many times as large: a place looks at what is like it, and at near ones.

    Source of the idea: Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers".
    """
    with torch.no_grad():
        for name, weight in trial.trainer.model.named_parameters():
            if name.endswith("c_attn.weight"):
                C = len(weight)
                weight[:, : 2 * C] *= value
                rest = math.sqrt(max(0.0, 1 - LIKENESS[0] ** 2))
                weight[:, C : 2 * C] = LIKENESS[0] * weight[:, :C] + rest * weight[:, C : 2 * C]


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
        if trial.trainer.schedule.progress > 1 - value:
            counted += 1
            for total, weight in zip(sums, weights, strict=True):
                total += weight.detach()

    trial.after.append(add)
    trial.finally_.append(lambda: put(weights, [total / counted for total in sums]))


def cautious(trial: Trial, value: float) -> None:
    """Weight decay of Muon's matrices where a step makes a weight smaller anyway.

    Source: Chen et al. 2025, "Cautious Weight Decay", arXiv 2510.12402.
    """
    muon, schedule = trial.trainer.optimizers[0], trial.trainer.schedule
    weights = [weight for group in muon.param_groups for weight in group["params"]]
    before = [weight.detach().clone() for weight in weights]

    def remember(_: int) -> None:
        torch._foreach_copy_(before, weights)

    def shrink() -> None:
        rate = trial.trainer.full_rates[0] * schedule.factor
        with torch.no_grad():
            for old, weight in zip(before, weights, strict=True):
                towards_zero = (weight - old) * old <= 0
                weight.sub_(old * towards_zero, alpha=rate * value)

    trial.before.append(remember)
    trial.after.append(shrink)


def auxiliary(trial: Trial, value: float) -> None:
    """The token after the next is predicted too, by a layer that is thrown away; its loss weighs so much.

    Source: Gloeckle et al. 2024, "Better & Faster Large Language Models via Multi-token Prediction".
    """
    trainer = trial.trainer
    model, schedule = trainer.model, trainer.schedule
    further = torch.nn.Parameter(torch.eye(model.config.n_embd))
    trainer.optimizers[1].add_param_group({"params": [further]})
    trainer.optimizers[1].param_groups[1]["lr"] = 0.0

    def follow_rate(_: int) -> None:
        trainer.optimizers[1].param_groups[1]["lr"] = trainer.full_rates[1] * schedule.factor

    def forward(tokens: Tensor, targets: Tensor, candidates: Sequence[Candidates] | None = None) -> Tensor:
        hidden, weight = model.hidden(tokens), model.output_weight()
        loss = linear_cross_entropy(hidden, weight, targets.reshape(-1), candidates)
        later = torch.roll(targets, -1, 1).reshape(-1)  # the last of a row gets the row's first: 1 in T
        compared = None if CHUNK_ROWS % tokens.shape[1] else candidates  # whole rows have them all
        return loss + value * linear_cross_entropy(hidden @ further, weight, later, compared)

    model.forward = forward  # type: ignore[method-assign]
    trial.before.append(follow_rate)


def teacher(trial: Trial, value: float) -> None:
    """Learn so much of what the model in --teacher expects, and the rest of the text itself.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
    """
    from training.base_model import read_base_model

    if trial.teacher is None:
        raise ValueError("the choice teacher needs --teacher FOLDER")
    base = read_base_model(trial.teacher, trial.teacher)
    large, model = GPT2(base.config), trial.trainer.model
    large.load_state_dict(base.weights(base.config.block_size))
    large.to(trial.trainer.machine.device)

    def forward(tokens: Tensor, targets: Tensor, _: Sequence[Candidates] | None = None) -> Tensor:
        with torch.no_grad():
            expected = large.logits(tokens).flatten(0, 1).softmax(-1)
        scores = (model.hidden(tokens) @ model.output_weight().T).float()
        told = F.cross_entropy(scores, expected)
        return value * told + (1 - value) * F.cross_entropy(scores, targets.reshape(-1))

    model.forward = forward  # type: ignore[assignment,method-assign]


def pairs(trial: Trial, _: float) -> None:
    """Token embeddings begin with what the pairs of the whole corpus tell."""
    model, split = trial.trainer.model, trial.dataset.train
    embed_pairs(model.transformer, model.config, split.sample(PAIR_TOKENS))


def sampled(trial: Trial, value: float) -> None:
    """Each step compares about this share of the vocabulary, beside the tokens that stand in it."""
    trainer, dataset = trial.trainer, trial.dataset
    trainer.softmax = SoftmaxSampler(frequencies_of(dataset), trainer.seed, value)


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

    def forward(tokens: Tensor, targets: Tensor, candidates: Sequence[Candidates] | None = None) -> Tensor:
        learnt = (tokens != end).flatten()
        hidden = model.hidden(tokens)[learnt]
        return linear_cross_entropy(hidden, model.output_weight(), targets.flatten()[learnt])

    model.forward = forward  # type: ignore[method-assign]


def ramp(trial: Trial, value: float) -> None:
    """Ever more rows along the run, all whole, from a `value`th of the mean on; as many tokens and steps."""
    trainer = trial.trainer
    plan, steps = trainer.plan, trainer.schedule.steps
    ends = np.linspace(0, 1, steps + 1)
    share = ends / value + (1 - 1 / value) * ends**2  # its slope goes from 1 / value to 2 - 1 / value
    first = np.round(share * steps * plan.rows).astype(int)

    def batches(step: int) -> Iterator[Batch]:
        step = min(step, steps - 1)
        if first[step] < first[step + 1]:
            rows = [trainer.rows.row(number) for number in range(first[step], first[step + 1])]
            batch = torch.from_numpy(np.stack(rows)).to(trainer.machine.device)
            yield batch[:, :-1], batch[:, 1:]

    def resize(step: int) -> None:
        trainer.plan = replace(plan, rows=max(1, int(first[step + 1] - first[step])))

    trainer.loader.batches = batches  # type: ignore[method-assign]
    trial.before.append(resize)


ADAPTING: dict[str, Callable[[Trial, float], None]] = {
    choice.__name__.replace("_", "-"): choice
    for choice in (
        *(momentum, muon, adamw, beta2, normuon, heads, unigram, positions, embeddings),
        *(sinusoids, alike, wpe_rate, ema, tail, masks, unlearnt_starts, ramp, pairs, sampled),
        *(cautious, auxiliary, teacher),
    )
}


COMPARING_ALL = {"teacher", "unlearnt-starts", "z-loss"}  # of the vocabulary


def parse_variant(text: str) -> dict[str, float]:
    """ "momentum=0.9+normuon" -> {"momentum": 0.9, "normuon": 1.0}; "base" -> {}. Raises ValueError."""
    choices: dict[str, float] = {}
    for part in text.split("+") if text != "base" else ():
        name, _, value = part.partition("=")
        if name not in PREPARING and name not in ADAPTING:
            raise ValueError(f"unknown choice {name!r}: {', '.join([*PREPARING, *ADAPTING])}")
        choices[name] = float(value or 1)
        if not math.isfinite(choices[name]):
            raise ValueError(f"{part} is not a number")
    if "sampled" in choices and (without := COMPARING_ALL & set(choices)):
        raise ValueError(f"{min(without)} compares all entries, so it does not go with sampled")
    return choices
