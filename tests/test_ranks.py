"""Several processes under torchrun: the model that one makes, one writer, a run that outlives a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from conftest import PROJECT, run_script, succeed
from safetensors.torch import load_file

TINY = "--n-layer 2 --n-head 2 --n-embd 32 --block-size 128 --device cpu --dtype float32".split()
STEPS = ["--steps", "150"]


def command(data: Path, tokenizer: Path, output: Path, *options: str) -> list[str]:
    files = ["--data", str(data), "--tokenizer", str(tokenizer), "--output", str(output)]
    return [*files, *TINY, *STEPS, *options]


def torchrun(processes: int, arguments: list[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [f"--nproc-per-node={processes}", str(PROJECT / "model/train.py")]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        [*launcher, *script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text("utf-8").splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "provenance.json").read_text("utf-8"))["figures"]
    return found


def assert_same_run(folder: Path, other: Path) -> None:
    """The same losses step by step, weights and held-out figure, to within rounding."""
    ours, theirs = losses(folder), losses(other)
    assert list(ours) == list(theirs) == list(range(1, 151))
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 2e-3
    weights, expected = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    for name, weight in expected.items():
        distance = torch.linalg.vector_norm(weights[name] - weight) / torch.linalg.vector_norm(weight)
        assert float(distance) < 0.02, name
    assert figures(folder)["held_out_bits_per_byte"] == pytest.approx(
        figures(other)["held_out_bits_per_byte"], abs=2e-3
    )


@pytest.fixture(scope="module")
def alone(data_txt: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "GPyT"
    succeed(run_script("model/train.py", *command(data_txt, tokenizer_folder, folder, "--threads", "1")))
    return folder


def test_a_run_that_loses_one_of_two_processes_goes_on_with_one_to_the_same_model(
    alone: Path, data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "GPyT"
    arguments = command(data_txt, tokenizer_folder, folder)
    launched = torchrun(2, arguments)
    while launched.poll() is None and not list(folder.glob("checkpoints/step-*")):
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process(launched.pid).children(recursive=True)
        if "model/train.py" in " ".join(child.cmdline())
    ]
    by_rank = {worker.environ()["RANK"]: worker for worker in workers}
    assert len(by_rank) == 2
    by_rank["1"].send_signal(signal.SIGKILL)
    message = launched.communicate(timeout=120)[1]
    assert launched.returncode not in (0, None)
    assert message.count("training a GPT-2 for 150 steps") == 1, "one process speaks for both"
    assert 0 < len(losses(folder)) < 150

    end = succeed(run_script("model/train.py", *arguments, "--threads", "1"))
    assert "resuming at step" in end.stderr
    assert_same_run(folder, alone)


@pytest.mark.full
def test_weights_divided_by_fsdp_make_the_same_model_and_resume_whole(
    alone: Path, data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "GPyT"
    arguments = command(data_txt, tokenizer_folder, folder)
    launched = torchrun(2, [*arguments, "--fsdp"])
    while launched.poll() is None and not list(folder.glob("checkpoints/step-*")):
        time.sleep(0.01)
    launched.send_signal(signal.SIGINT)
    message = launched.communicate(timeout=120)[1]
    assert 0 < len(losses(folder)) < 150, message
    again = torchrun(3, arguments)
    output, message = again.communicate(timeout=200)
    assert again.returncode == 0, message
    assert output.count("wrote ") == 1
    assert "resuming at step" in message
    assert_same_run(folder, alone)


def test_fsdp_without_other_processes_is_refused(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    refused = run_script("model/train.py", *command(data_txt, tokenizer_folder, tmp_path / "GPyT", "--fsdp"))
    assert refused.returncode == 1
    assert "torchrun --nproc-per-node" in refused.stderr
