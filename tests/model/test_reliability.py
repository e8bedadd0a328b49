"""The code generator where things go wrong: answered as a user expects, in one line, never by a traceback."""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from project import PROJECT
from pseudo_terminal import CTRL_C, ENTER, Terminal
from tiny_model import save_endless_model, save_tiny_model

SCRIPT = str(PROJECT / "model/code_generator.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_endless_model(tmp_path_factory.mktemp("endless"))


def ask(folder: Path, shell: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the generator from a shell that redirects its files; shell: the options and redirections."""
    command = f'exec "$0" "$1" --model "$2" --max-new-tokens 5 --seed 1 {shell}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, SCRIPT, str(folder)],
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[bytes]) -> str:
    """The one line with which it was refused."""
    assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (1, b"", 1), result.stderr
    assert result.stderr.startswith(b"error: ")
    return result.stderr.decode()


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("<&-", "standard input is closed: give --prompt or --file"),
        ("--prompt x >&-", "standard output is closed"),
        ("--prompt x >/dev/full", "No space left on device"),
        ("--prompt x --json >/dev/full", "No space left on device"),
        ("--file /", "Is a directory"),
    ],
)
def test_files_that_are_closed_full_or_none_are_said_to_be_so(
    folder: Path, shell: str, expected: str
) -> None:
    if "/dev/full" in shell and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    assert expected in refused(ask(folder, shell))


@pytest.mark.parametrize(
    "prompt", [b"x = '<|endoftext|><|fim_middle|>'\n", b"s = '\x00'\n", b"\xef\xbb\xbfx = 1\n", b"x)\n"]
)
def test_a_strange_prompt_comes_out_as_it_is(folder: Path, prompt: bytes) -> None:
    result = ask(folder, "", prompt)
    assert result.returncode == 0
    assert result.stdout.startswith(prompt)
    assert b"Traceback" not in result.stderr


@pytest.mark.full
@pytest.mark.parametrize(
    "prompt",
    [b"x = 1\n" * 1_700_000, b"x = (" + b"1,\n" * 3_400_000, b"x = 1 " * 1_700_000],
    ids=["lines", "one bracket", "one line"],
)
def test_ten_megabytes_are_completed(folder: Path, prompt: bytes) -> None:
    result = ask(folder, "", prompt)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(prompt)
    is_judged = prompt.endswith(b"1\n")
    assert result.stderr.startswith(b"" if is_judged else b"note: this prompt ends in a statement of 10.2")


def test_a_tokenizer_of_another_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(model_folder, tmp_path / "GPyT"))
    content = (torn / "tokenizer.json").read_text(encoding="utf-8")
    (torn / "tokenizer.json").write_text(content + "\n", encoding="utf-8")  # the size, even the ids may agree
    assert "the tokenizer does not belong to the model" in refused(ask(torn, "--prompt x"))


def test_a_pickle_beside_the_weights_is_never_opened(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    both = Path(shutil.copytree(folder, tmp_path / "both"))
    (both / "pytorch_model.bin").write_bytes(f"cposix\nsystem\n(S'touch \"{mark}\"'\ntR.".encode())
    assert ask(both, "--prompt x").returncode == 0
    (both / "model.safetensors").unlink()
    assert "only a pickle, which could run code" in refused(ask(both, "--prompt x"))
    assert not mark.exists()


def test_what_is_written_is_compiled_and_never_executed(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    prompt = f"open({str(mark)!r}, 'w').close()\n"
    result = ask(folder, "--samples 3 --best --lint", prompt.encode())
    assert result.returncode == 0
    assert not mark.exists()
    for file in sorted((PROJECT / "model").rglob("*.py")):
        called = [
            node.func for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)
        ]
        names = {function.id for function in called if isinstance(function, ast.Name)}
        assert names & {"exec", "eval", "__import__"} == set(), file


# On a terminal


def resize(terminal: Terminal, columns: int, rows: int) -> None:
    size = struct.pack("HHHH", rows, columns, 0, 0)
    fcntl.ioctl(terminal.screen, termios.TIOCSWINSZ, size)  # sends SIGWINCH


def test_a_terminal_may_be_resized_while_it_writes(endless: Path, tmp_path: Path) -> None:
    terminal = Terminal(endless, tmp_path, "--no-valid", "--max-new-tokens", "100000", "--seed", "1")
    terminal.wait_for(">>>")
    terminal.type("x = 1" + ENTER)
    terminal.wait_for_writing()
    for columns, rows in ((20, 5), (1, 1), (200, 60), (80, 24)):
        resize(terminal, columns, rows)
        time.sleep(0.2)
    assert terminal.process.poll() is None
    terminal.type(CTRL_C)
    shown = terminal.wait_for("; stopped")
    assert "Traceback" not in shown
    terminal.wait_for("x = 1")  # the prompt has come back
    terminal.type(CTRL_C)
    terminal.wait_for(">>>")
    assert terminal.leave() == 0
    terminal.close()


@pytest.mark.parametrize("is_writing", [False, True], ids=["while it asks", "while it writes"])
def test_a_terminal_that_goes_away_ends_it(endless: Path, tmp_path: Path, is_writing: bool) -> None:
    terminal = Terminal(endless, tmp_path, "--no-valid", "--max-new-tokens", "10000000", "--seed", "1")
    terminal.wait_for(">>>")
    if is_writing:
        terminal.type("x = 1" + ENTER)
        terminal.wait_for("x = 1")
        time.sleep(0.3)
    os.close(terminal.screen)  # the kernel sends SIGHUP to the session
    try:
        assert terminal.process.wait(20) in (-signal.SIGHUP, 0, 1)
    finally:
        terminal.process.kill()


def test_a_terminal_that_goes_away_while_code_is_written_to_a_file_ends_it(
    endless: Path, tmp_path: Path
) -> None:
    screen, inner = pty.openpty()
    command = [sys.executable, SCRIPT, "--model", str(endless), "--prompt", "x", "--no-valid"]
    with (tmp_path / "written.py").open("wb") as written, (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--max-new-tokens", "10000000"], stdin=inner, stdout=written, stderr=errors
        )
    os.close(inner)
    while process.poll() is None and not (tmp_path / "written.py").stat().st_size:
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    os.close(screen)
    assert process.wait(20) == -signal.SIGHUP
    assert (tmp_path / "errors").read_bytes() == b""
    assert (tmp_path / "written.py").read_bytes().startswith(b"x")
