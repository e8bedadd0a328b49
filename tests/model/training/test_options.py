"""The options of train.py: the record that a resumed run is compared with, and options that clash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_cli import UserError, script_parser
from training.options import FIM_RATE, TrainOptions, add_options, check_options, default_fim_rate


def options_of(*arguments: str) -> TrainOptions:
    parser = script_parser("")
    add_options(parser)
    return TrainOptions(**vars(parser.parse_args(arguments)))


def test_the_record_has_the_names_that_every_provenance_json_has() -> None:
    by_steps = options_of("--steps", "50", "--n-layer", "2", "--device", "cpu", "--fim-rate", "0")
    assert by_steps.record == {
        "minutes": None,
        "steps": 50,
        "seed": 0,
        "size": None,
        "n_layer": 2,
        "n_head": None,
        "n_embd": None,
        "block_size": None,
        "batch_size": None,
        "dtype": "auto",
        "fim_rate": 0.0,
        "full_softmax": None,  # as for a run of before there was the option
        "all_documents": None,
        "like": None,
    }
    assert options_of("--full-softmax", "--fim-rate", "0").record["full_softmax"] is True
    by_the_clock = options_of("--minutes", "3", "--size", "5M", "--fim-rate", "0.5")
    assert by_the_clock.record == {
        **by_steps.record,
        "minutes": 3.0,
        "steps": None,
        "size": 5e6,
        "n_layer": None,
        "fim_rate": 0.5,
    }
    assert (by_steps.seconds, by_the_clock.seconds) == (None, 180.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "5M", "--n-layer", "2"], "--size and --n-layer both choose the shape"),
        (["--n-embd", "100", "--n-head", "3"], "--n-embd 100 is not a multiple of --n-head 3"),
        (
            ["--init-from", "base", "--size", "5M"],
            "--size cannot be chosen: the shape is that of --init-from",
        ),
        (["--init-from", "same", "--output", "same"], "cannot be read from and replaced at once"),
        (["--fsdp"], "--fsdp divides the weights among processes"),
    ],
)
def test_options_that_clash_are_refused_before_anything_is_loaded(
    arguments: list[str], message: str, tmp_path: Path, tokenizer: Path
) -> None:
    data = tmp_path / "data.txt"
    data.write_text("{}\n", encoding="utf-8")
    options = options_of("--data", str(data), "--tokenizer", str(tokenizer), *arguments)
    with pytest.raises(UserError, match=message):
        check_options(options)


def test_gaps_are_learnt_unless_the_tokenizer_or_the_base_model_does_not_know_them(
    tmp_path: Path, tokenizer: Path
) -> None:
    assert default_fim_rate(options_of("--tokenizer", str(tokenizer))) == FIM_RATE > 0
    unmarked, broken = tmp_path / "unmarked", tmp_path / "broken"
    for folder, text in ((unmarked, '{"added_tokens": [{"content": "<|endoftext|>"}]}'), (broken, "{")):
        folder.mkdir()
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        assert default_fim_rate(options_of("--tokenizer", str(folder))) == 0
    assert default_fim_rate(options_of("--tokenizer", str(tmp_path / "missing"))) == 0
    for rate, expected in ((0.5, FIM_RATE), (0.0, 0), (None, 0)):
        record = json.dumps({"options": {"fim_rate": rate}})
        (unmarked / "provenance.json").write_text(record, encoding="utf-8")
        options = options_of("--tokenizer", str(tokenizer), "--init-from", str(unmarked))
        assert default_fim_rate(options) == expected


def test_the_same_command_goes_on_with_the_rate_that_a_run_has(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "provenance.json").write_text('{"options": {"fim_rate": 0.0}}', encoding="utf-8")
    command = ("--tokenizer", str(tokenizer), "--output", str(tmp_path))
    assert default_fim_rate(options_of(*command)) == 0
    assert default_fim_rate(options_of(*command, "--restart")) == FIM_RATE


@pytest.mark.parametrize("wrong", ["--steps 0", "--minutes -1", "--fim-rate 1.5", "--size big"])
def test_a_value_that_makes_no_sense_is_a_usage_error(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        options_of(*wrong.split())
    assert exit_.value.code == 2
    assert wrong.split()[0] in capsys.readouterr().err


def test_a_negative_seed_is_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options_of("--seed", "-1")
    assert "-1 is less than 0" in capsys.readouterr().err
