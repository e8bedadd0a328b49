"""model/evaluate.py as a user runs it: figures, side by side, resumed; one line for every bad input."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import evaluation.problems
from corpus.data_file import Document
from document_lines import document_line
from evaluate import main
from evaluation.held_out_texts import names_of
from evaluation.problems import solved
from evaluation.sandbox import NoSandbox, find
from evaluation.score_page import score_page
from evaluation.score_record import comparison, verdict
from evaluation.score_table import table
from pretrained.load import read_pretrained
from project import PROJECT, STDLIB, run_script, succeed
from tiny_model import change_json, save_tiny_model

SCRIPT = "model/evaluate.py"
READING = ("--parts", "read", "--threads", "1")  # at these sizes a second thread only waits


def document(text: str, repo: str, path: str, split: str) -> bytes:
    """A file's line of data.txt."""
    return document_line(Document(text, repo, path, "", "MIT", 0, 1, split))


def evaluate(data: Path, *arguments: str | Path) -> dict[str, Any]:
    """What scores.json says after a run of it, in this process."""
    assert main(["--data", str(data), *READING, *map(str, arguments)]) in (0, 3)
    output = Path(str(arguments[arguments.index("--output") + 1]))
    found: dict[str, Any] = json.loads((output / "scores.json").read_text("utf-8"))
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line with which a run is refused."""
    assert main([str(argument) for argument in arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("error: ")
    return shown.err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data.txt of eight packages, four of them held out."""
    path = tmp_path_factory.mktemp("held-out") / "data.txt"
    held_out = ("json", "logging", "email", "wsgiref")
    packages = sorted((*held_out, "asyncio", "http", "unittest", "xml"))
    with path.open("wb") as lines:
        for package in packages:
            for file in sorted((STDLIB / package).glob("*.py")):
                if text := file.read_text(encoding="utf-8"):
                    split = "held_out" if package in held_out else "train"
                    lines.write(document(text, f"installed/{package}", file.name, split))
    return path


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model trained on that data; train.py's sample is the first 64 kB."""
    folder = tmp_path_factory.mktemp("trained")
    paths: list[str | Path] = ["--data", data, "--tokenizer", folder / "tokenizer"]
    succeed(run_script("preprocess/tokenizer.py", "-t", *paths, "--vocab-size", "1024"))
    shape = "--n-layer 1 --n-head 2 --n-embd 64 --block-size 128 --steps 40 --device cpu".split()
    succeed(run_script("model/train.py", *paths, "--output", folder / "GPyT", *shape))
    return folder / "GPyT"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights with a tokenizer of its own, as it comes from elsewhere."""
    return save_tiny_model(tmp_path_factory.mktemp("elsewhere") / "tiny")


def test_the_figures_of_a_trained_model(data: Path, trained: Path, tmp_path: Path) -> None:
    record = evaluate(data, trained, "--output", tmp_path, "--kilobytes", "100")
    sample, [model] = record["sample"], record["models"]
    assert sample["repositories"] == 4 and 100_000 <= sample["bytes"] < 110_000
    baselines = {name: figure["value"] for name, figure in record["baselines"]["figures"].items()}
    assert list(baselines.values()) == sorted(baselines.values(), reverse=True)
    figures = model["reading"]["figures"]
    bits = figures["bits_per_byte"]
    assert bits["interval"][0] < bits["value"] < bits["interval"][1]
    assert bits["value"] < baselines["frequencies of bytes"], "it has learnt something"
    shares = [
        figures[name]["value"] for name in ("whole_line_right", "next_token_right", "next_token_among_five")
    ]
    assert 0 <= shares[0] < shares[1] < shares[2] < 1
    classes = model["reading"]["classes"]
    total = sum(file["bits"] for file in model["reading"]["files"])
    assert sum(each["bits"] for each in classes.values()) == pytest.approx(total, rel=1e-9)
    assert sum(each["bytes"] for each in classes.values()) == sample["bytes"]
    known = model["reading"]["known"]
    assert known["is_clean"] and known["not_held_out"] == [] and 0 <= known["share"] < 0.05


def test_the_figure_of_train_py_is_found_again(data: Path, trained: Path, tmp_path: Path) -> None:
    record = evaluate(data, trained, "--output", tmp_path, "--kilobytes", "200")
    training = record["models"][0]["reading"]["training"]
    recorded = json.loads((trained / "provenance.json").read_text("utf-8"))
    assert training["said"] == recorded["figures"]["held_out_bits_per_byte"]
    assert training["bytes"] == recorded["held_out_sample"]["bytes"] <= record["sample"]["bytes"]
    assert training["here"] == pytest.approx(training["said"], rel=5e-4)  # it computes in bfloat16
    small = evaluate(data, trained, "--output", tmp_path / "small", "--kilobytes", "20")
    assert small["models"][0]["reading"]["training"]["here"] is None, "train.py's sample goes on"


def test_a_second_run_measures_nothing_and_one_elsewhere_gives_the_same_bytes(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "GPyT"
    shutil.copytree(trained, folder)
    assert main([str(folder), "--data", str(data), "--kilobytes", "50", *READING]) == 0
    first = (folder / "scores.json").read_bytes()
    capsys.readouterr()
    assert main([str(folder), "--data", str(data), "--kilobytes", "50", *READING]) == 0
    assert "measured nothing, everything is up to date" in capsys.readouterr().err
    assert (folder / "scores.json").read_bytes() == first
    (folder / "scores.json").unlink()
    succeed(run_script(SCRIPT, folder, "--data", data, "--kilobytes", "50", *READING))
    assert (folder / "scores.json").read_bytes() == first


def test_two_models_of_two_tokenizers_are_measured_on_the_same_bytes(
    data: Path, trained: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = evaluate(data, trained, tiny, "--output", tmp_path, "--kilobytes", "60")
    ours, theirs = (model["reading"]["files"] for model in record["models"])
    assert [(file["path"], file["bytes"]) for file in ours] == [
        (file["path"], file["bytes"]) for file in theirs
    ]
    assert sum(file["tokens"] for file in ours) < sum(file["tokens"] for file in theirs)
    [pair] = record["comparisons"]
    assert pair["says"] == "worse" and pair["interval"][0] > 0
    shown = capsys.readouterr()
    assert ": worse" in " ".join(shown.out.split())
    assert "no record of what it was trained on" in shown.err


def test_the_same_weights_under_two_names_are_noted(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(trained, twin)
    record = evaluate(data, trained, twin, "--output", tmp_path / "scores", "--kilobytes", "20")
    assert record["comparisons"][0] | {"says": "the same", "difference": 0.0} == record["comparisons"][0]
    assert "has the weights of" in capsys.readouterr().err


def test_a_model_that_has_learnt_from_the_sample_is_marked(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3: finished, with a gap that is named."""
    folder = tmp_path / "GPyT"
    shutil.copytree(trained, folder)
    change_json(folder / "provenance.json", held_out={"repositories": ["installed/json"], "files": []})
    assert main([str(folder), "--data", str(data), "--kilobytes", "20", *READING]) == 3
    assert "may have learnt some of this: it did not hold out installed/" in capsys.readouterr().err


def test_a_run_that_is_killed_keeps_its_parts_and_continues(
    data: Path, trained: Path, tiny: Path, tmp_path: Path
) -> None:
    """Killed as soon as the first model's part is on the disk."""
    command = [sys.executable, str(PROJECT / SCRIPT), str(trained), str(tiny), "--data", str(data)]
    scores = tmp_path / "scores.json"
    options = ["--output", str(tmp_path), "--kilobytes", "150", *READING]
    run = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None and not (scores.exists() and json.loads(scores.read_text("utf-8"))["models"]):
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert [model["name"] for model in json.loads(scores.read_text("utf-8"))["models"]] == [trained.name]
    result = succeed(run_script(SCRIPT, *command[2:], *options))
    assert f"measured {tiny.name}, in" in result.stderr
    whole = scores.read_bytes()
    scores.unlink()
    succeed(run_script(SCRIPT, *command[2:], *options))
    assert scores.read_bytes() == whole


def test_json_on_standard_output_is_the_file(data: Path, trained: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--data", data, "--output", tmp_path, "--kilobytes", "20", *READING]
    result = succeed(run_script(SCRIPT, trained, *options, "--json"))
    assert json.loads(result.stdout) == json.loads((tmp_path / "scores.json").read_text("utf-8"))


def test_the_table_fits_forty_columns(data: Path, trained: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--data", data, "--output", tmp_path, "--kilobytes", "20", *READING]
    result = succeed(run_script(SCRIPT, trained, *options, env={"COLUMNS": "40"}))
    assert max(map(len, result.stdout.splitlines())) <= 40
    assert "\x1b" not in result.stdout + result.stderr


def test_parts_are_read_or_read_and_write(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("write", "read,read", "read,", ""):
        with pytest.raises(SystemExit) as end:
            main(["--parts", wrong])
        assert end.value.code == 2
        assert f"argument --parts: {wrong!r} is neither read nor read,write" in capsys.readouterr().err


def test_the_last_line_puts_the_model_beside_the_best_compressor(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    options: list[str | Path] = ["--data", data, "--output", tmp_path, "--kilobytes", "20", *READING]
    last = succeed(run_script(SCRIPT, trained, *options)).stdout.splitlines()[-1]
    record = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    baselines = record["baselines"]["figures"]
    (name,) = [name for name in baselines if name.startswith("PPMd after ")]
    best = baselines[name]["value"]
    bits = record["models"][0]["reading"]["figures"]["bits_per_byte"]["value"]
    assert last == f"{bits:.3f} bits per byte; {name}: {best:.3f}"


# What it writes, and the page


@pytest.fixture(scope="module")
def written(data: Path, trained: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scores of two models that have also written, at twelve places."""
    folder = tmp_path_factory.mktemp("scores")
    options: list[str | Path] = ["--data", data, "--output", folder, "--kilobytes", "40", "--threads", "1"]
    succeed(run_script(SCRIPT, trained, tiny, *options, "--samples", "12", "--max-new-tokens", "20"))
    return folder


def test_what_the_models_write_stands_beside_what_people_wrote(written: Path) -> None:
    record = json.loads((written / "scores.json").read_text("utf-8"))
    for model in record["models"]:
        figures = model["writing"]
        assert figures["places"] == 12 and "writing_unfinished" not in model
        assert figures["judged_is_valid"]["value"] == 1.0
        assert figures["judged_is_valid"]["interval"][1] == 1.0
        assert 0 <= figures["next_line_exact"]["value"] <= figures["next_line_similarity"]["value"] <= 1
        people, machine = figures["people"], figures["model"]
        assert people["undefined_in_100_names"] <= machine["undefined_in_100_names"]
        assert people["tokens"] > 0 and len(figures["examples"]) == 5
    ours, theirs = (model["writing"] for model in record["models"])
    assert ours["model"]["copied"] is not None, "it has a sources.index"
    assert theirs["model"]["copied"] is None, "nobody knows"
    prompts = [[place["prompt"] for place in each["examples"]] for each in (ours, theirs)]
    assert prompts[0] == prompts[1], "every model continues the same text"


def test_the_places_that_a_killed_run_was_done_with_are_not_written_again(
    written: Path, data: Path, trained: Path, tiny: Path, tmp_path: Path
) -> None:
    """Killed as soon as ten of twelve places are on the disk; the rest gives the same bytes."""
    command = [sys.executable, str(PROJECT / SCRIPT), str(trained), str(tiny), "--data", str(data)]
    scores = tmp_path / "scores.json"
    options = ["--output", str(tmp_path), "--kilobytes", "40", "--threads", "1"]
    options += ["--samples", "12", "--max-new-tokens", "20"]
    run = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None and (not scores.exists() or b"writing_unfinished" not in scores.read_bytes()):
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert len(json.loads(scores.read_bytes())["models"][0]["writing_unfinished"]["rows"]) == 10
    succeed(run_script(SCRIPT, *command[2:], *options))
    assert scores.read_bytes() == (written / "scores.json").read_bytes()


def test_what_they_write_fits_forty_columns_too(written: Path) -> None:
    """Two models and people; a heading says of which texts the figures below it are."""
    shown = table(json.loads((written / "scores.json").read_text("utf-8"))).splitlines()
    assert max(len(line) for line in shown if ":" not in line) <= 40
    judged = shown[shown.index("with the judge:") :]
    assert judged[1].split()[:2] == ["texts", "compile"] and judged[1].count("100.0 %") == 2
    repeated = next(line for line in judged if "repeated 4-grams" in line)
    assert repeated.count("%") == 3, "of both models and of people"


class Page(HTMLParser):
    """What a page loads, which tags it has, and whether all of them are closed."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(written: Path) -> None:
    text = (written / "scores.html").read_text("utf-8")
    page = Page(text)
    assert page.open == [] and page.loads == []
    assert "script" not in page.tags
    for part in ("beside compressors", "What it gets right", "Where the bits go", "What context is worth",
                 "token by token", "What it writes, at 12 places", "How it was measured"):  # fmt: skip
        assert part in text


def test_code_and_names_on_the_page_are_escaped(written: Path) -> None:
    record = json.loads((written / "scores.json").read_text("utf-8"))
    attack = "</pre><script>alert(1)</script>\"'&"
    for model in record["models"]:
        model["name"] = attack
        tokens = [[attack, 9.0, [attack]]]
        model["reading"]["closely"] = {"repository": attack, "path": attack, "tokens": tokens}
        for place in model["writing"]["examples"]:
            place |= dict.fromkeys(place, attack)
        source = dict.fromkeys(("after", "repo", "path", "license"), attack)
        model["writing"]["copies"] = [{"tokens": 40, **source}]
    page = Page(score_page(record, f"python {attack}"))
    assert page.open == [] and "script" not in page.tags


def test_somebody_elses_page_is_not_replaced(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.html").write_text("mine", encoding="utf-8")
    options = ["--data", str(data), "--output", str(tmp_path), "--kilobytes", "20", *READING]
    assert main([str(trained), *options]) == 1
    assert "scores.html: choose another --output" in capsys.readouterr().err
    assert (tmp_path / "scores.html").read_text("utf-8") == "mine"


def test_explain_shows_a_file_with_the_bits_of_each_line(data: Path, trained: Path, tmp_path: Path) -> None:
    options: list[str | Path] = [trained, "--data", data, "--threads", "1"]
    shown = succeed(run_script(SCRIPT, *options, "--explain", "json/tool.py"))
    lines = shown.stdout.splitlines()
    code = (STDLIB / "json/tool.py").read_text("utf-8").splitlines()
    assert [line[9:].rstrip() for line in lines[: len(code)]] == [line.rstrip() for line in code]
    bits = sum(float(line[:7]) for line in lines)
    said = re.search(r"([\d,]+) bits for ([\d,]+) bytes", shown.stderr)
    assert said and float(said[1].replace(",", "")) == pytest.approx(bits, rel=0.01)
    assert "\x1b" not in shown.stdout and "installed/json/tool.py" in shown.stderr
    own = tmp_path / "mine.py"
    own.write_text("x = 1\n", encoding="utf-8")
    shown = succeed(run_script(SCRIPT, *options, "--explain", own))
    assert shown.stdout.splitlines()[0].endswith("x = 1")


def test_explain_says_what_it_cannot_find(
    data: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(trained), "--data", str(data), "--explain", "no/such/file.py"]) == 1
    assert "no/such/file.py: name it as owner/repository/path/to/file.py" in capsys.readouterr().err


# HumanEval


@pytest.fixture
def few_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight of the 164, and short programs: what is measured is measured by test_problems.py."""
    problems = evaluation.problems.read_problems()[:8]
    monkeypatch.setattr(evaluation.problems, "read_problems", lambda: problems)
    monkeypatch.setattr(evaluation.problems, "LONGEST_PROGRAM", 12)


def test_programs_are_run_in_a_sandbox_and_shown_problem_by_problem(
    data: Path, trained: Path, tmp_path: Path, few_problems: None, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(find(), NoSandbox):
        pytest.skip("no sandbox on this machine")
    record = evaluate(data, trained, "--output", tmp_path, "--kilobytes", "20", "--humaneval", "2")
    found = record["models"][0]["humaneval"]
    assert [row["judged"] for row in found["rows"]] == [False, True]
    assert [row["programs"] for row in found["rows"]] == [16, 16]
    assert found["rows"][1]["outcomes"]["not Python"] == 0, "what the judge holds compiles"
    assert "humaneval_unfinished" not in record["models"][0] and found["known"] is not None
    assert "with the judge: 0 of 16, below 18.75%" in capsys.readouterr().out
    page = (tmp_path / "scores.html").read_text("utf-8")
    assert page.count("<title>HumanEval/") == 16 and Page(page).open == []
    without = evaluate(data, trained, "--output", tmp_path, "--kilobytes", "20")
    assert "humaneval" not in without["models"][0], "only when it is asked for"


def test_without_a_sandbox_the_rest_is_measured_and_the_remedy_named(
    data: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 3: finished, with a gap that is named."""
    nothing = NoSandbox({"bwrap": "setting up uid map: Permission denied"}, "run: sudo apt-get install x")
    monkeypatch.setattr("evaluation.sandbox.find", lambda choice: nothing)
    options = ["--data", str(data), "--output", str(tmp_path), "--kilobytes", "20", *READING]
    assert main([str(trained), *options, "--humaneval", "1"]) == 3
    shown = capsys.readouterr()
    assert "which needs a sandbox: bwrap: setting up uid map: Permission denied: run: sudo" in shown.err
    assert "bits per byte" in shown.out
    assert "humaneval" not in json.loads((tmp_path / "scores.json").read_text("utf-8"))["models"][0]


def test_programs_that_a_killed_run_had_written_are_not_written_again(
    trained: Path, few_problems: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = find()
    if isinstance(sandbox, NoSandbox):
        pytest.skip("no sandbox on this machine")
    monkeypatch.setattr(evaluation.problems, "SAVE_EVERY", 5)
    options = argparse.Namespace(humaneval=1, seed=0, device="cpu")
    pretrained, saved = read_pretrained(trained), list[list[str]]()
    whole = solved(pretrained, options, sandbox, [], lambda texts: saved.append(list(texts)))
    assert [len(texts) for texts in saved] == [5, 10, 15]
    asked: list[str] = []
    write: Any = evaluation.problems.continuation

    def continuation(completer: object, prompt: str, *settings: object) -> str:
        asked.append(prompt)
        return str(write(completer, prompt, *settings))

    monkeypatch.setattr(evaluation.problems, "continuation", continuation)
    assert solved(pretrained, options, sandbox, saved[1], lambda texts: None) == whole
    assert len(asked) == 6


# Bad input


def test_what_is_missing_is_named(tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"no model folder: {tmp_path}/none: " in refusal(capsys, tmp_path / "none")
    assert f"no data file: {tmp_path}/none.txt: " in refusal(capsys, trained, "--data", tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    assert "config.json is missing" in refusal(capsys, tmp_path / "empty", "--data", trained / "config.json")


def test_data_of_which_nothing_is_held_out_names_the_stage_that_holds_out(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.txt"
    data.write_bytes(document("x = 1\n", "a/b", "c.py", "train"))
    assert main([str(trained), "--data", str(data), *READING]) == 1
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("error: no file is held out") and "data_preprocess.py" in shown


def test_weights_that_are_no_numbers_are_not_scored(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "GPyT"
    shutil.copytree(trained, folder)
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert main([str(folder), "--data", str(data), "--kilobytes", "20", *READING]) == 1
    shown = capsys.readouterr().err.splitlines()[-1]
    assert "weights are not finite numbers" in shown and "train.py --restart" in shown


def test_torn_weights_are_one_line(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "GPyT"
    shutil.copytree(trained, folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert "torn" in refusal(capsys, folder, "--data", data)


def test_somebody_elses_scores_are_not_replaced(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.json").write_text('{"mine": 1}', encoding="utf-8")
    assert "choose another --output" in refusal(capsys, trained, "--data", data, "--output", tmp_path)
    assert (tmp_path / "scores.json").read_text("utf-8") == '{"mine": 1}'


def test_an_output_that_cannot_be_written_is_one_line(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    code = main([str(trained), "--data", str(data), "--output", str(tmp_path / "taken"), *READING])
    shown = capsys.readouterr().err.splitlines()[-1]
    assert code == 1 and shown == f"error: not a folder: {tmp_path}/taken: choose another --output"


# Words


def test_models_are_called_as_they_were_typed_or_by_what_tells_them_apart() -> None:
    assert names_of([Path("GPyT"), Path("old/GPyT")]) == ["GPyT", "old/GPyT"]
    assert names_of([Path("/a/x/GPyT"), Path("/a/y/GPyT")]) == ["x/GPyT", "y/GPyT"]
    assert names_of([Path("/a/x/GPyT")]) == ["GPyT"]
    assert names_of([Path()]) == [Path.cwd().name]


def test_better_is_said_only_where_the_interval_leaves_out_zero() -> None:
    assert verdict(-0.04, (-0.1, -0.01), 1000, 9) == {"says": "better"}
    assert verdict(0.04, (0.01, 0.1), 1000, 9) == {"says": "worse"}
    assert verdict(0.0, (-0.1, 0.1), 1000, 9) == {"says": "the same"}
    assert verdict(0.04, None, 1000, 9) == {"says": "too few repositories to tell"}
    unclear = verdict(-0.01, (-0.03, 0.01), 1000, 9)
    assert unclear == {"says": "no difference that these 9 files can show", "bytes_that_would_tell": 4000}


def test_a_difference_is_that_of_the_pooled_figures() -> None:
    files: list[dict[str, Any]] = [{"repository": f"r{n}", "bits": 100.0 + n, "bytes": 100} for n in range(5)]
    fewer = [{**file, "bits": 0.9 * file["bits"]} for file in files]
    found = comparison({"name": "a", "reading": {"files": fewer}}, {"name": "b", "reading": {"files": files}})
    assert found["difference"] == pytest.approx(-0.102) and found["says"] == "better"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_run_says_that_finished_parts_stay(data: Path, trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / SCRIPT), str(trained), "--data", str(data)]
    run = subprocess.Popen(
        [*command, *READING, "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    assert run.stderr.readline().startswith("compressing")
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 130
    assert errors.splitlines()[-1] == ("interrupted: finished parts are kept; the same command continues")
