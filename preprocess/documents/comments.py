r"""The bytes of a Python file -> its text without comments; strings, docstrings too, stay as they are.

First the bytes are decoded by the rules of the language itself (PEP 263). Then one regular expression matches
everything up to the next comment. It never backtracks, so its time is linear in the text, whatever the text.

>>> strip_comments("x = '#'  # a comment\n\n\n\n\ny = 1   \n# another\n")
"x = '#'\n\n\ny = 1\n"
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from functools import lru_cache

# Repetitions of character classes are possessive, those of groups are not: before 3.11.5 Python continues at
# the wrong place after a group that looked ahead (gh-106052; Debian 12 has 3.11.2). The groups do not
# backtrack either, because wherever one ends, what follows it can be empty or can match only there.

# A string literal without its prefix: in a raw string, too, a backslash protects the quote that follows it.
STRING = r"""
    "(?: ""(?: [^"\\]++ | \\. | "(?!"") )* "" | (?!"") (?: [^"\\\n]++ | \\. )* )"
  | '(?: ''(?: [^'\\]++ | \\. | '(?!'') )* '' | (?!'') (?: [^'\\\n]++ | \\. )* )'
"""
CODE_AND_LINE_ENDS = re.compile(
    rf"""
    (?: [^#"'\n \t\f\\]++
      | [ \t\f]++ (?![#\n])
      | \\ \n                          # a continued line: what follows, even nothing, belongs to it
      | \n (?= [ \t\f]*+ [^#\n \t\f])  # a newline between two lines of code
      | {STRING} )*
    (?P<line_ends> (?: [ \t\f]*+ (?: [#][^\n]*+ )? \n )* )
    """,
    re.DOTALL | re.VERBOSE,
)
CODE_THEN_COMMENT = re.compile(rf"""((?: [^#"']++ | {STRING} )*) (?: [#][^\n]*+ )?""", re.DOTALL | re.VERBOSE)
UP_TO_STRING = re.compile(
    rf"""(?: [^#"']++ | [#][^\n]*+ )* (?P<string> {STRING} | \Z)""", re.DOTALL | re.VERBOSE
)

# PEP 701 lets a string inside an f-string use the quotes of the f-string itself. Here the template strings of
# Python 3.14 are f-strings too.
QUOTES_NEST = sys.version_info >= (3, 12)
LETTERS = "fFtT" if sys.version_info >= (3, 14) else "fF"
# The quote that opens an f-string: few characters are quotes, so it is looked for first and then backwards.
FSTRING_QUOTE = re.compile(
    rf"""["'] (?: (?<=[{LETTERS}].) (?<!\w..) | (?<=[{LETTERS}][rR].) (?<!\w...)
      | (?<=[rR][{LETTERS}].) (?<!\w...) )""",
    re.VERBOSE,
)
OPENS_FIELD = re.compile(r"\{\{?")
INSIDE_FIELD = re.compile(r"[{}'\"#]")
FSTRING_STARTS = {number for number, name in tokenize.tok_name.items() if name.endswith("STRING_START")}
FSTRING_ENDS = {number for number, name in tokenize.tok_name.items() if name.endswith("STRING_END")}


class UndecodableError(ValueError):
    """Bytes that are not text in the encoding that their file declares."""


class UnlexableError(ValueError):
    """Text that is not made of Python tokens, such as a string that never ends."""


def decode_source(source: bytes) -> str:
    r"""The text of a Python file: declared encoding, no byte order mark, newlines as \n.

    >>> decode_source(b"# -*- coding: latin-1 -*-\r\nname = '\xe9'\r")
    "# -*- coding: latin-1 -*-\nname = 'é'\n"

    Raises UndecodableError.
    """
    # CPython translates newlines before it looks for the declaration; a lone \r ends a line as well.
    source = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        # From 3.14 on detect_encoding refuses NUL as well; here strip_comments does, wherever it is.
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source.replace(b"\0", b" ")).readline)
        text = source.decode(encoding)
        if encoding != "utf-8":
            text.encode()  # codecs such as utf-7 can spell half a surrogate pair, which is not a character
    except (SyntaxError, LookupError, UnicodeError) as error:
        raise UndecodableError(str(error)) from None
    # Codecs such as utf-7 can spell a \r in other bytes, or bring the mark back.
    return text.removeprefix("\ufeff").replace("\r", "\n") if encoding != "utf-8" else text


def strip_comments(text: str) -> str:
    r"""The code without its comments, with tidy blank lines: PEP 8's two between top-level lines, else one.

    text has the newlines of decode_source. Blanks at line ends are removed, strings are not touched.
    Raises UnlexableError.
    """
    if "\0" in text:  # CPython reads no such file, whether the character is in a comment or in code
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UnlexableError(f"source code cannot contain null bytes (line {line})")
    if not text.endswith("\n"):
        text += "\n"
    lexable = without_nested_quotes(text)
    parts: list[str] = []
    position = 0
    while position < len(text):
        match = CODE_AND_LINE_ENDS.match(lexable, position)
        assert match is not None, "every part of the expression can be empty"
        code, ends = text[position : match.start("line_ends")], match["line_ends"]
        if not ends:  # what stops it before the end of a line is not Python
            line = text.count("\n", 0, match.end()) + 1
            raise UnlexableError(f"a string without an end or a stray backslash (line {line})")
        position = match.end()
        parts.append(code)
        if position == len(text):
            parts.append("\n")
        elif len(parts) > 1 or code:
            parts.append(tidy(ends, at_most=1 if text[position] in " \t\f" else 2))
    stripped = "".join(parts)
    return "" if stripped == "\n" else stripped


def tidy(line_ends: str, at_most: int) -> str:
    """The newline of a line of code, and those of at most so many of the blank lines after it."""
    if line_ends == "\n\n":  # most of them
        return line_ends
    blank_lines = sum(not line.strip() for line in line_ends.split("\n")[1:-1])
    return "\n" * (1 + min(blank_lines, at_most))


def keeps_code(source: str, stripped: str) -> bool:
    """Whether two texts, the second without comments, have the same lines of code: found in another way."""
    return lines_of_code(source, CODE_THEN_COMMENT) == lines_of_code(stripped)


def lines_of_code(text: str, commented: re.Pattern[str] | None = None) -> list[str]:
    """The lines that are not blank, without blanks at their ends and without the comments after commented."""
    if commented:
        lexable = without_nested_quotes(text)
        if lexable == text:
            text = "".join(commented.findall(text))
        else:
            text = "".join(text[slice(*match.span(1))] for match in commented.finditer(lexable))
    return list(filter(None, map(str.rstrip, text.split("\n"))))


@lru_cache(maxsize=1)  # the same text is asked for twice in a row
def without_nested_quotes(text: str) -> str:
    """The text in which the expressions above find every string: of the same length, or the text itself.

    If an f-string holds its own quotes, x stands for each character between the quotes of all f-strings.
    Raises UnlexableError.

    >>> without_nested_quotes("print(f'{row['name']}')  # it's")  # doctest: +SKIP
    "print(f'xxxxxxxxxxxxx')  # it's"
    """
    if not (QUOTES_NEST and may_nest_quotes(text)):
        return text
    parts, end = [], 0
    for start, stop in fstring_contents(text):
        parts += [text[end:start], "x" * (stop - start)]
        end = stop
    return "".join([*parts, text[end:]])


def may_nest_quotes(text: str) -> bool:
    """Whether the expressions above may cut an f-string in two, at a quote in one of its fields.

    A no is certain, a yes is not. It takes a tenth of the time of tokenize.
    """
    if not FSTRING_QUOTE.search(text):
        return False
    position = 0
    while match := UP_TO_STRING.match(text, position):
        start, position = match.span("string")
        if start == position:
            return False
        if FSTRING_QUOTE.match(text, start) and leaves_field_open(match["string"][1:-1]):
            return True
    return True


def leaves_field_open(formatted: str) -> bool:
    """Whether a field of an f-string's content does not end in it, or holds something like a comment.

    >>> leaves_field_open("{row['name']} {{"), leaves_field_open("{row[")
    (False, True)
    """
    depth = 0
    position = 0
    while mark := (INSIDE_FIELD if depth else OPENS_FIELD).search(formatted, position):
        position = mark.end()
        if mark[0] == "#":
            return True
        if mark[0] in "'\"":
            position = formatted.find(mark[0], position) + 1
            if position == 0:
                return True
        else:
            depth += {"{": 1, "}": -1, "{{": 0}[mark[0]]
    return depth > 0


def fstring_contents(text: str) -> list[tuple[int, int]]:
    """Where the contents of the outermost f-strings begin and end, between their quotes, as tokenize sees it.

    From Python 3.12 on it knows f-strings. Raises UnlexableError.
    """
    line_starts = [0]
    for line in text.split("\n"):
        line_starts.append(line_starts[-1] + len(line) + 1)
    contents, depth, begin = [], 0, 0
    try:
        for kind, string, start, end, _ in tokenize.generate_tokens(io.StringIO(text).readline):
            if kind in FSTRING_STARTS:
                if depth == 0:
                    begin = line_starts[start[0] - 1] + start[1] + len(string)
                depth += 1
            elif kind in FSTRING_ENDS:
                depth -= 1
                if depth == 0:
                    contents.append((begin, line_starts[end[0] - 1] + end[1] - len(string)))
    except SyntaxError as error:
        raise UnlexableError(f"{error.msg} (line {error.lineno})") from None
    except tokenize.TokenError as error:
        message, (number, _) = error.args
        raise UnlexableError(f"{message} (line {number})") from None
    return contents
