"""Classes of bytes by CPython's own tokenize: each byte has one, and a name is new once."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.token_classes import CLASSES, label
from project import STDLIB

FILES = sorted([*(STDLIB / "json").glob("*.py"), *(STDLIB / "email").glob("*.py"), STDLIB / "ast.py"])


def classes_of(code: str) -> list[tuple[str, str]]:
    """(class, text) of each run of bytes of one class."""
    text = code.encode()
    names = [CLASSES[number] for number in label(text).classes]
    assert len(names) == len(text)
    runs, at = [], 0
    for name, group in itertools.groupby(names):
        size = len(list(group))
        runs.append((name, text[at : at + size].decode()))
        at += size
    return runs


def test_a_name_is_new_once_and_an_attribute_stands_behind_a_dot() -> None:
    assert classes_of("x = x.y.x\n") == [
        ("new name", "x"), ("blank", " "), ("operator", "="), ("blank", " "), ("seen name", "x"),
        ("operator", "."), ("new attribute", "y"), ("operator", "."), ("seen attribute", "x"),
        ("newline", "\n"),
    ]  # fmt: skip


def test_layout_keywords_builtins_numbers_strings_and_comments() -> None:
    assert classes_of("def f():\n    return len('é', 1.5)  # no\n\n") == [
        ("keyword", "def"), ("blank", " "), ("new name", "f"), ("operator", "():"), ("newline", "\n"),
        ("indentation", "    "), ("keyword", "return"), ("blank", " "), ("builtin", "len"), ("operator", "("),
        ("string", "'é'"), ("operator", ","), ("blank", " "), ("number", "1.5"), ("operator", ")"),
        ("blank", "  "), ("comment", "# no"), ("newline", "\n\n"),
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["f'{x!r:>{width}} {\"a\"}'", "rb'x'", "'''a\n  b'''"])
def test_a_string_is_one_whatever_is_in_it(code: str) -> None:
    assert classes_of(f"y = {code}\n")[4:-1] == [("string", code)]


def test_a_string_that_is_a_statement_is_a_docstring() -> None:
    code = '"""Module."""\nclass A:\n    """Class\n    here."""\n    x = "no"\n    """Of x."""\n    f("no")\n'
    found = [text for name, text in classes_of(code) if name == "docstring"]
    assert found == ['"""Module."""', '"""Class\n    here."""', '"""Of x."""']


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, those within f-strings left out: these are strings."""
    yield tree
    if not isinstance(tree, ast.JoinedStr):
        for child in ast.iter_child_nodes(tree):
            yield from nodes(child)


def is_text(node: ast.AST) -> bool:
    """Whether it is a statement that is a string."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_docstrings_and_names_of_the_standard_library_are_those_of_its_syntax_tree(file: Path) -> None:
    text = file.read_bytes()
    labels, found = label(text), list(nodes(ast.parse(text)))
    expected = [ast.get_source_segment(text.decode(), node) or "" for node in found if is_text(node)]
    is_docstring = labels.classes == CLASSES.index("docstring")
    assert int(is_docstring.sum()) == sum(len(segment.encode()) for segment in expected)
    words = {text[first:last].decode() for first, last in labels.names.tolist()}
    assert words >= {node.id for node in found if isinstance(node, ast.Name)}
    assert words >= {node.attr for node in found if isinstance(node, ast.Attribute)}
    assert CLASSES.index("not Python") not in labels.classes


@pytest.mark.parametrize("code", ["x = 1\ny = '''never closed\n", "a = 1\n  b = 2\n c = 3\n"])
def test_from_where_it_is_no_python_on_the_bytes_are_called_that(code: str) -> None:
    names = [name for name, _ in classes_of(code)]
    assert names[0] == "new name" and names[-1] == "not Python"


def test_a_text_without_bytes_has_no_classes() -> None:
    assert label(b"").classes.shape == (0,) and label(b"").names.shape == (0, 2)
