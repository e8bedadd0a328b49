"""CPython's compiler says what can be the beginning of a program, and a short ending proves it."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import python_parser
from conftest import STDLIB
from continuation import Continuation
from python_parser import is_complete
from valid_code import NotPythonError, Standing, begin, holds, indentation_fits, judge, likely_ending

FILES = ["json/decoder.py", "asyncio/queues.py", "dataclasses.py", "textwrap.py", "typing.py"]


def source(name: str) -> str:
    return (STDLIB / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_real_code_cut_anywhere_can_be_completed(name: str) -> None:
    text, chance = source(name), Random(name)
    for _ in range(12):
        prompt = text[: chance.randrange(len(text))]
        assert is_complete(prompt + begin(prompt).ending, 0), repr(prompt[-80:])


@pytest.mark.full
@pytest.mark.parametrize("file", sorted(STDLIB.glob("*.py")), ids=lambda file: file.name)
def test_every_file_of_the_standard_library_cut_anywhere_can_be_completed(file: object) -> None:
    text, chance = source(file.name), Random(0)  # type: ignore[attr-defined]
    for _ in range(30):
        prompt = text[: chance.randrange(len(text) + 1)]
        assert is_complete(prompt + begin(prompt).ending, 0), repr(prompt[-80:])


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "\n",
        "def f(",
        "x = '",
        'f"{a',
        "if x:\n    ",
        "try:\n    pass\n",
        "@dec\n",
        "async ",
        "impor",
        "x = 1\\\n",
        "class A:\n    '''doc",
        "print((1, 2)",
        "for i in",
        "lambda",
        "# comment",
        "x = [i fo",
    ],
)
def test_a_cut_is_no_fault(prompt: str) -> None:
    assert is_complete(prompt + begin(prompt).ending, 0)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("x = = 1", "invalid syntax (line 1, column 5)"),
        ("x = 1\nprint 'a'\n", "Missing parentheses in call to 'print'. Did you mean print(...)? (line 2"),
        ("def f(a, a):\n    pass\n", "duplicate argument 'a' in function definition (line 1"),
        ("  x = 1\n y", "unexpected indent (line 1"),
        ("f(]", "closing parenthesis ']' does not match opening parenthesis '(' (line 1"),
    ],
)
def test_what_is_no_beginning_of_a_program_is_refused_in_pythons_words(prompt: str, message: str) -> None:
    with pytest.raises(NotPythonError) as caught:
        begin(prompt)
    assert str(caught.value).startswith(message)


def test_the_line_of_an_error_is_counted_from_the_beginning_of_a_long_prompt() -> None:
    with pytest.raises(NotPythonError, match=r"\(line 20002, "):
        begin("x = 'some text'\n" * 20_000 + "y = 1\nx = = 1\n")


def standings(text: str) -> Standing | None:
    """The judge's answer after the lines of a text, one after the other."""
    standing: Standing | None = begin("")
    place = 0
    while standing and (place := text.find("\n", place) + 1):
        standing = judge(text[:place], standing)
    return standing


@pytest.mark.parametrize("name", FILES)
def test_no_line_of_real_code_is_rejected(name: str) -> None:
    text = source(name)
    lines = text.split("\n")[: 250 if len(text) < 40_000 else 120]
    assert standings("\n".join(lines) + "\n") is not None


@pytest.mark.parametrize(
    "text",
    [
        "x = = 1\n",
        "if x\n",
        "if x:\ny\n",
        "return 1\n",
        "def f():\n    x\n  y\n",
        "x = 'a\n",
        "break\n",
        "def f(a, a):\n",
        "class A:\n    pass\n  x\n",
        "f(a=1, a=2)\n",
        "else:\n",
        "x = 1\nfrom __future__ import annotations\n",
        "x = 1\nglobal x\n",
        "nonlocal x\n",
        "*a\n",
        "a + 1 = 2\n",
        "print 1\n",
    ],
    ids=repr,
)
def test_a_line_that_no_program_contains_is_rejected(text: str) -> None:
    assert standings(text) is None


def test_a_future_import_is_in_force_for_what_follows() -> None:
    assert standings("from __future__ import barry_as_FLUFL\nx <> 1\n") is not None
    assert standings("x <> 1\n") is None


def test_a_line_may_only_be_indented_as_its_block_is() -> None:
    text = "def f():\n    if x:\n        y\n"
    standing = standings(text)
    assert standing is not None
    assert [width for width in range(12) if indentation_fits(text, " " * width, standing)] == [
        *range(9)
    ]  # 1 and 2 may grow to 4
    assert not indentation_fits("x = 1\n", "    ", begin("x = 1\n"))


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
    standing = Standing(len(before), len(before), "", begin(before).flags, None)
    text = before + statement
    if parted:
        standing, text = standing.without_statements_before(before), statement
    assert holds(text, standing) == is_right == is_complete(before + statement, 0)


def test_of_a_long_prompt_only_the_last_statement_is_compiled_while_it_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample = Continuation("def f(x):\n    return x + 1\n\n\n" * 3_000, Random(0), [], b"", 100)
    sample.guard(begin(sample.prompt))
    compiled_lengths: list[int] = []

    def compiled(text: str, flags: int) -> object:
        compiled_lengths.append(len(text))
        return compile(text, "<text>", "exec", flags, dont_inherit=True)

    monkeypatch.setattr(python_parser, "compiled", compiled)
    for token_id, word in enumerate(
        [b"x", b" =", b" 1", b"\n", b"def", b" g", b"(", b")", b":", b" ", b"\n"]
    ):
        sample.remember(np.zeros((1, 1), np.float32))
        assert sample.add(token_id, word)
    sample.finish()
    assert sample.text == "x = 1\ndef g(): \n    pass"
    assert compiled_lengths
    assert max(compiled_lengths) < 200
