"""environment.sh on fresh machines: venv, uv, conda, an environment cut off, Macs, torch without a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from project import PROJECT

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with environment.sh and requirements that ask for nothing."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(PROJECT / "environment.sh", folder)
    (folder / "requirements.txt").write_text("# nothing\n", encoding="utf-8")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def shell(
    checkout: Path, commands: str, path: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Source environment.sh outside of any environment, then run commands; `path` goes before PATH."""
    known = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "CONDA"))
    }
    known["PATH"] = f"{Path(sys._base_executable).parent}:/usr/bin:/bin"  # type: ignore[attr-defined]
    if path:
        known["PATH"] = f"{path}:{known['PATH']}"
    script = f"set -euo pipefail\n. {checkout}/environment.sh\n{commands}"
    return subprocess.run(
        ["bash", "-c", script], env={**known, **env}, capture_output=True, text=True, check=False, timeout=120
    )


def make_venv(folder: Path, made_by_uv: bool = False) -> Path:
    """A virtual environment without pip, as `uv venv` makes them."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    if made_by_uv:
        with (folder / "pyvenv.cfg").open("a", encoding="utf-8") as config:
            config.write("uv = 0.13.9\n")
    return folder


def test_an_environment_is_made_once_and_one_that_was_cut_off_is_made_again(checkout: Path) -> None:
    use = f"use_environment requirements.txt {VERSION}; command -v python"
    first = shell(checkout, use)
    environment = checkout / f".venv-{VERSION}"
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == str(environment / "bin" / "python")
    assert "making the virtual environment" in first.stdout
    again = shell(checkout, use)
    assert again.stdout.splitlines() == [str(environment / "bin" / "python")]
    for cut_off in ("bin", "lib"):  # what a Ctrl-C during the creation leaves out
        shutil.rmtree(environment / cut_off)
        mended = shell(checkout, use)
        assert mended.returncode == 0, mended.stderr
        assert shell(checkout, f"{use} > /dev/null; python -m pip --version").returncode == 0
    shutil.rmtree(environment / "bin")
    mended = shell(checkout, use)
    assert "is incomplete: making it again" in mended.stdout
    assert shell(checkout, f"{use} > /dev/null; python -m pip --version").returncode == 0


def test_an_environment_without_pip_keeps_what_is_in_it_and_gets_pip(checkout: Path) -> None:
    environment = make_venv(checkout / ".venv")
    mine = next(environment.glob("lib/python*/site-packages")) / "mine.py"
    mine.write_text("x = 1\n", encoding="utf-8")
    result = shell(
        checkout, "use_environment requirements.txt; python -m pip --version; python -c 'import mine'"
    )
    assert result.returncode == 0, result.stderr
    assert mine.exists()


def test_an_environment_that_uv_made_is_filled_by_uv(checkout: Path, tmp_path: Path) -> None:
    environment = make_venv(checkout / ".venv", made_by_uv=True)
    (checkout / "requirements.txt").write_text("no-such-package==1.0\n", encoding="utf-8")
    program(tmp_path / "bin", "uv", f'echo "$@" >> {tmp_path}/asked')
    result = shell(checkout, "use_environment requirements.txt", tmp_path / "bin")
    assert result.returncode == 0, result.stderr
    asked = (tmp_path / "asked").read_text(encoding="utf-8").split()
    assert asked[:4] == ["pip", "install", "--python", str(environment / "bin" / "python")]
    assert asked[-2:] == ["-r", str(checkout / "requirements.txt")]


def test_a_pin_of_another_system_is_not_missing_and_one_of_this_system_is_named_plainly(
    checkout: Path, tmp_path: Path
) -> None:
    lines = [
        f'no-such-package==1.0; sys_platform == "{sys.platform}"',
        'nor-this==1; sys_platform == "other"',
    ]
    (checkout / "requirements.txt").write_text("\n".join(lines), encoding="utf-8")
    result = shell(checkout, f"missing_packages {checkout}/requirements.txt")
    assert result.stdout == "no-such-package==1.0\n", result.stderr


@pytest.mark.parametrize("has_uv", [True, False])
def test_an_active_environment_of_uv_names_uv_s_command(has_uv: bool, checkout: Path, tmp_path: Path) -> None:
    environment = make_venv(tmp_path / "other", made_by_uv=True)
    (checkout / "requirements.txt").write_text("no-such-package==1.0\n", encoding="utf-8")
    if has_uv:
        program(tmp_path / "bin", "uv", "exit 0")
    result = shell(
        checkout, "use_environment requirements.txt", tmp_path / "bin", VIRTUAL_ENV=str(environment)
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"uv pip install --python {environment}/bin/python -r " in result.stderr


def test_conda_s_active_environment_is_used_and_its_base_is_not(checkout: Path, tmp_path: Path) -> None:
    environment = make_venv(tmp_path / "conda")
    use = "use_environment requirements.txt; command -v python"
    named = shell(checkout, use, CONDA_PREFIX=str(environment), CONDA_DEFAULT_ENV="gpyt")
    assert named.stdout.splitlines() == [str(environment / "bin" / "python")], named.stderr
    base = shell(checkout, "active_environment", CONDA_PREFIX=str(environment), CONDA_DEFAULT_ENV="base")
    assert (base.returncode, base.stdout) == (0, "")


@pytest.mark.parametrize(
    ("machine", "version", "reason"),
    [
        ("x86_64", "15.1", "Macs with Intel processors"),
        ("arm64", "13.6", "macOS 14 or newer, and this is 13.6"),
    ],
)
def test_a_mac_for_which_torch_has_no_wheels_gets_one_line(
    machine: str, version: str, reason: str, checkout: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin", "uname", f'[ "$1" = -m ] && echo {machine} || echo Darwin')
    program(tmp_path / "bin", "sw_vers", f"echo {version}")
    result = shell(checkout, "use_environment requirements.txt", tmp_path / "bin")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and reason in result.stderr


def report(*needed: str) -> str:
    quoted = ", ".join(f'"{name}"' for name in needed)
    return f'{{"install": [{{"metadata": {{"requires_dist": [{quoted}]}}}}]}}'


@pytest.mark.parametrize(
    ("needed", "has_index", "said"),
    [
        (("nvidia-cudnn-cu13==9.20",), True, "installed the CPU build"),
        (("nvidia-cudnn-cu13==9.20",), False, "its CUDA build follows, which takes 5.6 GB"),
        (("sympy",), True, ""),
    ],
)
def test_a_machine_without_a_gpu_gets_the_cpu_build_or_is_told_what_is_coming(
    needed: tuple[str, ...], has_index: bool, said: str, checkout: Path, tmp_path: Path
) -> None:
    if list(Path("/dev").glob("nvidia*")):
        pytest.skip("this machine has an NVIDIA GPU")
    program(
        tmp_path / "bin",
        "python",
        f'echo "$@" >> {tmp_path}/asked\n'
        f"case \"$*\" in *--dry-run*) echo '{report(*needed)}' ;;\n"
        f"*--index-url*) exit {0 if has_index else 1} ;;\n"
        f'-c*) exec {sys.executable} "$@" ;;\nesac',
    )
    result = shell(checkout, "install_torch torch==2.13.0", tmp_path / "bin")
    assert result.returncode == 0, result.stderr
    assert said in result.stdout if said else result.stdout == ""
    asked = (tmp_path / "asked").read_text(encoding="utf-8")
    assert ("--index-url https://download.pytorch.org/whl/cpu" in asked) is (needed != ("sympy",))


def test_a_python_that_is_not_there_is_named(checkout: Path) -> None:
    result = shell(checkout, "use_environment requirements.txt 3.99")
    assert result.returncode == 1
    assert "no Python 3.99 was found" in result.stderr and len(result.stderr.splitlines()) == 1
