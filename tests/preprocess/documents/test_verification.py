"""--verify: what differs between a file, its text without comments, and what is written of it."""

from __future__ import annotations

import ast
import random
import sysconfig
from pathlib import Path

import pytest

from documents.filters import Finding
from documents.prepare import Rules, prepare_source
from documents.verification import differences, what_changed
from project import STDLIB

CODE = "x = 'ann@python.org'\nif x:\n    y = b'k', 2.0\n"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (CODE, ""),
        (CODE.replace("ann@python.org", "<EMAIL>"), ""),
        (CODE.replace("b'k'", "b'<KEY>'"), ""),
        (CODE.replace("ann@python.org", "somebody"), "redaction changed more than a string: str is now str"),
        (CODE.replace("2.0", "2"), "redaction changed more than a string: float is now int"),
        (CODE.replace("b'k'", "'<KEY>'"), "redaction changed more than a string: bytes is now str"),
        (CODE.replace("    y", "    z"), "redaction changed more than a string: str is now str"),
        (CODE.replace("if x:\n    ", ""), "redaction changed more than a string: If is now Assign"),
    ],
)
def test_only_redacted_strings_may_differ(written: str, says: str) -> None:
    assert what_changed(CODE.encode(), CODE, written) == says


def test_code_that_is_not_that_of_the_file_is_noticed() -> None:
    assert what_changed(b"x = 1  # one", "x = 1\n", "x = 1\n") == ""
    assert what_changed(b"x = 1  # one", "x = 2\n", "x = 2\n").startswith("without comments its syntax tree")


def test_a_tree_deeper_than_the_stack_is_compared() -> None:
    chain = "x = " + "-" * 50 + "1\n"
    assert list(differences(ast.parse(chain), ast.parse(chain))) == []
    very_deep = "x = " + "1 + " * 2500 + "1\n"
    assert what_changed(very_deep.encode(), very_deep, very_deep) in (
        "",
        "its syntax tree cannot be compared (RecursionError)",
    )


def check(files: list[Path]) -> int:
    verified = 0
    rules = Rules(thresholds={}, verify=True)
    for file in files:
        prepared = prepare_source(file.read_bytes(), rules)
        if isinstance(prepared, Finding):
            assert prepared.rule in ("unparsable", "undecodable", "empty"), (file, prepared)
        verified += not isinstance(prepared, Finding)
    return verified


def python_files(*folders: Path) -> list[Path]:
    return sorted({file for folder in folders for file in folder.rglob("*.py") if file.is_file()})


def test_real_files_are_the_same_programs_afterwards() -> None:
    assert check(random.Random(1).sample(python_files(STDLIB), 60)) > 40


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_all_files_of_this_installation_are_the_same_programs_afterwards() -> None:
    assert check(python_files(STDLIB, Path(sysconfig.get_path("purelib")))) > 3000
