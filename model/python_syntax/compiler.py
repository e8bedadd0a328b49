"""CPython's own compiler, asked two things: is this text a program, and could something make it one?

How to ask depends on what the text ends in (a string, a bracket, a backslash): lexical_state finds that by
the tokens alone. Accepted is what is known of a text whose whole lines were accepted: only its last top-level
statement has to be compiled again.
"""

from __future__ import annotations
import __future__

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from python_syntax.lexer import NESTED_QUOTES

# PyCF_ALLOW_INCOMPLETE_INPUT, PyCF_DONT_IMPLY_DEDENT of CPython's Include/cpython/compile.h: what the
# interactive interpreter asks for, to tell "incomplete input" from an error.
INCOMPLETE = 0x4000 | 0x200
ONLY_AST = 0x400  # PyCF_ONLY_AST
FUTURE_FLAGS = {name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names}
ALL_FUTURE_FLAGS: int = sum(FUTURE_FLAGS.values())

# The next mark that decides what a text ends in: quotes, brackets, comments, backslashes
MARK = re.compile(r"[^'\"()\[\]{}#\\]*+(?P<mark>'''|\"\"\"|['\"()\[\]{}#\\])")
MARK_IN_FIELD = re.compile(r"[^'\"()\[\]{}#\\:]*+(?P<mark>'''|\"\"\"|['\"()\[\]{}#\\\\:])")
MARK_IN_FSTRING = re.compile(r"[^'\"{}\\\n]*+(?P<mark>['\"{}\\\n])")
STRING_PREFIX = re.compile(r"(?<![^\W])[rRbBuUfFtT]{1,2}\Z")
LAST_OF_FSTRING_PREFIX = frozenset("fFtTrR")
REST_OF_STRING = {
    "'": re.compile(r"(?:[^'\\\n]++|\\.)*'", re.DOTALL),
    '"': re.compile(r'(?:[^"\\\n]++|\\.)*"', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]++|\\.|'(?!''))*'''", re.DOTALL),
    '"""': re.compile(r'(?:[^"\\]++|\\.|"(?!""))*"""', re.DOTALL),
}
LINE_END_IN_STRING = re.compile(r"(?<!\\)\n")
CLOSER = {"(": ")", "[": "]", "{": "}"}

# A global statement that is not inside a function or a class, or what looks like one.
GLOBAL = re.compile(
    r"\A(?!\s*(?:@|class\b|def\b|async\b)).*\bglobal\b|^(?![\s@]|class\b|def\b|async\b)[^\n]*\bglobal\b",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class LexicalState:
    """What a text ends in: the open brackets, and perhaps an open string, by where they begin."""

    brackets: tuple[tuple[int, str], ...]
    string: tuple[int, str, str] | None = None  # place, prefix, quote
    in_comment: bool = False
    is_continued: bool = False  # by a backslash at the end of the line

    @property
    def opened_at(self) -> int | None:
        """Where the first string or bracket begins that is still open."""
        if self.brackets:
            return self.brackets[0][0]
        return self.string[0] if self.string else None

    @property
    def closing_brackets(self) -> str:
        """The brackets that close what is open, innermost first: "])" after "f([1" """
        return "".join(CLOSER[bracket] for _, bracket in reversed(self.brackets))


@lru_cache(maxsize=64)  # the same text is asked about several times in a row
def lexical_state(text: str) -> LexicalState:
    """lexical_state("f(a, [b, 'c") -> brackets ((1, "("), (5, "[")), string (9, "", "'")"""
    brackets: list[tuple[int, str]] = []
    position, is_continued = 0, False
    while found := MARK.match(text, position):
        start, position = found.span("mark")
        mark = found["mark"]
        if mark in CLOSER:
            brackets.append((start, mark))
        elif mark in ")]}":
            if brackets:
                brackets.pop()
        elif mark == "\\":
            is_continued = text[position:] == "\n"
            position += text.startswith("\n", position)
        elif mark == "#":
            position = text.find("\n", position)
            if position < 0:
                return LexicalState(tuple(brackets), in_comment=True)
        else:
            position = string_end(text, start, mark)
            if position < 0:
                prefix = prefix_before(text, start)
                return LexicalState(tuple(brackets), (start - len(prefix), prefix, mark))
    return LexicalState(tuple(brackets), is_continued=is_continued)


def prefix_before(text: str, quote: int) -> str:
    """The prefix of the string whose quote stands there, in small letters: "rb" of RB'...'"""
    found = STRING_PREFIX.search(text, max(0, quote - 3), quote)
    return found[0].lower() if found else ""


def string_end(text: str, start: int, quote: str) -> int:
    """Where the string ends whose quote stands at `start`; -1 if it is open."""
    if NESTED_QUOTES and text[start - 1 : start] in LAST_OF_FSTRING_PREFIX:
        prefix = prefix_before(text, start)
        if "f" in prefix or "t" in prefix:
            return fstring_end(text, start + len(quote), quote, is_raw="r" in prefix)
    rest = REST_OF_STRING[quote].match(text, start + len(quote))
    return rest.end() if rest else -1


def fstring_end(text: str, position: int, quote: str, *, is_raw: bool) -> int:
    """The same for an f-string whose fields may hold any strings, as from Python 3.12 on."""
    opened: list[str] = []  # "field", the brackets in it, ":" in its format specification
    while True:
        in_field = bool(opened) and opened[-1] != ":"
        found = (MARK_IN_FIELD if in_field else MARK_IN_FSTRING).match(text, position)
        if found is None:
            return -1
        start, position, mark = found.start("mark"), found.end(), found["mark"]
        if not in_field:
            if mark == "\\":
                position = escape_end(text, position, is_raw=is_raw)
            elif mark == "\n":
                position = position if quote[1:] else -1
            elif mark == "}":
                del opened[-2:]
            elif mark == "{" and not opened and text.startswith("{", position):
                position += 1
            elif mark == "{":
                opened.append("field")
            elif text.startswith(quote, start):
                return start + len(quote)
        elif mark in CLOSER:
            opened.append(mark)
        elif mark in ")]}":
            opened.pop()
        elif mark == ":":
            opened += ":" if opened[-1] == "field" else ""
        elif mark == "\\":
            position += 1
        elif mark == "#":
            position = text.find("\n", position)
        else:
            position = string_end(text, start, mark)
        if position < 0:
            return -1


def escape_end(text: str, position: int, *, is_raw: bool) -> int:
    """Where an escape of an f-string ends after its backslash; -1 if its name is open."""
    if text.startswith("N{", position) and not is_raw:
        return text.find("}", position)
    return position + (text[position : position + 1] not in ("{", "}"))


def logical_line_starts(text: str) -> list[int]:
    """Where the lines begin that no bracket, string or backslash joins to the ones before them.

    logical_line_starts("x = 1\\nf(a,\\n  b") -> [0, 6]
    """
    depth, position, starts = 0, 0, [0]
    while True:
        found = MARK.match(text, position)
        end = found.start("mark") if found else len(text)
        while not depth and (line_end := text.find("\n", position, end)) >= 0:
            position = line_end + 1
            starts.append(position)
        if not found:
            return starts
        mark, position = found["mark"], found.end()
        if mark in CLOSER:
            depth += 1
        elif mark in ")]}":
            depth = max(0, depth - 1)
        elif mark == "\\":
            position += text.startswith("\n", position)
        elif mark == "#":
            line_end = text.find("\n", position)
            position = len(text) if line_end < 0 else line_end
        else:
            position = string_end(text, found.start("mark"), mark)
            if position < 0:
                return starts


def ends_in_empty_continuation(text: str) -> bool:
    """Whether a text ends in a backslash and an empty line: allowed, but an error if the line end goes."""
    words = text.rstrip(" \t\f\n")
    if not words.endswith("\\") or "\n" not in text[len(words) + 1 :]:
        return False
    return lexical_state(words + "\n").is_continued


def compiled(text: str, flags: int) -> CodeType | SyntaxError:
    """What the compiler makes of a text, without its warnings; every refusal becomes a SyntaxError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code: CodeType = compile(text, "<prompt>", "exec", flags, dont_inherit=True)
            return code
        except SyntaxError as error:
            return error
        except (MemoryError, RecursionError):
            return SyntaxError("too deeply nested")
        except (ValueError, OverflowError) as error:  # a null byte, half of a surrogate pair
            return SyntaxError(str(error))


def is_complete(text: str, flags: int) -> bool:
    return isinstance(compiled(text, flags), CodeType)


def is_viable(text: str, flags: int) -> bool:
    """False if CPython's parser says that nothing which could follow would make the text right."""
    state = lexical_state(text)
    if state.string and len(state.string[2]) == 1:  # to the parser an open string of one line is an error
        place, prefix, _ = state.string
        if LINE_END_IN_STRING.search(text, place):
            return False
        text = text[:place] + prefix.strip("ft") + "''"
        state = LexicalState(state.brackets)
    line = text[text.rfind("\n") + 1 :]
    if state.brackets or state.is_continued or state.string:
        asked = text
    elif not line.strip():
        asked = text[: len(text) - len(line)]
    else:
        # A backslash keeps the line open; without it "class A" would be wrong for lack of a colon.
        asked = text + ("\n" if state.in_comment else " \\\n")
    answer = compiled(asked, flags | INCOMPLETE)
    return not isinstance(answer, SyntaxError) or "incomplete input" in str(answer.msg)


def parses(text: str, flags: int) -> bool:
    """Whether the grammar allows a text as it stands, whatever the compiler says of its meaning."""
    return not isinstance(compiled(text, flags | ONLY_AST), SyntaxError)


def future_flags(code: CodeType) -> int:
    return code.co_flags & ALL_FUTURE_FLAGS


@dataclass(frozen=True)
class Accepted:
    """The parse state of an accepted text: it is the beginning of a program, which `ending` completes."""

    start: int  # where the top-level statement begins that the text ends in
    end: int  # the length of the text
    ending: str  # text + ending compiles; "" if the text is complete
    flags: int  # the __future__ features in force
    opened_at: int | None  # where the first string or bracket begins that is still open
    before: str = ""  # complete statements that stand before the text

    def from_last_statement(self, text: str) -> Accepted:
        """The same state of the text from its last top-level statement on."""
        opened_at = None if self.opened_at is None else self.opened_at - self.start
        before = self.before + text[: self.start]
        return Accepted(0, self.end - self.start, self.ending, self.flags, opened_at, before)

    def compiles(self, text: str) -> bool:
        """Whether a text that begins as the accepted one does compiles, after all that stands before it.

        Only what follows the last complete statement is compiled if that decides.
        """
        is_right = is_complete(text[self.start :], self.flags)
        return is_right and fits_before(text, self.start, self.before)


def fits_before(text: str, start: int, before: str) -> bool:
    """Whether statements that compile by themselves, from `start` on, also compile after the others.

    To the compiler, statements of a module mean the same wherever they stand, with two exceptions: an import
    from __future__ comes first, and a name that a statement calls global is not used before it.
    """
    statement = text[start:]
    looks_back = "__future__" in statement or GLOBAL.search(statement) is not None
    return not looks_back or not (before or start) or is_complete(before + text, 0)
