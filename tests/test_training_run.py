"""Runs that are stopped, torn, diverging or corrected by the clock, seen from inside."""

from __future__ import annotations

import json
from pathlib import Path

import length_warmup
import pytest
import torch
from budget import Plan
from checkpoint import CheckpointError, checkpoints
from gpt2 import Shape
from machine import Machine
from model_folder import Identity, ModelFolder
from progress import Progress
from run_record import plan_from_record, plan_record
from safetensors.torch import load_file
from test_packing import split_of
from tiny_model import tokenizer_json
from token_dataset import TokenDataset
from training_run import Run, RunFailedError

torch.set_num_threads(1)  # at these sizes a second thread only waits

MACHINE = Machine(torch.device("cpu"), torch.bfloat16, threads=1)
IDENTITY = Identity({"sha256": "d"}, {"sha256": "t"}, {"seed": 0})


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "TokenizersBackend"}', encoding="utf-8"
    )
    return folder


def make_run(
    output: Path, tokenizer: Path, steps: int = 50, seconds: float | None = None, warmup: float = 0.0
) -> Run:
    shape = Shape(1, 2, 16, 16, 512)
    plan = Plan(shape, 4, 2, steps, seconds, seconds_per_step=0.01, memory=0.0, length_warmup=warmup)
    dataset = TokenDataset(split_of([40] * 10), split_of([20] * 4), 512, 0, "d", "t")
    return Run(plan, MACHINE, dataset, ModelFolder(output, plan.shape, tokenizer, IDENTITY), Progress(64), 0)


def stop_at(run: Run, step: int) -> None:
    """Interrupt a run when so many steps are done."""
    make_step = run.trainer.step

    def step_and_stop() -> torch.Tensor:
        loss = make_step()
        run.interrupted = run.timetable.step >= step
        return loss

    run.trainer.step = step_and_stop  # type: ignore[method-assign]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def are_equal(first: Path, second: Path) -> bool:
    return (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.parametrize("warmup", [0.0, 1.0], ids=["whole rows", "short rows first"])
def test_fifty_steps_are_twenty_five_and_twenty_five_more(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, warmup: float
) -> None:
    monkeypatch.setattr(length_warmup, "SHORT_LENGTH", 4)
    straight = make_run(tmp_path / "straight", tokenizer, warmup=warmup)
    assert straight.trainer.length_warmup.is_short(0) is (warmup > 0)
    straight.train()
    first = make_run(tmp_path / "halves", tokenizer, warmup=warmup)
    stop_at(first, 25)
    assert first.train().interrupted
    second = make_run(tmp_path / "halves", tokenizer, warmup=warmup)
    second.resume()
    assert second.timetable.step == 25
    assert not second.train().interrupted
    assert are_equal(tmp_path / "straight", tmp_path / "halves")


def test_the_parts_of_a_batch_add_up_to_the_batch(tmp_path: Path, tokenizer: Path) -> None:
    whole, parts = make_run(tmp_path / "whole", tokenizer, 1), make_run(tmp_path / "parts", tokenizer, 1)
    whole.trainer.plan = Plan(whole.plan.shape, 4, 4, 1, None, 0.01, 0.0)
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

    monkeypatch.setattr("checkpoint.save_file", write_a_part)
    run.trainer.step()
    with pytest.raises(CheckpointError, match="make room, then run the same command"):
        run.save()
    assert {path: path.read_bytes() for path in (tmp_path / "GPyT").rglob("*.safetensors")} == before
    again = make_run(tmp_path / "GPyT", tokenizer)
    assert again.resume().name == "step-000000001.safetensors"


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    run.trainer.step()
    run.save()
    other = make_run(tmp_path / "GPyT", tokenizer)
    other.folder.identity = Identity({"sha256": "other"}, {"sha256": "t"}, {"seed": 0})
    with pytest.raises(CheckpointError, match="other data"):
        other.resume()


def test_a_run_that_diverges_goes_back_and_on_at_half_the_rate(
    tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    make_step = run.trainer.step

    def step_with_a_fault() -> torch.Tensor:
        if run.timetable.step == 20 and run.divergences == 0:
            with torch.no_grad():
                run.trainer.model.transformer.wte.weight.fill_(float("nan"))
        if run.timetable.step == 10 and run.divergences == 0:
            run.save()
        return make_step()

    run.trainer.step = step_with_a_fault  # type: ignore[method-assign]
    assert not run.train().interrupted
    assert "back to step 10 at 0.5 of the learning rate" in capsys.readouterr().err
    assert (run.timetable.step, run.trainer.caution) == (50, 0.5)
    assert all(bool(weight.isfinite().all()) for weight in weights_of(tmp_path / "GPyT").values())


def test_a_run_that_always_diverges_ends_with_a_reason(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    run.trainer.rows.tokens = run.trainer.rows.tokens.copy()
    run._begin_again = lambda: None  # type: ignore[method-assign]
    with torch.no_grad():
        run.trainer.model.transformer.wte.weight.fill_(float("nan"))
    with pytest.raises(RunFailedError, match="diverged 4 times"):
        run.train()
    assert not (tmp_path / "GPyT").exists()


def test_a_run_by_the_clock_ends_on_time(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer, steps=10, seconds=2.0)  # planned: far too few
    ending = run.train()
    assert ending.seconds == pytest.approx(2.0, rel=0.25)
    assert run.timetable.progress == pytest.approx(1.0)


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


def test_a_plan_is_found_again_in_its_record() -> None:
    plan = Plan(Shape(1, 2, 16, 16, 512), 4, 2, 50, 12.5, 0.01, 1e9)
    assert plan_from_record(json.loads(json.dumps(plan_record(plan, MACHINE)))) == plan
