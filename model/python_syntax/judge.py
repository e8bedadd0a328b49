"""CPython's verdict on whole lines: is the text so far the beginning of some valid program?

A text is accepted when an ending is found with which it compiles: that proves that it is the beginning of a
program, and writing can stop there at any moment. For each line, only the top-level statement that the text
ends in is compiled again; what comes before it stays as it was judged.

    accept_prompt("def f(x):\\n    if x:\\n")  -> Accepted(ending="        pass", ...)
    accept_prompt("print((1, 2)")             -> Accepted(ending=")", ...)
    accept_prompt("x = = 1")                  -> NotPythonError: invalid syntax (line 1, column 5)

CPython 3.11 and later can tell a text that is incomplete from one that is wrong, which guides the search for
an ending (endings.py).
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import replace
from types import CodeType

from python_syntax.compiler import (
    Accepted,
    compiled,
    fits_before,
    future_flags,
    is_complete,
    is_viable,
    lexical_state,
    logical_line_starts,
    parses,
)
from python_syntax.endings import INDENTATION, EndingSearch, likely_ending

# Compilations that a search for an ending may take: a line of generated code needs 1 to 3, one cut off in a
# rare place some dozens; a prompt is searched once, and refusing it would be worse than taking half a second.
LINE_ATTEMPTS = 60
PROMPT_ATTEMPTS = 100
# The statement that a prompt ends in begins at the last line before which everything compiles, or at one of
# the few lines before it that could begin a statement.
MOST_BORDERS = 3
# A prompt is read in parts of about this size, which keeps memory and time linear in its length.
PART = 1 << 16
# Each new line compiles its whole top-level statement: 9 ms at 16 kB, half a second at this size.
LONGEST_STATEMENT = 1 << 19

# What CPython says of a string that is whole, though it says of the text around it that more may come
WRONG_STRINGS = ("f-string: ", "(unicode error) ", "(value error) ")
# A new statement never begins with these: they continue the one before.
CONTINUES = re.compile(r"(?:[ \t\f#)\]}]|(?:else|elif|except|finally)\b)")
STARTS = re.compile(r"^(?=[^\s#)\]}])(?!(?:else|elif|except|finally)\b)", re.MULTILINE)


class NotPythonError(ValueError):
    """A text that is not the beginning of a valid program: CPython's own message, and where."""

    @property
    def advice(self) -> str:
        """What that means for a completion, in a line for the user."""
        return f"your prompt is not Python ({self}): continuing without the guarantee"


class UnfinishedError(NotPythonError):
    """A text that breaks off where its rest was not found."""

    @property
    def advice(self) -> str:
        return f"no way was found to finish your prompt ({self}): continuing without the guarantee"


class TooLongError(NotPythonError):
    """A text that ends in a statement of megabytes."""

    @property
    def advice(self) -> str:
        return f"{self}: continuing without the guarantee"


def as_python_reads(text: str) -> str:
    """A file's text without a byte order mark and with its line ends as newlines."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def accept_prompt(prompt: str, longest: int = LONGEST_STATEMENT) -> Accepted:
    """The parse state of a prompt that may be cut anywhere; `longest`: of the statement that it ends in.

    Raises:
        NotPythonError: no ending makes it a program, or it would take too long to know.
    """
    check_encoding(prompt)
    start, flags = 0, 0
    size = PART
    while start + size < len(prompt) and size <= 4 * longest:
        border = last_start(prompt, start, start + size)
        code = compiled(prompt[start:border], flags) if border else None
        if isinstance(code, CodeType):
            flags |= future_flags(code)
            start, size = border, PART
        elif code and not is_viable(prompt[start:border], flags):
            raise refusal(prompt, start, flags)
        else:
            size *= 2  # a long statement, or a border inside a string
    if (length := len(prompt) - start) > longest:
        raise TooLongError(f"your prompt ends in a statement of {length:,} characters, too long to check")
    return accept_last_statement(prompt, start, flags)


def check_encoding(prompt: str) -> None:
    """Raises NotPythonError if one of the first two lines names an encoding that Python does not know.

    The compiler is given characters, and ignores what a file would fail by.
    """
    whole_lines = "".join(line + "\n" for line in prompt.split("\n", 2)[:-1])
    try:
        tokenize.detect_encoding(io.BytesIO(whole_lines.encode("utf-8", "replace")).readline)
    except SyntaxError as error:
        raise NotPythonError(str(error.msg)) from None


def last_start(text: str, low: int, high: int) -> int:
    """Where the last line before `high` begins that may begin a statement; 0 if there is none after `low`."""
    border = 0
    for found in STARTS.finditer(text, low + 1, high):
        border = found.start()
    return border


def accept_last_statement(prompt: str, start: int, flags: int) -> Accepted:
    """The parse state of a prompt whose statements before `start` are complete."""
    text, tries = prompt[start:], 0
    whole_lines = set(logical_line_starts(text))
    borders = [0, *(found.start() for found in STARTS.finditer(text) if found.start() in whole_lines)]
    for border in reversed(list(dict.fromkeys(borders))):
        code = compiled(text[:border], flags)
        if not isinstance(code, CodeType):
            continue
        tries += 1
        in_force = flags | future_flags(code)
        for ending in EndingSearch(in_force, PROMPT_ATTEMPTS).all(text[border:]):
            if is_complete(text + ending, flags) and fits_before(prompt + ending, start, ""):
                return Accepted(start + border, len(prompt), ending, in_force, None)
        if tries == MOST_BORDERS:
            break
    raise refusal(prompt, start, flags)


def refusal(prompt: str, start: int, flags: int) -> NotPythonError:
    """Why no ending was found for a prompt, in CPython's words; what stands before `start` is complete."""
    text = prompt[start:]
    is_short = len(prompt) <= LONGEST_STATEMENT
    error = compiled(prompt, 0) if is_short else compiled(text, flags)
    if isinstance(error, CodeType):
        return NotPythonError("no way to complete it was found")
    words = explain(error, prompt, 0 if is_short else start)
    is_wrong_string = words.startswith(WRONG_STRINGS) and not lexical_state(text).string
    is_wrong = is_wrong_string or parses(text, flags) or not is_viable(text, flags)
    return NotPythonError(words) if is_wrong else UnfinishedError(words)


def explain(error: SyntaxError, prompt: str, start: int) -> str:
    """ "invalid syntax (line 3, column 5)", with the line counted from the beginning of the prompt."""
    if error.lineno is None:
        return str(error.msg)
    line = prompt.count("\n", 0, start) + error.lineno
    return f"{error.msg} (line {line}, column {error.offset or 1})"


def accept_line(text: str, accepted: Accepted) -> Accepted | None:
    """The parse state of a text that ends in a whole line, or None if no ending makes it compile.

    accepted: the state of the text's beginning.
    """
    start, flags = accepted.start, accepted.flags
    added = text[accepted.end :]
    if not added.strip() and not accepted.ending and accepted.end and text[accepted.end - 1] == "\n":
        return Accepted(start, len(text), "", flags, None, accepted.before)
    is_blank = not added.strip(" \n") and accepted.opened_at is None and added.endswith("\n")
    if is_blank and text[: accepted.end].endswith("\n") and not text[: accepted.end].endswith("\\\n"):
        return replace(accepted, end=len(text))
    begins_line = accepted.end == 0 or text[accepted.end - 1] == "\n"
    if begins_line and not accepted.ending and not CONTINUES.match(added.lstrip("\n")):
        before = text[start : accepted.end]
        code = compiled(before, flags) if "__future__" in before else None
        if isinstance(code, CodeType):
            flags |= future_flags(code)
        start = accepted.end
    statement = text[start:]
    ending = likely_ending(statement, accepted.ending, flags)
    if ending is None:
        ending = EndingSearch(flags, LINE_ATTEMPTS).find(statement)
    if ending is None or not fits_before(text + ending, start, accepted.before):
        return None
    opened = lexical_state(statement).opened_at
    opened_at = None if opened is None else start + opened
    return Accepted(start, len(text), ending, flags, opened_at, accepted.before)


def may_be_indented(text: str, blanks: str, accepted: Accepted) -> bool:
    """Whether the line after a text that ends in a line end may begin with these blanks, or with more."""
    statement = text[accepted.start :]
    if not blanks or blanks.strip(" \t") or lexical_state(statement).opened_at is not None:
        return True
    deeper = [level for level in INDENTATION.findall(statement) if level.startswith(blanks)]
    for level in dict.fromkeys([blanks, blanks + " ", *deeper]):
        for word in ("_", "except", "case _"):
            if is_viable(statement + level + word, accepted.flags):
                return True
    return False
