"""Where a text ends: stop strings, dedents, and where the suffix goes on."""

from __future__ import annotations

import pytest

from serving.stops import Stops


def cut(stops: Stops, text: str) -> str | None:
    """The text up to where it ends, written character by character; None if it does not end."""
    for length in range(1, len(text) + 1):
        found = stops.find(text[:length], length - 1)
        if found:
            return text[: found.place]
    return None


@pytest.mark.parametrize(
    ("strings", "text", "expected"),
    [
        (("\n",), "x = 1\ny", "x = 1"),
        (("end", "d"), "the end", "the "),
        (("zz",), "abc", None),
        (("abc",), "xabc", "x"),
        ((), "abc", None),
    ],
)
def test_the_first_stop_string_ends_the_text(
    strings: tuple[str, ...], text: str, expected: str | None
) -> None:
    assert cut(Stops(strings), text) == expected


def test_a_string_that_begins_in_an_earlier_piece_is_found() -> None:
    assert Stops(("abcd",)).find("xxabcd", 5) == (2, "abcd", True)


@pytest.mark.parametrize(
    ("text", "held"), [("x", 0), ("xa", 1), ("xab", 2), ("xabc", 0), ("xaba", 1), ("", 0), ("ab", 2)]
)
def test_what_may_become_a_stop_string_is_held_back(text: str, held: int) -> None:
    assert Stops(("abd",)).held(text) == held


def test_the_longest_beginning_of_any_string_is_held_back() -> None:
    assert Stops(("bc", "abcd")).held("xabc") == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x\n    y\n  z", "x\n    y"),
        ("x\n    y\n\n    z", None),
        ("x\n    y\n\n  ", None),
        ("x\n    y\n\n  z", "x\n    y\n"),
        ("  x", None),
    ],
)
def test_a_line_that_is_indented_less_ends_the_text(text: str, expected: str | None) -> None:
    assert cut(Stops(indent=4), text) == expected


@pytest.mark.parametrize(
    ("suffix", "begins_line", "text", "expected"),
    [
        ("\n    return x\n", False, "y = 1\n    z = 2\n    return x\n", "y = 1\n    z = 2"),
        ("\n    return x\n", False, "y = 1\n    return xy\n", None),
        ("\n\n\n    return x", True, "    return x\n", ""),
        ("\n    return x", False, "    return x\n", None),
        (")\n", False, "a, b)\nc", "a, b"),
        (")\n", False, "a, b\nc", "a, b"),
        (")\n", False, "f(a), b", None),
        ("", False, "x\ny\n", None),
        ("\n\n", False, "x\ny\n", None),
    ],
)
def test_a_model_that_does_not_see_the_suffix_stops_where_it_goes_on(
    suffix: str, begins_line: bool, text: str, expected: str | None
) -> None:
    assert cut(Stops(follows=suffix, begins_line=begins_line), text) == expected


def test_the_line_that_would_repeat_the_suffix_is_held_back() -> None:
    assert Stops(follows="\n    return x\n").held("y = 1\n    ret") == len("\n    ret")
