"""A text that has to end where it breaks off loses next to nothing, and compiles."""

from __future__ import annotations

from random import Random

import pytest
from clean_end import clean_end, shared
from conftest import STDLIB
from python_parser import is_complete
from reading import Reading
from valid_code import begin, judge


def ended(text: str) -> str:
    """The text as it ends when its budget is spent, where every character is a token."""
    settled = text.rfind("\n") + 1
    standing = judge(text[:settled], begin("")) if settled else begin("")
    assert standing is not None
    places = [(place, Reading().after(text[:place])) for place in range(len(text), settled, -1)]
    return clean_end(text, 0, standing, places, is_whole=False)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("x = f(a, [b", "x = f(a, [b])"),
        ("x = a +", "x = a "),
        ("if a_long_name", "if a_long_name: pass"),
        ("try:\n    x = 1", "try:\n    x = 1\nfinally: pass"),
        ("x = 'some te", "x = 'some te'"),
        ("from a_long_package.a_long_module", "from a_long_package.a_long_module import _"),
        ("print(f'{x", "print(f'{x}')"),
        ("def f():\n    for a in b", "def f():\n    for a in b: pass"),
        ("x = (a_long_name_1 for a_long_name_2", "x = (a_long_name_1 for a_long_name_2 in _)"),
    ],
)
def test_a_line_is_ended_where_it_breaks_off(text: str, whole: str) -> None:
    assert ended(text) == whole
    assert is_complete(whole + "\n", 0)


@pytest.mark.parametrize("name", ["textwrap.py", "json/decoder.py"])
def test_real_code_cut_anywhere_keeps_nearly_all_of_itself(name: str) -> None:
    text, chance = (STDLIB / name).read_text(encoding="utf-8")[:6000], Random(name)
    for _ in range(15):
        cut = text[: chance.randrange(len(text))].rstrip()
        standing = begin(cut[: cut.rfind("\n") + 1])
        reading = Reading().after(cut[: standing.start])
        places = []
        for place in range(standing.end, len(cut)):
            reading = Reading().after(cut[standing.start : place + 1])
            places.append((place + 1, reading))
        end = clean_end(cut, 0, standing, places[::-1], is_whole=False)
        assert is_complete(end + "\n", 0)
        assert shared(end, cut) > len(cut) - 20, cut[-100:]
