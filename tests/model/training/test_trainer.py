"""Steps with non-finite gradients are skipped and counted, on a GPU without asking it; float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data_loading.batches import PackedRows
from gpt2.config import GPT2Config
from gpt2.device import Machine
from gpt2.network import GPT2
from model_cli import UserError
from numbered_documents import split_of
from small_run import make_run
from training.optimizers import INITIAL_LOSS_SCALE, LossScale
from training.plan import Plan
from training.schedule import Schedule
from training.trainer import MOST_SKIPPED, DivergedError, Trainer

torch.set_num_threads(1)  # at these sizes a second thread only waits


def make_trainer(dtype: torch.dtype = torch.float32, *, deferred: bool = False) -> Trainer:
    plan = Plan(GPT2Config(2, 2, 32, 16, 512), 4, 2, 40, None, 0.01, 0.0)
    machine = Machine(torch.device("cpu"), dtype, threads=1)
    trainer = Trainer(plan, machine, PackedRows(split_of([40] * 10), 16, 0), Schedule(40), 0)
    trainer.deferred = deferred
    return trainer


def spoil(trainer: Trainer, steps: set[int]) -> None:
    """Put an infinity into the gradients of these steps."""
    accumulate = trainer._accumulate

    def spoilt(step: int | None = None) -> torch.Tensor:
        loss = accumulate(step)
        if trainer.schedule.step in steps:
            gradient = trainer.model.transformer.wpe.weight.grad
            assert gradient is not None
            gradient[0, 0] = torch.inf
        return loss

    trainer._accumulate = spoilt  # type: ignore[method-assign]


def snapshot(trainer: Trainer) -> dict[str, torch.Tensor]:
    kept = trainer.state_tensors()
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
    assert (trainer.schedule.step, int(trainer.skipped), int(trainer.skipped_in_a_row)) == (3, 1, 1)
    assert torch.isfinite(trainer.step())
    assert (int(trainer.skipped), int(trainer.skipped_in_a_row)) == (1, 0)


def test_compiling_before_the_clock_starts_changes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(Machine, "compiles", property(lambda machine: True))
    monkeypatch.setattr(GPT2, "compile_blocks", lambda model: compiled.append(model))
    warm, cold = make_trainer(), make_trainer()
    before = snapshot(warm)
    warm.warm_up()
    assert len(compiled) == 2
    assert warm.schedule.step == 0
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
    ours, theirs = asked.state_tensors(), deferred.state_tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-8)


def test_a_reset_trainer_makes_the_steps_of_a_new_one() -> None:
    new, used = make_trainer(), make_trainer()
    for _ in range(3):
        used.step()
    used.lr_scale = 0.5
    used.reset()
    for trainer in (new, used):
        for _ in range(3):
            trainer.step()
    ours, theirs = new.state_tensors(), used.state_tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert new.state_dict() == used.state_dict()


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
    with pytest.raises(UserError, match="the last good weights are kept"):
        run.train()
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "GPyT" / "model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in good.items())


def test_a_loss_scale_halves_where_gradients_overflow_and_doubles_after_two_thousand_good_steps() -> None:
    scale = LossScale(torch.device("cpu"))
    scale.update(torch.ones(()))
    assert float(scale.factor) == INITIAL_LOSS_SCALE / 2
    for _ in range(2000):
        scale.update(torch.zeros(()))
    assert float(scale.factor) == INITIAL_LOSS_SCALE


def test_float16_learns_as_float32_does_and_resumes_with_its_scale() -> None:
    half, single = make_trainer(torch.float16), make_trainer()
    losses = [[float(trainer.step()) for _ in range(30)] for trainer in (half, single)]
    finite = [value for value in losses[0] if value == value]
    assert finite[-1] == pytest.approx(losses[1][-1], abs=0.15)
    assert finite[-1] < losses[1][0] - 0.5
    again = make_trainer(torch.float16)
    again.load_state(half.state_tensors(), half.state_dict())
    assert again.loss_scale is not None and half.loss_scale is not None
    assert torch.equal(again.loss_scale.factor, half.loss_scale.factor)
