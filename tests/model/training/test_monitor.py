"""The best model on held-out files is the one that is kept, and looking for it never costs the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluation.bits_per_byte import IN_TURN, WHOLE_FILES, HeldOutScore
from small_run import make_run, stop_at
from training.monitor import CUT_FILES, HeldOutMonitor, Milestones, draw_sample
from training.report import write_report

torch.set_num_threads(1)  # at these sizes a second thread only waits


def scripted(run: Any, bits: dict[int, float]) -> dict[int, dict[str, torch.Tensor]]:
    """Let the run's measurements be these, by step; the weights that it had at each."""
    weights: dict[int, dict[str, torch.Tensor]] = {}

    def measure(model: Any, ranks: Any) -> HeldOutScore:
        step = run.schedule.step
        weights[step] = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        return HeldOutScore(bits[step] * 1000, 1000, 3)

    run.monitor.score = measure
    run.monitor.milestones = Milestones((0.19, 0.39, 0.59))
    return weights


def holds(folder: Path, weights: dict[str, torch.Tensor]) -> bool:
    saved = load_file(folder / "model.safetensors")
    return all(torch.equal(saved[name], weight) for name, weight in weights.items())


def test_the_folder_holds_the_best_weights_and_says_whose_they_are(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    weights = scripted(run, {10: 3.0, 20: 2.0, 30: 2.5, 50: 2.1})
    run.train()
    figures = write_report(run, with_sources=False, finished=True)
    assert holds(tmp_path / "GPyT", weights[20])
    assert (figures["held_out_bits_per_byte"], figures["best_step"]) == (2.0, 20)
    assert figures["last_bits_per_byte"] == 2.1


def test_the_last_weights_are_kept_where_they_are_the_best(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    weights = scripted(run, {10: 3.0, 20: 2.0, 30: 2.5, 50: 1.9})
    run.train()
    figures = write_report(run, with_sources=False, finished=True)
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
    write_report(again, with_sources=False, finished=True)
    assert holds(tmp_path / "GPyT", weights[20])


def test_a_measurement_that_fails_finds_the_run_saved(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    scripted(run, {})  # KeyError at the first look
    with pytest.raises(KeyError):
        run.train()
    again = make_run(tmp_path / "GPyT", tokenizer)
    again.resume()
    assert again.schedule.step == 10


def test_samples_of_code_are_in_the_log(tmp_path: Path, tokenizer: Path) -> None:
    make_run(tmp_path / "GPyT", tokenizer).train()
    rows = [
        json.loads(line) for line in (tmp_path / "GPyT/training_log.jsonl").read_text("utf-8").splitlines()
    ]
    samples = {row["step"]: row["sample"] for row in rows if "sample" in row}
    assert list(samples) == [1, 5, 15, 30, 50]
    assert all(sample.startswith("def ") for sample in samples.values())


def test_a_resumed_run_keeps_the_rule_that_it_began_with(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    plan, dataset = run.plan, run.dataset
    assert draw_sample(plan, dataset, tokenizer, {"plan": {}}).rule == WHOLE_FILES  # made by version 0.1
    for rule in (WHOLE_FILES, IN_TURN):
        unfinished = {"plan": {}, "held_out_sample": {"rule": rule}}
        assert draw_sample(plan, dataset, tokenizer, unfinished).rule == rule
    assert draw_sample(plan, dataset, tokenizer, None).rule == IN_TURN


def test_a_sample_of_cut_files_is_forecast_to_be_harder_than_one_of_whole_files(
    tmp_path: Path, tokenizer: Path
) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    plan, dataset, sample = run.plan, run.dataset, run.monitor.sample
    whole, cut = (
        HeldOutMonitor(plan, dataset, replace(sample, rule=rule)).difficulty
        for rule in (WHOLE_FILES, IN_TURN)
    )
    assert whole is not None and cut is not None
    assert cut == pytest.approx(CUT_FILES * whole)
    assert whole == pytest.approx(sample.tokens / sample.text_bytes * dataset.train.bytes_per_token)
