"""The interactive prompt in a real pseudo-terminal: what a person sees and what the keys do."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attribution.copies import Source
from project import PROJECT
from pseudo_terminal import ALT_ENTER, CTRL_C, ENTER, UP, Terminal
from terminal.screen import start_of_last_lines
from tiny_index import index_texts
from tiny_model import save_endless_model, save_tiny_model


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


def test_the_first_completion_of_all_says_on_a_line_of_its_own_that_it_compiles(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "compiled"))
    terminal = Terminal(folder, tmp_path, "--seed", "1", "--max-new-tokens", "12")
    try:
        terminal.wait_for(">>>")
        terminal.type("x = 1" + ENTER)
        shown = terminal.wait_for("some seconds, once", seconds=120)
        noted = time.monotonic()
        shown += terminal.wait_for("12 tokens in", seconds=120)
        waited = time.monotonic() - noted
        lines = [line.strip() for line in shown.splitlines()]
        assert "# compiling for this processor, some seconds, once" in lines
        seconds = re.search(r"12 tokens in ([0-9.]+) s", shown + terminal.wait_for(">>>"))
        assert seconds and float(seconds[1]) < waited / 2, "the compiling is not counted as writing"
    finally:
        terminal.close()


def test_after_a_note_the_line_that_is_continued_is_shown_again(terminal: Terminal) -> None:
    terminal.wait_for(">>>")
    terminal.type("hello, write me" + ENTER)
    terminal.wait_for("invalid syntax (line 1, column 14)")
    terminal.wait_for("guarantee")
    assert "hello, write me" in terminal.wait_for("tokens in")


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
    terminal.wait_for_writing()
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
        ("/nothing", "no command /nothing: /help lists them"),
        ("/temprature 0.5", "no command /temprature: did you mean /temperature?"),
        ("/top_q 0.5", "no command /top_q: did you mean /top-p?"),
        ("/hepl", "no command /hepl: did you mean /help?"),
        ("/why five", "five is not a whole number from 1 to 100: /why 10"),
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
    terminal.type("/why 2" + ENTER)
    terminal.wait_for("[taken]")
    fewer = [line.strip() for line in terminal.wait_for(">>>").splitlines()]
    assert [line.count(" %") in (2, 3) for line in fewer if re.match(r"\d+  ", line)] == [True] * len(lines)
    terminal.close()


@pytest.mark.parametrize("word", ["exit", "quit", "exit()", " quit ", "/exit"])
def test_exit_and_quit_leave(folder: Path, tmp_path: Path, word: str) -> None:
    terminal = Terminal(folder, tmp_path, term="dumb")
    try:
        terminal.wait_for(">>>")
        terminal.type(word + "\n")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_what_is_said_fits_the_terminal(folder: Path, tmp_path: Path, columns: int, term: str) -> None:
    terminal = Terminal(folder, tmp_path, "--no-valid", "--seed", "1", columns=columns, term=term)
    try:
        shown = terminal.wait_for(">>>")
        for typed, answer in [("/help", "compiles"), ("x = 1", "tokens in"), ("/why 3", "[taken]")]:
            terminal.type(typed + ("\n" if term == "dumb" else ENTER))
            said = terminal.wait_for(answer) + terminal.wait_for(">>>", seconds=60)
            shown += said if typed != "x = 1" else ""
        lines = [line for line in shown.replace("\r", "\n").splitlines() if ">>>" not in line]
        wide = [line for line in lines if len(line) > columns and str(folder) not in line]
        assert not wide
        assert len(lines) > 40
    finally:
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
    terminal.wait_for("no 30 new tokens in a row stand in the training data")
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
