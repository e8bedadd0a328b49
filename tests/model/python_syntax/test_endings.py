"""A text that breaks off is completed by something short, or loses next to nothing."""

from __future__ import annotations

from random import Random

import pytest

from project import STDLIB
from python_syntax.compiler import is_complete, lexical_state
from python_syntax.endings import clean_end, likely_ending, shared_length, string_end
from python_syntax.judge import accept_line, accept_prompt
from python_syntax.prefix_parser import PrefixParser


def ended(text: str) -> str:
    """The text as it ends when its budget is spent, where every character is a token."""
    settled = text.rfind("\n") + 1
    accepted = accept_line(text[:settled], accept_prompt("")) if settled else accept_prompt("")
    assert accepted is not None
    places = [(place, PrefixParser().after(text[:place])) for place in range(len(text), settled, -1)]
    return clean_end(text, 0, accepted, places, is_whole=False)


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
    text, rng = (STDLIB / name).read_text(encoding="utf-8")[:6000], Random(name)
    for _ in range(15):
        cut = text[: rng.randrange(len(text))].rstrip()
        accepted = accept_prompt(cut[: cut.rfind("\n") + 1])
        parser = PrefixParser().after(cut[: accepted.start])
        places = []
        for place in range(accepted.end, len(cut)):
            parser = PrefixParser().after(cut[accepted.start : place + 1])
            places.append((place + 1, parser))
        end = clean_end(cut, 0, accepted, places[::-1], is_whole=False)
        assert is_complete(end + "\n", 0)
        assert shared_length(end, cut) > len(cut) - 20, cut[-100:]


@pytest.mark.parametrize(
    ("statement", "last", "ending"),
    [
        ("x = 1\n", "", ""),
        ("if x:\n", "", "    pass"),
        ("if x:\n    y\n", "    pass", ""),
        ("try:\n    y\n", "    pass\nfinally: pass", "finally: pass"),
        ("try:\n    if y:\n", "finally: pass", "        pass\nfinally: pass"),
        ("f(\n    a,\n", ")", ")"),
        ("def f():\n    '''x\n    y'''\n", "'''", ""),
    ],
)
def test_the_ending_of_a_line_follows_from_the_one_before(statement: str, last: str, ending: str) -> None:
    assert likely_ending(statement, last, 0) == ending
    assert is_complete(statement + ending, 0)


@pytest.mark.parametrize("prefix", ["", "r", "b", "f"])
@pytest.mark.parametrize("quote", ["'", '"', "'''", '"""'])
@pytest.mark.parametrize(
    "body", ["a", "a'", "a''", 'a"', 'a""', r"a\'", r"a\''", r"a\\'", "a\\", r"\x4", "'"]
)
def test_the_end_of_an_open_string_closes_it(body: str, quote: str, prefix: str) -> None:
    text = f"x = {prefix}{quote}{body}"
    string = lexical_state(text).string
    if string is None or string[0] != len("x = "):
        return  # its body closes it
    end = string_end(text)
    assert end is not None
    assert lexical_state(text + end).string is None, end
    assert is_complete(text + end + "\n", 0)
