"""The command line: standard output is the code and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, run_script, succeed
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
    options = ["--max-new-tokens", "40", "--seed", "1", "--prompt", "import asyncio\n"]
    result = succeed(run_script(SCRIPT, "--model", model_folder, *options))
    assert result.stdout.startswith("import asyncio\n")
    assert len(result.stdout) > len("import asyncio\n") + 10
    assert result.stdout.endswith("\n") and not result.stdout.endswith("\n\n")
    assert "<|" not in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("prompt", [b"x = 1\r\n", "# ümläut 🐍\t".encode(), b"", b"s = '<|endoftext|>'\n\n"])
def test_the_prompt_comes_out_to_the_byte(folder: Path, prompt: bytes) -> None:
    result = run_bytes(folder, "--max-new-tokens", "0", stdin=prompt)
    assert (result.returncode, result.stdout, result.stderr) == (0, prompt + b"\n", b"")


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
    command = [
        sys.executable,
        str(PROJECT / SCRIPT),
        "--model",
        str(folder),
        "--prompt",
        "x = 1",
        "--seed",
        "1",
    ]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert first.stderr == "note: compiling for this processor, once: some seconds\n"
    assert second.stderr == ""
    assert first.stdout == second.stdout


def test_writing_on_the_cpu_needs_no_torch(folder: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(PROJECT / SCRIPT), "--model", str(folder)]
    ended = subprocess.run([*command, "--prompt", "x"], capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "numba" in imported
    assert not imported & {"torch", "transformers", "datasets"}
