"""What a text ends in, by its tokens alone; and what CPython says of it after other statements."""

from __future__ import annotations

import sys

import pytest

from python_syntax.compiler import (
    Accepted,
    LexicalState,
    ends_in_empty_continuation,
    is_complete,
    lexical_state,
    logical_line_starts,
)
from python_syntax.judge import accept_prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f(a, [b, 'c", LexicalState(((1, "("), (5, "[")), (9, "", "'"))),
        ("x = Rb'''a", LexicalState((), (4, "rb", "'''"))),
        ("x(')', \"]\")", LexicalState(())),
        ("[  # (", LexicalState(((0, "["),), in_comment=True)),
        ("x = 1 + \\\n", LexicalState((), is_continued=True)),
        ("x = 1)]", LexicalState(())),
    ],
)
def test_what_a_text_ends_in_is_found_by_its_tokens(text: str, expected: LexicalState) -> None:
    assert lexical_state(text) == expected


@pytest.mark.skipif(sys.version_info < (3, 12), reason="f-strings hold no quotes of their own there")
@pytest.mark.parametrize(
    ("closed", "opened"),
    [
        ('x = f"{a["k"]}" + ', "("),
        ("x = f'{a[\"'\"]:{'>'}{\"'\"}}'", ""),
        ("x = ", "f'{a['"),
        ("x = f'{{' + ", "["),
        ("x = rf'\\{a['k']}' + ", "'"),
        ("x = f'\\N{APOSTROPHE}{'a'}'", ""),
        ("x = ", "f'\\N{APOS"),
        ("x = f'{a  # '\n}' + ", "["),
        ("x = ", "f'{a  # '"),
        ("x = f'{f'{f'{a}'}'}' + ", "{"),
        ("x = ", "f'a\n"),
        ("x = f'{a:{b['c']}}' + ", "("),
    ],
)
def test_where_an_fstring_with_strings_inside_ends_is_known(closed: str, opened: str) -> None:
    assert lexical_state(closed + opened).opened_at == (len(closed) if opened else None)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("", [0]),
        ("x = 1\nf(a,\n  b", [0, 6]),
        ("x = '''\n'''\ny", [0, 12]),
        ("x \\\n= 1\n# (\ny", [0, 8, 12]),
        ("x = 'a\ny", [0]),
        (")\nf(1)\n\n", [0, 2, 7, 8]),
    ],
)
def test_lines_that_belong_together_are_one(text: str, starts: list[int]) -> None:
    assert logical_line_starts(text) == starts


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x\\\n\n", True), ("x\\\n  \n", True), ("x\\\n", False), ("x\\\ny\n", False), ("# a\\\n\n", False)],
)
def test_a_backslash_before_an_empty_line_ends_in_empty_continuation(text: str, expected: bool) -> None:
    assert ends_in_empty_continuation(text) is expected


@pytest.mark.parametrize(
    ("before", "statement", "is_right"),
    [
        ("x = 1\n", "y = 2\n", True),
        ("x = 1\n", "global x\n", False),
        ("y = 1\n", "if y:\n    global x\n", True),
        ("x = 1\n", "if y:\n    global x\n", False),
        ("x = 1\n", "def f():\n    global x\n    x = 2\n", True),
        ("def f():\n    global x\n", "x: int = 1\n", True),
        ("global x\n", "x: int = 1\n", True),
        ("x = 1\n", "from __future__ import annotations\n", False),
        ("'doc'\n", "from __future__ import annotations\n", True),
        ("from __future__ import annotations\n", "from __future__ import division\n", True),
        ("x = 1\n", "return\n", False),
    ],
)
@pytest.mark.parametrize("parted", [False, True])
def test_a_statement_is_judged_after_the_others_without_compiling_them_again(
    before: str, statement: str, is_right: bool, parted: bool
) -> None:
    accepted = Accepted(len(before), len(before), "", accept_prompt(before).flags, None)
    text = before + statement
    if parted:
        accepted, text = accepted.from_last_statement(before), statement
    assert accepted.compiles(text) == is_right == is_complete(before + statement, 0)
