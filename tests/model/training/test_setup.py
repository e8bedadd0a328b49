"""Setting a run up: what is said without torch, and what the user sees of the plan."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt2.device import Machine
from gpt2.distributed import ALONE
from pretrained.provenance import RunFingerprint
from project import PROJECT
from train import settled_machine
from training.options import TrainOptions, add_options
from training.setup import RunContext, Start

# The options of the fixture `model_folder`.
SHAPE = "--n-layer 2 --n-head 2 --n-embd 64 --block-size 128".split()
MODEL_FOLDER = [*SHAPE, *"--steps 60 --device cpu --dtype float32".split()]


def test_up_to_date_is_said_without_loading_torch(
    data_txt: Path, tokenizer_folder: Path, model_folder: Path
) -> None:
    code = (
        "import sys, train\n"
        "code = train.main(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'tokenizers', 'numba'}\n"
        "print(code, *sorted(heavy & set(sys.modules)))\n"
    )
    files = {"--data": data_txt, "--tokenizer": tokenizer_folder, "--output": model_folder}
    words = [word for option, path in files.items() for word in (option, str(path))]
    result = subprocess.run(
        [sys.executable, "-c", code, *words, *MODEL_FOLDER],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "model")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.startswith(f"up to date: {model_folder} (60 steps")
    assert result.stdout.splitlines()[-1].strip() == "0"


@pytest.mark.parametrize(
    ("asked", "plan", "has_bfloat16", "expected"),
    [
        ("auto", None, True, torch.float32),
        ("auto", {"device": "cpu", "precision": "bfloat16"}, True, torch.bfloat16),
        ("auto", {"device": "cpu", "precision": "bfloat16"}, False, torch.float32),
        ("auto", {"device": "cuda", "precision": "bfloat16"}, True, torch.float32),
        ("auto", {}, True, torch.float32),  # of a version that did not record it
        ("float32", {"device": "cpu", "precision": "bfloat16"}, True, torch.float32),
    ],
)
def test_a_resumed_run_keeps_its_precision_whatever_is_measured_now(
    asked: str,
    plan: dict[str, str] | None,
    has_bfloat16: bool,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.has_bfloat16", lambda: has_bfloat16)
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = TrainOptions(**vars(parser.parse_args(["--dtype", asked])))
    start = Start(RunFingerprint({}, {}, {}), None if plan is None else {"plan": plan})
    measured = Machine(torch.device("cpu"), torch.float32, 1)
    assert settled_machine(RunContext(options, start, None, measured, ALONE)).dtype == expected
