"""What pyflakes finds in the part of a text that was generated: undefined names, unused imports and so on."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of pyflakes."""

    line: int  # of the whole text, from 1
    column: int  # from 1
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


def lint(text: str, written_from: int) -> list[Finding]:
    """The findings in a text from a place on, in the order of its lines; nothing of it is run.

    lint("import os\\nprint(x)\\n", 10) -> [line 2, column 7: undefined name 'x']

    A text that does not compile has one finding: what the compiler says of it.
    """
    from pyflakes.checker import Checker

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            found = Checker(tree).messages
    except SyntaxError as error:
        return [Finding(error.lineno or 1, error.offset or 1, str(error.msg))]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Finding(1, 1, str(error) or "too deeply nested")]
    first = text.count("\n", 0, written_from) + 1
    column = written_from - text.rfind("\n", 0, written_from) - 1
    findings = [Finding(f.lineno, f.col + 1, f.message % f.message_args) for f in found]
    written = [f for f in findings if f.line > first or (f.line == first and f.column > column)]
    return sorted(written, key=lambda f: (f.line, f.column, f.message))
