"""Sampled softmax: of a large vocabulary some entries alone are compared, drawn anew for each 512 rows.

With 8,192 entries the output layer is 40 % of a step of 4 layers, 256 wide. Here the loss of 512 rows sees
the tokens that stand in them, and of the others a sample. An entry drawn with probability q stands for 1 / q
of its kind, so the sum in the softmax is right on average, whatever stands there. Measured after as many
steps: with 8,192 entries the same bits per byte in less than four fifths of the time, with 4,096 0.9 % more
in less than seven tenths, which is the better bargain in runs of minutes (benchmarks/LOG.md). The held-out
bits per byte of a run are computed with all entries, and so is what the model writes.
Source: Bengio and Senecal 2008, "Adaptive Importance Sampling to Accelerate Training of a Neural
Probabilistic Language Model"; Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine
Translation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2.initial_weights import PAIR_TOKENS
from gpt2.operations import CHUNK_ROWS, Candidates

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset
    from gpt2.device import Machine
    from gpt2.distributed import Ranks

SMALLEST_VOCABULARY = 4096  # of 2,048 entries a third stands in a step: little is saved and as much is lost
SAMPLED_SHARE = 0.18  # of the vocabulary that is drawn, on average: fewer learn less (benchmarks/LOG.md)
HALVINGS = 60


class SoftmaxSampler:
    """Draws the candidates of each step: the same ones for a seed and a step, whatever was drawn before."""

    def __init__(
        self, frequencies: NDArray[np.integer[Any]], seed: int, share: float = SAMPLED_SHARE
    ) -> None:
        """frequencies: (V,), how often the corpus has each entry. share: drawn of them, on average."""
        self.seed = seed
        self.frequencies = torch.from_numpy(frequencies.astype(np.float64))
        self.chances = chances(torch.from_numpy(frequencies + 1.0), share * len(frequencies))

    def draw(self, targets: Tensor, step: int, part: int = 0) -> list[Candidates]:
        """Candidates for target ids of any shape, in one part of a step: for CHUNK_ROWS of them each.

        Fewer tokens stand in some rows than in a step, and what one draw misses another has.
        """
        random = np.random.default_rng([self.seed, step, part])
        return [self._draw(chunk, random) for chunk in torch.split(targets.reshape(-1), CHUNK_ROWS)]

    def _draw(self, targets: Tensor, random: np.random.Generator) -> Candidates:
        numbers = torch.from_numpy(random.random(len(self.chances), dtype=np.float32))
        is_target = torch.zeros(len(self.chances), dtype=torch.bool)
        is_target[targets] = True
        ids = (is_target | (numbers < self.chances)).nonzero()[:, 0]
        return Candidates(ids, torch.where(is_target[ids], 0.0, -self.chances[ids].log()))

    def random_tokens(self, size: tuple[int, int]) -> Tensor:
        """Ids that are each as frequent as in the corpus, for measuring."""
        return torch.multinomial(self.frequencies, size[0] * size[1], replacement=True).view(size)


def sampler_for(dataset: TokenDataset, machine: Machine, ranks: Ranks, seed: int) -> SoftmaxSampler | None:
    """A sampler for one process on a CPU; None for a small vocabulary and everywhere else.

    A GPU computes all entries while a CPU still chooses, and several processes make the model that one makes,
    which they would not if each chose for itself.
    """
    alone_on_a_cpu = machine.device.type == "cpu" and ranks.world_size == 1
    if not alone_on_a_cpu or dataset.vocab_size < SMALLEST_VOCABULARY:
        return None
    return SoftmaxSampler(frequencies_of(dataset), seed)


def frequencies_of(dataset: TokenDataset) -> NDArray[np.integer[Any]]:
    """(V,): how often each entry stands in a sample of the corpus."""
    return np.bincount(dataset.train.sample(PAIR_TOKENS), minlength=dataset.vocab_size)


def chances(weights: Tensor, expected: float) -> Tensor:
    """Probabilities (V,) of drawing each entry, like the roots of its weight, that add up to `expected`.

    Roots, because what is likely should be compared often and what is rare now and then.
    """
    roots = weights.double().sqrt()
    low, high = 0.0, len(weights) / float(roots.min())
    for _ in range(HALVINGS):
        factor = (low + high) / 2
        if float((factor * roots).clamp_max(1).sum()) < expected:
            low = factor
        else:
            high = factor
    return (high * roots).clamp_max(1).float()
