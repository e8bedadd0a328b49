r"""Python source -> the same without comments and stray blanks; strings, docstrings too, stay to the letter.

One regular expression eats everything up to the next comment. It never goes back, so its time is linear in
the text, whatever the text is.

>>> strip_comments("x = '#'  # a comment\n\n\n\n\ny = 1   \n# another\n")
"x = '#'\n\n\ny = 1\n"
"""

from __future__ import annotations

import io
import re
import sys
import tokenize

# Repetitions of character classes are possessive, those of groups are not: before 3.11.5 Python goes on from
# the wrong place after a group that looked ahead (gh-106052; Debian 12 has 3.11.2). Nor do these go back,
# for wherever one ends, what follows it can be empty or can match there only.

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

# PEP 701 lets a string inside an f-string use the quotes of the f-string itself.
QUOTES_NEST = sys.version_info >= (3, 12)


class UnlexableError(ValueError):
    """Text that is not made of Python tokens, such as a string that never ends."""


def strip_comments(text: str) -> str:
    r"""The code without its comments, with tidy blank lines: PEP 8's two between top-level lines, else one.

    text has the newlines of decode_source. Blanks at the ends of lines go, strings are not touched.
    Raises UnlexableError.
    """
    if QUOTES_NEST and may_nest_quotes(text):
        hidden, fstrings = hide_fstrings(text)
        return show_fstrings(strip_plain(hidden), fstrings)
    return strip_plain(text)


def strip_plain(text: str) -> str:
    """strip_comments for text in which no string holds its own quotes."""
    if not text.endswith("\n"):
        text += "\n"
    parts: list[str] = []
    position = 0
    while position < len(text):
        match = CODE_AND_LINE_ENDS.match(text, position)
        assert match is not None, "every part of the expression can be empty"
        code, ends = text[position : match.start("line_ends")], match["line_ends"]
        if not ends:  # what stops it elsewhere than at the end of a line is no Python
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
    """The newline of a line of code and those of at most so many of the blank lines after it."""
    if line_ends == "\n\n":  # most of them
        return line_ends
    blank_lines = sum(not line.strip() for line in line_ends.split("\n")[1:-1])
    return "\n" * (1 + min(blank_lines, at_most))


def keeps_code(source: str, stripped: str) -> bool:
    """Whether two texts, the second without comments, have the same lines of code: checked another way."""
    return lines_of_code(source, CODE_THEN_COMMENT) == lines_of_code(stripped)


def lines_of_code(text: str, commented: re.Pattern[str] | None = None) -> list[str]:
    """The lines that hold anything, without blanks at their ends and without what commented adds to code."""
    if QUOTES_NEST and may_nest_quotes(text):
        text, fstrings = hide_fstrings(text)
        return [*lines_of_code(text, commented), *fstrings]
    lines = ("".join(commented.findall(text)) if commented else text).split("\n")
    return list(filter(None, map(str.rstrip, lines)))


def may_nest_quotes(text: str) -> bool:
    """Whether the expressions here may have cut an f-string in two, at a quote in one of its fields."""
    if not re.search(r"(?:[fFtT][rR]?|[rR][fFtT])[\"']", text):
        return False
    position = 0
    while match := UP_TO_STRING.match(text, position):
        start, position = match.span("string")
        if start == position:
            return False
        is_formatted = not {*"fFtT"}.isdisjoint(text[max(0, start - 2) : start])
        if is_formatted and leaves_field_open(match["string"][1:-1]):
            return True
    return True


def leaves_field_open(formatted: str) -> bool:
    """Whether a field of an f-string's content does not end in it, or holds what may be a comment.

    >>> leaves_field_open("{row['name']} {{"), leaves_field_open("{row[")
    (False, True)
    """
    depth = 0
    position = 0
    while mark := re.compile(r"[{}'\"#]" if depth else r"\{\{?").search(formatted, position):
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


def hide_fstrings(text: str) -> tuple[str, list[str]]:
    """The text with a plain string of the same length in place of each f-string, and the f-strings in order.

    NUL, of which the plain strings are made, occurs in no valid source. Raises UnlexableError.
    """
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    parts, fstrings, depth, begin, end = [], [], 0, 0, 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            name = tokenize.tok_name[token.type]
            if name.endswith("STRING_START"):
                if depth == 0:
                    begin = starts[token.start[0] - 1] + token.start[1]
                depth += 1
            elif name.endswith("STRING_END"):
                depth -= 1
                if depth == 0:
                    parts.append(text[end:begin])
                    end = starts[token.end[0] - 1] + token.end[1]
                    fstrings.append(text[begin:end])
                    parts.append("'" + "\0" * (end - begin - 2) + "'")
    except (SyntaxError, tokenize.TokenError) as error:
        raise UnlexableError(str(error)) from None
    return "".join(parts) + text[end:], fstrings


def show_fstrings(hidden: str, fstrings: list[str]) -> str:
    """hide_fstrings undone."""
    in_order = iter(fstrings)
    return re.sub(r"'\0+'", lambda _: next(in_order), hidden)
