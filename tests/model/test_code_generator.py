"""The command line: standard output is the code and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import generation.completer
from code_generator import check_fills_in, split_at_marker
from generation.completer import load_engine
from inference.cpu_engine import CpuEngine
from model_cli import UserError
from pretrained.load import read_pretrained
from project import PROJECT, notes_of, run_script, succeed
from tiny_model import save_endless_model, save_tiny_model

SCRIPT = "model/code_generator.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_endless_model(tmp_path_factory.mktemp("endless"))


def run_bytes(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(PROJECT / SCRIPT), "--model", str(folder), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def test_a_trained_model_writes_code_after_the_prompt(model_folder: Path) -> None:
    prompt = "def area(width, height):\n"  # which cannot be the end
    options = ["--model", str(model_folder), "--max-new-tokens", "40", "--prompt", prompt]
    results = (succeed(run_script(SCRIPT, *options, "--seed", str(seed))) for seed in range(1, 4))
    result = next(result for result in results if len(result.stdout) > len(prompt) + 10)
    assert result.stdout.startswith(prompt)
    assert result.stdout.endswith("\n") and not result.stdout.endswith("\n\n")
    assert "<|" not in result.stdout
    assert notes_of(result) == []


@pytest.mark.parametrize("prompt", [b"x = 1\r\n", "# ümläut 🐍\t".encode(), b"", b"s = '<|endoftext|>'\n\n"])
def test_the_prompt_comes_out_to_the_byte(folder: Path, prompt: bytes) -> None:
    result = run_bytes(folder, "--max-new-tokens", "0", stdin=prompt)
    assert (result.returncode, result.stdout, result.stderr) == (0, prompt + b"\n", b"")


@pytest.mark.parametrize("options", [[], ["--samples", "2"], ["--lint"], ["--json"]])
def test_a_byte_order_mark_is_kept_and_the_rest_of_the_prompt_is_python(
    folder: Path, options: list[str]
) -> None:
    options = [*options, "--seed", "3", "--max-new-tokens", "12"]
    marked = run_bytes(folder, *options, stdin=b"\xef\xbb\xbfimport os\r\nx = (1,\r\n")
    plain = run_bytes(folder, *options, stdin=b"import os\r\nx = (1,\r\n")
    assert marked.stderr == plain.stderr
    assert b"not Python" not in marked.stderr
    if "--json" in options:
        assert json.loads(marked.stdout)["text"] == "\ufeff" + json.loads(plain.stdout)["text"]
    else:
        assert marked.stdout == b"\xef\xbb\xbf" + plain.stdout


def test_an_argument_and_standard_input_are_completed_alike(folder: Path) -> None:
    options = ["--seed", "3", "--max-new-tokens", "20"]
    by_argument = run_bytes(folder, *options, "--prompt", "def f(x):\n")
    assert by_argument.stdout == run_bytes(folder, *options, stdin=b"def f(x):\n").stdout
    assert by_argument.stdout.startswith(b"def f(x):\n")


def test_several_samples_are_separated_by_a_comment(folder: Path) -> None:
    options = ["--seed", "3", "--max-new-tokens", "20", "--prompt", "x = 1"]
    output = run_bytes(folder, *options, "--samples", "3").stdout.decode()
    first, rest = output.split("# sample 2 of 3\n")
    second, third = rest.split("# sample 3 of 3\n")
    assert all(sample.startswith("x = 1") and sample.endswith("\n") for sample in (first, second, third))
    assert first.encode() == run_bytes(folder, *options).stdout


def test_best_alone_chooses_from_eight(folder: Path) -> None:
    options = ["--seed", "3", "--max-new-tokens", "12", "--prompt", "x = 1\n", "--best"]
    best = run_bytes(folder, *options)
    assert b"# sample" not in best.stdout
    assert best.stdout == run_bytes(folder, *options, "--samples", "8").stdout


def test_a_model_that_is_older_than_its_data_or_tokenizer_is_said_to_be_stale(
    data_txt: Path, tokenizer_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "GPyT")
    shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    shutil.copy2(data_txt, tmp_path / "data.txt")
    options = ["--prompt", "x", "--max-new-tokens", "1", "--seed", "1"]
    fresh = succeed(run_script(SCRIPT, *options, cwd=tmp_path))
    assert notes_of(fresh) == []
    with (tmp_path / "data.txt").open("a", encoding="utf-8") as data:
        data.write("{}\n")
    os.utime(tmp_path / "data.txt", (4e9, 4e9))
    stale = f"note: stale: {tmp_path}/GPyT is older than {tmp_path}/data.txt: python {PROJECT}/model/train.py"
    result = succeed(run_script(SCRIPT, *options, cwd=tmp_path))
    assert notes_of(result) == [f"{stale} --restart"]
    assert result.stdout == fresh.stdout
    elsewhere = succeed(run_script(SCRIPT, *options, "--model", tmp_path / "GPyT", cwd=tmp_path.parent))
    places = f"--data {tmp_path}/data.txt --tokenizer {tmp_path}/tokenizer --output {tmp_path}/GPyT"
    assert notes_of(elsewhere) == [f"{stale} --restart {places}"]


def test_without_a_model_it_says_how_to_train_one(tmp_path: Path) -> None:
    result = run_script(SCRIPT, "--prompt", "x", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: no model folder: {tmp_path / 'GPyT'}: ")
    assert "python model/train.py" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_model_is_answered_before_torch_is_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(PROJECT / SCRIPT), "--prompt", "x"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "argparse" in imported
    assert "torch" not in imported


def test_binary_input_is_refused_in_one_line(folder: Path) -> None:
    result = run_bytes(folder, stdin=b"\x80\x04\x95\x00")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"error: the prompt is not UTF-8 text")
    assert result.stderr.count(b"\n") == 1


def test_an_argument_that_is_no_text_is_refused_in_one_line(folder: Path) -> None:
    result = run_bytes(folder, "--prompt", os.fsdecode(b"\xff"))
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.count(b"\n") == 1


def test_a_device_that_is_not_there_is_refused_in_one_line(folder: Path) -> None:
    result = run_bytes(folder, "--prompt", "x", "--device", "mps" if sys.platform != "darwin" else "cuda")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.endswith(b"use --device cpu\n")


@pytest.mark.parametrize(
    "option",
    [
        "--temperature=-1",
        "--temperature=nan",
        "--top-p=1.5",
        "--top-k=-1",
        "--samples=0",
        "--max-new-tokens=x",
    ],
)
def test_a_setting_outside_its_range_is_a_usage_error(folder: Path, option: str) -> None:
    result = run_bytes(folder, "--prompt", "x", option)
    assert result.returncode == 2
    assert b"is not a" in result.stderr


def test_a_closed_pipe_ends_it_quietly(endless: Path) -> None:
    command = [sys.executable, str(PROJECT / SCRIPT), "--model", str(endless), "--prompt", "x"]
    with subprocess.Popen(
        [*command, "--no-valid", "--max-new-tokens", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == -signal.SIGPIPE


def test_ctrl_c_leaves_what_was_written(endless: Path) -> None:
    command = [sys.executable, str(PROJECT / SCRIPT), "--model", str(endless), "--prompt", "x = 1"]
    with subprocess.Popen(
        [*command, "--no-valid", "--max-new-tokens", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        start = process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
        assert (start + rest).startswith(b"x = 1")
        assert (start + rest).endswith(b"\n")
        assert errors == b"interrupted: what was written so far is above\n"
        assert process.returncode == 130


def test_the_first_start_says_that_it_compiles_and_the_second_does_not(folder: Path, tmp_path: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    options = ["--model", str(folder), "--prompt", "x = 1", "--seed", "1", "--json"]
    started = time.monotonic()
    first = succeed(run_script(SCRIPT, *options, env=environment))
    whole = time.monotonic() - started
    second = succeed(run_script(SCRIPT, *options, env=environment))
    assert first.stderr == "note: compiling for this processor, some seconds, once\n"
    assert second.stderr == ""
    ours, theirs = json.loads(first.stdout), json.loads(second.stdout)
    assert ours["text"] == theirs["text"]
    assert ours["seconds"] < whole / 4, "the compiling is not counted as writing"


def test_code_that_numba_may_not_compile_is_compiled_all_the_same(folder: Path) -> None:
    options = ["--model", str(folder), "--prompt", "x = 1", "--seed", "1"]
    usual = succeed(run_script(SCRIPT, *options))
    result = succeed(run_script(SCRIPT, *options, env={"NUMBA_DISABLE_JIT": "1"}))
    assert (result.stdout, result.stderr) == (usual.stdout, "")


def test_where_no_folder_can_be_written_the_note_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "model", tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "file").write_bytes(b"")  # where not even root can make a folder
    (tmp_path / "model/inference/__pycache__").write_bytes(b"")
    no_place = str(tmp_path / "file/folder")
    environment = {**os.environ, "HOME": no_place, "XDG_CACHE_HOME": no_place}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, str(tmp_path / SCRIPT), "--model", str(folder), "--prompt", "x"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stderr == (
        "note: compiling for this processor, some seconds, at each start, as no folder can be written:"
        " set NUMBA_CACHE_DIR to one\n"
    )


def test_writing_on_the_cpu_needs_no_torch(folder: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(PROJECT / SCRIPT), "--model", str(folder)]
    ended = subprocess.run([*command, "--prompt", "x"], capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "numba" in imported
    assert not imported & {"torch", "transformers", "datasets"}


def test_the_marker_parts_a_text_once() -> None:
    assert split_at_marker("a = <FILL>\nb") == ("a = ", "\nb")
    assert split_at_marker("<FILL><FILL>") == ("", "<FILL>")
    assert split_at_marker("a = b") == ("a = b", None)


@pytest.mark.parametrize(
    "record", [None, "{", "[]", "{}", '{"options": {"fim_rate": 0.0}}', '{"options": null}']
)
def test_a_model_that_was_not_trained_for_it_is_said_to_be_so(record: str | None, tmp_path: Path) -> None:
    if record is not None:
        (tmp_path / "provenance.json").write_text(record, encoding="utf-8")
    with pytest.raises(UserError, match="not to fill in gaps") as caught:
        check_fills_in(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_small_model_computes_on_the_cpu_in_16_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt2.device.has_gpu", lambda: True)
    model = load_engine(read_pretrained(save_tiny_model(tmp_path)), "auto")
    assert isinstance(model, CpuEngine)
    assert model.quantized.arguments[3][0].dtype == np.int16


def test_a_large_model_computes_on_the_cpu_in_8_bits_where_torch_finds_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation.completer, "LARGE_PARAMETERS", 1000)
    monkeypatch.setattr("gpt2.device.has_gpu", lambda: True)  # its device files alone
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    model = load_engine(read_pretrained(save_tiny_model(tmp_path, n_embd=64)), "auto")
    assert isinstance(model, CpuEngine)
    assert model.quantized.arguments[3][0].dtype == np.int8


def test_a_device_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="finds no such device here: cuda: use --device cpu"):
        load_engine(read_pretrained(save_tiny_model(tmp_path)), "cuda")
