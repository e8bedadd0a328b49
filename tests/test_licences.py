"""Licences: SPDX expressions as their specification reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from licences import PERMISSIVE, allowed_licences, is_allowed, licence_in

MIT_OR_BSD = frozenset({"mit", "bsd-3-clause"})


@pytest.mark.parametrize(
    ("expression", "is_wanted"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND BSD-3-Clause", True),
        ("GPL-2.0-only OR MIT AND BSD-3-Clause", True),
        ("(GPL-2.0-only OR MIT) AND BSD-3-Clause", True),
        ("(GPL-2.0-only OR MIT) AND Apache-2.0", False),
        ("MIT WITH Some-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("LicenseRef-mine", False),
        ("", False),
        ("MIT OR", False),
        ("(MIT", False),
        ("MIT)", False),
        ("MIT MIT", False),
        ("MIT, BSD-3-Clause", False),
        ("AND", False),
    ],
)
def test_an_expression_is_allowed_when_the_wanted_licences_are_enough(
    expression: str, is_wanted: bool
) -> None:
    assert is_allowed(expression, MIT_OR_BSD) is is_wanted


@given(st.text("MIT()ORANDWITH -", max_size=40))
def test_no_expression_is_an_error(expression: str) -> None:
    assert is_allowed(expression, None) or not is_allowed(expression, MIT_OR_BSD)


def test_the_choice_is_a_word_or_a_list() -> None:
    assert allowed_licences("any") is None
    assert allowed_licences("MIT, BSD-3-Clause") == MIT_OR_BSD
    permissive = allowed_licences("permissive")
    assert permissive is not None and len(permissive) == len(PERMISSIVE)
    assert is_allowed("Apache-2.0", permissive) and not is_allowed("GPL-3.0-or-later", permissive)


@pytest.mark.parametrize("choice", ["", "MIT,", "MIT BSD", "(MIT)"])
def test_a_choice_that_is_none_is_an_error(choice: str) -> None:
    with pytest.raises(ValueError, match="is no SPDX identifier"):
        allowed_licences(choice)


@pytest.mark.parametrize(
    ("source", "licence"),
    [
        ("# SPDX-License-Identifier: MIT\nimport os\n", "MIT"),
        ("#!/usr/bin/python\n#\n# SPDX-License-Identifier:  MIT  OR Apache-2.0 \n", "MIT OR Apache-2.0"),
        ('"""Doc.\n\nSPDX-License-Identifier: BSD-3-Clause\n"""\n', "BSD-3-Clause"),
        ("header = '# SPDX-License-Identifier: MIT'\n", ""),
        ("import os\n" * 500 + "# SPDX-License-Identifier: MIT\n", ""),
        ("# SPDX-License-Identifier: see LICENSE\n", ""),
    ],
)
def test_a_files_header_says_its_licence(source: str, licence: str) -> None:
    assert licence_in(source) == licence
