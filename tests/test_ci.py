""".ci/run with stand-ins for Pythons, tests and quickstart: what fails it, and what is left out."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from project import PROJECT

# A Python that makes environments of itself. What it is asked inside of them succeeds.
INTERPRETER = """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-c "*) echo 3.11 ;;
esac
"""
JOURNEY = "mkdir -p repos tokenizer GPyT\n" + "".join(
    f"echo made > {output}\n"
    for output in ("repos/collection.db", "data.txt", "tokenizer/tokenizer.json", "GPyT/model.safetensors")
)


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose tests and journey write their arguments to `steps`, and three further Pythons."""
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(PROJECT / ".ci/run", folder / ".ci")
    shutil.copy(PROJECT / "environment.sh", folder)
    (folder / "requirements-dev.txt").write_text("# nothing\n", encoding="utf-8")
    program(folder / ".venv/bin/python", INTERPRETER)
    for version in ("3.12", "3.13", "3.14"):
        program(tmp_path / f"bin/python{version}", INTERPRETER)
    for script, work in (("run_tests.sh", ""), ("quickstart.sh", JOURNEY)):
        step = f'echo "{script} ${{VIRTUAL_ENV##*/}} $*" >> {folder}/steps\n'
        program(folder / script, step + work)
    return folder


def run_ci(checkout: Path) -> subprocess.CompletedProcess[str]:
    known = {"PATH": f"{checkout.parent}/bin:/usr/bin:/bin", "HOME": str(checkout.parent)}
    return subprocess.run(
        ["bash", str(checkout / ".ci/run")],
        env=known,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def steps(checkout: Path) -> list[str]:
    return (checkout / "steps").read_text(encoding="utf-8").splitlines()


def test_without_further_pythons_there_is_one(checkout: Path) -> None:
    for name in ("python3", "python3.12", "python3.13", "python3.14"):
        program(checkout.parent / "bin" / name, "#!/bin/sh\nexit 1\n")
    assert run_ci(checkout).returncode == 0
    assert [step.split()[0] for step in steps(checkout)] == ["run_tests.sh", "quickstart.sh", "quickstart.sh"]


def test_each_further_python_has_its_tests_and_a_journey_and_leaves_no_environment(
    checkout: Path,
) -> None:
    kept = checkout / ".venv-3.13"
    program(kept / "bin/python", INTERPRETER)
    result = run_ci(checkout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [step.split()[0] for step in steps(checkout)] == [
        *["run_tests.sh", "quickstart.sh", "quickstart.sh"],
        *["run_tests.sh", "quickstart.sh"] * 3,
    ]
    for version, (tests, journey) in zip(
        ("3.12", "3.13", "3.14"), zip(steps(checkout)[3::2], steps(checkout)[4::2], strict=True), strict=True
    ):
        assert tests.startswith(f"run_tests.sh  --python {version} tests/preprocess ")
        assert journey == f"quickstart.sh .venv-{version} --minutes 0.5 --max-mb 5"
    assert [folder.name for folder in checkout.glob(".venv-*")] == [kept.name], "one that was there stays"


def test_a_python_whose_environment_cannot_be_made_is_left_out_in_a_line(checkout: Path) -> None:
    program(checkout.parent / "bin/python3.12", '#!/bin/sh\n[ "$1" = - ]\n')
    result = run_ci(checkout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "left out: the packages for Python 3.12 cannot be installed here, see above" in result.stdout
    assert [step for step in steps(checkout) if "3.12" in step] == []
    assert any("3.13" in step for step in steps(checkout))


def test_a_python_without_room_on_the_disk_is_left_out_in_a_line(checkout: Path) -> None:
    program(checkout.parent / "bin/df", "#!/bin/sh\necho Name\necho disk 9 1 2097152 1% /\n")
    result = run_ci(checkout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("needs 9 GB of disk, and 2 are free") == 3
    assert len(steps(checkout)) == 3


@pytest.mark.parametrize("failing", ["run_tests.sh", "quickstart.sh"])
@pytest.mark.parametrize("where", ["", "3.13"])
def test_a_failure_on_any_python_fails_it_and_leaves_nothing_behind(
    where: str, failing: str, checkout: Path
) -> None:
    script = checkout / failing
    wrong = f'case "${{VIRTUAL_ENV:-}} $*" in *"{where or " "}"*) exit 1 ;; esac\n'
    program(script, script.read_text(encoding="utf-8") + wrong)
    result = run_ci(checkout)
    assert result.returncode == 1, result.stdout + result.stderr
    last = steps(checkout)[-1]
    assert last.startswith(failing) and where in last
    assert list(checkout.glob(".venv-*")) == []


def test_a_step_that_hangs_is_ended_with_all_that_it_started(checkout: Path) -> None:
    program(checkout / "run_tests.sh", "sleep 1000 &\necho $! > child\nwait\n")
    script = checkout / ".ci/run"
    source, found = re.subn(r"within 45 ", "within 0.02 ", script.read_text(encoding="utf-8"))
    assert found == 1
    script.write_text(source, encoding="utf-8")
    result = subprocess.run(
        ["bash", str(script)], cwd=checkout, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 124
    assert f"error: not done within 0.02 minutes: bash {checkout}/run_tests.sh" in result.stderr
    child = int((checkout / "child").read_text(encoding="utf-8"))
    with contextlib.suppress(
        psutil.NoSuchProcess
    ):  # a moment may pass until it is gone, and until init reaps it
        process = psutil.Process(child)
        assert process.status() == psutil.STATUS_ZOMBIE or process.wait(10) is None


def test_every_path_that_is_tested_on_further_pythons_is_there() -> None:
    source = (PROJECT / ".ci/run").read_text(encoding="utf-8")
    paths = re.findall(r"^    (tests/\S+)$", source, re.MULTILINE)
    assert len(paths) >= 5
    assert [path for path in paths if not (PROJECT / path).exists()] == []
