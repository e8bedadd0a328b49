"""SPDX licence expressions: found in a file's header, and judged by the licences that somebody wants.

>>> mit = frozenset({"mit"})
>>> is_allowed("MIT OR GPL-3.0-only", mit), is_allowed("MIT AND GPL-3.0-only", mit)
(True, False)
"""

from __future__ import annotations

import re

# They ask for no more than to be named, and leave the licence of what is made of the code to its maker.
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
HEADER_CHARACTERS = 4000  # where a file says under which licence it is; further below it speaks of others
HEADER = re.compile(r"^\W*SPDX-License-Identifier:[ \t]*([\w.+\-() \t]+)", re.MULTILINE)
PART = re.compile(r"\s*(?:(?P<mark>[()])|(?P<word>[\w.+\-]+))")


def licence_in(source: str) -> str:
    """The SPDX expression in the header of a file, comments included; "" where there is none.

    >>> licence_in("# SPDX-License-Identifier: MIT\\nimport os\\n")
    'MIT'
    """
    has_header = source.find("SPDX", 0, HEADER_CHARACTERS) >= 0
    match = HEADER.search(source, 0, HEADER_CHARACTERS) if has_header else None
    expression = " ".join(match[1].split()) if match else ""
    return expression if expression and is_allowed(expression, None) else ""


def allowed_licences(choice: str) -> frozenset[str] | None:
    """From any, permissive or a list with commas to the identifiers that are wanted, folded; None: all.

    Raises ValueError where an identifier cannot be one.
    """
    if choice == ANY:
        return None
    names = PERMISSIVE if choice == "permissive" else [name.strip() for name in choice.split(",")]
    for name in names:
        if not re.fullmatch(r"[\w.+\-]+", name):
            raise ValueError(f"{name!r} is no SPDX identifier such as MIT")
    return frozenset(name.casefold() for name in names)


def is_allowed(expression: str, allowed: frozenset[str] | None) -> bool:
    """Whether the wanted licences are enough to use what is under this expression.

    A OR B needs one of them, A AND B both, A WITH an exception A. What is no expression is not allowed, nor
    is nothing; allowed None asks only whether it is an expression.
    """
    words = [match["mark"] or match["word"] for match in PART.finditer(expression)]
    if "".join(words) != "".join(expression.split()):
        return False
    try:
        verdict, rest = alternatives(words, allowed)
    except (IndexError, ValueError, RecursionError):
        return False
    return verdict and not rest


def alternatives(words: list[str], allowed: frozenset[str] | None) -> tuple[bool, list[str]]:
    """The verdict on A OR B ..., and the words after it. Raises IndexError or ValueError where it is none."""
    verdict, words = conjunction(words, allowed)
    while words and words[0].upper() == "OR":
        other, words = conjunction(words[1:], allowed)
        verdict = verdict or other
    return verdict, words


def conjunction(words: list[str], allowed: frozenset[str] | None) -> tuple[bool, list[str]]:
    verdict, words = single(words, allowed)
    while words and words[0].upper() == "AND":
        other, words = single(words[1:], allowed)
        verdict = verdict and other
    return verdict, words


def single(words: list[str], allowed: frozenset[str] | None) -> tuple[bool, list[str]]:
    first, *words = words[0], *words[1:]
    if first == "(":
        verdict, words = alternatives(words, allowed)
        if words[0] != ")":
            raise ValueError("a bracket is not closed")
        return verdict, words[1:]
    if first in (")",) or first.upper() in ("OR", "AND", "WITH"):
        raise ValueError(f"{first} stands where a licence should")
    if words and words[0].upper() == "WITH":
        words = words[2:]
    return allowed is None or first.casefold() in allowed, words
