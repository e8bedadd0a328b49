"""Weights that begin with induction heads: after "a b ... a" the network looks at "b" from the first step.

Copying names that stand in the text is most of what a small model of code can learn from its context, and it
takes two heads that are of no use before the other is there: one that looks at the token before, and one in
the next layer that looks for places whose token before was the token here. Left to chance they are found
after some 5 M tokens, which is later than a run of minutes ends (benchmarks/LOG.md). Here they are there from
the beginning, with heads beside the first one that look two and three tokens back; what all of them do with
what they find is learnt. The model stays a plain GPT-2.
Source: Olsson et al. 2022, "In-context Learning and Induction Heads"; Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits", on heads that read what others wrote.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gpt2 import GPT2

# Measured on runs of 1,200 steps with one head that looks back: positions, sharpness, scale and matching from
# a half (positions a third) to twice (1.7 times) of this come to the same within 1.3 % (benchmarks/LOG.md).
POSITION_RMS = 0.15  # of a position embedding: what token embeddings grow to within 50 steps
SHARPNESS = 36.0  # score of the token that is looked for, were positions all that the residual stream holds
LOOKING_BACK = 3  # heads of the first layer that look at the token one, two, three before
WRITTEN = 0.2  # scale of what these heads write: as large as the token embeddings will be
MATCHING = 1.5  # gain of the matching head's queries and keys
COPIED = 0.2  # scale of what it writes: the name that it found, which the output layer reads as that name

# Gains of the last layer norm. Positions are no names, and the token embeddings have to grow beside them:
# without these two a run of 150 steps comes to as much as one whose heads are left to chance.
LAST_GAIN, LAST_GAIN_OF_POSITIONS = 3.0, 0.1


@torch.no_grad()
def begin_with_induction(model: GPT2) -> None:
    """Put the heads in place: the first ones of the first layer and the first of the second.

    Of the channels the first head's worth is for where a token stands, the next for what it is. Nothing
    changes where there are not two layers, two heads, and an even number of channels in each.
    """
    shape, trunk = model.shape, model.transformer
    C, d = shape.n_embd, shape.n_embd // shape.n_head
    if shape.n_layer < 2 or shape.n_head < 2 or d % 2:
        return
    identity = torch.eye(C)
    places, names = identity[:, :d], identity[:, d : 2 * d]
    waves, one_back = wave_positions(shape.block_size, d)
    trunk.wpe.weight.copy_(POSITION_RMS * math.sqrt(2 * C / d) * waves @ places.T)
    trunk.ln_f.weight.fill_(LAST_GAIN)[:d] = LAST_GAIN_OF_POSITIONS
    blocks: list[Any] = list(trunk.h)  # of type Block, which a ModuleList does not know
    first, second = blocks[0].attn, blocks[1].attn
    gain = math.sqrt(SHARPNESS / (C * first.scale))
    queries, keys, values = first.c_attn.weight.split(C, dim=1)
    written = []
    for h in range(min(LOOKING_BACK, shape.n_head)):
        head = slice(h * d, (h + 1) * d)
        queries[:, head] = gain * places @ torch.linalg.matrix_power(one_back, h + 1)
        keys[:, head], values[:, head] = gain * places, names
        written.append(names @ torch.linalg.qr(torch.randn(d, d)).Q)
        first.c_proj.weight[head] = WRITTEN * written[h].T
    queries, keys, values = second.c_attn.weight.split(C, dim=1)
    queries[:, :d], keys[:, :d], values[:, :d] = MATCHING * names, MATCHING * written[0], names
    second.c_proj.weight[:d] = COPIED * names.T


def wave_positions(length: int, d: int) -> tuple[Tensor, Tensor]:
    """(length, d) waves, cosine and sine of each position, and the (d, d) rotation to the position before.

    The frequencies lie evenly between 0 and pi, each somewhere in its part, so that two positions are alike
    only if they are the same.
    """
    n = d // 2
    frequencies = math.pi * (torch.arange(n) + torch.rand(n)) / n
    angles = torch.arange(length)[:, None] * frequencies
    waves = torch.stack([angles.cos(), angles.sin()], dim=2).view(length, d)
    rotation, even = torch.zeros(d, d), torch.arange(0, d, 2)
    rotation[even, even] = rotation[even + 1, even + 1] = frequencies.cos()
    rotation[even + 1, even] = frequencies.sin()
    rotation[even, even + 1] = -frequencies.sin()
    return waves, rotation
