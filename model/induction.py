"""Weights that begin with an induction head: after "a b ... a" the network looks at "b" from the first step.

Copying names that stand in the text is most of what a small model of code can learn from its context, and it
takes two heads that are of no use before the other is there: one that looks at the token before, and one in
the next layer that looks for places whose token before was the token here. Left to chance they are found
after some 5 M tokens, which is later than a run of minutes ends (benchmarks/LOG.md). Here they are there from
the beginning; what they do with what they find is learnt. The model stays a plain GPT-2.
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

POSITION_RMS = 0.15  # of a position embedding: what token embeddings grow to within 50 steps
SHARPNESS = 36.0  # score of the token before, were the positions all that is in the residual stream
WRITTEN = 0.2  # scale of what the first head writes: as large as the token embeddings will be
MATCHING = 1.5  # gain of the second head's queries and keys


@torch.no_grad()
def begin_with_induction(model: GPT2) -> None:
    """Put the two heads in place: the first of the first layer and the first of the second.

    Nothing changes where there are not two layers, two heads, and an even number of channels in each.
    """
    shape, trunk = model.shape, model.transformer
    C, d = shape.n_embd, shape.n_embd // shape.n_head
    if shape.n_layer < 2 or shape.n_head < 2 or d % 2:
        return
    basis = torch.linalg.qr(torch.randn(C, C)).Q
    places, names = basis[:, :d], basis[:, d : 2 * d]  # subspaces: where a token stands, what it is
    waves, one_back = wave_positions(shape.block_size, d)
    trunk.wpe.weight.copy_(POSITION_RMS * math.sqrt(2 * C / d) * waves @ places.T)
    blocks: list[Any] = list(trunk.h)  # of type Block, which a ModuleList does not know
    first, second = blocks[0].attn, blocks[1].attn
    gain = math.sqrt(SHARPNESS / (C * first.scale))
    queries, keys, values = first.c_attn.weight.split(C, dim=1)
    queries[:, :d], keys[:, :d], values[:, :d] = gain * places @ one_back, gain * places, names
    written = names @ torch.linalg.qr(torch.randn(d, d)).Q
    first.c_proj.weight[:d] = WRITTEN * written.T
    queries, keys, _ = second.c_attn.weight.split(C, dim=1)
    queries[:, :d], keys[:, :d] = MATCHING * names, MATCHING * written


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
