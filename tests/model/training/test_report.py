"""What a run leaves beside its weights: a card that the Hub can read, and a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from pretrained.provenance import RunFingerprint, read_provenance
from small_run import make_run, stop_at
from training.report import beside_forecast, write_report


@pytest.fixture
def card(tmp_path: Path, tokenizer: Path) -> Any:
    run = make_run(tmp_path / "GPyT", tokenizer)
    run.train()
    write_report(run, with_sources=False, finished=True)
    return ModelCard.load(tmp_path / "GPyT" / "README.md")


def test_the_card_tells_the_hub_what_was_measured(card: Any) -> None:
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.tags == ["gpt2", "python", "code"]
    [result] = card.data.eval_results or []
    assert (result.metric_type, result.metric_name) == ("bits_per_byte", "bits per byte")
    assert f"**{result.metric_value:.3f}**" in card.text
    assert result.dataset_name == "4 held-out Python files"


def test_the_metadata_are_yaml_as_the_hub_wants_it(card: Any) -> None:
    [model] = card.data.to_dict()["model-index"]
    assert model["name"] == "GPyT"
    [result] = model["results"]
    assert result["task"]["type"] == "text-generation"
    assert set(result["dataset"]) >= {"type", "name"}
    assert [set(metric) >= {"type", "value"} for metric in result["metrics"]] == [True]


def test_the_card_names_data_licences_and_base_and_shows_the_loss_and_a_sample(
    tmp_path: Path, tokenizer: Path
) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    train = run.dataset.train
    licences = [("c", f"Licence-{number}") for number in range(14)] + [("c", "MIT"), ("d", "MIT"), ("c", "")]
    origin = np.array([14, 15, 14, 16, *range(6)], dtype=np.int32)
    run.dataset = replace(run.dataset, train=replace(train, origin=origin, origins=licences))
    run.train()
    run.log.rows[-1]["sample"] = "def f():\n    x = '```'\x1b"
    write_report(run, tmp_path / "base", with_sources=False, finished=True)
    card: Any = ModelCard.load(tmp_path / "GPyT" / "README.md")
    assert (card.data.base_model, card.data.datasets, card.data.license) == ("base", ["data"], "other")
    assert "| MIT | 3 |\n" in card.text
    assert "| unknown | 1 |" in card.text
    assert "![bits per byte during training](loss.png)" in card.text
    assert "````python\ndef f():\n    x = '```'\N{REPLACEMENT CHARACTER}\n````\n" in card.text
    assert "further, from the weights of `base`," in card.text


def test_the_record_names_no_path_of_this_machine(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    run.folder.fingerprint = RunFingerprint(
        {"path": str(tmp_path / "data.txt"), "sha256": "d", "size": 1, "mtime_ns": 2},
        {"path": str(tokenizer), "sha256": "t"},
        {"seed": 0},
        {"path": str(tmp_path / "base"), "sha256": "b"},
    )
    run.train()
    write_report(run, with_sources=False, finished=True)
    for file in ("provenance.json", "README.md", "config.json", "training_log.jsonl"):
        assert str(tmp_path) not in (tmp_path / "GPyT" / file).read_text(encoding="utf-8")
    record = read_provenance(tmp_path / "GPyT")
    assert record["data"] == {"name": "data.txt", "sha256": "d", "size": 1, "mtime_ns": 2}
    assert [record[entry]["name"] for entry in ("tokenizer", "init_from")] == ["tokenizer", "base"]


def test_the_card_of_an_interrupted_run_claims_no_figure(tmp_path: Path, tokenizer: Path) -> None:
    run = make_run(tmp_path / "GPyT", tokenizer)
    stop_at(run, 20)
    run.train()
    figures = write_report(run, with_sources=False, finished=False)
    card: Any = ModelCard.load(tmp_path / "GPyT" / "README.md")
    assert "held_out_bits_per_byte" not in figures
    assert card.data.eval_results is None
    assert "model-index" not in card.data.to_dict()
    assert "not measured: the run was interrupted" in card.text
    assert (tmp_path / "GPyT" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "GPyT" / "checkpoints").glob("step-*")), "the run can be continued"


@pytest.mark.parametrize(
    ("off_by", "said"),
    [
        (0.0310, "3.1% too high: the model is better"),
        (-0.1, "10.0% too low: the model is worse"),
        (0.0001, "as measured"),
    ],
)
def test_whether_a_model_is_better_than_its_forecast_is_said_in_words(off_by: float, said: str) -> None:
    assert beside_forecast(off_by) == said
