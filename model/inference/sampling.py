"""Logits -> one token for each row: penalties, temperature, top-k and nucleus, then a random draw."""

from __future__ import annotations

from random import Random

import numpy as np

from inference.decoding import Decoding
from inference.language_model import Array

# The nucleus of a trained model is a handful of tokens; sorting 50,257 logits takes 3 ms. Tokens this much
# less likely than the likeliest one are sorted only if the nucleus reaches that far.
LESS_LIKELY = 2.0**-8

# Below this temperature nothing but the likeliest token is ever drawn, and 1 / temperature leaves float32.
COLDEST = 1e-6

# An immediate repetition counts as a loop if it fills so many tokens: [0, 0] does not. The loops that a model
# of minutes falls into have units of at most so many tokens.
LOOP_TOKENS = 4
LONGEST_UNIT = 100


def sample(logits: Array, decoding: Decoding, rngs: list[Random]) -> list[int]:
    """One index into each row of logits (B, V), drawn with that row's own random numbers.

    As in transformers: first the temperature, then the top_k likeliest, then as many of these as it takes for
    the probability top_p (Holtzman et al. 2020, section 3.1).
    """
    if decoding.temperature < COLDEST:
        return [int(row.argmax()) for row in logits]
    return [sample_row(row, decoding, rng.random()) for row, rng in zip(logits, rngs, strict=True)]


def sample_row(logits: Array, decoding: Decoding, number: float) -> int:
    """The index into logits (V,) that a number from 0 to 1 falls on."""
    highest = logits.max()
    if not np.isfinite(highest):
        return int(logits.argmax())
    weights = np.exp((logits - highest) * np.float32(1 / decoding.temperature))
    if 0 < decoding.top_k < len(weights):
        weights[np.argpartition(weights, -decoding.top_k)[: -decoding.top_k]] = 0
    total = float(weights.sum())
    least = LESS_LIKELY
    while True:
        likely = np.flatnonzero(weights > least)
        likely = likely[np.argsort(-weights[likely], kind="stable")]
        position = draw((weights[likely] / total).tolist(), decoding.top_p, number)
        if position is not None or not least:
            return int(likely[-1 if position is None else position])
        least = least * LESS_LIKELY if least > 1e-9 else 0.0


def apply_penalties(logits: Array, ids: list[int], decoding: Decoding) -> Array:
    """Logits (1, V) after these ids, less the penalties that the settings ask for."""
    if decoding.repetition_penalty != 1:
        logits = repetition_penalty(logits, ids, decoding.repetition_penalty)
    if decoding.loop_penalty:
        logits = loop_penalty(logits, ids, decoding.loop_penalty)
    return logits


def repetition_penalty(logits: Array, ids: list[int], penalty: float) -> Array:
    """Logits (1, V), those of these ids divided by the penalty, or multiplied by it if they are negative.

    Source: Keskar et al. 2019, "CTRL", section 4.1, as in transformers.
    """
    logits = logits.copy()
    chosen = list(set(ids))
    before = logits[0, chosen]
    logits[0, chosen] = np.where(before > 0, before / np.float32(penalty), before * np.float32(penalty))
    return logits


def loop_penalty(logits: Array, ids: list[int], penalty: float) -> Array:
    """Logits (1, V), less a penalty for each token that would continue a loop.

    The newest tokens are a loop if they are one unit twice or more often, LOOP_TOKENS in all at least; the
    penalty counts once for each repetition. It costs real code nothing measurable: held-out files are as
    likely with it as without (benchmarks/LOG.md).
    Source of the idea: "Don't Repeat Yourself", P. E. Weidmann 2024 (llama.cpp's DRY), which also penalises
    repetitions that are no loops; code is full of those.
    """
    known = np.array(ids[-2 * LONGEST_UNIT :])
    newest = len(known) - 1
    units = np.arange(1, min(LONGEST_UNIT, newest) + 1)
    if not len(units):
        return logits
    repeated = np.zeros_like(units)  # by unit: how many of the newest tokens equal those one unit earlier
    alike = units[known[newest - units] == known[newest]]
    length = 0
    while len(alike) and length < LONGEST_UNIT:
        length += 1
        repeated[alike - 1] = length
        alike = alike[alike + length <= newest]
        alike = alike[known[newest - alike - length] == known[newest - length]]
    looping = np.flatnonzero(repeated >= np.maximum(units, LOOP_TOKENS))
    if not len(looping):
        return logits
    losses = np.zeros_like(logits[0])
    following = known[newest + 1 - units[looping]]
    np.maximum.at(losses, following, np.float32(penalty) * (repeated // units)[looping].astype(np.float32))
    lessened: Array = logits - losses
    return lessened


def log_probability(logits: Array, token_id: int) -> float:
    """ln of the probability that softmax of logits (V,) gives a token."""
    highest = logits.max()
    return float(logits[token_id] - highest - np.log(np.exp(logits - highest).sum(dtype=np.float64)))


def draw(probabilities: list[float], top_p: float, number: float) -> int | None:
    """The position that a number from 0 to 1 falls on, within the nucleus of these sorted probabilities.

    draw([0.5, 0.3, 0.1, ...], 0.75, 0.9) -> 1: the nucleus is 0.5 + 0.3, and 0.9 * 0.8 lies in the second.
    None if the list ends before the nucleus does.
    """
    nucleus = 1.0
    if top_p < 1:
        nucleus = 0.0
        for probability in probabilities:
            nucleus += probability
            if nucleus >= top_p:
                break
        else:
            return None
    aim = number * nucleus
    for position, probability in enumerate(probabilities):
        aim -= probability
        if aim < 0:
            return position
    return None
