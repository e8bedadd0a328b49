"""model/train.py by its command line, on real Python files; what it writes, by transformers itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from pretokenizer_choice import score_folder
from project import PROJECT, run_script, succeed

TINY = "--n-layer 1 --n-head 2 --n-embd 32 --block-size 128 --device cpu --threads 1".split()


def train(data: Path, tokenizer: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    paths = ["--data", str(data), "--tokenizer", str(tokenizer), "--output", str(output)]
    return run_script("model/train.py", *paths, *TINY, *options)


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


# What transformers makes of the folder


def test_transformers_loads_model_and_tokenizer_without_a_warning(
    model_folder: Path, tokenizer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.enable_propagation()
    with warnings.catch_warnings(), caplog.at_level("WARNING"):
        warnings.simplefilter("error")
        model: Any
        loading: Any
        model, loading = AutoModelForCausalLM.from_pretrained(model_folder, output_loading_info=True)  # type: ignore[misc]
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert caplog.records == []
    assert not any(loading.values()), loading
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.config.vocab_size == len(tokenizer) == 1024

    text = "def f(x):\n    return 'a <|endoftext|> b'\n"
    original = AutoTokenizer.from_pretrained(tokenizer_folder)
    ids = tokenizer(text)["input_ids"]
    assert ids == original(text)["input_ids"]
    assert 0 not in ids, "text of a source file became a special token"
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert pre_tokenizer == original.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)


def test_the_configuration_says_what_transformers_and_llama_cpp_would_guess_wrongly(
    model_folder: Path,
) -> None:
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    generation = json.loads((model_folder / "generation_config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((model_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for record in (config, generation):
        assert [record[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [0, 0, 1]
    assert config["n_ctx"] == config["n_positions"] == 128
    assert [config[f"{name}_pdrop"] for name in ("attn", "embd", "resid")] == [0.0] * 3
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["split_special_tokens"] is True


def test_the_folder_is_complete_and_holds_no_pickle(model_folder: Path) -> None:
    names = {path.name for path in model_folder.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "generation_config.json",
        "loss.png",
        "model.safetensors",
        "provenance.json",
        "sources.index",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_log.jsonl",
    }
    assert (model_folder / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_it_has_learnt_something(model_folder: Path, data_txt: Path, tokenizer_folder: Path) -> None:
    # Ten bits for each of 1,024 entries are 4.2 at the start. Files cost less whole than their beginnings.
    assert score_folder(model_folder, data_txt, tokenizer_folder)["bits_per_byte"] < 3.0
    figures = json.loads((model_folder / "provenance.json").read_text(encoding="utf-8"))["figures"]
    assert figures["held_out_bits_per_byte"] < 3.2
    assert f"**{figures['held_out_bits_per_byte']:.3f}**" in (model_folder / "README.md").read_text(
        encoding="utf-8"
    )


# Running again, being stopped


def test_a_finished_run_says_so_and_other_options_need_restart(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "GPyT"
    first = succeed(train(data_txt, tokenizer_folder, output, "--steps", "5"))
    assert f"wrote {output}" in first.stdout
    assert "model/code_generator.py --model" in first.stdout
    before = content(output)

    started = time.monotonic()
    again = succeed(train(data_txt, tokenizer_folder, output, "--steps", "5"))
    assert again.stdout.startswith(f"up to date: {output} (5 steps")
    assert time.monotonic() - started < 20

    other = train(data_txt, tokenizer_folder, output, "--steps", "6")
    assert other.returncode == 1
    assert "--steps 5 there, 6 now" in other.stderr
    assert "--restart" in other.stderr
    assert content(output) == before

    succeed(train(data_txt, tokenizer_folder, output, "--steps", "6", "--batch-size", "3", "--restart"))
    record = json.loads((output / "provenance.json").read_text(encoding="utf-8"))
    assert (record["options"]["steps"], record["plan"]["rows"]) == (6, 3)
    assert record["figures"]["tokens"] == 6 * 3 * 128


def test_killed_and_interrupted_a_run_ends_in_the_same_model(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    steps = ["--steps", "300"]
    succeed(train(data_txt, tokenizer_folder, straight, *steps))
    paths = ["--data", str(data_txt), "--tokenizer", str(tokenizer_folder), "--output", str(broken)]
    command = [sys.executable, str(PROJECT / "model/train.py"), *paths, *TINY, *steps]
    for number in (signal.SIGKILL, signal.SIGINT):
        known = set(broken.glob("checkpoints/step-*"))
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and set(broken.glob("checkpoints/step-*")) <= known:
            time.sleep(0.01)
        process.send_signal(number)
        message = process.communicate(timeout=120)[1]
        if number == signal.SIGINT:
            assert process.returncode == 130, message
            assert "the same command continues from there" in message
            assert (broken / "loss.png").is_file()
    end = succeed(train(data_txt, tokenizer_folder, broken, *steps))
    assert "resuming at step" in end.stderr
    assert (broken / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


# Inputs and outputs that cannot be used


def refusal(*arguments: str | Path) -> str:
    """The one line that a run prints which is refused."""
    result = run_script("model/train.py", *arguments, *TINY, "--steps", "2")
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_missing_inputs_are_named_with_the_command_that_makes_them(data_txt: Path, tmp_path: Path) -> None:
    nowhere, empty = tmp_path / "nowhere.txt", tmp_path / "empty.txt"
    empty.touch()
    for data in (nowhere, empty):
        line = refusal("--data", data, "--output", tmp_path / "GPyT")
        assert str(data) in line
        assert "python preprocess/data_preprocess.py" in line
    line = refusal("--data", data_txt, "--tokenizer", tmp_path / "none", "--output", tmp_path / "GPyT")
    assert "python preprocess/tokenizer.py -t" in line
    assert not (tmp_path / "GPyT").exists()


def test_a_folder_of_somebody_else_is_left_alone(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "GPyT"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work", encoding="utf-8")
    for option in ([], ["--restart"]):
        line = refusal("--data", data_txt, "--tokenizer", tokenizer_folder, "--output", output, *option)
        assert "choose another --output" in line
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]


def test_data_without_training_documents_and_torn_data_are_refused(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    held_out, torn = tmp_path / "held_out.txt", tmp_path / "torn.txt"
    lines = data_txt.read_text(encoding="utf-8").splitlines(keepends=True)
    held_out.write_text("".join(line for line in lines if '"split": "held_out"' in line), encoding="utf-8")
    torn.write_text("".join(lines)[:-200], encoding="utf-8")
    for data, expected in ((held_out, "no train"), (torn, str(torn))):
        paths = ("--data", data, "--tokenizer", tokenizer_folder, "--output", tmp_path / "GPyT")
        assert expected in refusal(*paths, "--any-tokenizer")
    assert not (tmp_path / "GPyT").exists()


def test_a_tokenizer_that_belongs_to_other_data_is_refused_unless_asked_for(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    data, output = tmp_path / "data.txt", tmp_path / "GPyT"
    lines = data_txt.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[1:]), encoding="utf-8", newline="\n")
    line = refusal("--data", data, "--tokenizer", tokenizer_folder, "--output", output)
    assert f"this tokenizer was learnt from other data: {tokenizer_folder}" in line
    again = f"python preprocess/tokenizer.py -t --data {data} --tokenizer {tokenizer_folder}"
    assert f"learn it again: {again}, or accept it with --any-tokenizer" in line
    assert not output.exists()
    succeed(train(data, tokenizer_folder, output, "--steps", "2", "--any-tokenizer"))
    assert succeed(train(data, tokenizer_folder, output, "--steps", "2")).stdout.startswith("up to date")


def test_a_tokenizer_whose_files_are_not_those_of_its_record_is_refused(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    tokenizer = Path(shutil.copytree(tokenizer_folder, tmp_path / "tokenizer"))
    content = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    (tokenizer / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    line = refusal("--data", data_txt, "--tokenizer", tokenizer, "--output", tmp_path / "GPyT")
    assert f"its files are not those of its provenance.json: {tokenizer}" in line
    (tokenizer / "provenance.json").unlink()  # from elsewhere, without a record: accepted
    succeed(train(data_txt, tokenizer, tmp_path / "GPyT", "--steps", "2"))


def test_a_tiny_corpus_gets_a_smaller_context(data_txt: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    document = json.loads(data_txt.read_text(encoding="utf-8").split("\n", 1)[0])
    data = tmp_path / "data.txt"
    data.write_text(
        json.dumps({**document, "text": "print('hello')\n" * 4, "split": "train"}) + "\n", encoding="utf-8"
    )
    result = succeed(train(data, tokenizer_folder, tmp_path / "GPyT", "--steps", "3", "--any-tokenizer"))
    config = json.loads((tmp_path / "GPyT" / "config.json").read_text(encoding="utf-8"))
    assert config["n_positions"] < 64
    assert f"so the context is {config['n_positions']}" in result.stderr
    assert "held out: no file" in result.stdout


def test_an_earlier_model_survives_a_replacement_killed_halfway(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "GPyT"
    succeed(train(data_txt, tokenizer_folder, output, "--steps", "5"))
    shutil.move(output, tmp_path / ".GPyT.previous")  # killed after the first of two renamings
    again = succeed(train(data_txt, tokenizer_folder, output, "--steps", "5"))
    assert again.stdout.startswith("up to date")
    assert not os.path.lexists(tmp_path / ".GPyT.previous")


# The plan, and what is shown on the way


def test_plan_prints_plan_and_forecast_and_writes_nothing(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    files = [
        "--data",
        str(data_txt),
        "--tokenizer",
        str(tokenizer_folder),
        "--output",
        str(tmp_path / "GPyT"),
    ]
    machine = ["--device", "cpu", "--threads", "1"]
    result = succeed(
        run_script("model/train.py", *files, "--size", "0.5M", "--minutes", "0.2", "--plan", *machine)
    )
    assert " M parameters: 2 layers, 128 wide, 2 heads, context 512" in result.stderr
    forecast = r"forecast (\d\.\d\d) bits per byte on held-out files \((\d\.\d\d) to (\d\.\d\d)\)"
    found = re.search(forecast, result.stderr)
    assert found
    middle, low, high = map(float, found.groups())
    assert low < middle < high
    assert list(tmp_path.iterdir()) == []


def test_filling_gaps_is_learnt_recorded_and_resumed_exactly_and_every_step_is_a_line(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    options = ["--steps", "60", "--fim-rate", "0.5", "--report-to", "tensorboard"]
    whole = succeed(train(data_txt, tokenizer_folder, straight, *options))
    lines = [
        dict(word.split("=") for word in line.split())
        for line in whole.stderr.splitlines()
        if line.startswith("step=")
    ]
    assert [int(line["step"]) for line in lines] == list(range(1, 61))
    assert {"loss", "bits_per_byte", "tokens_per_second", "memory_gb", "seconds_left"} <= set(lines[-1])
    assert "  | def " in whole.stderr
    record = json.loads((straight / "provenance.json").read_text(encoding="utf-8"))
    assert record["options"]["fim_rate"] == 0.5
    assert list((straight / "tensorboard").glob("events.out.tfevents.*"))

    paths = ["--data", str(data_txt), "--tokenizer", str(tokenizer_folder), "--output", str(broken)]
    command = [sys.executable, str(PROJECT / "model/train.py"), *paths, *TINY, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(broken.glob("checkpoints/step-*")):
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    succeed(train(data_txt, tokenizer_folder, broken, *options))
    assert (broken / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_a_report_without_its_package_is_said_with_the_command_that_brings_it(
    data_txt: Path,
    tokenizer_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import train as script
    from training import options

    monkeypatch.setattr(options, "find_spec", lambda name: None)
    files = ["--data", str(data_txt), "--tokenizer", str(tokenizer_folder)]
    assert script.main([*files, "--report-to", "tensorboard"]) == 1
    assert "pip install tensorboard" in capsys.readouterr().err


# A large vocabulary


def test_a_large_vocabulary_is_compared_in_samples_unless_all_of_it_is_asked_for(
    data_txt: Path, tmp_path: Path
) -> None:
    tokenizer = tmp_path / "tokenizer"
    learn = ["-t", "--data", str(data_txt), "--tokenizer", str(tokenizer), "--vocab-size", "8192"]
    succeed(run_script("preprocess/tokenizer.py", *learn))
    sampled, full = tmp_path / "sampled", tmp_path / "full"
    said = succeed(train(data_txt, tokenizer, sampled, "--steps", "4")).stderr
    assert "loss     in each step over a sample of the 8,192 entries" in said
    silent = succeed(train(data_txt, tokenizer, full, "--steps", "4", "--full-softmax")).stderr
    assert "sample of" not in silent
    plans = [
        json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["plan"]
        for folder in (sampled, full)
    ]
    assert [plan["sampled_softmax"] for plan in plans] == [True, False]
    assert (sampled / "model.safetensors").read_bytes() != (full / "model.safetensors").read_bytes()
    differs = train(data_txt, tokenizer, sampled, "--steps", "4", "--full-softmax")
    assert "--full-softmax unset there, True now" in differs.stderr


# A short run


def test_a_run_without_time_for_all_files_leaves_some_out_and_says_so(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    said, plans, cards = [], [], []
    for name, options in (("some", []), ("all", ["--all-documents"])):
        run = succeed(train(data_txt, tokenizer_folder, tmp_path / name, "--steps", "4", *options))
        said.append(run.stderr)
        plans.append(json.loads((tmp_path / name / "provenance.json").read_text(encoding="utf-8"))["plan"])
        cards.append((tmp_path / name / "README.md").read_text(encoding="utf-8"))
    some, every = (int(re.findall(r"corpus   ([0-9,]+) files", each)[0].replace(",", "")) for each in said)
    assert f"without {every - some:,} of {every:,} files: there is no time for all" in said[0]
    assert "no time" not in said[1]
    assert [plan["chooses_documents"] for plan in plans] == [True, False]
    assert 0.4 * every < some < every
    assert f"{some:,} files" in cards[0]
    assert f"({every - some:,} others were left out)" in cards[0]
    assert "left out" not in cards[1]
    differs = train(data_txt, tokenizer_folder, tmp_path / "some", "--steps", "4", "--all-documents")
    assert "--all-documents unset there, True now" in differs.stderr


def test_a_model_for_a_repository_says_so_keeps_to_it_and_refuses_what_is_not_there(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "GPyT"
    like = ["--like", "installed/http", "--steps", "4"]
    said = succeed(train(data_txt, tokenizer_folder, output, *like)).stderr
    assert "others are drawn from those most like installed/http" in said
    assert "forecast" not in said
    assert (
        json.loads((output / "provenance.json").read_text(encoding="utf-8"))["options"]["like"] == like[1:2]
    )
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "a model for `installed/http`" in card
    assert succeed(train(data_txt, tokenizer_folder, output, *like)).stdout.startswith("up to date: ")
    assert "--like" in refusal_of(data_txt, tokenizer_folder, output, "--like", "installed/htpt")
    assert "--init-from" in refusal_of(data_txt, tokenizer_folder, output, *like, "--init-from", str(output))


def refusal_of(data: Path, tokenizer: Path, output: Path, *options: str) -> str:
    """The error line of a run into another folder than that."""
    result = train(data, tokenizer, output.with_name("other"), *options)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return next(line for line in result.stderr.splitlines() if line.startswith("error: "))
