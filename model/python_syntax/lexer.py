"""Python's tokens while they grow, and the two stacks around them: open brackets, and indented blocks.

"im" may become "import" or a name, "=" may become "==": a partial token is refused only if nothing that it
can become is allowed. The open brackets decide what a token means (code, a string, an f-string's field), the
blocks how far the next line may be indented and which words may begin it.
"""

from __future__ import annotations

import keyword
import re
import sys
from functools import cache, lru_cache
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<blanks>[ \t\f]+) | (?P<string>[rRbBuUfFtT]{0,2}(?:'''|\"""|'|"))
    | (?P<word>(?:[^\W\d]|[^\0-\x7f])(?:\w|[^\0-\x7f])*)
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
"""Each operator's terminal in the grammar"""
CAN_GROW = {one for one in OPERATORS if any(other != one and other.startswith(one) for other in OPERATORS)}
GROWN = {one: [KIND[other] for other in OPERATORS if other.startswith(one)] for one in CAN_GROW}
GROWN["."].append("NUMBER")

CONSTANTS = frozenset(("True", "False", "None"))
KEYWORDS = frozenset(keyword.kwlist) - CONSTANTS
SOFT_KEYWORDS = frozenset(("match", "case", "type"))  # keywords where the grammar has one, names elsewhere

PREFIXES = {"": "STRING", "r": "STRING", "u": "STRING", "b": "BYTES", "br": "BYTES", "rb": "BYTES"}
PREFIXES |= dict.fromkeys(("f", "fr", "rf"), "FSTRING")
if sys.version_info >= (3, 14):
    PREFIXES |= dict.fromkeys(("t", "tr", "rt"), "FSTRING")
LITERALS = frozenset(("STRING", "BYTES", "FSTRING", "FORMAT"))  # kinds of brackets that hold text, not code

# A number with all that touches it, a number, and the beginning of one
NUMBER_RUN = re.compile(r"0[xXbBoO]\w*|(?:\d[\d_]*)?\.?[\d_]*(?:[eE][-+]?[\d_]*)?\w*")
NUMBER = re.compile(
    r"0[xX](?:_?[\da-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+"
    r"|(?:(?:\d(?:_?\d)*)?\.\d(?:_?\d)*|\d(?:_?\d)*\.?)(?:[eE][-+]?\d(?:_?\d)*)?[jJ]?"
)
HALF_NUMBER = re.compile(
    r"0[xX][\da-fA-F_]*|0[bB][01_]*|0[oO][0-7_]*|(?:\d[\d_]*)?\.?[\d_]*(?:[eE][-+]?[\d_]*)?[jJ]?"
)
OLD_OCTAL = re.compile(r"0[\d_]*[1-9][\d_]*")
GLUED = ("and", "else", "for", "if", "in", "is", "not", "or")  # words that may touch a number

# What may follow a backslash, and the beginning of that
ESCAPE = r"x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|N\{[^}'\"\n]*\}|[^xuUN]"
HALF_ESCAPE = re.compile(r"\\(?:x[\da-fA-F]?|u[\da-fA-F]{0,3}|U[\da-fA-F]{0,7}|N(?:\{[^}'\"\n]*)?)?")
ESCAPE_IN_BYTES = r"x[\da-fA-F]{2}|[^x]"

MOST_OPEN = 80  # CPython's parser gives up at about 100 nested brackets
NESTED_QUOTES = sys.version_info >= (3, 12)  # inside the fields of f-strings; backslashes and comments too
MOST_FORMATS = 3 if NESTED_QUOTES else 2  # format specifications in each other: f"{a:{b:{c}}}"


class Bracket(NamedTuple):
    """An open bracket, string or replacement field: the top of the bracket stack, with `outer` below it."""

    kind: str
    outer: Bracket | None = None
    quote: str = ""  # of the string, or of the string around a replacement field
    is_raw: bool = False
    names: frozenset[str] | None = None  # parameters or keyword arguments of a "(" so far; None: not tracked
    has_parameters: bool = False
    depth: int = 1

    @property
    def formats(self) -> int:
        """How many format specifications lie in each other here."""
        around = self.outer if self.kind != "FSTRING" else None
        return (self.kind == "FORMAT") + (around.formats if around else 0)

    def inside(self, outer: Bracket | None) -> Bracket:
        """The same, pushed onto the stack whose top is `outer`."""
        return self._replace(outer=outer, depth=outer.depth + 1) if outer else self

    def repeats(self, name: str, last: str) -> bool:
        """Whether a name after the terminal `last` is a parameter or an argument that is there already."""
        if self.names is None or name not in self.names:
            return False
        return last in ("(", ",") or (self.has_parameters and last in ("*", "**"))

    def with_name(self, name: str) -> Bracket:
        return self if self.names is None else self._replace(names=self.names | {name})

    def forbids(self, token: str) -> bool:
        """Whether an f-string's field may not have this token inside, as before Python 3.12."""
        if NESTED_QUOTES or not self.quote:
            return False
        around: Bracket | None = self
        while around is not None:
            if around.quote and around.quote in token:
                return True
            around = around.outer
        return "\\" in token

    @property
    def forbids_comments(self) -> bool:
        """Whether it is an f-string's field, as before Python 3.12."""
        return not NESTED_QUOTES and bool(self.quote)


@lru_cache(maxsize=8192)
def grown(word: str) -> tuple[str, ...]:
    """The terminals that a word may become: grown("i") -> ("if", "import", "in", "is", "NAME")"""
    found = [key for key in sorted(KEYWORDS | SOFT_KEYWORDS) if key.startswith(word)]
    found += ["CONSTANT" for constant in CONSTANTS if constant.startswith(word)]
    found += [kind for prefix, kind in PREFIXES.items() if prefix.startswith(word.lower())]
    return (*dict.fromkeys(found), "NAME")


@cache
def string_body(quote: str, kind: str, *, is_raw: bool, is_format: bool) -> re.Pattern[str]:
    """What certainly belongs to a string: up to its end, to half an escape or to a replacement field.

    kind: STRING, BYTES or FSTRING; is_format: in the format specification of a field.
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


def body_end(text: str, place: int, string: Bracket) -> int | None:
    """Where the body of an open string stops to be certain; None if it holds what it must not."""
    is_format = string.kind == "FORMAT"
    kind = "FSTRING" if is_format else string.kind
    found = string_body(string.quote, kind, is_raw=string.is_raw, is_format=is_format).match(text, place)
    assert found, "an empty body is part of every string"
    if kind == "BYTES" and not found[0].isascii():
        return None
    if not is_format and string.outer and string.outer.forbids(found[0]):
        return None
    return found.end()


def may_become_mark(rest: str, quote: str) -> bool:
    """Whether the rest of a text may be the first part of a string's end or of an escape."""
    if quote.startswith(rest) or HALF_ESCAPE.fullmatch(rest):
        return True
    return rest.startswith("\\N{") and "}" not in rest


def number_at(text: str, place: int) -> tuple[int, bool]:
    """The length of the number that begins there, 0 if none does; and whether it may still grow.

    number_at("x = 1e", 4) -> (0, True), number_at("12 if", 0) -> (2, False)
    """
    found = NUMBER_RUN.match(text, place)
    run = found[0] if found else ""
    number = NUMBER.match(run)
    rest = run[number.end() :] if number else ""
    if place + len(run) == len(text):
        touches = rest and any(word.startswith(rest) for word in GLUED)
        return 0, bool(touches or HALF_NUMBER.fullmatch(run))
    if number is None or OLD_OCTAL.fullmatch(number[0]):
        return 0, False
    return (0 if rest and not rest.startswith(GLUED) else number.end()), False


# The clauses that may follow a block, at the indentation of its header
CLAUSES_AFTER: dict[str, tuple[str, ...]] = {
    "if": ("elif", "else"),
    "elif": ("elif", "else"),
    "for": ("else",),
    "while": ("else",),
    "try": ("except", "finally"),
    "except": ("except", "else", "finally"),
    "except:": ("else", "finally"),
    "@": ("decorated",),
}
NEEDS_A_CLAUSE = frozenset(("try", "@"))


class IndentedBlock(NamedTuple):
    """A block that is open, and what its last line allows after it."""

    indentation: str | None  # None: its first line is still to come
    scope: str = ""  # "def", "async" or "class": the innermost one around it
    in_loop: bool = False
    is_match: bool = False
    clauses: tuple[str, ...] = ()  # that may follow its last line
    needs_clause: bool = False  # one of them has to follow

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of the grammar that its next line may follow."""
        if self.is_match:
            return ("case_line",)
        clauses = tuple(f"{word}_line" for word in self.clauses)
        return clauses if self.needs_clause else ("statement", *clauses)

    def allows(self, word: str, first: str, *, is_async: bool, in_expression: bool) -> bool:
        """Whether a keyword may stand in a line of this block that begins with `first`.

        in_expression: where a lambda could be open, which may yield anywhere.
        """
        scope = ("async" if is_async else "def") if first == "def" else self.scope
        match word:
            case "return" | "yield":
                return scope in ("def", "async") or in_expression
            case "await":
                return scope == "async"
            case "nonlocal":
                return scope != ""
            case "break" | "continue":
                return self.in_loop or first in ("for", "while")
        return True


IndentStack = tuple[IndentedBlock, ...]  # the outermost block first
MODULE: IndentStack = (IndentedBlock(""),)


def reachable(stack: IndentStack) -> IndentStack:
    """The blocks that the next line may belong to, the innermost first."""
    found = []
    for block in reversed(stack):
        found.append(block)
        if block.needs_clause:
            break
    return tuple(found)


def may_begin_with(stack: IndentStack, blanks: str) -> bool:
    """Whether the next line may begin with these blanks and perhaps more."""
    if stack[-1].indentation is None:
        outer = stack[-2].indentation or ""
        return outer.startswith(blanks) or blanks.startswith(outer)
    return any((block.indentation or "").startswith(blanks) for block in reachable(stack))


def stack_at(stack: IndentStack, blanks: str) -> IndentStack | None:
    """The blocks around a line that begins with these blanks; None if no line may."""
    if stack[-1].indentation is None:
        outer = stack[-2].indentation or ""
        is_deeper = blanks.startswith(outer) and len(blanks) > len(outer)
        return (*stack[:-1], stack[-1]._replace(indentation=blanks)) if is_deeper else None
    for number, block in enumerate(reachable(stack)):
        if block.indentation == blanks:
            return stack[: len(stack) - number]
    return None


def stack_after(stack: IndentStack, first: str, *, is_async: bool, opens_block: bool) -> IndentStack:
    """The blocks after a line that begins with the word `first`."""
    block = stack[-1]
    after_else = first == "else" and "finally" in block.clauses
    clauses = ("finally",) if after_else else CLAUSES_AFTER.get(first, ())
    stack = (*stack[:-1], block._replace(clauses=clauses, needs_clause=first in NEEDS_A_CLAUSE))
    if not opens_block:
        return stack
    is_definition = first in ("def", "class")
    scope = ("async" if is_async else first) if is_definition else block.scope
    in_loop = not is_definition and (block.in_loop or first in ("for", "while"))
    return (*stack, IndentedBlock(None, scope, in_loop, first == "match"))
