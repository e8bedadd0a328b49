"""Initial weights with induction heads: after "a b ... a" the network looks at "b" from the first step.

Copying names that stand in the text is most of what a small model of code can learn from its context, and it
takes two heads that are useless without each other: one that looks at the token before, and one in the next
layer that looks for places whose token before equals the token here. By chance, training finds them after
some 5 M tokens, which is later than a run of minutes ends (benchmarks/LOG.md). Here they are in place from
the start, and beside the first one heads that look two and three tokens back; training decides what becomes
of them. The model stays a plain GPT-2.
Source: Olsson et al. 2022, "In-context Learning and Induction Heads"; Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits", on heads that read what others wrote.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gpt2.config import GPT2Config

# Measured on runs of 1,200 steps with one head that looks back: half to twice these values (positions: a
# third to 1.7 times) give the same bits per byte within 1.3 % (benchmarks/LOG.md).
POSITION_RMS = 0.15  # of a position embedding: token embeddings grow to this within 50 steps
SHARPNESS = 36.0  # attention score of the token looked for, if the residual stream held positions alone
LOOKING_BACK = 3  # heads of the first layer, which look one, two and three tokens back
WRITTEN = 0.2  # scale of these heads' output: as large as the token embeddings will be
MATCHING = 1.5  # gain of the matching head's queries and keys
COPIED = 0.2  # scale of its output: the token it found, which the output layer reads as that token

# Gains of the last layer norm: the output layer should read tokens, not positions, and token embeddings have
# to grow beside the positions. Without these two a run of 150 steps gains nothing from the heads.
LAST_GAIN, LAST_GAIN_OF_POSITIONS = 3.0, 0.1


@torch.no_grad()
def add_induction_heads(trunk: Any, config: GPT2Config) -> None:
    """Set the first heads of the first layer and the first head of the second.

    trunk: gpt2.network.Trunk. Of its C channels the first C / n_head say where a token is, the next
    C / n_head which token it is. A model without two layers, two heads and an even head size stays as it is.
    """
    C, d = config.n_embd, config.n_embd // config.n_head
    if config.n_layer < 2 or config.n_head < 2 or d % 2:
        return
    identity = torch.eye(C)
    places, names = identity[:, :d], identity[:, d : 2 * d]
    waves, one_back = wave_positions(config.block_size, d)
    trunk.wpe.weight.copy_(POSITION_RMS * math.sqrt(2 * C / d) * waves @ places.T)
    trunk.ln_f.weight.fill_(LAST_GAIN)[:d] = LAST_GAIN_OF_POSITIONS
    first, second = trunk.h[0].attn, trunk.h[1].attn
    gain = math.sqrt(SHARPNESS / (C * first.scale))
    queries, keys, values = first.c_attn.weight.split(C, dim=1)
    written = []
    for h in range(min(LOOKING_BACK, config.n_head)):
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

    There is one random frequency in each of n equal parts of 0 to pi, so no two positions have similar waves.
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
