"""Logits -> one token for each row, without sorting the vocabulary where its likeliest part decides."""

from __future__ import annotations

from random import Random

import torch
from decoding_settings import Decoding
from torch import Tensor

# The nucleus of a model that knows anything is a handful of tokens; sorting 50,257 logits takes 3 ms.
LIKELIEST = 64


def sample(logits: Tensor, decoding: Decoding, chances: list[Random]) -> list[int]:
    """One index into each row of logits (B, V), drawn with that row's own source of chance.

    As in transformers: first the temperature, then the top_k likeliest, then as many of these as it takes for
    the probability top_p (Holtzman et al. 2020, section 3.1).
    """
    if decoding.temperature == 0:
        return logits.argmax(-1).tolist()
    logits = logits.float() / decoding.temperature
    vocabulary = logits.shape[-1]
    width = min(decoding.top_k or LIKELIEST, vocabulary)
    likeliest, ids = logits.topk(width)
    total = (likeliest if decoding.top_k else logits).logsumexp(-1, keepdim=True)
    chosen = []
    probabilities = (likeliest - total).exp().tolist()
    for row, (row_probabilities, chance) in enumerate(zip(probabilities, chances, strict=True)):
        position = draw(row_probabilities, decoding.top_p, chance_of_row := chance.random())
        if position is not None:
            chosen.append(int(ids[row, position]))
            continue
        everything, order = logits[row].sort(descending=True)
        position = draw((everything - total[row]).exp().tolist(), decoding.top_p, chance_of_row)
        chosen.append(int(order[vocabulary - 1 if position is None else position]))
    return chosen


def penalized(logits: Tensor, ids: list[int], penalty: float) -> Tensor:
    """Logits (1, V) with those of these ids divided by the penalty, or multiplied where they are negative.

    Source: Keskar et al. 2019, "CTRL", section 4.1, as in transformers.
    """
    logits = logits.clone()
    chosen = list(set(ids))
    before = logits[0, chosen]
    logits[0, chosen] = torch.where(before > 0, before / penalty, before * penalty)
    return logits


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
