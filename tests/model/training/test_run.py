"""Runs that are stopped, torn, diverging or corrected by the clock, seen from inside."""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_loading import batches
from evaluation.bits_per_byte import HeldOutScore
from gpt2.config import GPT2Config
from model_cli import UserError
from pretrained.provenance import RunFingerprint
from project import PROJECT
from small_run import MACHINE, make_run, run_of, stop_at
from training.checkpoint import CheckpointError, checkpoints
from training.monitor import Milestones
from training.plan import Plan, plan_from_record, plan_record
from training.run import Interrupt, Run


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def are_equal(first: Path, second: Path) -> bool:
    return (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "choices",
    [{}, {"length_warmup": 1.0}, {"sampled_softmax": True}],
    ids=["whole rows", "short rows first", "sampled softmax"],
)
def test_fifty_steps_are_twenty_five_and_twenty_five_more(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any]
) -> None:
    monkeypatch.setattr(batches, "SHORT_LENGTH", 4)
    straight = make_run(tmp_path / "straight", tokenizer, **choices)
    assert straight.trainer.sampler.is_short(0) is ("length_warmup" in choices)
    straight.train()
    first = make_run(tmp_path / "halves", tokenizer, **choices)
    stop_at(first, 25)
    assert first.train().interrupted
    second = make_run(tmp_path / "halves", tokenizer, **choices)
    second.resume()
    assert second.schedule.step == 25
    assert not second.train().interrupted
    assert are_equal(tmp_path / "straight", tmp_path / "halves")


def test_the_parts_of_a_batch_add_up_to_the_batch(tmp_path: Path, tokenizer: Path) -> None:
    whole, parts = make_run(tmp_path / "whole", tokenizer, 1), make_run(tmp_path / "parts", tokenizer, 1)
    whole.trainer.loader.parts = [range(4)]
    assert len(parts.trainer.loader.parts) == 2
    assert float(whole.trainer.step()) == pytest.approx(float(parts.trainer.step()), rel=1e-4)


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    for _ in range(2):
        run.trainer.step()
        run.save()
    newest = checkpoints(run.folder.checkpoints)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    again = make_run(tmp_path / "GPyT", tokenizer)
    assert again.resume().name == "step-000000001.safetensors"
    for path in checkpoints(run.folder.checkpoints):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=newest.name):
        make_run(tmp_path / "GPyT", tokenizer).resume()


def test_a_disk_that_fills_up_costs_neither_the_checkpoint_before_nor_the_model(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    run.trainer.step()
    run.save()
    before = {path: path.read_bytes() for path in (tmp_path / "GPyT").rglob("*.safetensors")}

    def write_a_part(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"torn")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", write_a_part)
    run.trainer.step()
    with pytest.raises(UserError, match="make room, then run the same command"):
        run.save()
    assert {path: path.read_bytes() for path in (tmp_path / "GPyT").rglob("*.safetensors")} == before
    again = make_run(tmp_path / "GPyT", tokenizer)
    assert again.resume().name == "step-000000001.safetensors"


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    run.trainer.step()
    run.save()
    other = make_run(tmp_path / "GPyT", tokenizer)
    other.folder.fingerprint = RunFingerprint({"sha256": "other"}, {"sha256": "t"}, {"seed": 0})
    with pytest.raises(CheckpointError, match="other data"):
        other.resume()


def test_a_run_that_diverges_goes_back_and_on_at_half_the_rate(
    tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    make_step = run.trainer.step

    def step_with_a_fault() -> torch.Tensor:
        if run.schedule.step == 20 and run.divergences == 0:
            with torch.no_grad():
                run.trainer.model.transformer.wte.weight.fill_(float("nan"))
        if run.schedule.step == 10 and run.divergences == 0:
            run.save()
        return make_step()

    run.trainer.step = step_with_a_fault  # type: ignore[method-assign]
    assert not run.train().interrupted
    assert "back to step 10 at 0.5 of the learning rate" in capsys.readouterr().err
    assert (run.schedule.step, run.trainer.lr_scale) == (50, 0.5)
    assert all(bool(weight.isfinite().all()) for weight in weights_of(tmp_path / "GPyT").values())


def test_a_run_that_always_diverges_ends_with_a_reason(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    run.trainer.reset = lambda: None  # type: ignore[method-assign]
    with torch.no_grad():
        run.trainer.model.transformer.wte.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="diverged 4 times"):
        run.train()
    assert not (tmp_path / "GPyT").exists()


@pytest.mark.parametrize("steps", [1, 4])
def test_a_run_in_which_every_step_is_skipped_ends_with_an_error(
    tmp_path: Path, tokenizer: Path, steps: int
) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer, steps)
    with torch.no_grad():
        run.trainer.model.transformer.wte.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="had finite gradients, so nothing was learnt"):
        run.train()
    assert not (tmp_path / "GPyT").exists()


@pytest.mark.parametrize("bits", [math.nan, math.inf])
def test_a_run_stops_at_the_first_measurement_that_is_not_finite(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, bits: float
) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    monkeypatch.setattr("training.monitor.score", lambda *_: HeldOutScore(bits, 1000, 3))
    run.monitor.milestones = Milestones((0.19,))
    with pytest.raises(UserError, match="held-out files is not finite"):
        run.train()
    assert run.schedule.step == 10
    assert run.monitor.best is None


# Signals


def test_ctrl_c_twice_at_once_is_ctrl_c_once_and_saved_is_said_after_the_saving(
    tmp_path: Path, tokenizer: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.run.GRACE_SECONDS", 600.0)  # on any machine the signals below are "at once"
    run = make_run(tmp_path / "GPyT", tokenizer)
    make_step, save = run.trainer.step, run.save
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def step_and_signal() -> torch.Tensor:
        if run.schedule.step == 10:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return make_step()

    def save_and_signal() -> None:
        if run.interrupt.asked:
            signal.raise_signal(signal.SIGTERM)
            assert "saved the model" not in capfd.readouterr().err
        save()
        if run.interrupt.asked:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run.trainer, "step", step_and_signal)
    monkeypatch.setattr(run, "save", save_and_signal)
    try:
        assert run.train().interrupted
        assert run.schedule.step == 11
        assert "saved the model and its place in the data" in capfd.readouterr().err
        signal.raise_signal(signal.SIGINT)  # while the report is written
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)


def test_a_later_ctrl_c_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("training.run.os._exit", codes.append)
    monkeypatch.setattr("training.run.GRACE_SECONDS", -1.0)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupt = Interrupt()
    try:
        with interrupt:
            signal.raise_signal(signal.SIGINT)
            assert codes == []
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)
    assert codes == [130]
    assert capfd.readouterr().err.count("\n") == 2


# By the clock


def run_by_a_steady_clock(monkeypatch: pytest.MonkeyPatch, *given: Any, **choices: Any) -> Run:
    """A run whose steps take 10 ms each, and all else no time, on a machine of any speed."""
    now = 0.0
    clock = SimpleNamespace(perf_counter=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr("training.run.time", clock)
    run = make_run(*given, **choices)
    make_step = run.trainer.step

    def step() -> torch.Tensor:
        nonlocal now
        now += 0.01
        return make_step()

    monkeypatch.setattr(run.trainer, "step", step)
    return run


def test_a_plan_that_the_clock_changes_is_said_once(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_by_a_steady_clock(monkeypatch, tmp_path / "GPyT", tokenizer, steps=10, seconds=1.0)
    run.train()
    assert capsys.readouterr().err.count("steps are faster than planned: about") == 1


def test_a_run_by_the_clock_ends_on_time(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "GPyT"
    run = run_by_a_steady_clock(monkeypatch, folder, tokenizer, steps=10, seconds=2.0)  # far too few steps
    ending = run.train()
    assert ending.seconds == pytest.approx(2.0, rel=0.02)
    assert run.schedule.step == pytest.approx(200, rel=0.02)
    assert run.schedule.progress == pytest.approx(1.0)


def test_the_log_of_a_resumed_run_has_each_step_once(tmp_path: Path, tokenizer: Path) -> None:
    first = make_run(tmp_path / "GPyT", tokenizer)
    stop_at(first, 20)
    first.train()
    log = tmp_path / "GPyT" / "training_log.jsonl"
    with log.open("a", encoding="utf-8") as file:
        file.write(
            '{"step": 21, "tokens": 1344, "loss": 1.0, "bits_per_byte": 1.0}\n{"step": 22, "tok'
        )  # killed
    again = make_run(tmp_path / "GPyT", tokenizer)
    again.resume()
    again.train()
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 51))
    assert sum("held_out" in row for row in rows) == 1


def test_an_unfinished_run_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    """tests/cases/unfinished_run was written by the program before its modules became packages."""
    folder = tmp_path / "GPyT"
    shutil.copytree(PROJECT / "tests/cases/unfinished_run", folder)
    newest = folder / "checkpoints/step-000000020.safetensors"
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    run = run_of(plan_from_record(provenance["plan"]), folder, tokenizer=folder)
    assert run.resume() == newest
    assert (run.schedule.step, run.schedule.steps, run.schedule.corrections[12]) == (20, 60, 60)
    assert run.schedule.progress == pytest.approx(0.338, abs=1e-3)
    assert (run.trainer.lr_scale, run.divergences) == (0.5, 1)
    assert run.trainer.mean_loss == pytest.approx(3.193, abs=1e-3)
    assert run.elapsed == pytest.approx(0.097, abs=1e-3)
    assert run.monitor.best is not None and run.monitor.best.step == 12
    saved, restored = load_file(newest), run.trainer.state_tensors()
    assert saved.keys() == restored.keys()
    assert all(torch.equal(saved[name], restored[name]) for name in saved)
    stop_at(run, 25)
    assert run.train().interrupted
    rows = [json.loads(line) for line in run.folder.log.read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 26))


def test_a_plan_is_found_again_in_its_record() -> None:
    plan = Plan(GPT2Config(1, 2, 16, 16, 512), 4, 2, 50, 12.5, 0.01, 1e9)
    assert plan_from_record(json.loads(json.dumps(plan_record(plan, MACHINE)))) == plan
