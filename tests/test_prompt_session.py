"""The interactive prompt in a real pseudo-terminal: what a person sees and what the keys do."""

from __future__ import annotations

import functools
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_screen import start_of_last_lines
from conftest import PROJECT
from copied_runs import Source
from tiny_index import index_texts
from tiny_model import save_endless_model, save_tiny_model

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>78])|\x1b\][^\x07]*\x07")
ENTER, ALT_ENTER, UP, CTRL_C, CTRL_D = "\r", "\x1b\r", "\x1b[A", "\x03", "\x04"


class Terminal:
    """The generator on a terminal of 100 columns and 30 rows."""

    def __init__(self, folder: Path, state: Path, *options: str, term: str = "xterm-256color") -> None:
        self.screen, inner = pty.openpty()
        subprocess.run(["stty", "cols", "100", "rows", "30"], stdin=inner, check=True)
        command = [sys.executable, str(PROJECT / "model/code_generator.py"), "--model", str(folder), *options]
        env = {**os.environ, "TERM": term, "XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            command, env=env, pass_fds=[inner], preexec_fn=functools.partial(os.login_tty, inner)
        )
        os.close(inner)
        self.raw = ""
        self.seen = 0

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def wait_for(self, text: str, seconds: float = 20) -> str:
        """All that was shown since the last wait up to this text, without colours and cursor movements."""
        deadline = time.monotonic() + seconds
        while text not in (new := ESCAPES.sub("", self.raw)[self.seen :]):
            assert time.monotonic() < deadline, f"{text!r} was not shown: {new!r}"
            if select.select([self.screen], [], [], 0.1)[0]:
                try:
                    self.raw += os.read(self.screen, 65536).decode(errors="replace")
                except OSError:  # Linux: the other end is closed
                    assert text in ESCAPES.sub("", self.raw)[self.seen :], (
                        f"it ended before {text!r}: {new!r}"
                    )
        end = new.index(text) + len(text)
        self.seen += end
        return new[:end]

    def leave(self) -> int:
        self.type(CTRL_D)
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def terminal(folder: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(folder, tmp_path, "--seed", "1", "--max-new-tokens", "12")
    yield terminal
    terminal.close()


def test_code_is_completed_below_the_prompt_and_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.wait_for(">>>")
    terminal.type("x = 1" + ENTER)
    shown = terminal.wait_for("12 tokens in")
    assert "x = 1" in shown
    assert "Traceback" not in shown
    terminal.wait_for(">>>")
    assert terminal.leave() == 0


def test_alt_enter_begins_a_line_that_is_indented_after_a_colon(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for(">>>")
    terminal.type("def f(x):" + ALT_ENTER + "return x" + ENTER)
    terminal.wait_for("tokens in")
    terminal.wait_for(">>>")
    terminal.type(f"/save {tmp_path}/saved.py{ENTER}")
    terminal.wait_for("saved:")
    assert (tmp_path / "saved.py").read_text(encoding="utf-8").startswith("def f(x):\n    return x")


def test_ctrl_c_stops_a_completion_and_its_prompt_stays(tmp_path: Path) -> None:
    options = ["--no-valid", "--max-new-tokens", "1000000"]
    terminal = Terminal(save_endless_model(tmp_path / "endless"), tmp_path, *options)
    terminal.wait_for(">>>")
    terminal.type("y = 2" + ENTER)
    terminal.wait_for("y = 2")
    terminal.wait_for("\n")
    time.sleep(0.5)
    terminal.type(CTRL_C)
    terminal.wait_for("; stopped")
    terminal.wait_for("y = 2")
    terminal.type(CTRL_C)
    terminal.wait_for(">>>")
    assert terminal.leave() == 0
    terminal.close()


def test_the_history_is_there_in_the_next_run(folder: Path, terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for(">>>")
    terminal.type("remembered = 1" + ENTER)
    terminal.wait_for("tokens in")
    terminal.wait_for(">>>")
    terminal.leave()
    assert (tmp_path / "gpyt" / "history").stat().st_mode & 0o077 == 0
    later = Terminal(folder, tmp_path)
    later.wait_for(">>>")
    later.type(UP)
    later.wait_for("remembered = 1")
    later.close()


def test_commands_say_what_they_did_or_why_not(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for(">>>")
    answers = [
        ("/help", "Alt-Enter"),
        ("/more", "nothing has been completed yet"),
        ("/retry", "nothing has been completed yet"),
        ("/nothing", "no command /nothing"),
        ("/top-p 3", "3 is not a number from 0 to 1"),
        ("/top-p 0.5", "top-p is 0.5"),
        ("/seed", "seed is 1"),
        ("/why", "nothing has been completed yet"),
        ("/sources", "nothing has been completed yet"),
        ("/file", "say which"),
        (f"/file {tmp_path}/missing.py", "cannot be read"),
        ("x = 1", "tokens in"),
        ("/sources", "the index of the training data is missing"),
        ("/more", "tokens in"),
        ("/retry", "tokens in"),
        (f"/file {__file__}", "tokens in"),
        ("/save", "say where"),
        (f"/save {__file__}", "nothing was written"),
        (f"/save {tmp_path}/no/such/folder.py", "cannot be written"),
    ]
    for typed, answer in answers:
        terminal.type(typed + ENTER)
        shown = terminal.wait_for(answer)
        assert "Traceback" not in shown
        terminal.wait_for(">>>")


def test_why_shows_the_likeliest_tokens_a_line_a_token_and_the_taken_one(
    folder: Path, tmp_path: Path
) -> None:
    # The judge would cut off most of what untrained weights write.
    terminal = Terminal(folder, tmp_path, "--seed", "1", "--max-new-tokens", "12", "--no-valid")
    terminal.wait_for(">>>")
    terminal.type("x = 1" + ENTER)
    terminal.wait_for("12 tokens in")
    terminal.wait_for(">>>")
    terminal.type("/why" + ENTER)
    terminal.wait_for("[taken]")
    lines = [line.strip() for line in terminal.wait_for(">>>").splitlines()]
    lines = [line for line in lines if re.match(r"\d+  ", line)]
    assert len(lines) >= 8  # of 12 tokens, without those that were cut off at the end
    for number, line in enumerate(lines, start=1):
        assert line.startswith(f"{number}  ")
        assert line.count(" %") in (5, 6)
        assert len(re.findall(r"\[.+? \d+\.\d %\]", line)) == 1, line
    terminal.close()


def test_a_footnote_names_whose_code_a_completion_repeats(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m")
    options = ["--temperature", "0", "--no-valid", "--max-new-tokens", "60", "--model", str(folder)]
    command = [sys.executable, str(PROJECT / "model/code_generator.py"), *options, "--prompt", "x = 1"]
    written = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    index_texts(folder, {Source("octo/cat", "src/cat.py", "abcdef0123456789", "MIT"): written})
    terminal = Terminal(folder, tmp_path, *options[:-2])
    terminal.wait_for(">>>")
    terminal.type("x = 1" + ENTER)
    terminal.wait_for("tokens in")
    shown = " ".join(terminal.wait_for("MIT").split())
    assert "# copied: line" in shown
    assert "octo/cat, src/cat.py, commit abcdef012345, MIT" in shown
    terminal.wait_for(">>>")
    terminal.type("/temperature 20" + ENTER)
    terminal.wait_for("temperature is 20")
    terminal.wait_for(">>>")
    terminal.type("y" + ENTER)
    assert "copied" not in terminal.wait_for("tokens in")
    assert "copied" not in terminal.wait_for(">>>")
    terminal.type("/sources" + ENTER)
    terminal.wait_for("no 30 tokens in a row of what was written stand in the training data")
    terminal.close()


def test_a_dumb_terminal_is_shown_no_control_codes(folder: Path, tmp_path: Path) -> None:
    terminal = Terminal(folder, tmp_path, "--seed", "1", "--max-new-tokens", "12", term="dumb")
    terminal.wait_for(">>>")
    terminal.type("x = 1\n")
    terminal.wait_for("tokens in")
    terminal.wait_for(">>>")
    assert terminal.leave() == 0
    assert "\x1b" not in terminal.raw
    terminal.close()


def test_the_last_lines_of_a_text_begin_where_a_line_begins() -> None:
    assert start_of_last_lines("a\nb\nc", 2) == 2
    assert start_of_last_lines("a\nb\nc", 5) == 0
    assert start_of_last_lines("", 3) == 0
