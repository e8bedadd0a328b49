"""Pieces: nothing is lost, none is too long, and cuts lie where the syntax has its borders."""

from __future__ import annotations

import ast
import random
import sysconfig
import textwrap
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.comments import UndecodableError, UnlexableError, decode_source, strip_comments
from documents.splitting import TOKEN, split_source
from project import STDLIB

MAX_CHARS = 4000
INSTALLED = Path(sysconfig.get_path("purelib"))


def parses(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError:
        return False
    return True


def long_files(files: list[Path]) -> list[str]:
    """The stripped texts of files that are long enough to be split."""
    texts = []
    for file in files:
        try:
            text = strip_comments(decode_source(file.read_bytes()))
        except (UndecodableError, UnlexableError):
            continue
        if len(text) > MAX_CHARS and parses(text):
            texts.append(text)
    return texts


def library_files(*folders: Path) -> list[Path]:
    """Without test suites, whose classes of a thousand lines give pieces of methods and little else."""
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return [file for file in files if not {"test", "tests", "idle_test"}.intersection(file.parts)]


def sample() -> list[str]:
    files = [file for file in library_files(STDLIB) if "site-packages" not in file.parts]
    return long_files(random.Random(0).sample(files, 200))


def check_pieces(text: str, max_chars: int) -> list[str]:
    pieces = split_source(text, max_chars)
    assert "".join(pieces) == text
    for piece in pieces:
        assert piece
        if len(piece) > max_chars:
            assert max(len(token[0]) for token in TOKEN.finditer(piece)) > max_chars
    return pieces


@pytest.mark.parametrize("max_chars", [100, 1000, MAX_CHARS])
def test_the_pieces_of_real_files_give_them_back_and_are_short(max_chars: int) -> None:
    for text in sample():
        check_pieces(text, max_chars)


def test_most_pieces_of_real_files_are_whole_statements() -> None:
    pieces = [piece for text in sample() for piece in check_pieces(text, MAX_CHARS)]
    alone = [piece for piece in pieces if parses(piece)]
    blocks = [piece for piece in pieces if parses(piece) or parses(f"if 1:\n{piece}")]
    assert len(alone) / len(pieces) >= 0.58
    assert len(blocks) / len(pieces) >= 0.92


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_most_pieces_of_all_installed_packages_are_whole_statements() -> None:
    total = alone = blocks = 0
    for file in library_files(INSTALLED):
        for text in long_files([file]):
            for piece in check_pieces(text, MAX_CHARS):
                total += 1
                alone += parses(piece)
                blocks += parses(piece) or parses(f"if 1:\n{piece}")
    assert alone / total >= 0.58
    assert blocks / total >= 0.92


@given(st.text("\"'#\\ \n\tfr{}a():=,@[]", max_size=300), st.integers(1, 60))
def test_no_text_loses_anything(text: str, max_chars: int) -> None:
    assert "".join(split_source(text, max_chars)) == text


def source(code: str) -> str:
    return textwrap.dedent(code).lstrip("\n")


def test_a_short_file_is_one_piece() -> None:
    assert split_source("x = 1\n", 6) == ["x = 1\n"]


def test_cuts_lie_between_top_level_statements() -> None:
    first, second = "def f():\n    return 1\n\n\n", "def g():\n    return 2\n"
    assert split_source(first + second, len(first)) == [first, second]


def test_a_decorator_stays_with_its_function_and_an_else_with_its_if() -> None:
    code = source("""
        import os

        @first
        @second
        def f():
            pass

        if os:
            a = 1
        else:
            a = 2
    """)
    assert split_source(code, 40) == [
        "import os\n\n",
        "@first\n@second\ndef f():\n    pass\n\n",
        "if os:\n    a = 1\nelse:\n    a = 2\n",
    ]


def test_a_long_class_is_cut_between_its_methods() -> None:
    code = source("""
        class A:
            def f(self):
                return [1,
            2]

            def g(self):
                return 2

            def h(self):
                return 3
    """)
    assert split_source(code, 75) == [
        "class A:\n    def f(self):\n        return [1,\n    2]\n\n",
        "    def g(self):\n        return 2\n\n    def h(self):\n        return 3\n",
    ]


def test_a_long_bracket_is_cut_at_line_ends_outside_strings() -> None:
    code = 'x = [\n    """one\ntwo\nthree""",\n    4,\n    5,\n]\n'
    assert split_source(code, 32) == ['x = [\n    """one\ntwo\nthree""",\n', "    4,\n    5,\n]\n"]


def test_a_long_line_is_cut_between_tokens_and_a_string_never() -> None:
    pieces = split_source("names = ['one', 'two', \"a string of its own length\"]\n", 20)
    assert "".join(pieces) == "names = ['one', 'two', \"a string of its own length\"]\n"
    assert [len(piece) > 20 for piece in pieces].count(True) == 1
    assert any('"a string of its own length"' in piece for piece in pieces)
