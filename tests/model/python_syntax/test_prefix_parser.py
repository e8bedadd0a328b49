"""Each piece of real code is allowed, and a piece that no program continues with is refused at once."""

from __future__ import annotations

import io
import tokenize
from random import Random

import pytest

from programs import PROGRAMS
from project import STDLIB
from python_syntax.compiler import is_complete
from python_syntax.prefix_parser import PrefixParser

FILES = ["dataclasses.py", "argparse.py", "asyncio/base_events.py", "typing.py", "fractions.py", "turtle.py"]


def without_comments_and_blank_lines(text: str) -> str:
    """A program whose lines are all indented as their blocks are."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING:
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = enumerate(text.splitlines(keepends=True), 1)
    return "".join(
        line
        for number, line in lines
        if number in inside or (line.strip() and not line.lstrip().startswith("#"))
    )


def refused_at(text: str, sizes: list[int], seed: int = 0) -> int | None:
    """Where the first piece begins that is refused, of pieces of random lengths; None: none is."""
    rng, parser, place = Random(seed), PrefixParser(), 0
    while place < len(text):
        size = rng.choice(sizes)
        after = parser.after(text[place : place + size])
        if after is None:
            return place
        parser, place = after, place + size
    return None


@pytest.mark.parametrize("name", FILES)
def test_no_piece_of_real_code_is_refused(name: str) -> None:
    text = without_comments_and_blank_lines((STDLIB / name).read_text(encoding="utf-8"))
    place = refused_at(text, [1, 2, 3, 4, 5, 8], len(name))
    assert place is None, text[place - 60 : place + 20]


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"layout"}))  # lines of blanks in odd places
def test_no_character_of_a_program_is_refused(name: str) -> None:
    text = PROGRAMS[name]
    place = refused_at(text, [1])
    assert place is None, text[place - 60 : place + 20]


@pytest.mark.full
@pytest.mark.parametrize("folder", [".", "asyncio", "email", "unittest", "test"])
def test_no_file_of_the_standard_library_is_refused(folder: str) -> None:
    for file in sorted((STDLIB / folder).glob("*.py")):
        if file.name == "test_asyncgen.py":
            continue  # the rare exception that prefix_parser.py names
        try:
            text = file.read_text(encoding="utf-8")
            compile(text, str(file), "exec")
            text = without_comments_and_blank_lines(text)
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
            continue
        place = refused_at(text, [1, 2, 3, 4, 5, 8])
        assert place is None, f"{file}: {text[place - 60 : place + 20]!r}"


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("from os ", "p"),
        ("from os import (path, ", "lib."),
        ("x = a ", "b"),
        ("x = (a", "]"),
        ("get(url=url, url", ")"),
        ("get(n=1, x", ","),
        ("get(x for x in y", ", 1)"),
        ("def f(a, a", ","),
        ("def f(a=1, b", ","),
        ("def f(*", ")"),
        ("lambda a=1, b", ": 1"),
        ("f(x)", " = "),
        ("f(x)", " += "),
        ("(a, b)", " += "),
        ("x = 1\n", "    y"),
        ("if x:\n", "y"),
        ("def f():\n    if x:\n        y\n", "      z"),
        ("try:\n    x\n", "y"),
        ("if x:\n    y\nelse:\n    z\n", "elif "),
        ("try:\n    x\nexcept:\n    y\n", "except "),
        ("@dec\n", "x "),
        ("match x:\n    ", "y "),
        ("return", "\n"),
        ("class A:\n    return", "\n"),
        ("def f():\n    break", "\n"),
        ("def f():\n    x = await", " "),
        ("x = 'a", "\n"),
        ("x = 'a\\x0", "g"),
        ("x = 'a' ", "b''"),
        ("x = b'", "\u00e9"),
        ("x = f'{a", "'"),
        ("x = f'{a!", "q}"),
        ("x = f'a", "}b"),
        ("x = 1", "a "),
        ("x = 01", ")"),
        ("x = 1 ", "?"),
        ("x = ", "\U0001f40d"),
        ("x = \u00e9", "\u20ac"),
        ("x = [i for i ", "of "),
        ("if x", "\n"),
        ("if x ", "= 1"),
        ("del f(x)", "\n"),
        ("for f(x)", " in "),
        ("import a.b as c", ".d"),
        ("from . import ", ".."),
        ("x = {1: 2, 3", "}"),
        ("print ", "x "),
        ("async ", "x "),
        ("nonlocal", " x"),
        ("x \\", "y"),
        ("None", " = "),
    ],
    ids=repr,
)
def test_the_piece_with_which_a_text_goes_wrong_is_refused(text: str, piece: str) -> None:
    parser = PrefixParser().after(text)
    assert parser is not None
    assert parser.after(piece) is None


@pytest.mark.parametrize(
    "text",
    [
        "from os imp",
        "x = 1e-",
        "if x !",
        "f(x for x in",
        "f(a=1, *b, **c, d=2)\n",
        "f(map(lambda k, d=d: (k, d[k]), d))\n",
        "def f(a, /, b=1, *c: int, d, e=2, **f) -> None: pass\n",
        "match = case = type = 1\nmatch(x)\nmatch[x] = 1\n",
        "match x:\n    case [1, *_] if y: pass\n    case {'a': A(b=c), **d}: pass\n",
        "async def f():\n    async with a as b, c: await d\n    return [x async for x in y]\n",
        "with (open(a) as b, open(c) as d,):\n    pass\n",
        "x: int = 1\n(x): int\nx.y: int\nx[0]: 'a' = y\n",
        "for x, *y in z: continue\nelse: pass\n",
        "try: x\nexcept* (A, B) as c: y\n",
        "try:\n\tx\nfinally:\n\ty\n",
        "x = f'{a!r:>{b}} {{}} {c=} {d[\"e\"]:%Y-%m}' 'g' rf\"\\d{h}\"\n",
        "x = '''a'b''c\n''' r'\\x'\ny = b'\\u'[0:1, ::2]\n",
        "x = 0xFF + 1_000.5e-3j + 1. + .5 + 0o17 if a else ...\n",
        "from ...a.b import (c as d, e,)\nfrom . import *\n",
        "x = y = lambda *a, b=1: (yield)\n",
        "x = f'{\"#\"}'\n",
        "1 @ x\nNone @ x\n'a' @ x\n",
        "if (n := 1) and not -a ** -b @ c is not d not in e: pass\n",
        "@a.b[0](c)\n@d\nasync def f(): pass\n",
        "print(*a, sep='')  # b'\n",
        "global a, b; del (c, d[0]), e.f; raise A from B; assert c, d\n",
        "x = {**a, 'b': c} | {*d, e} | {f: g for f, g in h if i} | {j for j in k}\n",
    ],
    ids=repr,
)
def test_what_python_allows_is_allowed_character_by_character(text: str) -> None:
    assert refused_at(text, [1]) is None


def test_half_a_letter_may_come_in_strings_and_comments_alone() -> None:
    parsers = [PrefixParser().after(text) for text in ("x = '''", "# a", "x = b'''", "x = ", "x")]
    assert [parser.takes_any_character for parser in parsers if parser] == [True, True, False, False, False]


@pytest.mark.parametrize(
    "opening", ["f(", "(", "[", "{", "x[", "f(a, ", "f(a=", "lambda: (", "{0: ", "f(*a, **", "f(\n"]
)
def test_brackets_in_brackets_have_as_many_readings_at_any_depth(opening: str) -> None:
    # Each bracket can be read in two or three ways: following each combination would take for ever.
    def parsers(depth: int) -> int:
        parser: PrefixParser | None = PrefixParser()
        for _ in range(depth):
            parser = parser and parser.after(opening)
        assert parser is not None
        assert parser.line is not None
        return len(parser.line.state.tops)

    assert parsers(60) == parsers(10)


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize(
    "form", ["f'{{{}}}'", "f'{{a:{{{}}}}}'", "f'{{a:{{f\"{{{}}}\"}}}}'", "f\"{{f'{{a:b}}':{{{}}}}}\""]
)
def test_format_specifications_nest_as_deep_as_the_running_python_has_them(form: str, depth: int) -> None:
    field = "v"
    for number in range(depth):
        field = f"v{number}:{{{field}}}"
    text = f"x = {form.format(field)}\n"
    assert (refused_at(text, [1]) is None) == is_complete(text, 0), text
