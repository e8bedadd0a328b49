"""Is this text the beginning of some valid Python program, and what would complete it? CPython answers.

A text is accepted when an ending is found with which the compiler takes it: then it is the beginning of a
program for certain, and writing can stop there at any moment. Only the top-level statement that the text ends
in is compiled again for each line; what comes before it stays as it was judged.

    begin("def f(x):\\n    if x:\\n")        -> Standing(ending="        pass", ...)
    begin("print((1, 2)")                  -> Standing(ending=")", ...)
    begin("x = = 1")                       -> NotPythonError: invalid syntax (line 1, column 5)

The search for an ending tries short continuations ("_", ")", ": pass") and goes on from those that the parser
calls incomplete rather than wrong: CPython 3.11 and later can be asked that.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import CodeType

from ending import INDENTATION, NONLOCAL, OPENS_BLOCK, Search, deeper, names_in
from open_brackets import logical_line_starts, place_of
from python_parser import ALL_FUTURE_FLAGS, FUTURE_FLAGS, INCOMPLETE, compiled, is_complete, is_viable

# Compilations that a search for an ending may take: a line of generated code needs 1 to 3, one cut off in a
# rare place some dozens; a prompt is searched once, and refusing it would be worse than taking half a second.
LINE_ATTEMPTS = 60
PROMPT_ATTEMPTS = 1500
# What a prompt ends in begins at the last line before which everything compiles, or hardly earlier.
MOST_BORDERS = 3
# A prompt is read in parts of about this size, so that memory and time grow with its length and no faster.
PART = 1 << 16
# Each new line compiles its whole top-level statement: 9 ms at 16 kB, half a second at this size.
LONGEST_STATEMENT = 1 << 19

# A new statement never begins with these: they go on with the one before.
CONTINUES = re.compile(r"(?:[ \t\f#)\]}]|(?:else|elif|except|finally)\b)")
STARTS = re.compile(r"^(?=[^\s#)\]}])(?!(?:else|elif|except|finally)\b)", re.MULTILINE)
CLOSING = (")", "]", "}", "'", '"')  # the end of a line that may have closed what was open
# A global statement that is not inside a function or a class, or what looks like one.
GLOBAL = re.compile(
    r"\A(?!\s*(?:@|class\b|def\b|async\b)).*\bglobal\b|^(?![\s@]|class\b|def\b|async\b)[^\n]*\bglobal\b",
    re.MULTILINE | re.DOTALL,
)
LAST_WORD = re.compile(r"[^\W\d]\w*$")
# A token cut in half: != ->  ... 0x1 1e5 and the like.
HALF_TOKENS = ["", "= _", ">", ".", "0", "\n"]


class NotPythonError(ValueError):
    """A text that no valid Python program begins with: Python's own message, and where."""

    @property
    def advice(self) -> str:
        """What that means for a completion, in a line for the user."""
        return f"no valid Python program begins with this prompt, so its completion may be none: {self}"


class TooLongError(NotPythonError):
    """A text that ends in a statement of megabytes."""

    @property
    def advice(self) -> str:
        return f"{self}, so its completion may not compile"


@dataclass(frozen=True)
class Standing:
    """What is known of a text that was accepted."""

    start: int  # where the top-level statement begins that the text ends in
    end: int  # the length of the text
    ending: str  # text + ending compiles; "" where it is complete
    flags: int  # the __future__ features in force
    opened_at: int | None  # where the first string or bracket begins that is still open
    before: str = ""  # complete statements that the text is without

    def without_statements_before(self, text: str) -> Standing:
        """The same of the text from its last top-level statement on."""
        opened_at = None if self.opened_at is None else self.opened_at - self.start
        before = self.before + text[: self.start]
        return Standing(0, self.end - self.start, self.ending, self.flags, opened_at, before)


def starts_of(text: str) -> Iterator[str]:
    """A text that may be cut inside a token, with each token that it could have been cut from."""
    place = place_of(text)
    yield text
    if place.string or place.in_comment:
        return
    if word := LAST_WORD.search(text):
        names = [*keyword.kwlist, *keyword.softkwlist, *FUTURE_FLAGS]
        if NONLOCAL.search(text):
            names += names_in(text)
        yield from (text + name[len(word[0]) :] for name in names if name.startswith(word[0]))
    yield from (text + rest for rest in HALF_TOKENS[1:])


def begin(prompt: str) -> Standing:
    """The standing of a prompt that may be cut anywhere.

    Raises:
        NotPythonError: no ending makes it a program, or it would take too long to know.
    """
    start, flags = 0, 0
    size = PART
    while start + size < len(prompt) and size <= 4 * LONGEST_STATEMENT:
        border = last_start(prompt, start, start + size)
        code = compiled(prompt[start:border], flags) if border else None
        if isinstance(code, CodeType):
            flags |= future_flags(code)
            start, size = border, PART
        elif code and not is_viable(prompt[start:border], place_of(prompt[start:border]), flags):
            raise NotPythonError(explain(code, prompt, start))
        else:
            size *= 2  # a long statement, or a border inside a string
    if (length := len(prompt) - start) > LONGEST_STATEMENT:
        raise TooLongError(
            f"this prompt ends in a statement of {length / 1e6:.1f} million characters, too long to judge"
        )
    return last_statement(prompt, start, flags)


def last_start(text: str, low: int, high: int) -> int:
    """Where the last line before `high` begins that may begin a statement; 0 when none does after `low`."""
    border = 0
    for found in STARTS.finditer(text, low + 1, high):
        border = found.start()
    return border


def last_statement(prompt: str, start: int, flags: int) -> Standing:
    """The standing of a prompt whose statements before `start` are complete."""
    text, tries = prompt[start:], 0
    whole_lines = set(logical_line_starts(text))
    borders = [0, *(found.start() for found in STARTS.finditer(text) if found.start() in whole_lines)]
    for border in reversed(list(dict.fromkeys(borders))):
        code = compiled(text[:border], flags)
        if not isinstance(code, CodeType):
            continue
        tries += 1
        in_force = flags | future_flags(code)
        ending = search_starts(text[border:], in_force, PROMPT_ATTEMPTS)
        if ending is not None and is_complete(text + ending, flags):
            return Standing(start + border, len(prompt), ending, in_force, None)
        if tries == MOST_BORDERS:
            break
    raise NotPythonError(explain(last_error(text, flags), prompt, start))


def search_starts(text: str, flags: int, attempts: int) -> str | None:
    """The ending of a text that may be cut inside a token."""
    search = Search(flags, attempts)
    for start in starts_of(text):
        place = place_of(start)
        if start == text or is_viable(start, place, flags):
            ending = search.ending(start)
            if ending is not None:
                return start[len(text) :] + ending
    return None


def last_error(text: str, flags: int) -> SyntaxError:
    """Python's objection to a text, preferably one that is not about its end."""
    place = place_of(text)
    tail = "" if place.string or place.brackets else "\n" if place.in_comment else " \\\n"
    for asked, asking in ((text + tail, flags | INCOMPLETE), (text, flags | INCOMPLETE), (text, flags)):
        answer = compiled(asked, asking)
        if isinstance(answer, SyntaxError) and "incomplete input" not in str(answer.msg):
            return answer
    return SyntaxError("no way to complete it was found")


def explain(error: SyntaxError, prompt: str, start: int) -> str:
    """ "invalid syntax (line 3, column 5)", with the line counted from the beginning of the prompt."""
    if error.lineno is None:
        return str(error.msg)
    line = prompt.count("\n", 0, start) + error.lineno
    return f"{error.msg} (line {line}, column {error.offset or 1})"


def judge(text: str, standing: Standing) -> Standing | None:
    """The standing of a text that ends in a whole line, or None when no ending of it compiles.

    standing: that of the text's beginning, which was accepted.
    """
    start, flags = standing.start, standing.flags
    added = text[standing.end :]
    if not added.strip() and not standing.ending and standing.end and text[standing.end - 1] == "\n":
        return Standing(start, len(text), "", flags, None, standing.before)
    is_blank = not added.strip(" \n") and standing.opened_at is None and added.endswith("\n")
    if is_blank and text[: standing.end].endswith("\n") and not text[: standing.end].endswith("\\\n"):
        return replace(standing, end=len(text))
    begins_line = standing.end == 0 or text[standing.end - 1] == "\n"
    if begins_line and not standing.ending and not CONTINUES.match(added.lstrip("\n")):
        before = text[start : standing.end]
        code = compiled(before, flags) if "__future__" in before else None
        if isinstance(code, CodeType):
            flags |= future_flags(code)
        start = standing.end
    statement = text[start:]
    ending = likely_ending(statement, standing.ending, flags)
    if ending is None:
        ending = Search(flags, LINE_ATTEMPTS).ending(statement)
    if ending is None:
        return None
    if not fits_before(text + ending, start, standing.before):
        return None
    opened = place_of(statement).opened_at
    return Standing(
        start, len(text), ending, flags, None if opened is None else start + opened, standing.before
    )


def holds(text: str, standing: Standing) -> bool:
    """Whether a text compiles that begins as the standing's does, with all that stands before it.

    Only what follows the last complete statement is compiled, where that decides.
    """
    is_right = is_complete(text[standing.start :], standing.flags)
    return is_right and fits_before(text, standing.start, standing.before)


def fits_before(text: str, start: int, before: str) -> bool:
    """Whether statements that are right by themselves, from `start` on, are so after the others.

    Statements of a module mean the same to the compiler wherever they stand, but for two: an import from
    __future__ comes first, and a name that a statement calls global is not used before it.
    """
    statement = text[start:]
    looks_back = "__future__" in statement or GLOBAL.search(statement) is not None
    return not looks_back or not (before or start) or is_complete(before + text, 0)


def likely_ending(statement: str, last: str, flags: int) -> str | None:
    """The ending that a statement most often has after one more line; last: its ending before that line.

    A block that was opened needs its "pass", one that has its first line no longer; "finally: pass", quotes
    and brackets are needed until they are there.
    """
    lines = statement.removesuffix("\n")
    header = lines[lines.rfind("\n") + 1 :]
    first, _, rest = last.partition("\n")
    if first.strip() == "pass":
        last = rest
    if OPENS_BLOCK.search(header):
        block = deeper(header[: len(header) - len(header.lstrip())]) + "pass"
        guesses = [f"{block}\n{last}" if last else block, block]
    else:
        guesses = ["", last] if header.rstrip().endswith(CLOSING) else [last, ""]
    return next((guess for guess in dict.fromkeys(guesses) if is_complete(statement + guess, flags)), None)


def indentation_fits(text: str, blanks: str, standing: Standing) -> bool:
    """Whether a line of the text that ends in a line end may begin with these blanks, or with some more."""
    statement = text[standing.start :]
    if not blanks or blanks.strip(" \t") or place_of(statement).opened_at is not None:
        return True
    deeper = [level for level in INDENTATION.findall(statement) if level.startswith(blanks)]
    for level in dict.fromkeys([blanks, blanks + " ", *deeper]):
        for word in ("_", "except", "case _"):
            line = statement + level + word
            if is_viable(line, place_of(line), standing.flags):
                return True
    return False


def future_flags(code: CodeType) -> int:
    return code.co_flags & ALL_FUTURE_FLAGS
