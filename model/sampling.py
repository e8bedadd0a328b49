"""Logits -> one token for each row, without sorting the vocabulary where its likeliest part decides."""

from __future__ import annotations

from random import Random

import numpy as np
from decoding_settings import Decoding
from numpy.typing import NDArray

Array = NDArray[np.float32]

# The nucleus of a model that knows anything is a handful of tokens; sorting 50,257 logits takes 3 ms. Those
# this much less likely than the likeliest are looked at only when the others do not decide.
LESS_LIKELY = 2.0**-8

# What is written again at once is a loop when it fills so many tokens, as [0, 0] does not; the loops that a
# model of minutes falls into have no longer unit than so many.
LOOP_TOKENS = 4
LONGEST_UNIT = 100


def sample(logits: Array, decoding: Decoding, chances: list[Random]) -> list[int]:
    """One index into each row of logits (B, V), drawn with that row's own source of chance.

    As in transformers: first the temperature, then the top_k likeliest, then as many of these as it takes for
    the probability top_p (Holtzman et al. 2020, section 3.1).
    """
    if decoding.temperature == 0:
        return [int(row.argmax()) for row in logits]
    return [sample_row(row, decoding, chance.random()) for row, chance in zip(logits, chances, strict=True)]


def sample_row(logits: Array, decoding: Decoding, chance: float) -> int:
    """An index into logits (V,): the one that a number from 0 to 1 falls on."""
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
        position = draw((weights[likely] / total).tolist(), decoding.top_p, chance)
        if position is not None or not least:
            return int(likely[-1 if position is None else position])
        least = least * LESS_LIKELY if least > 1e-9 else 0.0


def discouraged(logits: Array, ids: list[int], decoding: Decoding) -> Array:
    """Logits (1, V) after these ids, with what the settings hold against tokens that repeat them."""
    if decoding.repetition_penalty != 1:
        logits = penalized(logits, ids, decoding.repetition_penalty)
    if decoding.loop_penalty:
        logits = broken_loops(logits, ids, decoding.loop_penalty)
    return logits


def penalized(logits: Array, ids: list[int], penalty: float) -> Array:
    """Logits (1, V) with those of these ids divided by the penalty, or multiplied where they are negative.

    Source: Keskar et al. 2019, "CTRL", section 4.1, as in transformers.
    """
    logits = logits.copy()
    chosen = list(set(ids))
    before = logits[0, chosen]
    logits[0, chosen] = np.where(before > 0, before / np.float32(penalty), before * np.float32(penalty))
    return logits


def broken_loops(logits: Array, ids: list[int], penalty: float) -> Array:
    """Logits (1, V) less the penalty for the token with which a loop would go on.

    A loop is what the newest tokens are when they are a unit written twice or more often, LOOP_TOKENS in all
    at least; the penalty counts once for each repetition. Real code has next to none: held-out files are
    as likely with it as without (benchmarks/LOG.md).
    Source of the idea: "Don't Repeat Yourself", P. E. Weidmann 2024 (llama.cpp's DRY), which also means
    repetitions that are no loops, of which code is full.
    """
    known = np.array(ids[-2 * LONGEST_UNIT :])  # more is not looked at
    newest = len(known) - 1
    units = np.arange(1, min(LONGEST_UNIT, newest) + 1)
    if not len(units):
        return logits
    repeated = np.zeros_like(units)  # how many of the newest tokens stand one unit earlier too
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


def draw(probabilities: list[float], top_p: float, chance: float) -> int | None:
    """The position that a number from 0 to 1 falls on within the nucleus of these falling probabilities.

    draw([0.5, 0.3, 0.1, ...], 0.75, 0.9) -> 1: the nucleus is 0.5 + 0.3, and 0.9 * 0.8 lies in the second.
    None when the list ends before that is known.
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
    aim = chance * nucleus
    for position, probability in enumerate(probabilities):
        aim -= probability
        if aim < 0:
            return position
    return None
