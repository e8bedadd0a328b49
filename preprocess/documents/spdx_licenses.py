"""SPDX licence expressions: found in a file's header, and compared with the licences that are wanted.

>>> mit = frozenset({"mit"})
>>> is_allowed("MIT OR GPL-3.0-only", mit), is_allowed("MIT AND GPL-3.0-only", mit)
(True, False)

packaging.licenses checks an expression and knows SPDX's list; 'foo' and 'BSD-3' are refused. What it does not
do is evaluate one. license-expression would, but brings a second package (boolean.py) for the 20 lines here.
"""

from __future__ import annotations

import re
from functools import lru_cache

# They ask for attribution alone and leave the licence of derived work to its author.
# Source: the permissive list of the Blue Oak Council (blueoakcouncil.org/list), and the public domain marks.
PERMISSIVE = frozenset(
    """
    0BSD AFL-1.1 AFL-1.2 AFL-2.0 AFL-2.1 AFL-3.0 Apache-1.0 Apache-1.1 Apache-2.0 Artistic-2.0 BlueOak-1.0.0
    BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-2-Clause-Views BSD-3-Clause BSD-3-Clause-Clear
    BSD-3-Clause-LBNL BSD-3-Clause-Modification BSD-4-Clause BSD-Source-Code BSL-1.0 CC0-1.0 CNRI-Python curl
    ECL-2.0 EFL-2.0 Fair FSFAP FTL HPND HPND-sell-variant ICU ISC JSON libpng-2.0 MIT MIT-0 MIT-advertising
    MIT-CMU MIT-Modern-Variant MITNFA MS-PL MulanPSL-1.0 MulanPSL-2.0 NCSA Naumen NTP OLDAP-2.8 PostgreSQL
    PSF-2.0 Python-2.0 Python-2.0.1 TCL Unicode-3.0 Unicode-DFS-2016 Unlicense UPL-1.0 W3C WTFPL X11 Xnet
    Zlib ZPL-2.0 ZPL-2.1
    """.split()
)
ANY = "any"
HEADER_CHARACTERS = 4000  # where a file states its licence; further down it speaks of others
HEADER = re.compile(r"^\W*SPDX-License-Identifier:[ \t]*([\w.+\-() \t]+)", re.MULTILINE)


def license_in(source: str) -> str:
    """The SPDX expression in the header of a file, comments included; "" if there is none.

    >>> license_in("# SPDX-License-Identifier: MIT\\nimport os\\n")
    'MIT'
    """
    has_header = source.find("SPDX", 0, HEADER_CHARACTERS) >= 0
    match = HEADER.search(source, 0, HEADER_CHARACTERS) if has_header else None
    expression = " ".join(match[1].split()) if match else ""
    return expression if expression and canonical(expression) else ""


def allowed_licenses(choice: str) -> frozenset[str] | None:
    """From any, permissive or a list with commas to the wanted identifiers, case folded; None: all.

    Raises ValueError for an identifier that SPDX does not know.
    """
    if choice == ANY:
        return None
    names = PERMISSIVE if choice == "permissive" else [name.strip() for name in choice.split(",")]
    for name in names:
        if not re.fullmatch(r"[\w.+\-]+", name) or not canonical(name):
            raise ValueError(f"{name!r} is not an SPDX identifier such as MIT")
    return frozenset(canonical(name).casefold() for name in names)


@lru_cache(maxsize=4096)
def canonical(expression: str) -> str:
    """The expression with identifiers and operators as SPDX spells them; "" if it is not a valid one."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return ""


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether the allowed licences, case folded, are enough to use code under this expression.

    A OR B needs one of them, A AND B both, A WITH an exception A. An invalid expression is not allowed, nor
    is an empty one. `GPL-2.0+` is allowed where it is listed itself.
    """
    if not expression:
        return False
    words = re.findall(r"[()]|[^\s()]+", canonical(expression).casefold())
    return bool(words) and any_alternative(words, allowed)


def any_alternative(words: list[str], allowed: frozenset[str]) -> bool:
    """The value of A OR B ..., which is taken off the front of words."""
    value = every_part(words, allowed)
    while words and words[0] == "or":
        del words[0]
        value |= every_part(words, allowed)  # not `or`: the words have to be taken off in any case
    return value


def every_part(words: list[str], allowed: frozenset[str]) -> bool:
    """The value of A AND B ..., taken off in the same way. AND binds closer than OR."""
    value = True
    while True:
        if (first := words.pop(0)) == "(":
            part = any_alternative(words, allowed)
            del words[0]  # the closing bracket
        else:
            part = first in allowed
        if words and words[0] == "with":
            del words[:2]  # an exception only permits more
        value &= part
        if not words or words[0] != "and":
            return value
        del words[0]
