"""run_tests.sh ends whatever a test does: its process dies, hangs in C, or pytest itself never returns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from project import PROJECT

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PASSING = "def test_one(): pass\ndef test_two(): pass\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with run_tests.sh, this environment, and six files of passing tests."""
    for script in ("run_tests.sh", "environment.sh"):
        shutil.copy(PROJECT / script, tmp_path)
    (tmp_path / "requirements-dev.txt").write_text("# nothing\n", encoding="utf-8")
    (tmp_path / f".venv-{VERSION}").symlink_to(sys.prefix)
    for number in range(6):
        (tmp_path / f"test_{number}.py").write_text(PASSING, encoding="utf-8")
    return tmp_path


def run_tests(checkout: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "VIRTUAL"))}
    return subprocess.run(
        ["bash", "run_tests.sh", "--python", VERSION, *arguments],
        cwd=checkout,
        env={**known, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_exit_code_is_that_of_the_tests(checkout: Path) -> None:
    passed = run_tests(checkout)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "12 passed" in passed.stdout
    (checkout / "test_wrong.py").write_text("def test_wrong(): assert False\n", encoding="utf-8")
    failed = run_tests(checkout)
    assert failed.returncode == 1 and "1 failed, 12 passed" in failed.stdout


def test_a_process_that_dies_in_a_test_ends_the_run_and_names_the_test(checkout: Path) -> None:
    """Late, after whole files: where pytest-xdist would hand the finished files out again and wait."""
    dies = PASSING + "def test_dies():\n    import os\n    os._exit(1)\n"
    (checkout / "test_7.py").write_text(dies, encoding="utf-8")
    result = run_tests(checkout)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "crashed while running 'test_7.py::test_dies'" in result.stdout


def test_a_test_that_hangs_where_no_signal_reaches_it_is_ended_and_named(checkout: Path) -> None:
    hangs = (
        "import signal, time\n"
        "def test_hangs():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
        "    time.sleep(1000)\n"
    )
    (checkout / "test_7.py").write_text(hangs, encoding="utf-8")
    result = run_tests(checkout, "-o", "faulthandler_timeout=5")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "crashed while running 'test_7.py::test_hangs'" in result.stdout
    assert "line 4 in test_hangs" in result.stderr


@pytest.mark.skipif(not shutil.which("timeout"), reason="coreutils' timeout is not installed")
def test_a_run_that_never_returns_is_ended_and_says_how_to_allow_more(checkout: Path) -> None:
    stays = "import time\ndef pytest_unconfigure():\n    time.sleep(1000)\n"
    (checkout / "conftest.py").write_text(stays, encoding="utf-8")
    result = run_tests(checkout, TEST_MINUTES="0.1")
    assert result.returncode == 1
    assert "error: the tests did not end within 0.1 minutes" in result.stderr
    assert "TEST_MINUTES=" in result.stderr
