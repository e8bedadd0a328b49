"""Every script ends with one line and a true exit code, whoever reads its output.

collector_cli.py and preprocess_cli.py say the same: tests/test_layout.py compares them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_cli import PROJECT, UserError, fit_line, next_command, plural, prompt_command, run_script
from project import BESIDE_THE_JOURNEY, SCRIPTS
from project import run_script as run_project_script


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "code", "line"),
    [
        (lambda: 0, 0, ""),
        (lambda: 3, 3, ""),
        (raising(UserError("no data: /x: make it")), 1, "error: no data: /x: make it\n"),
        (raising(UserError("named \x1b[31m")), 1, "error: named \\x1b[31m\n"),
        (raising(KeyboardInterrupt()), 130, "\ninterrupted: run it again\n"),
        (raising(OSError(28, "No space left")), 1, "error: No space left: the disk: clear it\n"),
        (raising(OSError("it is a pipe")), 1, "error: it is a pipe: the disk: clear it\n"),
        (raising(PermissionError(13, "No", "/x/y")), 1, "error: No: /x/y: clear it\n"),
        (raising(PermissionError(13, "No", b"/x/y")), 1, "error: No: /x/y: clear it\n"),
        (raising(OSError(9, "Bad", 7)), 1, "error: Bad: the disk: clear it\n"),
    ],
)
def test_what_ends_a_script_is_one_line_and_a_code(
    run: Callable[[], int], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script(run, interrupted="run it again", place="the disk", remedy="clear it") == code
    assert capsys.readouterr() == ("", line)


def test_a_relative_path_is_shown_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for error in (OSError(13, "No", "data.txt"), OSError(13, "No")):
        run_script(raising(error), interrupted="", place=Path("data.txt"), remedy="look")
        assert capsys.readouterr().err == f"error: No: {tmp_path / 'data.txt'}: look\n"


def test_an_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_script(raising(ZeroDivisionError()), interrupted="", place="", remedy="")


WORK = """
import os, sys
from pathlib import Path
from model_cli import run_script, script_parser, warn
from tqdm import tqdm

def run():
    for stream in sys.stdout, sys.stderr:
        for line in range(50_000):
            print("line", line, file=stream)
    sys.stdout.buffer.write(b"bytes")
    for _ in tqdm(range(10)):
        pass
    print("after the bar", flush=True)
    Path("finished").touch()
    warn("finished")
    return 3

script_parser(None).parse_args([])
raise SystemExit(run_script(run, interrupted="", place="", remedy=""))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "pipe", ["2>&1 | head -n 1", "2>&1 >/dev/null | head -n 1", "2>/dev/null | head -n 1"]
)
def test_the_run_continues_and_its_exit_code_is_true_after_the_reader_has_gone(
    tmp_path: Path, unbuffered: str, pipe: str
) -> None:
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "model"), "PYTHONUNBUFFERED": unbuffered}
    shell = ["bash", "-c", f'"$0" -c "$1" {pipe}; exit ${{PIPESTATUS[0]}}', sys.executable, WORK]
    result = subprocess.run(shell, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, "line 0\n", "")
    assert (tmp_path / "finished").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_is_read_gets_everything_in_order(tmp_path: Path, unbuffered: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "model"), "PYTHONUNBUFFERED": unbuffered}
    result = subprocess.run(
        [sys.executable, "-c", WORK], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = "".join(f"line {number}\n" for number in range(50_000))
    assert result.returncode == 3
    assert result.stdout == f"{lines}bytesafter the bar\n" or unbuffered == ""
    assert sorted(result.stdout) == sorted(f"{lines}bytesafter the bar\n")
    assert result.stderr.startswith(lines) and result.stderr.endswith("finished\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_outputs_that_are_closed_from_the_start_are_no_error(tmp_path: Path, closed: str) -> None:
    work = (
        WORK.replace("for stream in sys.stdout, sys.stderr", "for stream in ()")
        .replace('sys.stdout.buffer.write(b"bytes")', "")
        .replace("tqdm(range(10))", "range(10)")
    )
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "model")}
    shell = ["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, work]
    assert subprocess.run(shell, env=env, cwd=tmp_path, check=False).returncode == 3
    assert (tmp_path / "finished").exists()


@pytest.mark.parametrize(
    ("line", "fitted"),
    [
        ("  python a.py", "  python a.py"),
        ("  python a.py --top 10    # few", "  # few\n  python a.py \\\n      --top 10"),
        ("  python a.py --query 'a b c'", "  python a.py \\\n      --query \\\n      'a b c'"),
        ("  wrote a.py, 10 lines", "  wrote a.py, 10\n    lines"),
    ],
)
def test_a_long_line_of_the_help_is_broken_where_it_can_still_be_pasted(line: str, fitted: str) -> None:
    assert fit_line(line, 18) == fitted


def test_words_follow_their_number() -> None:
    assert [plural(number, "file") for number in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]
    assert plural(2, "repository", "repositories") == "2 repositories"


def test_commands_can_be_typed_where_they_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert next_command("model/train.py", "--data", "my data.txt") == (
        "python model/train.py --data 'my data.txt'"
    )
    assert prompt_command(Path("GPyT")) == "python model/code_generator.py"
    monkeypatch.chdir(tmp_path)
    script = PROJECT / "model/code_generator.py"
    assert prompt_command(Path("mine")) == f"python {script} --model mine"


SIGINT_HERE = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
SIGINT_AT_EXIT = "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"


def run_with_module(name: str, content: str, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A script for which `import name` finds this content first."""
    (folder / f"{name}.py").write_text(content, encoding="utf-8")
    return run_project_script(script, "--steps", "x", cwd=folder, env={"PYTHONPATH": str(folder)})


@pytest.mark.parametrize("script", [*SCRIPTS, *BESIDE_THE_JOURNEY])
def test_ctrl_c_while_a_script_imports_what_it_needs_is_no_traceback(script: str, tmp_path: Path) -> None:
    result = run_with_module("argparse", SIGINT_HERE, script, tmp_path)  # the first that takes a while
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "\ninterrupted\n")


@pytest.mark.parametrize("script", [*SCRIPTS, *BESIDE_THE_JOURNEY])
def test_ctrl_c_while_python_shuts_down_is_no_traceback(script: str, tmp_path: Path) -> None:
    result = run_with_module("sitecustomize", SIGINT_AT_EXIT, script, tmp_path)
    assert result.returncode == 130
    assert "(see --help)" in result.stderr
    assert result.stderr.endswith("\ninterrupted\n")
    assert "Traceback" not in result.stderr


def test_ctrl_c_after_the_work_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGINT_AT_EXIT, encoding="utf-8")
    script = "model/code_generator.py"
    result = run_project_script(script, "--prompt", "x", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 130
    assert result.stderr.startswith("error: no model folder: ")
    assert "Traceback" not in result.stderr


def test_ctrl_c_that_is_ignored_as_under_nohup_stays_ignored(tmp_path: Path) -> None:
    ignored = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{SIGINT_AT_EXIT}"
    (tmp_path / "sitecustomize.py").write_text(ignored, encoding="utf-8")
    result = run_project_script(
        "model/code_generator.py", "--version", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_program_that_imports_this_module_keeps_its_own_ctrl_c() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
