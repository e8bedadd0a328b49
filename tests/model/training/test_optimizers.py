"""Muon against PyTorch's own, and what it is for: every direction of a matrix moves alike."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpt2.config import GPT2Config
from gpt2.network import GPT2
from training.optimizers import (
    MUON_LEARNING_RATE,
    MUON_MOMENTUM,
    NEWTON_SCHULZ,
    NEWTON_SCHULZ_ROUNDS,
    WIDE,
    Muon,
    build_optimizers,
    orthogonalize,
)

torch.set_num_threads(1)  # at these sizes a second thread only waits


def steps_of(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: list[torch.Tensor]) -> None:
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("size", [(16, 16), (16, 64), (64, 16)])
def test_muon_makes_the_updates_of_torch_optim_muon(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(size)
    gradients = [torch.randn(size) for _ in range(3)]
    ours = nn.Parameter(start.clone())
    # torch counts rows as outputs; GPT-2 stores (inputs, outputs)
    theirs = nn.Parameter(start.T.clone())
    reference = torch.optim.Muon(
        [theirs], lr=MUON_LEARNING_RATE, momentum=MUON_MOMENTUM, weight_decay=0.0, adjust_lr_fn="original"
    )
    steps_of(Muon([ours], torch.bfloat16), ours, gradients)
    steps_of(reference, theirs, [gradient.T for gradient in gradients])
    ours_moved, theirs_moved = ours.detach() - start, theirs.detach().T - start
    cosine = torch.cosine_similarity(ours_moved.flatten(), theirs_moved.flatten(), dim=0)
    assert float(cosine) > 0.995
    assert 0.98 < float(ours_moved.norm() / theirs_moved.norm()) < 1.02


@pytest.mark.parametrize("columns", [16, 16 * WIDE - 1, 16 * WIDE, 80])
def test_narrow_and_wide_matrices_get_the_same_iteration(columns: int) -> None:
    torch.manual_seed(0)
    U, _, V = torch.linalg.svd(torch.randn(3, 16, columns), full_matrices=False)
    matrices = U * torch.logspace(0, -6, 16) @ V  # down to directions that hardly exist
    matrices[2] = 0  # a weight that has no gradient yet
    X = matrices.double() / (matrices.double().norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_ROUNDS):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    found = orthogonalize(matrices, torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), X, rtol=0, atol=5e-4)
    assert not found[2].any()


def test_query_key_and_value_are_three_matrices_to_muon() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(16, 48)
    fused, parts = nn.Parameter(torch.zeros(16, 48)), [nn.Parameter(torch.zeros(16, 16)) for _ in range(3)]
    steps_of(Muon([fused], torch.float32, fused=[fused]), fused, [gradient])
    for part, its_gradient in zip(parts, torch.split(gradient, 16, dim=1), strict=True):
        steps_of(Muon([part], torch.float32), part, [its_gradient])
    torch.testing.assert_close(fused.detach(), torch.cat([part.detach() for part in parts], dim=1))


def test_every_weight_has_exactly_one_optimiser_and_muon_only_matrices_of_blocks() -> None:
    model = GPT2(GPT2Config(2, 2, 32, 64, 512))
    muon, adamw = build_optimizers(model, torch.float32)
    names = {weight: name for name, weight in model.named_parameters()}
    by_muon = {names[weight] for weight in muon.param_groups[0]["params"]}
    by_adamw = {names[weight] for weight in adamw.param_groups[0]["params"]}
    assert by_muon | by_adamw == set(names.values())
    assert not by_muon & by_adamw
    assert all(".h." in name and name.endswith(".weight") and "ln_" not in name for name in by_muon)
    assert {"transformer.wte.weight", "transformer.wpe.weight"} <= by_adamw


def test_one_batch_can_be_learnt_by_heart() -> None:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(2, 2, 64, 32, 128))
    optimizers = build_optimizers(model, torch.float32)
    tokens = torch.randint(128, (4, 33))
    for _ in range(60):
        loss: torch.Tensor = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert loss.item() < 0.1
