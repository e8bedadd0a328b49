"""Where the project lies, and running its scripts as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
STDLIB = Path(sysconfig.get_path("stdlib"))

# In the order of the journey.
SCRIPTS = (
    "data_collector/data_collector.py",
    "preprocess/data_cleaner.py",
    "preprocess/data_preprocess.py",
    "preprocess/tokenizer.py",
    "model/train.py",
    "model/code_generator.py",
)
BESIDE_THE_JOURNEY = ("model/evaluate.py", "model/export.py", "model/serve.py")


def run_script(
    script: str,
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: str = "",
    env: dict[str, str] | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """Run `python <script> <arguments>` as a user would and return its exit code and both outputs.

    script is a path from the project's root ("preprocess/tokenizer.py"); env is added to the environment.
    """
    return subprocess.run(
        [sys.executable, str(PROJECT / script), *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def succeed(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The result itself, after checking that the command ended with 0; its whole output otherwise."""
    assert result.returncode == 0, f"{result.args}\nstdout:\n{result.stdout}\nstderr:\n{result.stderr}"
    return result


def notes_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error, but for the one of a fresh checkout whose kernel is compiled first."""
    return [line for line in result.stderr.splitlines() if not line.startswith("note: compiling")]
