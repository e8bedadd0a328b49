"""A licence by its SPDX identifier, from the words of packages, projects and licence files."""

from __future__ import annotations

import pytest

from collection import licenses
from project import STDLIB


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ('[project]\nlicense = "MIT OR Apache-2.0"', "MIT OR Apache-2.0"),
        ('[project]\nlicense = {text = "Apache License 2.0"}', "Apache-2.0"),
        ('[project]\nlicense = {file = "LICENSE"}', ""),
        ('[project]\nclassifiers = ["License :: OSI Approved :: MIT License"]', "MIT"),
        ("[tool.ruff]\nline-length = 3", ""),
        ('project = "no table"', ""),
        ("[project\n", ""),
    ],
)
def test_a_project_says_its_licence_in_several_ways(text: str, identifier: str) -> None:
    assert licenses.from_pyproject(text) == identifier


@pytest.mark.parametrize(
    ("words", "identifier"),
    [
        ("Apache License 2.0", "Apache-2.0"),
        ("mit", "MIT"),
        ("BSD-3-Clause", "BSD-3-Clause"),
        ("BSD License", ""),
        ("whatever you like", ""),
    ],
)
def test_a_licence_is_told_by_the_words_that_packages_use(words: str, identifier: str) -> None:
    assert licenses.from_name(words) == identifier


def test_the_licence_of_this_interpreter_is_told_from_its_text() -> None:
    text = (STDLIB / "LICENSE.txt").read_text("utf-8") if (STDLIB / "LICENSE.txt").is_file() else ""
    if not text:
        pytest.skip("this interpreter came without its licence")
    assert licenses.from_text(text) == "PSF-2.0"


@pytest.mark.parametrize(
    ("expression", "identifier"),
    [
        ("MIT", "MIT"),
        ("GPL-3.0-or-later", "GPL-3.0-or-later"),
        ("mit or (apache-2.0 and BSD-3-Clause)", "MIT OR (Apache-2.0 AND BSD-3-Clause)"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("LicenseRef-Proprietary", "LicenseRef-Proprietary"),
        ("BSD-3", ""),
        ("MIT OR", ""),
        ("whatever you like", ""),
        ("", ""),
    ],
)
def test_an_expression_counts_if_spdx_knows_all_of_its_identifiers(expression: str, identifier: str) -> None:
    assert licenses.validated(expression) == identifier


def test_all_identifiers_of_the_tables_are_in_the_spdx_list() -> None:
    from packaging.licenses import canonicalize_license_expression

    for identifier in licenses.IDENTIFIERS:
        assert canonicalize_license_expression(identifier) == identifier


def test_an_unknown_expression_gives_way_to_the_next_statement() -> None:
    text = '[project]\nlicense = "BSD-3"\nclassifiers = ["License :: OSI Approved :: MIT License"]'
    assert licenses.from_pyproject(text) == "MIT"
    assert licenses.from_pyproject('[project]\nlicense = "BSD-3"') == ""


@pytest.mark.parametrize(
    ("spdx_id", "identifier"), [("MIT", "MIT"), ("EUPL-1.2", "EUPL-1.2"), ("NOASSERTION", ""), (None, "")]
)
def test_githubs_answer_is_an_identifier_or_nothing(spdx_id: str | None, identifier: str) -> None:
    assert licenses.from_api(spdx_id) == identifier
