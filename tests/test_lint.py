"""pyflakes' findings in what was generated, and in nothing else; none of it is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from lint import Finding, lint


def lines_of(prompt: str, written: str) -> list[str]:
    return [str(finding) for finding in lint(prompt + written, len(prompt))]


def test_an_undefined_name_is_found_where_it_stands() -> None:
    assert lines_of("import os\n", "print(os, missing)\n") == ["line 2, column 11: undefined name 'missing'"]


def test_what_was_written_by_hand_is_not_objected_to() -> None:
    assert lines_of("import os\nprint(missing)\n", "x = 1\n") == []
    assert lines_of("print(one, ", "two)\n") == ["line 1, column 12: undefined name 'two'"]


def test_findings_come_in_the_order_of_the_lines() -> None:
    found = lint("", 0) + lint("def f():\n    import os\n    return b\n\nprint(a)\n", 0)
    assert found == [
        Finding(2, 5, "'os' imported but unused"),
        Finding(3, 12, "undefined name 'b'"),
        Finding(5, 7, "undefined name 'a'"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = = 1\n", "invalid syntax"), ("x = '\x00'\n", "null bytes"), ("(" * 500, "too many nested")],
)
def test_a_text_that_does_not_compile_has_one_finding(text: str, message: str) -> None:
    [finding] = lint(text, 0)
    assert message in finding.message


@pytest.mark.filterwarnings("error")
def test_the_compilers_warnings_are_not_shown() -> None:
    assert lint("x = 1\nassert x is 1\ny = '\\d'\n", 0)[0].line == 2


def test_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    assert lint(f"open({str(mark)!r}, 'w').close()\n", 0) == []
    assert not mark.exists()
