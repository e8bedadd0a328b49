"""Setting a run up: what is said without torch, and what the user sees of the plan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from project import PROJECT

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
