"""What a run shows fits the terminal and cannot command it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collecting.report import in_lines, size_text
from collector_cli import printable


@given(st.text(), st.integers(1, 100))
def test_what_a_terminal_is_shown_fits_it_and_obeys_nothing(text: str, width: int) -> None:
    lines = in_lines(printable(text), width)
    assert all(len(line) <= width and "\x1b" not in line and "\n" not in line for line in lines)
    assert in_lines("found 2 · fetched 1 · 0.1/s", 20) == ["found 2 · fetched 1", "0.1/s"]


def test_a_size_is_never_shown_as_nothing() -> None:
    sizes = {
        0: "0 bytes",
        1: "1 byte",
        999: "999 bytes",
        1000: "1 kB",
        999_499: "999 kB",
        1_234_567: "1.2 MB",
    }
    assert {size: size_text(size) for size in sizes} == sizes
