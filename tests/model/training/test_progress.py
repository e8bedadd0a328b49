"""Progress of a run on a terminal of 100, 80 and 40 columns, and in a log."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from training.progress import Progress, fit, say
from training.schedule import Schedule

ROW: dict[str, Any] = {"loss": 3.1, "bits_per_byte": 1.2345, "tokens_per_second": 22_147}


def on_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))


def drawn(columns: int, monkeypatch: pytest.MonkeyPatch, **row: Any) -> str:
    """The bar of a run at a quarter of its steps."""
    on_a_terminal(columns, monkeypatch)
    progress = Progress(2048)
    progress.held_out = 1.3012
    progress.show(Schedule(226, step=50, progress=0.25), {**ROW, **row}, 192.0, 610_000_000)
    bar: str = progress.bar.format_meter(**{**progress.bar.format_dict, "ncols": columns})
    progress.close()
    return bar


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_the_time_left_comes_first_and_everything_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = drawn(columns, monkeypatch)
    assert len(bar) <= columns
    assert bar.split("| ")[1].startswith("3:12 left")
    assert "training 1.234" in bar
    assert "," not in bar.replace("22,147", "")


def test_training_and_held_out_files_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "3:12 left  bits/byte: training 1.234  held out 1.301  step 50/226" in drawn(100, monkeypatch)
    assert "held out 1.301" in drawn(80, monkeypatch)
    assert "22,147 tokens/s  0.6 GB" in drawn(120, monkeypatch)
    assert "loss nan" in drawn(80, monkeypatch, loss=None, bits_per_byte=None)


def test_figures_that_do_not_fit_are_left_out() -> None:
    assert fit(["3:12 left", "training 1.234", "", "0.6 GB"], 20) == "3:12 left  0.6 GB"


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_are_wrapped_between_words_on_a_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "  model    1.4 M parameters: 3 layers, 192 wide, 3 heads, context 512, vocabulary 2,048"
    say(line)
    assert capsys.readouterr().err == f"{line}\n"
    on_a_terminal(columns, monkeypatch)
    say(line)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) < columns
    assert all(each.startswith(" " * 11) for each in lines[1:])
    assert " ".join(map(str.strip, lines)) == line.strip()
