"""The best model on held-out files is the one that is kept, and looking for it never costs the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from closing import close_run
from held_out import HeldOutScore
from safetensors.torch import load_file
from test_training_run import make_run, stop_at, tokenizer

torch.set_num_threads(1)  # at these sizes a second thread only waits

__all__ = ["tokenizer"]  # the fixture


def scripted(run: Any, bits: dict[int, float]) -> dict[int, dict[str, torch.Tensor]]:
    """Let the run's measurements be these, by step; the weights that it had at each."""
    weights: dict[int, dict[str, torch.Tensor]] = {}

    def measure(model: Any, ranks: Any) -> HeldOutScore:
        step = run.timetable.step
        weights[step] = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        return HeldOutScore(bits[step] * 1000, 1000, 3)

    run.watch.measure = measure
    run.watch.points = lambda progress: [p for p in (0.19, 0.39, 0.59) if p > progress + 1e-9]
    return weights


def holds(folder: Path, weights: dict[str, torch.Tensor]) -> bool:
    saved = load_file(folder / "model.safetensors")
    return all(torch.equal(saved[name], weight) for name, weight in weights.items())


def test_the_folder_holds_the_best_weights_and_says_whose_they_are(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    weights = scripted(run, {10: 3.0, 20: 2.0, 30: 2.5, 50: 2.1})
    run.train()
    figures = close_run(run, finished=True)
    assert holds(tmp_path / "GPyT", weights[20])
    assert (figures["held_out_bits_per_byte"], figures["best_step"]) == (2.0, 20)
    assert figures["last_bits_per_byte"] == 2.1


def test_the_last_weights_are_kept_where_they_are_the_best(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    weights = scripted(run, {10: 3.0, 20: 2.0, 30: 2.5, 50: 1.9})
    run.train()
    figures = close_run(run, finished=True)
    assert holds(tmp_path / "GPyT", weights[50])
    assert "best_step" not in figures


def test_a_resumed_run_knows_what_has_to_be_beaten(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    weights = scripted(run, {10: 3.0, 20: 2.0})
    stop_at(run, 25)
    assert run.train().interrupted
    again = make_run(tmp_path / "GPyT", tokenizer)
    scripted(again, {30: 2.5, 50: 2.1})
    again.resume()
    again.train()
    close_run(again, finished=True)
    assert holds(tmp_path / "GPyT", weights[20])


def test_a_measurement_that_fails_finds_the_run_saved(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    scripted(run, {})  # KeyError at the first look
    with pytest.raises(KeyError):
        run.train()
    again = make_run(tmp_path / "GPyT", tokenizer)
    again.resume()
    assert again.timetable.step == 10


def test_samples_of_code_are_in_the_log(tmp_path: Path, tokenizer: Path) -> None:
    make_run(tmp_path / "GPyT", tokenizer).train()
    rows = [
        json.loads(line) for line in (tmp_path / "GPyT/training_log.jsonl").read_text("utf-8").splitlines()
    ]
    samples = {row["step"]: row["sample"] for row in rows if "sample" in row}
    assert list(samples) == [1, 5, 15, 30, 50]
    assert all(sample.startswith("def ") for sample in samples.values())
