"""Steps whose gradients are no numbers are skipped and counted, on a GPU without asking it; float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import training
from budget import Plan
from gpt2 import Shape
from loss_scale import INITIAL, LossScale
from machine import Machine
from packing import PackedRows
from schedule import Timetable
from test_packing import split_of
from test_training_run import make_run, tokenizer
from training import MOST_SKIPPED, DivergedError, Trainer
from training_run import RunFailedError

torch.set_num_threads(1)  # at these sizes a second thread only waits

__all__ = ["tokenizer"]  # the fixture


def make_trainer(dtype: torch.dtype = torch.float32, *, deferred: bool = False) -> Trainer:
    plan = Plan(Shape(2, 2, 32, 16, 512), 4, 2, 40, None, 0.01, 0.0)
    machine = Machine(torch.device("cpu"), dtype, threads=1)
    trainer = Trainer(plan, machine, PackedRows(split_of([40] * 10), 16, 0), Timetable(40), 0)
    trainer.deferred = deferred
    return trainer


def spoil(trainer: Trainer, steps: set[int]) -> None:
    """Let the gradients of these steps hold a number that is none."""
    accumulate = trainer._accumulate

    def spoilt(step: int | None = None) -> torch.Tensor:
        loss = accumulate(step)
        if trainer.timetable.step in steps:
            gradient = trainer.model.transformer.wpe.weight.grad
            assert gradient is not None
            gradient[0, 0] = torch.inf
        return loss

    trainer._accumulate = spoilt  # type: ignore[method-assign]


def snapshot(trainer: Trainer) -> dict[str, torch.Tensor]:
    kept = trainer.tensors()
    return {name: tensor.clone() for name, tensor in kept.items() if not name.startswith("skipped")}


@pytest.mark.parametrize("deferred", [False, True], ids=["asked", "on a GPU"])
def test_a_step_without_sound_gradients_changes_nothing_and_is_counted(*, deferred: bool) -> None:
    trainer = make_trainer(deferred=deferred)
    spoil(trainer, {2})
    for _ in range(2):
        trainer.step()
    before = snapshot(trainer)
    assert not torch.isfinite(trainer.step())
    after = snapshot(trainer)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (trainer.timetable.step, int(trainer.skipped), int(trainer.skipped_in_a_row)) == (3, 1, 1)
    assert torch.isfinite(trainer.step())
    assert (int(trainer.skipped), int(trainer.skipped_in_a_row)) == (1, 0)


def test_compiling_before_the_clock_starts_changes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(Machine, "compiles", property(lambda machine: True))
    monkeypatch.setattr(training, "compile_blocks", compiled.append)
    warm, cold = make_trainer(), make_trainer()
    before = snapshot(warm)
    warm.warm_up()
    assert len(compiled) == 2
    assert warm.timetable.step == 0
    assert all(weight.grad is None for weight in warm.model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in snapshot(warm).items())
    for trainer in (warm, cold):
        for _ in range(3):
            trainer.step()
    after, theirs = snapshot(warm), snapshot(cold)
    assert all(torch.equal(theirs[name], after[name]) for name in after)


def test_a_gpu_that_is_not_asked_makes_the_same_steps() -> None:
    asked, deferred = make_trainer(), make_trainer(deferred=True)
    for trainer in (asked, deferred):
        spoil(trainer, {1, 4})
        for _ in range(6):
            trainer.step()
    ours, theirs = asked.tensors(), deferred.tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-8)


def test_too_many_in_a_row_send_the_run_back() -> None:
    trainer = make_trainer()
    spoil(trainer, set(range(40)))
    for _ in range(MOST_SKIPPED - 1):
        trainer.observe(float(trainer.step()))
    with pytest.raises(DivergedError, match="no finite gradient in 5 steps"):
        trainer.observe(float(trainer.step()))


def test_a_run_whose_gradients_stay_broken_stops_with_the_last_good_weights(
    tmp_path: Path, tokenizer: Path
) -> None:
    run: Any = make_run(tmp_path / "GPyT", tokenizer)
    for _ in range(3):
        run.trainer.step()
    run.save()
    good = {name: weight.detach().clone() for name, weight in run.trainer.model.named_parameters()}
    spoil(run.trainer, set(range(3, 50)))
    with pytest.raises(RunFailedError, match="the last good weights are kept"):
        run.train()
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "GPyT" / "model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in good.items())


def test_a_loss_scale_halves_where_gradients_overflow_and_doubles_after_two_thousand_good_steps() -> None:
    scale = LossScale(torch.device("cpu"))
    scale.update(torch.ones(()))
    assert float(scale.factor) == INITIAL / 2
    for _ in range(2000):
        scale.update(torch.zeros(()))
    assert float(scale.factor) == INITIAL


def test_float16_learns_as_float32_does_and_resumes_with_its_scale() -> None:
    half, single = make_trainer(torch.float16), make_trainer()
    losses = [[float(trainer.step()) for _ in range(30)] for trainer in (half, single)]
    finite = [value for value in losses[0] if value == value]
    assert finite[-1] == pytest.approx(losses[1][-1], abs=0.15)
    assert finite[-1] < losses[1][0] - 0.5
    again = make_trainer(torch.float16)
    again.load(half.tensors())
    assert again.loss_scale is not None and half.loss_scale is not None
    assert torch.equal(again.loss_scale.factor, half.loss_scale.factor)
