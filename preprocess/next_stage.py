"""The command of the next stage, as it can be typed where this one ran."""

from __future__ import annotations

import shlex
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DEFAULTS = (Path("repos"), Path("data.txt"), Path("tokenizer"))


def next_stage(script: str, *options: str, **paths: Path) -> str:
    """The command, without paths that are its defaults.

    >>> next_stage("preprocess/tokenizer.py", "-t", data=Path("data.txt"))  # in the project's folder
    'python preprocess/tokenizer.py -t'
    """
    words = ["python", script if Path.cwd() == PROJECT else str(PROJECT / script), *options]
    for option, path in paths.items():
        if path not in DEFAULTS:
            words += [f"--{option}", str(path)]
    return shlex.join(words)
