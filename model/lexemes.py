"""The lexemes of Python as they grow: what a text's last one may still become, and where the others end."""

from __future__ import annotations

import keyword
import re
import sys
from functools import cache, lru_cache

LEXEME = re.compile(
    r"""(?P<blanks>[ \t\f]+) | (?P<string>[rRbBuUfFtT]{0,2}(?:'''|\"""|'|")) | (?P<word>[^\W\d]\w*)
    | (?P<number>\.?\d) | (?P<newline>\n) | (?P<comment>\#[^\n]*+) | (?P<joined>\\\n?)
    | (?P<operator>\*\*=?|//=?|>>=?|<<=?|\.\.\.|->|:=|[=!<>+\-*/%&|^@]=|[-+*/%&|^~<>()\[\]{},:;.=@!])""",
    re.VERBOSE,
)
BLANKS = re.compile(r"[ \t\f]*")
OPERATORS = (
    "** **= // //= >> >>= << <<= ... -> := == != <= >= += -= *= /= %= &= |= ^= @= "
    "+ - * / % & | ^ ~ < > ( ) [ ] { } , : ; . = @ !"
).split()
KIND = {
    **{operator: operator for operator in OPERATORS},
    **dict.fromkeys("**= //= >>= <<= += -= *= /= %= &= |= ^= @=".split(), "AUGMENTED"),
    **dict.fromkeys("== != < > <= >=".split(), "COMPARISON"),
    **dict.fromkeys("// % << >> & ^".split(), "ARITHMETIC"),
    "!": "CONVERSION",
}
"""The terminal of the grammar that an operator is."""
CAN_GROW = {one for one in OPERATORS if any(other != one and other.startswith(one) for other in OPERATORS)}
GROWN = {one: [KIND[other] for other in OPERATORS if other.startswith(one)] for one in CAN_GROW}
GROWN["."].append("NUMBER")

CONSTANTS = frozenset(("True", "False", "None"))
KEYWORDS = frozenset(keyword.kwlist) - CONSTANTS
SOFT = frozenset(("match", "case", "type"))  # a keyword where the grammar has one, a name otherwise

PREFIXES = {"": "STRING", "r": "STRING", "u": "STRING", "b": "BYTES", "br": "BYTES", "rb": "BYTES"}
PREFIXES |= dict.fromkeys(("f", "fr", "rf"), "FSTRING")
if sys.version_info >= (3, 14):
    PREFIXES |= dict.fromkeys(("t", "tr", "rt"), "FSTRING")

# A number with whatever stands close to it, what a number is, and what can become one.
NUMBER_RUN = re.compile(r"0[xXbBoO]\w*|(?:\d[\d_]*)?\.?[\d_]*(?:[eE][-+]?[\d_]*)?\w*")
NUMBER = re.compile(
    r"0[xX](?:_?[\da-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+"
    r"|(?:(?:\d(?:_?\d)*)?\.\d(?:_?\d)*|\d(?:_?\d)*\.?)(?:[eE][-+]?\d(?:_?\d)*)?[jJ]?"
)
HALF_NUMBER = re.compile(
    r"0[xX][\da-fA-F_]*|0[bB][01_]*|0[oO][0-7_]*|(?:\d[\d_]*)?\.?[\d_]*(?:[eE][-+]?[\d_]*)?[jJ]?"
)
OLD_OCTAL = re.compile(r"0[\d_]*[1-9][\d_]*")
GLUED = ("and", "else", "for", "if", "in", "is", "not", "or")  # words that may stand close to a number

# After a backslash, and what may yet become that.
ESCAPE = r"x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|N\{[^}'\"\n]*\}|[^xuUN]"
HALF_ESCAPE = re.compile(r"\\(?:x[\da-fA-F]?|u[\da-fA-F]{0,3}|U[\da-fA-F]{0,7}|N(?:\{[^}'\"\n]*)?)?")
ESCAPE_IN_BYTES = r"x[\da-fA-F]{2}|[^x]"


@lru_cache(maxsize=8192)
def grown(word: str) -> tuple[str, ...]:
    """The terminals that a word may become: grown("i") -> ("if", "import", "in", "is", "NAME")"""
    found = [key for key in sorted(KEYWORDS | SOFT) if key.startswith(word)]
    found += ["CONSTANT" for constant in CONSTANTS if constant.startswith(word)]
    found += [kind for prefix, kind in PREFIXES.items() if prefix.startswith(word.lower())]
    return (*dict.fromkeys(found), "NAME")


@cache
def body(quote: str, kind: str, *, is_raw: bool, is_format: bool) -> re.Pattern[str]:
    """What is part of a string for certain, up to its end, to half an escape or to a replacement field.

    kind: STRING, BYTES or FSTRING; is_format: of the field's format specification within.
    """
    mark = quote[0]
    plain = rf"[^{mark}\\" + ("" if quote[1:] else r"\n") + ("{}]" if kind == "FSTRING" else "]")
    escapes = "." if is_raw else ESCAPE_IN_BYTES if kind == "BYTES" else ESCAPE
    parts = [plain + "++", rf"\\(?:{escapes})"]
    if kind == "FSTRING":
        parts[1] = rf"\\(?![{{}}])(?:{escapes})|\\(?=[{{}}])"
        parts += [] if is_format else [r"\{\{", r"\}\}"]
    if quote[1:]:
        parts.append(rf"{mark}{{1,2}}(?=[^{mark}])")
    # Not *+: of a group that may try again, before Python 3.11.5, that matches too little (gh-106052).
    return re.compile(f"(?:{'|'.join(parts)})*", re.DOTALL)


def number_at(text: str, place: int) -> tuple[int, bool]:
    """The length of the number that begins there, 0 where none does; and whether it may yet grow.

    number_at("x = 1e", 4) -> (0, True), number_at("12 if", 0) -> (2, False)
    """
    found = NUMBER_RUN.match(text, place)
    run = found[0] if found else ""
    if place + len(run) == len(text):
        return 0, HALF_NUMBER.fullmatch(run) is not None
    number = NUMBER.match(run)
    if number is None or OLD_OCTAL.fullmatch(number[0]):
        return 0, False
    rest = run[number.end() :]
    return (0 if rest and not rest.startswith(GLUED) else number.end()), False
