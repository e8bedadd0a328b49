"""Fixtures that several test files share: a small real corpus, its tokenizer, a small model."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from project import STDLIB, run_script, succeed

# A test run in the background may have inherited that Ctrl-C and a closed terminal are ignored, and so would
# what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Whether an example is slow says more about the machine than about the code.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long sweeps too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for test in items:
        if "full" in test.keywords:
            test.add_marker(pytest.mark.skip(reason="a long sweep: run_tests.sh --full"))


@pytest.fixture(autouse=True)
def _signals_are_left_as_they_were() -> Iterator[None]:
    """A test that leaves SIGPIPE at its default lets a later one end pytest itself, without a word."""
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGPIPE") if hasattr(signal, name)]
    before = [signal.getsignal(number) for number in signals]
    yield
    assert [signal.getsignal(number) for number in signals] == before, "the test left a signal changed"


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
    """A small GPT-2 of 2 layers, trained for 60 steps on data_txt by the project's own command.

    In float32, so that processors hardly differ in what it writes.
    """
    folder = tmp_path_factory.mktemp("model") / "GPyT"
    paths = ["--data", str(data_txt), "--tokenizer", str(tokenizer_folder), "--output", str(folder)]
    shape = "--n-layer 2 --n-head 2 --n-embd 64 --block-size 128 --steps 60 --device cpu".split()
    succeed(run_script("model/train.py", *paths, *shape, "--dtype", "float32"))
    return folder


@pytest.fixture(scope="session")
def continuing_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as if it had been trained with --fim-rate 0."""
    folder = tmp_path_factory.mktemp("continuing") / "GPyT"
    shutil.copytree(model_folder, folder)
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    record["options"]["fim_rate"] = 0.0
    (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    return folder
