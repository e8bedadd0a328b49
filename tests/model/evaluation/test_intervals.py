"""Intervals by what is known of them: published examples, how often they hold, pairs narrower than either."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.intervals import (
    DRAWS,
    ENOUGH_REPOSITORIES,
    Resampling,
    bytes_that_would_tell,
    mean_of_repositories,
    wilson,
)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 30, 0.0, 0.1135), (15, 148, 0.0624, 0.1605), (30, 30, 0.8865, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_gives_published_intervals(hits: int, trials: int, low: float, high: float) -> None:
    """Newcombe 1998, table I (15 of 148); 0 of n: z^2 / (n + z^2)."""
    assert wilson(hits, trials) == pytest.approx((low, high), abs=2e-4)


def test_files_are_drawn_where_repositories_are_few() -> None:
    few = Resampling([f"r{n % 5}" for n in range(40)])
    assert (few.unit, few.times.shape) == ("files", (DRAWS, 40))
    assert (few.times.sum(1) == 40).all()
    many = Resampling([f"r{n % ENOUGH_REPOSITORIES}" for n in range(60)])
    assert many.unit == "repositories"
    assert (many.times[:, :20] == many.times[:, 20:40]).all(), "files of a repository come together"


def test_with_two_repositories_there_is_no_interval() -> None:
    resampling = Resampling(["a", "b"] * 9)
    assert resampling.ratio([1.0] * 18, [2.0] * 18) is None
    assert resampling.mean_of_repositories([1.0] * 18, [2.0] * 18) is None


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Ratios of 40 files each, drawn 200 times from files whose true ratio is 1.5."""
    random, hits = np.random.default_rng(1), 0
    for _ in range(200):
        sizes = random.integers(1000, 8000, 40)
        bits = sizes * (1.5 + 0.4 * random.standard_normal(40))
        interval = Resampling([f"r{n}" for n in range(40)]).ratio(bits.tolist(), sizes.tolist())
        assert interval is not None
        hits += interval[0] <= 1.5 <= interval[1]
    assert 180 <= hits <= 198


def test_a_pair_is_far_narrower_than_its_two_models() -> None:
    random = np.random.default_rng(2)
    sizes = random.integers(1000, 8000, 50).tolist()
    bits = (sizes * (1.5 + 0.4 * random.standard_normal(50))).tolist()
    better = [0.97 * each for each in bits]
    resampling = Resampling([f"r{n}" for n in range(50)])
    alone = resampling.ratio(bits, sizes)
    together = resampling.difference((better, sizes), (bits, sizes))
    assert alone and together and together[1] < 0
    assert together[1] - together[0] < (alone[1] - alone[0]) / 10


def test_a_file_that_counts_for_nothing_moves_no_figure() -> None:
    names = ["a", "b", "c", "d"]
    assert Resampling(names).ratio([0.0] * 4, [0.0] * 4) is None
    assert mean_of_repositories(["a", "a", "b", "c"], [1, 1, 6, 0], [1, 3, 2, 0]) == pytest.approx(1.75)


def test_the_mean_of_repositories_lies_within_its_interval() -> None:
    random = np.random.default_rng(3)
    for count in (4, 30):
        names = [f"r{n % count}" for n in range(90)]
        sizes = random.integers(100, 8000, 90).tolist()
        bits = [size * (1.0 + (n % count) / count) for n, size in enumerate(sizes)]
        interval = Resampling(names).mean_of_repositories(bits, sizes)
        assert interval and interval[0] <= mean_of_repositories(names, bits, sizes) <= interval[1]


def test_half_the_difference_needs_four_times_the_text() -> None:
    assert bytes_that_would_tell(1000, 0.01, (-0.01, 0.03)) == 4000
    assert bytes_that_would_tell(1000, 0.005, (-0.015, 0.025)) == 16000
    assert bytes_that_would_tell(1000, 0.0001, (-0.02, 0.02)) is None
