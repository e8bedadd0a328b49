"""What several test files share: where the project lies, running its scripts, a small real corpus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
STDLIB = Path(sysconfig.get_path("stdlib"))

# A test run in the background may have inherited that Ctrl-C and a closed terminal are ignored, and so would
# what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# In the order of the journey.
SCRIPTS = (
    "data_collector/data_collector.py",
    "preprocess/data_cleaner.py",
    "preprocess/data_preprocess.py",
    "preprocess/tokenizer.py",
    "model/train.py",
    "model/code_generator.py",
)
BESIDE_THE_JOURNEY = ("model/export.py",)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long sweeps too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for test in items:
        if "full" in test.keywords:
            test.add_marker(pytest.mark.skip(reason="a long sweep: run_tests.sh --full"))


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


@pytest.fixture(scope="session")
def data_txt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data.txt as the contract has it: five packages of the standard library, one held out."""
    packages = {
        "asyncio": "train",
        "email": "train",
        "http": "train",
        "unittest": "train",
        "json": "held_out",
    }
    path = tmp_path_factory.mktemp("corpus") / "data.txt"
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for package, split in sorted(packages.items()):
            for file in sorted((STDLIB / package).glob("*.py")):
                text = file.read_text(encoding="utf-8")
                if not text.strip():
                    continue
                document = {
                    "text": text,
                    "repo": f"installed/{package}",
                    "path": file.name,
                    "commit": "",
                    "license": "PSF-2.0",
                    "piece": 0,
                    "pieces": 1,
                    "split": split,
                }
                lines.write(json.dumps(document, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="session")
def tokenizer_folder(data_txt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 1,024 entries, trained on data_txt by the project's own command."""
    folder = tmp_path_factory.mktemp("trained") / "tokenizer"
    succeed(
        run_script(
            "preprocess/tokenizer.py", "-t", "--data", data_txt, "--tokenizer", folder, "--vocab-size", "1024"
        )
    )
    return folder


@pytest.fixture(scope="session")
def model_folder(data_txt: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 of 2 layers, trained for 60 steps on data_txt by the project's own command."""
    folder = tmp_path_factory.mktemp("model") / "GPyT"
    paths = ["--data", str(data_txt), "--tokenizer", str(tokenizer_folder), "--output", str(folder)]
    shape = "--n-layer 2 --n-head 2 --n-embd 64 --block-size 128 --steps 60 --device cpu".split()
    succeed(run_script("model/train.py", *paths, *shape))
    return folder
