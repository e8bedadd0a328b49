"""How sure a figure is: 95 % intervals by resampling files or repositories, and of shares.

Tokens of one file are alike, and so are files of one repository: a bootstrap of tokens would promise too
much. So files or repositories are resampled. Two models are compared on the same draws: what makes a draw
hard for one makes it hard for the other.
Source: Efron 1979 (bootstrap); Miller 2024, "Adding Error Bars to Evals", sections 3 and 4 (clusters, pairs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SEED = 0
ENOUGH_REPOSITORIES = 20  # with fewer, files are drawn: a few repositories have nothing to resample
FEWEST_REPOSITORIES = 3  # with fewer, no interval says anything of code that is not in the sample
NORMAL_95 = 1.959964  # 95 % of a normal distribution lie within so many standard deviations

Numbers = NDArray[Any]
Interval = tuple[float, float]


class Resampling:
    """2,000 draws of the files of a sample, with replacement, the same for every figure and model."""

    def __init__(self, repositories: Sequence[str]) -> None:
        """repositories: that of each file."""
        names = {name: number for number, name in enumerate(dict.fromkeys(repositories))}
        self.repository = np.array([names[name] for name in repositories], np.int64)
        self.count = len(names)
        self.unit = "repositories" if self.count >= ENOUGH_REPOSITORIES else "files"
        random = np.random.default_rng(SEED)
        clusters = self.repository if self.unit == "repositories" else np.arange(len(repositories))
        size = int(clusters.max(initial=-1)) + 1
        drawn = random.multinomial(size, np.full(size, 1 / size), DRAWS) if size else np.zeros((DRAWS, 0))
        self.times = drawn[:, clusters].astype(np.float64)  # (DRAWS, files) how often each file was drawn

    @property
    def is_enough(self) -> bool:
        return self.count >= FEWEST_REPOSITORIES

    def ratio(self, parts: Sequence[float], wholes: Sequence[float]) -> Interval | None:
        """The interval of sum(parts) / sum(wholes) over the files; None with too few repositories."""
        above, below = self.times @ np.asarray(parts, float), self.times @ np.asarray(wholes, float)
        return self._interval(above / np.where(below == 0, np.nan, below))

    def difference(
        self,
        one: tuple[Sequence[float], Sequence[float]],
        other: tuple[Sequence[float], Sequence[float]],
    ) -> Interval | None:
        """The interval of one ratio less another, file for file."""
        ratios = []
        for parts, wholes in (one, other):
            above, below = self.times @ np.asarray(parts, float), self.times @ np.asarray(wholes, float)
            ratios.append(above / np.where(below == 0, np.nan, below))
        return self._interval(ratios[0] - ratios[1])

    def mean_of_repositories(self, parts: Sequence[float], wholes: Sequence[float]) -> Interval | None:
        """The interval of the mean of the repositories' own ratios."""
        member = self.repository[:, None] == np.arange(self.count)
        above = (self.times * np.asarray(parts, float)) @ member
        below = (self.times * np.asarray(wholes, float)) @ member
        drawn = self.times @ member / member.sum(0)
        weight = np.where(below > 0, drawn if self.unit == "repositories" else 1.0, 0.0)
        ratios = np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0)
        return self._interval((ratios * weight).sum(1) / weight.sum(1))

    def _interval(self, values: Numbers) -> Interval | None:
        values = values[np.isfinite(values)]
        if not self.is_enough or not len(values):
            return None
        low, high = np.percentile(values, (2.5, 97.5))
        return float(low), float(high)


def mean_of_repositories(
    repositories: Sequence[str], parts: Sequence[float], wholes: Sequence[float]
) -> float:
    """The mean of the repositories' own ratios."""
    sums: dict[str, list[float]] = {}
    for name, part, whole in zip(repositories, parts, wholes, strict=True):
        sums.setdefault(name, [0.0, 0.0])
        sums[name][0] += part
        sums[name][1] += whole
    ratios = [part / whole for part, whole in sums.values() if whole]
    return sum(ratios) / max(1, len(ratios))


def wilson(hits: int, trials: int) -> Interval:
    """The interval of a share of independent trials. wilson(0, 30) -> (0.0, 0.114)

    Source: Wilson 1927; Brown, Cai, DasGupta 2001, "Interval Estimation for a Binomial Proportion".
    """
    if not trials:
        return 0.0, 1.0
    share, squared = hits / trials, NORMAL_95**2
    middle = share + squared / (2 * trials)
    width = NORMAL_95 * math.sqrt(share * (1 - share) / trials + squared / (4 * trials**2))
    low, high = ((middle + sign * width) / (1 + squared / trials) for sign in (-1, 1))
    return (0.0 if not hits else max(0.0, low)), (1.0 if hits == trials else min(1.0, high))


def bytes_that_would_tell(size: int, difference: float, interval: Interval) -> int | None:
    """How much text of this kind would show a difference of this size; None if it is next to nothing.

    An interval narrows with the square root of what was measured.
    """
    half = (interval[1] - interval[0]) / 2
    if abs(difference) < half / 30:  # 900 times as much text
        return None
    return math.ceil(size * (half / abs(difference)) ** 2)
