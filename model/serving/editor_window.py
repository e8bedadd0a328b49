"""What an editor sends of a file, as the judge can take it: short, and of whole statements.

Judging costs a compilation of the statement that the cursor is in, for every line that is written, and a
statement may be a class of a thousand lines. But a method stands by itself: what comes before it in its class
is compiled once and remembered. So judged is the last method, in an empty class, or the last statement:

    class A: ... 900 lines ...; def f(self): re   ->   class _:; def f(self): re

An editor may also have cut the text out of a file anywhere. A beginning that lies within a statement is left
out, up to the first method. Of what follows the cursor the judge needs the rest of the statement that the
cursor is in, and a line like the one after it, for its indentation.

All this happens before the first token, in the thread that every request waits for. So it is bounded: of a
very long text the end is judged, as if an editor had cut it out, and a very long statement is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from python_syntax.compiler import Accepted, compiled, future_flags, is_complete, is_viable
from python_syntax.judge import (
    CONTINUES,
    NotPythonError,
    TooLongError,
    accept_last_statement,
    accept_prompt,
    check_encoding,
    explain,
)

# Where the judged part may begin: a statement of the module, or a method with its decorators.
BEGINNING = re.compile(
    r"^(?:(?=[^ \t\f#)\]}\n])(?!(?:else|elif|except|finally)\b)|[ \t]+(?=@|async[ \t]+def\b|def\b|class\b))",
    re.MULTILINE,
)
MOST_BEGINNINGS = 8  # are tried, from the last one back: docstrings and decorators are no good beginnings
SEARCHED = 1 << 16  # characters before the cursor in which they are looked for
MOST_WINDOW = 1 << 18  # characters before the cursor: compiled in half a second, where most are known
LONGEST_JUDGED = 1 << 16  # characters of a statement, around the cursor: compiled with each of its lines
OUTER_LINE = re.compile(r"^([ \t]*)([^ \t\n#].*)", re.MULTILINE)
CLASS = re.compile(r"class\b.*:[ \t]*(?:#.*)?$")


@dataclass(frozen=True)
class Judged:
    """The part of a text that is judged, and its parse state."""

    text: str
    accepted: Accepted
    indent: str  # of the method or statement that it is


def accept_window(text: str) -> Judged:
    """What is to be judged of a text that may have been cut out of a file.

    Raises:
        NotPythonError: no program contains it.
    """
    check_encoding(text)
    is_short = len(text) <= MOST_WINDOW
    if not is_short:
        text = text[text.find("\n", len(text) - MOST_WINDOW) + 1 :]
    is_cut = not is_short or bool(CONTINUES.match(text.lstrip("\n")))
    for begin in reversed(list(BEGINNING.finditer(text, max(0, len(text) - SEARCHED)))[-MOST_BEGINNINGS:]):
        flags = 0 if is_cut else flags_of_program(text[: begin.start()])
        if flags is None:
            continue
        indent = begin[0]
        if not indent and not is_cut:
            return Judged(text, accept_last_statement(text, begin.start(), flags), "")
        headers = class_headers(text[: begin.start()], indent)
        if headers is None:
            continue
        judged = headers + text[begin.start() :]
        try:
            return Judged(judged, accept_last_statement(judged, 0, flags), indent)
        except NotPythonError:
            if not is_cut:
                error = compiled(text, 0)
                if isinstance(error, SyntaxError):
                    raise NotPythonError(explain(error, text, 0)) from None
    if not is_short:
        raise TooLongError(f"your prompt ends in more than {SEARCHED:,} characters that belong together")
    return Judged(text, accept_prompt(text, LONGEST_JUDGED), "")


@lru_cache(maxsize=32)  # while somebody types, what stands before the method stays the same
def flags_of_program(text: str) -> int | None:
    """The __future__ features of a text that compiles as it stands; None if it does not."""
    code = compiled(text, 0)
    return future_flags(code) if isinstance(code, CodeType) else None


def class_headers(before: str, indent: str) -> str | None:
    """Empty classes around a method of this indentation; None if it stands in something else.

    class_headers("class A:\\n    x = 1\\n", "    ") -> "class _:\\n"
    """
    headers = ""
    while indent:
        outer = None
        end = len(before)
        while end > 0 and outer is None:
            start = before.rfind("\n", 0, end - 1) + 1
            line = OUTER_LINE.match(before, start, end)
            if line and len(line[1]) < len(indent):
                outer = line
            end = start
        if outer is None:  # the class begins before the text does
            return f"class _:\n{headers}"
        if not CLASS.match(outer[2]):
            return None
        headers = f"{outer[1]}class _:\n{headers}"
        indent, before = outer[1], before[: outer.start()]
    return headers


def judged_suffix(judged: Judged, suffix: str) -> str:
    """What has to follow an insertion so that the file goes on as it did: as little as tells.

    judged: what is before it. A suffix that breaks off in a statement gets an ending if one is found.

    Raises:
        TooLongError: it goes on for too long.
    """
    prefix, ending = judged.text[judged.accepted.start :], judged.accepted.ending
    middles = list(dict.fromkeys(("", ending, ending.lstrip("\n"))))
    near = up_to_next(suffix, judged.indent)
    if len(prefix) + len(near) > LONGEST_JUDGED:
        raise TooLongError("the statement around the cursor is too long to check")
    for candidate in dict.fromkeys((near, suffix[:LONGEST_JUDGED])):
        if any(is_complete(f"{prefix}{middle}{candidate}\n", judged.accepted.flags) for middle in middles):
            return candidate
    lines = near[: near.rfind("\n") + 1]
    for middle in middles:
        if not is_viable(prefix + middle + lines, judged.accepted.flags):
            continue  # a search would end with nothing, and late
        try:
            return near + accept_last_statement(prefix + middle + near, 0, judged.accepted.flags).ending
        except NotPythonError:
            continue
    return near


def up_to_next(suffix: str, indent: str) -> str:
    """A suffix up to the next statement or method that is indented as little, and a line in its place.

    up_to_next(")\\n\\n    def g(self):\\n ...", "    ") -> ")\\n\\n    _\\n"
    """
    for begin in BEGINNING.finditer(suffix, suffix.find("\n") + 1 or len(suffix)):
        if len(begin[0]) <= len(indent):
            return f"{suffix[: begin.start()]}{begin[0]}_\n"
    return suffix
