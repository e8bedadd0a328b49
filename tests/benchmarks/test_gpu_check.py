"""benchmarks/gpu_check.sh: what its table and exit code say of steps that pass, fail, hang or are missing.

A stand-in plays the interpreter, so that the steps of a GPU take milliseconds; --full runs the script itself,
with the real programs, on a CPU.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import gpu_check
from gpu_steps import steps_for
from project import PROJECT, succeed

# Plays `python` for every command of the steps. The file `broken` beside it changes what it does: a line
# "WORD DEED" for a command with that word in it.
STAND_IN = """#!{python} -IS
import json, os, pathlib, re, sys, time

command = " ".join(sys.argv[1:])
broken = pathlib.Path(__file__).with_name("broken")
deed = ""
for line in broken.read_text().splitlines() if broken.exists() else []:
    word, _, named = line.partition(" ")
    deed = named if word in command else deed
if deed == "fails":
    print("Traceback (most recent call last):\\nRuntimeError: CUDA | out of memory\\n  at exit")
    sys.exit(7)
if deed == "hangs":
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(1000)
if deed == "gguf":
    print("error: the package gguf is missing: run: python -m pip install gguf==0.19.0")
    sys.exit(1)

output = re.search(r"--output (\\S+)", command)
if sys.argv[1] == "-c":
    about = {{"torch": "9.9", "cuda": "99.0", "python": "3.99", "name": "a card", "cards": 1, "triton": True}}
    print(json.dumps(about | ({{"triton": False}} if deed == "plain" else {{}})))
elif "data_preprocess" in command:
    pathlib.Path("data.txt").write_text("x" * 100_000)
elif "train_gpu" in command:
    print("a card, bfloat16: 790.3 TFLOP/s in matrix products")
    print("124.4 M parameters, 32 x 1024 tokens a step\\n415,000 tokens/s, 78.9 ms a step, 12.1 GB")
    print("354.9 TFLOP/s: 44.9% of the measured matrix rate, 35.9% MFU by the data sheet")
elif "--ask-nccl" in command:
    print("NCCL 2.99 refuses two ranks on one card: Duplicate GPU detected")
elif "torch.distributed.run" in command and "train.py" in command and deed != "trains":
    print("error: there are 1 GPUs for 2 processes: start as many processes as there are GPUs")
    sys.exit(1)
elif output and ("train.py" in command or "one_card.py" in command):
    folder = pathlib.Path(output[1])
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    if folder.name == "killed" and not list(folder.glob("checkpoints/*")) and deed != "early":
        (folder / "checkpoints/step-000000006.safetensors").touch()
        time.sleep(1000)
    bits = 3.0 if deed == "worse" else 2.0
    figures = {{"held_out_bits_per_byte": bits, "tokens": 300, "seconds": 3, "skipped_steps": 1, "step": 9}}
    record = {{"finished": deed != "unfinished", "figures": figures, "plan": {{"parameters": 124e6}}}}
    (folder / "provenance.json").write_text(json.dumps(record))
    print("  machine  2 processes, each on a card\\nresuming at step 6 of 60: a checkpoint")
elif "code_generator" in command:
    text = "class Stack:\\n    pass\\n" if deed != "wrong" else "class Stack:"
    if deed == "garbles":
        print("{{garbled")
    print("note: something\\n" + json.dumps({{"text": text, "tokens": 128, "seconds": 0.5}}))
elif "evaluate" in command:
    print("1.214 bits per byte; PPMd 1.570")
elif "export" in command:
    print("wrote gpyt.gguf (f16, 2.0 MB) in 1.9 s")
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return path


def check(stand_in: Path, *options: str, broken: str = "") -> tuple[int, dict[str, list[str]]]:
    """Run the steps; the exit code, and seconds, outcome and figure of each row of the table."""
    (stand_in.parent / "broken").write_text(broken, encoding="utf-8")
    files = ["--folder", str(stand_in.parent / "work"), "--output", str(stand_in.parent / "table.md")]
    code = gpu_check.main(["--python", str(stand_in), *files, *options])
    return code, rows_of((stand_in.parent / "table.md").read_text("utf-8"))


def rows_of(table: str) -> dict[str, list[str]]:
    heading, _, *lines = table.splitlines()
    assert heading and lines[:2] == ["| step | seconds | outcome | figure |", "|---|---|---|---|"]
    cells = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines[2:]]
    assert all(len(row) == 4 for row in cells)
    return {step: rest for step, *rest in cells}


def not_passed(rows: dict[str, list[str]]) -> set[str]:
    return {step for step, (_, outcome, _) in rows.items() if outcome != "passed"}


def test_all_steps_pass_and_the_table_has_their_figures(
    stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows = check(stand_in)
    assert code == 0
    assert list(rows) == [step.name for step in steps_for("cuda")] and not not_passed(rows)
    table = (stand_in.parent / "table.md").read_text("utf-8")
    assert capsys.readouterr().out == table
    assert "; a card; " in table and "; torch 9.9; cuda 99.0; python 3.99; " in table
    assert f"{len(rows)} of {len(rows)} steps passed" in table
    figures = {step: figure for step, (_, _, figure) in rows.items()}
    assert figures["speed, bfloat16, compiled"] == (
        "**415,000 tokens/s**, 44.9% of the measured matrix rate, 35.9% MFU by the data sheet, 12.1 GB"
    )
    assert figures["train, float16, compiled, equal steps"] == (
        "2.000 bits per byte, 100 tokens/s, 1 of 9 steps skipped"
    )
    assert figures["train, SIGKILL and resume"] == (
        "resumed at step 6 of 60: 2.000 bits per byte, 2.000 undisturbed"
    )
    assert figures["train, two processes, one card each"].startswith("refused: there are 1 GPUs for 2")
    assert figures["NCCL, two ranks on one card"].startswith("NCCL 2.99 refuses")
    assert figures["generate, judged"] == "256 tokens/s, 1 of 1 texts compile"
    assert figures["export, GGUF"] == "f16, 2.0 MB"


@pytest.mark.parametrize(
    ("broken", "failed", "figure"),
    [
        ("evaluate.py fails", {"evaluate"}, r"exit code 7: RuntimeError: CUDA \\| out of memory"),
        ("--no-compile fails", {"speed, bfloat16, --no-compile"}, r"exit code 7: RuntimeError"),
        ("code_generator.py wrong", {"generate, judged"}, "1 of 1 texts do not compile"),
        ("--no-valid garbles", {"generate, not judged"}, "JSONDecodeError"),
        ("steps-float16 unfinished", {"train, float16, compiled, equal steps"}, "the run is not finished"),
        ("steps-float16 worse", {"train, float16, compiled, equal steps"}, "3.000 .*: nothing was learnt"),
        ("killed worse", {"train, SIGKILL and resume"}, "3.000 bits per byte, 2.000 undisturbed"),
        ("killed early", {"train, SIGKILL and resume"}, "ended with 0 before there was a checkpoint"),
        ("ranks worse", {"train, two processes on one card, gloo"}, "3.000 bits per byte, 2.000 undis"),
        ("nccl trains", {"train, two processes, one card each"}, "exit code 0: "),
        ("-c plain", {"device"}, "Triton is not there, so nothing is compiled"),
    ],
)
def test_a_step_that_fails_is_named_with_its_reason_and_ends_no_other(
    stand_in: Path, broken: str, failed: set[str], figure: str
) -> None:
    code, rows = check(stand_in, broken=broken)
    assert code == 1
    assert not_passed(rows) == failed
    [step] = failed
    assert rows[step][1] == "**failed**" and re.match(figure, rows[step][2])


def test_a_step_that_hangs_is_ended_and_the_time_of_all_is_kept(stand_in: Path) -> None:
    code, rows = check(stand_in, "--minutes", "0.05", "--only", "speed", broken="train_gpu hangs")
    assert code == 1
    seconds, outcome, figure = rows["speed, bfloat16, compiled"]
    assert outcome == "**failed**" and re.match(r"not done within [0-3] s", figure) and float(seconds) < 10
    assert rows["speed, float16, compiled"] == ["0.0", "**not run**", "no time was left"]
    assert not psutil.pid_exists(int((stand_in.parent / "work/pid").read_text()))


def test_a_missing_package_leaves_a_step_out_with_a_code_of_its_own(stand_in: Path) -> None:
    code, rows = check(stand_in, "--only", "export", broken="export.py gguf")
    assert code == 3
    assert list(rows) == ["device", "corpus", "export, GGUF"]
    assert rows["export, GGUF"][1:] == [
        "left out",
        "the package gguf is missing: run: python -m pip install gguf==0.19.0",
    ]


def test_an_interpreter_that_is_not_there_fails_every_step(stand_in: Path) -> None:
    stand_in.unlink()
    code, rows = check(stand_in, "--only", "export")
    assert code == 1 and not_passed(rows) == {"device", "corpus", "export, GGUF"}
    assert "a card" not in (stand_in.parent / "table.md").read_text("utf-8")


def test_a_corpus_that_is_there_is_used(stand_in: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "tokenizer").mkdir(parents=True)
    (corpus / "data.txt").write_text("y" * 300_000, encoding="utf-8")
    code, rows = check(stand_in, "--only", "corpus", "--corpus", str(corpus), broken="data_ fails")
    assert (code, rows["corpus"][2]) == (0, "data.txt of 0.3 MB")
    shutil.rmtree(corpus)
    code, rows = check(stand_in, "--only", "corpus", "--corpus", str(corpus))
    assert code == 1 and rows["corpus"][2].startswith("there is no data.txt with a tokenizer/")


def run_script(*options: str | Path, cwd: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(PROJECT / "benchmarks/gpu_check.sh"), *map(str, options)],
        cwd=cwd,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_the_script_says_what_it_does_and_refuses_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    shown = succeed(run_script("--help", cwd=tmp_path)).stdout
    assert "bash benchmarks/gpu_check.sh --device cpu" in shown and "#" not in shown
    assert shown.rstrip().endswith("because a package is missing.")
    missing = run_script("--python", "no-such-python", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "error: there is no such interpreter: give --python a command or a path\n"
    assert run_script("--python", cwd=tmp_path).returncode == 2


@pytest.mark.full
@pytest.mark.timeout(1200)  # 90 s of one core, and a busy machine may need several times that
def test_every_step_runs_on_a_cpu_and_the_one_that_was_broken_is_named(tmp_path: Path) -> None:
    breaks = tmp_path / "python"
    refusal = 'case "$*" in *export.py*) echo "error: broken on purpose" >&2; exit 9 ;; esac'
    breaks.write_text(f'#!/bin/sh\n{refusal}\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    breaks.chmod(0o755)
    options = ["--device", "cpu", "--minutes", "18", "--folder", str(tmp_path / "work")]
    result = run_script(*options, "--python", breaks, cwd=tmp_path, timeout=1150)
    assert result.returncode == 1, result.stderr
    rows = rows_of(result.stdout)
    assert list(rows) == [step.name for step in steps_for("cpu")]
    assert not_passed(rows) == {"export, GGUF"}, result.stderr
    assert rows["export, GGUF"][1:] == ["**failed**", "exit code 9: error: broken on purpose"]
    assert rows["train, SIGKILL and resume"][2].endswith("the same bytes")
    assert (tmp_path / "gpu_check.md").read_text("utf-8") == result.stdout
