"""Comments go, all else stays: tests/cases/comments/ is the specification, real files are the proof."""

from __future__ import annotations

import ast
import random
import re
import sys
import sysconfig
import tokenize
import warnings
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from documents import comments
from documents.comments import (
    UndecodableError,
    UnlexableError,
    decode_source,
    keeps_code,
    strip_comments,
)
from project import PROJECT, STDLIB

CASES = sorted((PROJECT / "tests" / "cases" / "comments").glob("*.in.py"))
SAMPLE = 100
INSTALLED = Path(sysconfig.get_path("purelib"))


def needs_newer(case: Path) -> bool:
    since = re.search(r"since_(\d+)_(\d+)", case.name)
    return since is not None and sys.version_info < tuple(map(int, since.groups()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removesuffix(".in.py"))
def test_case(case: Path) -> None:
    if needs_newer(case):
        pytest.skip("syntax of a newer Python")
    source = case.read_bytes()
    text = decode_source(source)
    expected = case.with_name(case.name.replace(".in.", ".out.")).read_bytes().decode()
    assert strip_comments(text) == expected
    assert keeps_code(text, expected)
    assert syntax_tree(expected) == syntax_tree(source)


def syntax_tree(source: bytes | str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.dump(ast.parse(source))


def parses(source: bytes | str) -> bool:
    try:
        syntax_tree(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def check_file(file: Path) -> None:
    """Its comments go as tokenize sees them, its tree stays, and going over it again changes nothing."""
    source = file.read_bytes()
    try:
        text = decode_source(source)
        stripped = strip_comments(text)
    except (UndecodableError, UnlexableError):
        assert not parses(source), f"{file} is valid Python"
        return
    if not parses(source):
        assert not parses(stripped), f"{file} is not valid Python, but became so"
        return
    assert syntax_tree(stripped) == syntax_tree(source), file
    assert keeps_code(text, stripped), file
    assert strip_comments(stripped) == stripped, file
    if sys.version_info < (3, 12):  # later tokenize sees the comments inside f-strings, which stay
        kinds = [token.type for token in tokenize.generate_tokens(StringIO(stripped).readline)]
        assert tokenize.COMMENT not in kinds, file


def python_files(*folders: Path) -> list[Path]:
    return sorted({file for folder in folders for file in folder.rglob("*.py") if file.is_file()})


def files_about_syntax() -> list[Path]:
    """The files of the standard library that hold, or write down, the strings that are hardest to find."""
    tests = "*fstring*.py *tstring*.py test_ast/*.py test_string/*.py test_tokenize.py test_syntax.py".split()
    names = ["ast.py", "tokenize.py", "string/*.py", *(f"test/{name}" for name in tests)]
    return sorted(file for name in names for file in STDLIB.glob(name))


def test_the_syntax_trees_of_real_files_stay() -> None:
    for file in [*files_about_syntax(), *random.Random(0).sample(python_files(STDLIB), SAMPLE)]:
        check_file(file)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_syntax_trees_of_all_files_of_this_installation_stay() -> None:
    for file in python_files(STDLIB, INSTALLED):
        check_file(file)


LINES = st.lists(
    st.sampled_from(
        [
            "x = 1",
            "x = 1  # c",
            "# c",
            "   # c \\",
            "",
            "  ",
            "\f",
            "if x:\n    pass  # c\n    # c",
            "s = '''# s\n\n\n # s'''",
            's = "# \\" s" # c"',
            "y = \\\n    2",
            "z = 3 \\\n# c",
            "def f():\n\t# c\n\n\n\treturn '#'#c",
            "l = [ # c\n\n\n\n1, # c\n]",
        ]
    )
)


@given(LINES)
def test_generated_source_keeps_its_tree(lines: list[str]) -> None:
    source = "\n".join(lines)
    stripped = strip_comments(source)
    assert syntax_tree(stripped) == syntax_tree(source)
    assert keeps_code(source, stripped)
    assert strip_comments(stripped) == stripped
    outside = stripped.replace("# s\n\n\n # s", "").replace("\\\n", "\\")
    assert "# c" not in outside
    assert not re.search(r"[ \t\f]\n|\n\n\n\n", outside)


@given(st.text("\"'#\\ \n\tfr{}a(", max_size=40))
@example("'")
@example('"""')
@example("\\")
def test_any_text_is_either_refused_or_stripped_for_good(text: str) -> None:
    try:
        stripped = strip_comments(text)
    except UnlexableError:
        return
    assert strip_comments(stripped) == stripped
    assert keeps_code(text, stripped)


@pytest.mark.parametrize(
    "text", ["x = 'never ends\n", 'x = """never ends\n\n', "f('a' \"\n)", "x = 1 \\ # c\n", "x = 1 \\ \n + 2"]
)
def test_what_is_no_python_is_named_by_its_line(text: str) -> None:
    with pytest.raises(UnlexableError, match="line 1"):
        strip_comments(text)


def test_a_changed_line_is_noticed() -> None:
    assert keeps_code("x = 1  # c\n\n\n\ny = 2", "x = 1\ny = 2\n")
    assert not keeps_code("x = 1  # c\ny = 2", "x = 1\n")
    assert not keeps_code("if x:\n    y = 1", "if x:\n  y = 1")


@pytest.mark.parametrize("size", [20_000, 200_000])
@pytest.mark.parametrize("part", ["(", "'", "#", "\\", "\n ", " ", "''' ", '"" ', "{", "f'{'"])
@pytest.mark.timeout(20)
def test_the_time_is_linear_in_hostile_text(part: str, size: int) -> None:
    try:
        strip_comments(part * size)
    except UnlexableError:
        return


def test_only_files_whose_quotes_may_nest_go_through_tokenize() -> None:
    assert not comments.may_nest_quotes("a = f'{x}' + f\"{{\" + f'{y[1]:{z}}' + f'{d[\"}\"]}'  # it's\n")
    assert not comments.may_nest_quotes("a = f'{x}' if'{' in y else 0\n")
    assert comments.may_nest_quotes("a = f'{x['#']}'\n")
    assert comments.may_nest_quotes("a = f'}}{x:{y['a']}}'\n")


NESTED = {
    "f'": ["{row['name']}", "{f'{f'{1}'}'}", "é{'é'} ", "{x:{y['#']}}", "{x # it's\n}", "{'{'}"],
    'rF"""': ['{a["""#"""]}\n', "{a['''\n#''']!r}"],
    "t'": ["{row['name']}", "{f'{'#'}'}"],
    "Rt'": ["{t'{'#'}'}"],
}


@pytest.mark.parametrize(("start", "content"), [(start, each) for start in NESTED for each in NESTED[start]])
def test_strings_inside_the_quotes_of_an_fstring_are_part_of_it(start: str, content: str) -> None:
    if sys.version_info < ((3, 14) if "t" in start else (3, 12)):
        pytest.skip("syntax of a newer Python")
    end = start.lstrip("rRfFtT")
    # What looks like an f-string in a plain string or in a comment is none.
    source = f"# f'{{'\nx = \"f'{{\"  # c\ny = {start}{content}{end} + f'{{a['b']}}'  # it's\n"
    stripped = f"x = \"f'{{\"\ny = {start}{content}{end} + f'{{a['b']}}'\n"
    assert strip_comments(source) == stripped
    assert keeps_code(source, stripped)
    assert not keeps_code(source, stripped.replace("y", "z"))
    hidden = "x" * len(content)
    assert comments.without_nested_quotes(stripped) == (
        f"x = \"f'{{\"\ny = {start}{hidden}{end} + f'xxxxxxxx'\n"
    )


def test_two_texts_in_turn_are_not_taken_for_each_other() -> None:
    for _ in range(2):
        assert comments.without_nested_quotes("a = 'b'\n") == "a = 'b'\n"
        assert comments.without_nested_quotes("a = 'c'\n") == "a = 'c'\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"x = '\xff'\n", "encoding declaration"),
        (b"# coding: no-such-codec\n", "no-such-codec"),
        (b"# coding: hex\n00\n", "hex"),
        (b"\xef\xbb\xbf# coding: latin-1\n", "utf-8"),
        (b"# coding: ascii\nx = '\xe9'\n", "ascii"),
    ],
)
def test_bytes_that_are_not_what_they_declare_are_refused(source: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        decode_source(source)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_utf_8_comes_back_with_its_newlines_alone_changed(text: str) -> None:
    expected = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    first_lines = "\n".join(expected.split("\n")[:2])
    if "coding" not in first_lines:
        assert decode_source(text.encode()) == expected
