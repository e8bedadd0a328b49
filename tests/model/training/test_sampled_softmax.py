"""Sampled softmax: the sum is right on average, the targets are always there, and a step draws its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gpt2.operations import CANDIDATES_STEP, CHUNK_ROWS, linear_cross_entropy
from training.sampled_softmax import SAMPLED_SHARE, SoftmaxSampler, chances

torch.set_num_threads(1)  # at these sizes a second thread only waits

V, C, N = 400, 8, 64
FREQUENCIES = np.arange(V)[::-1] ** 2  # the last entry is not in the corpus at all
TARGETS = torch.randint(V, (4, N // 4), generator=torch.Generator().manual_seed(0))


def sums(sampler: SoftmaxSampler, logits: torch.Tensor, draws: int) -> torch.Tensor:
    """(draws, N): estimates of the sum of exp(logits) (N, V)."""
    found = []
    for step in range(draws):
        [candidates] = sampler.draw(TARGETS, step)
        found.append((logits[:, candidates.ids] + candidates.log_counts).logsumexp(1).exp())
    return torch.stack(found)


def test_the_sum_over_the_candidates_is_the_whole_sum_on_average() -> None:
    logits = torch.randn(N, V, generator=torch.Generator().manual_seed(1))
    estimates = sums(SoftmaxSampler(FREQUENCIES, seed=0), logits, draws=2000)
    error = (estimates.mean(0) - logits.exp().sum(1)).abs()
    assert (error < 4.5 * estimates.std(0) / 2000**0.5).all()
    assert (estimates.std(0) > 0).all()


def test_every_target_is_a_candidate_that_stands_for_itself() -> None:
    sampler = SoftmaxSampler(FREQUENCIES, seed=0)
    for step in range(20):
        [candidates] = sampler.draw(TARGETS, step)
        assert (candidates.ids.diff() > 0).all()
        assert torch.isin(TARGETS, candidates.ids).all()
        assert (candidates.log_counts[torch.isin(candidates.ids, TARGETS)] == 0).all()
        assert (candidates.log_counts >= 0).all()


def test_a_step_draws_the_same_whatever_was_drawn_before() -> None:
    first, second = SoftmaxSampler(FREQUENCIES, seed=3), SoftmaxSampler(FREQUENCIES, seed=3)
    for step in range(5):
        first.draw(TARGETS, step)
    assert torch.equal(first.draw(TARGETS, 5, 1)[0].ids, second.draw(TARGETS, 5, 1)[0].ids)
    others = [
        second.draw(TARGETS, 6, 1),
        second.draw(TARGETS, 5, 0),
        SoftmaxSampler(FREQUENCIES, seed=4).draw(TARGETS, 5, 1),
    ]
    for [other] in others:
        assert not torch.equal(first.draw(TARGETS, 5, 1)[0].ids, other.ids)


def test_rows_of_a_chunk_have_candidates_of_their_own() -> None:
    targets = torch.arange(2 * CHUNK_ROWS + 10).view(2, -1) % 7  # 7 of the 400 entries
    drawn = SoftmaxSampler(FREQUENCIES, seed=0).draw(targets, 0)
    assert len(drawn) == 3
    assert not torch.equal(drawn[0].ids, drawn[1].ids)
    for candidates in drawn:
        assert torch.isin(torch.arange(7), candidates.ids).all()


@given(weights=st.lists(st.floats(0.1, 1e6), min_size=1, max_size=200), share=st.floats(0.01, 1.0))
def test_chances_add_up_to_what_is_expected_and_follow_the_weights(
    weights: list[float], share: float
) -> None:
    found = chances(torch.tensor(weights, dtype=torch.float64), share * len(weights))
    assert float(found.sum()) == pytest.approx(share * len(weights), rel=1e-3)
    assert float(found.min()) > 0
    assert float(found.max()) <= 1
    order = np.argsort(weights, kind="stable")
    assert (found[torch.from_numpy(order)].diff() >= 0).all()


def test_as_many_are_drawn_as_the_share_says() -> None:
    sampler = SoftmaxSampler(FREQUENCIES, seed=0)
    nothing = torch.zeros(0, dtype=torch.int64)
    drawn = [len(sampler.draw(nothing, step)[0].ids) for step in range(200)]
    assert sum(drawn) / len(drawn) == pytest.approx(SAMPLED_SHARE * V, rel=0.05)


def test_random_tokens_are_as_frequent_as_in_the_corpus() -> None:
    torch.manual_seed(0)
    tokens = SoftmaxSampler(FREQUENCIES, seed=0).random_tokens((200, 1000))
    assert tokens.shape == (200, 1000)
    found = np.bincount(tokens.flatten().numpy(), minlength=V) / tokens.numel()
    np.testing.assert_allclose(found, FREQUENCIES / FREQUENCIES.sum(), atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-6), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("rows", [N, 2 * CHUNK_ROWS + N], ids=["a chunk", "three chunks"])
def test_loss_and_gradients_are_those_of_cross_entropy_over_the_candidates(
    dtype: torch.dtype, error: float, rows: int
) -> None:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(rows, C, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(V, C, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(V, (rows,), generator=generator)
    targets[0] = V - 1  # which also fills the candidates up
    drawn = SoftmaxSampler(FREQUENCIES, seed=0).draw(targets, 0)
    assert any(len(candidates.ids) % CANDIDATES_STEP for candidates in drawn)
    weights = torch.full((rows, V), -torch.inf, dtype=torch.float64)
    for candidates, some in zip(drawn, torch.split(weights, CHUNK_ROWS), strict=True):
        some[:, candidates.ids] = candidates.log_counts.double()
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    expected = F.cross_entropy(exact[0] @ exact[1].T + weights, targets)
    found = linear_cross_entropy(hidden, weight, targets, drawn)
    torch.testing.assert_close(found.double(), expected, rtol=error, atol=error)
    for ours, theirs in zip(
        torch.autograd.grad(found, (hidden, weight)), torch.autograd.grad(expected, exact), strict=True
    ):
        largest = float(theirs.abs().max())
        torch.testing.assert_close(ours.double(), theirs, rtol=error, atol=error * largest)
