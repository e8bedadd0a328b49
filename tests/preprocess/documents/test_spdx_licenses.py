"""Licences: SPDX expressions as their specification reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.spdx_licenses import PERMISSIVE, allowed_licenses, canonical, is_allowed, license_in

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
        ("MIT WITH Classpath-exception-2.0", True),
        ("mit with classpath-exception-2.0 and bsd-3-clause", True),
        ("MIT OR GPL-2.0+", True),
        ("GPL-2.0+", False),
        ("MIT WITH Some-exception", False),
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
    assert canonical(expression) or not is_allowed(expression, MIT_OR_BSD)


def test_an_identifier_is_one_of_spdx_or_refused() -> None:
    assert canonical("gpl-2.0+ OR mit") == "GPL-2.0+ OR MIT"  # deprecated, but known
    assert canonical("LicenseRef-mine") == "LicenseRef-mine"
    assert canonical("foo") == canonical("BSD-3") == canonical("MIT OR foo") == ""


def test_a_version_or_later_is_another_licence_than_the_version_alone() -> None:
    assert is_allowed("GPL-2.0+", frozenset({"gpl-2.0+"}))
    assert not is_allowed("GPL-2.0+", frozenset({"gpl-2.0"}))
    assert is_allowed("GPL-2.0-or-later", frozenset({"gpl-2.0-or-later"}))


def test_brackets_nested_as_deeply_as_an_expression_may_are_evaluated() -> None:
    assert is_allowed("(" * 200 + "MIT" + ")" * 200, MIT_OR_BSD)
    assert not is_allowed("(" * 4000 + "MIT" + ")" * 4000, MIT_OR_BSD)


def test_the_choice_is_a_word_or_a_list() -> None:
    assert allowed_licenses("any") is None
    assert allowed_licenses("MIT, BSD-3-Clause") == MIT_OR_BSD
    permissive = allowed_licenses("permissive")
    assert permissive is not None and len(permissive) == len(PERMISSIVE)
    assert is_allowed("Apache-2.0", permissive) and not is_allowed("GPL-3.0-or-later", permissive)


@pytest.mark.parametrize("choice", ["", "MIT,", "MIT BSD", "(MIT)", "foo", "BSD-3", "MIT,foo"])
def test_a_choice_that_is_none_is_an_error(choice: str) -> None:
    with pytest.raises(ValueError, match="is not an SPDX identifier"):
        allowed_licenses(choice)


@pytest.mark.parametrize(
    ("source", "license_name"),
    [
        ("# SPDX-License-Identifier: MIT\nimport os\n", "MIT"),
        ("#!/usr/bin/python\n#\n# SPDX-License-Identifier:  MIT  OR Apache-2.0 \n", "MIT OR Apache-2.0"),
        ('"""Doc.\n\nSPDX-License-Identifier: BSD-3-Clause\n"""\n', "BSD-3-Clause"),
        ("header = '# SPDX-License-Identifier: MIT'\n", ""),
        ("import os\n" * 500 + "# SPDX-License-Identifier: MIT\n", ""),
        ("# SPDX-License-Identifier: see LICENSE\n", ""),
        ("# SPDX-License-Identifier: foo\n", ""),
        ("# SPDX-License-Identifier: mit or gpl-2.0+\n", "mit or gpl-2.0+"),
    ],
)
def test_a_files_header_says_its_licence(source: str, license_name: str) -> None:
    assert license_in(source) == license_name
