"""Initial weights: induction heads, and token embeddings from what stands beside what in the corpus.

Induction heads. After "a b ... a" the network looks at "b" from the first step. Copying names that stand in
the text is most of what a small model of code can learn from its context, and it takes two heads that are
useless without each other: one that looks at the token before, and one in the next layer that looks for
places whose token before equals the token here. By chance, training finds them after some 5 M tokens, which
is later than a run of minutes ends (benchmarks/LOG.md). Here they are in place from the start, and beside the
first one heads that look two and three tokens back; training decides what becomes of them. The model stays a
plain GPT-2.
Source: Olsson et al. 2022, "In-context Learning and Induction Heads"; Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits", on heads that read what others wrote.

Token embeddings. Tokens with the same neighbours begin alike: the embeddings are the singular vectors of the
pointwise mutual information of neighbouring tokens. That takes a second, sees all documents of the run, and
is what the first hundred steps would learn from some of them.
Source: Levy and Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
LAST_GAIN, LAST_GAIN_OF_POSITIONS = 0.6, 0.1

# Token embeddings from pairs. Half to twice these values change little (benchmarks/LOG.md).
PAIR_RMS = 0.1  # of an embedding's channels
PAIR_TOKENS = 1 << 25  # of the corpus that are counted at most
MOST_CONTEXTS = 2048  # neighbours that are told apart: the most frequent tokens
MOST_CELLS = 1 << 25  # of a table of counts; a large vocabulary has fewer contexts
PRIOR = 2.0  # pairs of chance that are added to each token's: a rare one shows little
LEAST_INFORMATION = -3.0  # nats: how much rarer than by chance a pair may count as
TEMPERED = 0.25  # exponent of the frequencies by which tokens weigh
ROUNDS = 3  # of the randomised decomposition (Halko et al. 2009)
SPARE = 16  # dimensions that it computes beyond those that are kept


@torch.no_grad()
def add_induction_heads(trunk: Any, config: GPT2Config) -> None:
    """Set the first heads of the first layer and the first head of the second.

    trunk: gpt2.network.Trunk. Of its C channels the first C / n_head say where a token is, the next
    C / n_head which token it is. A model without two layers, two heads and an even head size stays as it is.
    """
    C, d = config.n_embd, config.n_embd // config.n_head
    if not has_heads(config):
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


def has_heads(config: GPT2Config) -> bool:
    """Whether a model of this shape begins with them."""
    return config.n_layer > 1 and config.n_head > 1 and config.n_embd // config.n_head % 2 == 0


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


@torch.no_grad()
def embed_pairs(trunk: Any, config: GPT2Config, tokens: NDArray[np.integer[Any]]) -> None:
    """Add to the token embeddings what the pairs of these tokens (N,) tell.

    trunk: gpt2.network.Trunk. The channels that say where a token is stay as they are.
    """
    d = config.n_embd // config.n_head if has_heads(config) else 0
    weight = trunk.wte.weight
    weight[:, d:] += pair_embeddings(tokens, len(weight), config.n_embd - d)


def pair_embeddings(tokens: NDArray[np.integer[Any]], vocab_size: int, channels: int) -> Tensor:
    """Embeddings (vocab_size, channels) in which tokens with the same neighbours in `tokens` (N,) are alike.

    A token that is not there has zeros. Draws from torch's random numbers.
    """
    ids = tokens.astype(np.int64)
    frequency = np.bincount(ids, minlength=vocab_size)
    contexts = np.argsort(-frequency, kind="stable")[: min(MOST_CONTEXTS, MOST_CELLS // vocab_size)]
    weights = torch.from_numpy((frequency / max(1, len(ids))) ** TEMPERED).float()
    tables = [
        pointwise_information(left, right, frequency, contexts)
        for left, right in ((ids[:-1], ids[1:]), (ids[1:], ids[:-1]))
    ]
    weighted = [weights[:, None] * table * weights[torch.from_numpy(contexts)] for table in tables]
    kept = min(channels, vocab_size, 2 * len(contexts))
    wide = torch.cat(weighted, dim=1)
    vectors, strengths, _ = torch.svd_lowrank(wide, q=min(kept + SPARE, *wide.shape), niter=ROUNDS)
    found = vectors[:, :kept] * strengths[:kept].sqrt() / weights.clamp_min(1e-8)[:, None]
    found[torch.from_numpy(frequency == 0)] = 0
    rotation = torch.linalg.qr(torch.randn(channels, channels)).Q[:kept]  # all channels have their share
    spread: Tensor = torch.nn.functional.normalize(found, dim=1) @ rotation
    return spread * (PAIR_RMS * math.sqrt(channels))


def pointwise_information(
    ids: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    frequency: NDArray[np.int64],
    contexts: NDArray[np.int64],
) -> Tensor:
    """(V, contexts): how much likelier than by chance each context is beside each token, in nats, centred.

    ids, neighbours: (P,) both sides of each pair. frequency: (V,) of the tokens.
    """
    V, M = len(frequency), len(contexts)
    column = np.full(V, M)
    column[contexts] = np.arange(M)
    cells = np.bincount(ids * (M + 1) + column[neighbours], minlength=V * (M + 1))
    counts = torch.from_numpy(cells.reshape(V, M + 1)[:, :M]).float()
    total = torch.from_numpy(np.bincount(ids, minlength=V)).float()[:, None]
    chance = torch.from_numpy(frequency[contexts] / max(1, frequency.sum())).float().clamp_min(1e-12)
    information = (
        ((counts + PRIOR * chance) / ((total + PRIOR) * chance)).log_().clamp_min_(LEAST_INFORMATION)
    )
    return information - information.mean(dim=1, keepdim=True)
