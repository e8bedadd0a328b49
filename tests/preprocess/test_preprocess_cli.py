"""The command of the next stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocess_cli import PROJECT, next_stage, size_of


def test_the_next_command_can_be_typed_where_the_last_one_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    assert next_stage("preprocess/tokenizer.py", "-t", data=Path("data.txt")) == (
        "python preprocess/tokenizer.py -t"
    )
    monkeypatch.chdir(tmp_path)
    assert next_stage("preprocess/tokenizer.py", data=Path("my data.txt")) == (
        f"python {PROJECT / 'preprocess/tokenizer.py'} --data 'my data.txt'"
    )


def test_no_size_is_shown_as_zero() -> None:
    sizes = {
        0: "0 bytes",
        1: "1 byte",
        999: "999 bytes",
        1000: "1.0 kB",
        99_999: "100.0 kB",
        100_000: "0.1 MB",
        36_900_000: "36.9 MB",
        9_999_900_000: "9,999.9 MB",
        12_300_000_000: "12.3 GB",
    }
    assert {size: size_of(size) for size in sizes} == sizes
