"""The whole journey: the README's six commands, run in an empty directory, and the contract between them.

Options that make a stage small (SMALL) are added at the end of each command, where they win.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pages import six_commands
from project import PROJECT, SCRIPTS, run_script, succeed

SMALL = {
    "data_collector/data_collector.py": "--max-mb 3",
    "preprocess/tokenizer.py": "--vocab-size 1024",
    "model/train.py": "--steps 30 --n-layer 2 --n-head 2 --n-embd 64 --block-size 128 --device cpu",
    "model/code_generator.py": "--max-new-tokens 40",
}
OUTPUTS = ("data.txt", "data.ledger.jsonl", "tokenizer/tokenizer.json", "GPyT/model.safetensors")


def run(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the README's commands in cwd, made small."""
    words = shlex.split(command, comments=True)
    script = next(word for word in words if word in SCRIPTS)
    arguments = words[words.index(script) + 1 :] + SMALL.get(script, "").split()
    return run_script(script, *arguments, cwd=cwd)


@dataclass(frozen=True)
class Journey:
    """A directory in which the six commands were run, and what each printed."""

    folder: Path
    results: dict[str, subprocess.CompletedProcess[str]]

    def documents(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (self.folder / "data.txt").read_text("utf-8").split("\n") if line
        ]

    def fates(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in (self.folder / "data.ledger.jsonl").read_text("utf-8").split("\n")
            if line
        ]


def travel(folder: Path) -> Journey:
    results = {}
    for command, script in zip(six_commands(), SCRIPTS, strict=True):
        results[script] = run(command, folder)
        assert results[script].returncode == 0, (
            f"{command}\n{results[script].stdout}\n{results[script].stderr}"
        )
    return Journey(folder, results)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return travel(tmp_path_factory.mktemp("journey"))


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_each_command_names_the_next(journey: Journey) -> None:
    for script, following in itertools.pairwise(SCRIPTS):
        assert following in journey.results[script].stdout, journey.results[script].stdout


def test_no_control_codes_reach_a_pipe(journey: Journey) -> None:
    for script, result in journey.results.items():
        assert "\x1b" not in result.stdout + result.stderr, script
        assert "\r" not in result.stdout + result.stderr, script


def test_only_python_files_and_the_record_are_left(journey: Journey) -> None:
    files = [path for path in (journey.folder / "repos").rglob("*") if not path.is_dir()]
    others = [path.name for path in files if path.suffix.lower() != ".py"]
    assert [name for name in others if not name.startswith("collection.db")] == []
    assert len(files) > 100


def test_every_document_has_the_keys_of_the_contract(journey: Journey) -> None:
    keys = {"text": str, "repo": str, "path": str, "commit": str, "license": str}
    types = {**keys, "piece": int, "pieces": int, "split": str}
    for document in journey.documents():
        assert {key: type(value) for key, value in document.items()} == types
        assert document["split"] in ("train", "held_out")


def test_documents_are_sorted_and_their_pieces_complete(journey: Journey) -> None:
    documents = journey.documents()
    order = [(document["repo"], document["path"], document["piece"]) for document in documents]
    assert order == sorted(order)
    for document, following in itertools.pairwise(documents):
        is_last = document["piece"] == document["pieces"] - 1
        assert following["piece"] == (0 if is_last else document["piece"] + 1)


def test_joined_pieces_are_files_that_compile(journey: Journey) -> None:
    files: dict[tuple[str, str], str] = {}
    for document in journey.documents():
        key = (document["repo"], document["path"])
        files[key] = files.get(key, "") + document["text"]
    for (repo, path), text in files.items():
        compile(text, f"{repo}/{path}", "exec", dont_inherit=True)


def test_a_repository_is_wholly_in_one_split(journey: Journey) -> None:
    documents = journey.documents()
    splits = {split: {d["repo"] for d in documents if d["split"] == split} for split in ("train", "held_out")}
    assert splits["train"] and splits["held_out"]
    assert splits["train"] & splits["held_out"] == set()


def test_the_ledger_accounts_for_every_file_once(journey: Journey) -> None:
    fates = journey.fates()
    named = [(fate["repo"], fate["path"]) for fate in fates]
    assert len(named) == len(set(named))
    assert len(named) == sum(
        1 for path in (journey.folder / "repos").rglob("*") if path.suffix.lower() == ".py"
    )
    kept = {(d["repo"], d["path"]): d["pieces"] for d in journey.documents()}
    assert {
        key: fate["pieces"] for key, fate in zip(named, fates, strict=True) if fate["outcome"] == "kept"
    } == kept


def test_the_summary_belongs_to_the_data(journey: Journey) -> None:
    summary = (journey.folder / "data.summary.json").read_text("utf-8")
    assert fingerprint(journey.folder / "data.txt") in summary


def test_datasets_reads_the_data_as_it_is(journey: Journey, tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset(
        "json", data_files=str(journey.folder / "data.txt"), split="train", cache_dir=str(tmp_path)
    )
    assert rows["text"][:5] == [document["text"] for document in journey.documents()[:5]]


def test_transformers_loads_the_model_in_silence_with_the_ids_of_the_tokenizer(journey: Journey) -> None:
    code = """
import sys, tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel
model, tokenizer = AutoModelForCausalLM.from_pretrained("GPyT"), AutoTokenizer.from_pretrained("GPyT")
first = AutoTokenizer.from_pretrained("tokenizer")
assert type(model) is GPT2LMHeadModel and model.config.vocab_size == len(tokenizer)
for text in ["def f(x):\\n    return x\\n", "<|endoftext|>", "  é\\r\\n\\t\\x00"]:
    raw = tokenizers.Tokenizer.from_file("tokenizer/tokenizer.json")
    raw.encode_special_tokens = True
    assert tokenizer(text).input_ids == first(text).input_ids == raw.encode(text).ids, text
    assert 0 not in tokenizer(text).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text
print("equal")
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    result = subprocess.run(command, cwd=journey.folder, capture_output=True, text=True, env=env, check=False)
    assert result.stdout == "equal\n", result.stderr
    noise = [line for line in result.stderr.splitlines() if "Loading weights" not in line and line.strip()]
    assert noise == []


def test_the_model_folder_holds_no_pickle(journey: Journey) -> None:
    names = {path.name for path in (journey.folder / "GPyT").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert {"provenance.json", "README.md", "training_log.jsonl", "loss.png"} <= names
    assert [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))] == []


def test_the_prompt_and_its_completion_are_all_that_is_printed(journey: Journey) -> None:
    words = shlex.split(six_commands()[-1])
    prompt = words[words.index("--prompt") + 1]
    output = journey.results["model/code_generator.py"].stdout
    assert output.startswith(prompt)
    assert output.endswith("\n")
    assert "<|" not in output


def test_a_second_run_of_every_stage_repeats_nothing(journey: Journey) -> None:
    before = {name: (journey.folder / name).stat().st_mtime_ns for name in OUTPUTS}
    for command in six_commands()[:-1]:
        succeed(run(command, journey.folder))
    assert {name: (journey.folder / name).stat().st_mtime_ns for name in OUTPUTS} == before


def test_the_same_journey_elsewhere_gives_the_same_bytes(journey: Journey, tmp_path: Path) -> None:
    again = travel(tmp_path)
    for name in OUTPUTS:
        assert fingerprint(again.folder / name) == fingerprint(journey.folder / name), name


QUICKSTART_SMALL = ["--minutes", "0.1", "--max-mb", "3"]


def quickstart(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """quickstart.sh in the environment that runs these tests, which it has to use as it is."""
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    command = ["bash", str(PROJECT / "quickstart.sh"), *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.timeout(300)
def test_quickstart_goes_all_the_way_and_does_not_repeat_itself(tmp_path: Path) -> None:
    first = succeed(quickstart(tmp_path, *QUICKSTART_SMALL))
    assert "bits per byte" in first.stdout
    for script in (*SCRIPTS, "model/evaluate.py"):
        assert f"$ python {PROJECT / script}" in first.stdout
    record = json.loads((tmp_path / "GPyT/scores.json").read_text("utf-8"))
    bits = record["models"][0]["reading"]["figures"]["bits_per_byte"]["value"]
    assert f"has not learnt from: {bits:.3f} bits per byte; " in first.stdout
    assert f"{tmp_path}/GPyT/scores.html" in first.stdout
    assert '\nclass Stack:\n    """A stack of items."""\n\n    def __init__(self, items):' in first.stdout
    assert "the best of 16 samples" in first.stdout
    before = {name: fingerprint(tmp_path / name) for name in OUTPUTS}
    second = succeed(quickstart(tmp_path, *QUICKSTART_SMALL))
    assert {name: fingerprint(tmp_path / name) for name in OUTPUTS} == before
    assert second.stdout.count("up to date") >= 2


@pytest.mark.parametrize("output", ["repos", "data.txt", "tokenizer", "GPyT"])
def test_quickstart_stops_where_somebody_elses_output_lies(tmp_path: Path, output: str) -> None:
    (tmp_path / output).write_text("mine", encoding="utf-8")
    result = quickstart(tmp_path, *QUICKSTART_SMALL)
    assert result.returncode == 1
    assert str(tmp_path / output) in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [output]
    assert (tmp_path / output).read_text("utf-8") == "mine"


def test_quickstart_says_which_packages_an_active_environment_lacks(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    workplace = tmp_path / "work"
    workplace.mkdir()
    environment = {**os.environ, "VIRTUAL_ENV": str(bare)}
    command = ["bash", str(PROJECT / "quickstart.sh")]
    result = subprocess.run(
        command, cwd=workplace, capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 1
    assert "torch==2.13.0" in result.stderr
    assert f"uv pip install --python {bare}/bin/python -r " in result.stderr  # it has no pip
    shutil.rmtree(bare)
    assert list(workplace.iterdir()) == []
