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
import __future__

import keyword
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

# PyCF_ALLOW_INCOMPLETE_INPUT, PyCF_DONT_IMPLY_DEDENT of CPython's Include/cpython/compile.h: what the
# interactive interpreter asks for, so that "incomplete input" is told apart from an error.
INCOMPLETE = 0x4000 | 0x200
FUTURE_FLAGS = {name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names}
ALL_FUTURE_FLAGS: int = sum(FUTURE_FLAGS.values())
# Compilations that a search for an ending may take: a line of generated code needs 1 to 3, one cut off in a
# rare place some dozens; a prompt is searched once, and refusing it would be worse than taking half a second.
LINE_ATTEMPTS = 60
PROMPT_ATTEMPTS = 1500
# A prompt is read in parts of about this size, so that memory and time grow with its length and no faster.
PART = 1 << 16

# A new statement never begins with these: they go on with the one before.
CONTINUES = re.compile(r"(?:[ \t\f#)\]}]|(?:else|elif|except|finally)\b)")
STARTS = re.compile(r"^(?=[^\s#)\]}])(?!(?:else|elif|except|finally)\b)", re.MULTILINE)
LEXEME = re.compile(
    r"""(?P<prefix>[rRbBuUfF]{0,2})(?P<quote>'''|\"\"\"|'|\") | \w+ | (?P<bracket>[()\[\]{}])
    | (?P<comment>\#[^\n]*+) | \\\n | [^\w'"()\[\]{}\#\\]++ | \\""",
    re.VERBOSE,
)
REST_OF_STRING = {
    "'": re.compile(r"(?:[^'\\\n]|\\.)*+'", re.DOTALL),
    '"': re.compile(r'(?:[^"\\\n]|\\.)*+"', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]|\\.|'(?!''))*+'''", re.DOTALL),
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*+"""', re.DOTALL),
}
HALF_ESCAPE = re.compile(r"\\(?:x(?P<x>[0-9a-fA-F]?)|u(?P<u>[0-9a-fA-F]{0,3})|U(?P<U>[0-9a-fA-F]{0,7}))$")
NONLOCAL = re.compile(r"\bnonlocal\b[^\n]*$")
LAST_WORD = re.compile(r"[^\W\d]\w*$")
INDENTATION = re.compile(r"^[ \t]*(?=[^\s#])", re.MULTILINE)
OPENS_BLOCK = re.compile(r":\s*(?:#.*)?$")
CLOSER = {"(": ")", "[": "]", "{": "}"}

# What may be missing inside a bracket, before its closing one, and in a statement; the commonest first.
# "_" is a name; "__" another one, where the first would be a duplicate.
IN_BRACKETS = (
    "|_| _|: _|=_| else _| in _| _ in _| for _ in _|= _|__| as _|_=_|_: _| _: _| else _: _| _ in _: _|'|''"
).split("|")
IN_STATEMENTS = (
    " pass|\n|_|: pass| _| in _| = _| else _| import _| as _| _ in _: pass"
    "| _: pass|: _| _(): pass|(): pass| def _(): pass| annotations|__|= _|_, _ = _"
).split("|")
AT_LINE_STARTS = ["pass", "finally: pass", "def _(): pass", "case _: pass", "except: pass", "_"]
# A token cut in half: != ->  ... 0x1 1e5 and the like.
HALF_TOKENS = ["", "= _", ">", ".", "0", "\n"]


class NotPythonError(ValueError):
    """A text that no valid Python program begins with: Python's own message, and where."""

    @property
    def advice(self) -> str:
        """What that means for a completion, in a line for the user."""
        return f"no valid Python program begins with this prompt, so its completion may be none: {self}"


@dataclass(frozen=True)
class Standing:
    """What is known of a text that was accepted."""

    start: int  # where the top-level statement begins that the text ends in
    end: int  # the length of the text
    ending: str  # text + ending compiles; "" where it is complete
    flags: int  # the __future__ features in force
    opened_at: int | None  # where the first string or bracket begins that is still open


@dataclass(frozen=True)
class Place:
    """What a text ends in: brackets and perhaps a string that are still open, by where they begin."""

    brackets: list[tuple[int, str]]
    string: tuple[int, str, str] | None = None  # place, prefix, quote
    in_comment: bool = False
    is_continued: bool = False  # by a backslash at the end of the line

    @property
    def opened_at(self) -> int | None:
        if self.brackets:
            return self.brackets[0][0]
        return self.string[0] if self.string else None


def place_of(text: str) -> Place:
    """place_of("f(a, [b, 'c") -> brackets [(1, "("), (5, "[")], string (9, "", "'")"""
    brackets: list[tuple[int, str]] = []
    position, last = 0, None
    while found := LEXEME.match(text, position):
        last, position = found, found.end()
        if found["quote"]:
            rest = REST_OF_STRING[found["quote"]].match(text, position)
            if rest is None:
                return Place(brackets, (found.start(), found["prefix"].lower(), found["quote"]))
            position = rest.end()
        elif found["bracket"] in CLOSER:
            brackets.append((found.start(), found["bracket"]))
        elif found["bracket"] and brackets:
            brackets.pop()
    in_comment = last is not None and last["comment"] is not None
    return Place(brackets, None, in_comment, is_continued=last is not None and last[0] == "\\\n")


def compiled(text: str, flags: int) -> CodeType | SyntaxError:
    """What the compiler makes of a text, without its warnings; every refusal is a SyntaxError here."""
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


def is_viable(text: str, place: Place, flags: int) -> bool:
    """False when the parser says that nothing which could follow would make it right."""
    line = text[text.rfind("\n") + 1 :]
    if place.brackets or place.is_continued or place.string:
        asked = text
    elif not line.strip():
        asked = text[: len(text) - len(line)]
    else:
        # A backslash keeps the line open; without it "class A" would be wrong for the lack of a colon.
        asked = text + ("\n" if place.in_comment else " \\\n")
    answer = compiled(asked, flags | INCOMPLETE)
    return isinstance(answer, CodeType) or "incomplete input" in str(answer.msg)


class Search:
    """A search for an ending, with a limited number of compilations."""

    def __init__(self, flags: int, attempts: int) -> None:
        self.flags = flags
        self.attempts = attempts

    def ending(self, text: str, fills: int = 3) -> str | None:
        """The ending that makes a text complete; fills: how many more things may be missing."""
        place = place_of(text)
        if not place.brackets and not place.string and not place.is_continued:
            self.attempts -= 1
            if is_complete(text, self.flags):
                return ""
        for move, cost in moves(text, place):
            if cost > fills or self.attempts <= 0:
                continue
            after = text + move
            self.attempts -= 1
            if is_viable(after, place_of(after), self.flags):
                rest = self.ending(after, fills - cost)
                if rest is not None:
                    return move + rest
        return None


def moves(text: str, place: Place) -> Iterator[tuple[str, int]]:
    """Short continuations that bring a text nearer to its end, each with what it costs of the search."""
    if place.string:
        yield from ((end, 0) for end in string_ends(text, place.string))
    elif place.brackets:
        closer = CLOSER[place.brackets[-1][1]]
        yield from ((fill + closer, 0) for fill in IN_BRACKETS)
        yield from ((fill, 1) for fill in IN_BRACKETS if fill)
    elif place.in_comment:
        yield "\n", 0
    elif not text[text.rfind("\n") + 1 :].strip() and not place.is_continued:
        yield from ((move, 1) for move in line_moves(text))
    else:
        yield from ((move, 1) for move in IN_STATEMENTS)
        if NONLOCAL.search(text):
            yield from ((f" {name}", 1) for name in names_in(text))


def string_ends(text: str, string: tuple[int, str, str]) -> Iterator[str]:
    """Ways to end an open string, after what was cut in half inside it."""
    start, prefix, quote = string
    body = text[start + len(prefix) + len(quote) :]
    repair = ""
    if (len(body) - len(body.rstrip("\\"))) % 2:
        repair = "\\"
    elif half := HALF_ESCAPE.search(body):
        width = {"x": 2, "u": 4, "U": 8}[half.lastgroup or "x"]
        repair = "0" * (width - len(half[half.lastgroup or "x"]))
    if not quote[1:] and body.endswith("\n"):
        return
    # A triple-quoted body that ends in one or two of its quotes needs fewer, or a blank between.
    ends = [quote]
    if len(quote) == 3 and body.endswith(quote[0]):
        ends = [quote[0], quote[0] * 2, " " + quote, quote]
    if "f" not in prefix:
        yield from (repair + end for end in ends)
        return
    for fill in ["", "}", "_}", *field_ends(body)]:
        for end in ends:
            # Inside brackets the parser reads an f-string's fields late: this one is tried alone.
            if is_complete(f"async def _():\n ({text[start:]}{repair}{fill}{end})", 0):
                yield repair + fill + end


def field_ends(body: str) -> Iterator[str]:
    """Ways to end the replacement field that an f-string's body is cut in: {f(x -> ")}"."""
    field = body[max(0, body.rfind("{")) + 1 :]
    for start in sorted({body.find("{") + 1, len(body) - len(field)}):
        inner = place_of(body[start:])
        quote = inner.string[2] if inner.string else ""
        closers = "".join(CLOSER[bracket] for _, bracket in reversed(inner.brackets))
        for fill in ["", "_", "r", " else _", " in _", " _ in _", "=_", "__", ": _", " for _ in _"]:
            yield quote + fill + closers + "}"
            yield quote + fill + closers + "}}"


def line_moves(text: str) -> Iterator[str]:
    """What may follow at the beginning of a line, at each indentation that the text has or asks for."""
    typed = text[text.rfind("\n") + 1 :]
    levels = sorted(set(INDENTATION.findall(text)), key=len, reverse=True)
    last = next((line for line in reversed(text.split("\n")) if INDENTATION.match(line)), "")
    indentation = last[: len(last) - len(last.lstrip())]
    deeper = indentation + ("\t" if "\t" in indentation else "    ")
    if OPENS_BLOCK.search(last):
        levels = [deeper, *(f"{typed}{step}" for step in (" ", "") if f"{typed}{step}" != deeper), *levels]
        levels = [deeper + " " * 4, *levels] if len(levels[0]) < len(levels[-1]) else levels
    for level in levels:
        start = level[len(typed) :] if level.startswith(typed) else "\n" + level
        yield from (start + move for move in AT_LINE_STARTS)


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


def names_in(text: str) -> list[str]:
    return sorted(set(re.findall(r"[^\W\d]\w*", text)))


def begin(prompt: str) -> Standing:
    """The standing of a prompt that may be cut anywhere.

    Raises:
        NotPythonError: no ending makes it a program.
    """
    start, flags = 0, 0
    size = PART
    while start + size < len(prompt):
        border = last_start(prompt, start, start + size)
        code = compiled(prompt[start:border], flags) if border else None
        if isinstance(code, CodeType):
            flags |= future_flags(code)
            start, size = border, PART
        elif code and not is_viable(prompt[start:border], place_of(prompt[start:border]), flags):
            raise NotPythonError(explain(code, prompt, start))
        else:
            size *= 2  # a long statement, or a border inside a string
    return last_statement(prompt, start, flags)


def last_start(text: str, low: int, high: int) -> int:
    """Where the last line before `high` begins that may begin a statement; 0 when none does after `low`."""
    border = 0
    for found in STARTS.finditer(text, low + 1, high):
        border = found.start()
    return border


def last_statement(prompt: str, start: int, flags: int) -> Standing:
    """The standing of a prompt whose statements before `start` are complete."""
    text = prompt[start:]
    borders = [0, *(found.start() for found in STARTS.finditer(text) if found.start())]
    for border in reversed(borders):
        code = compiled(text[:border], flags)
        if not isinstance(code, CodeType):
            continue
        in_force = flags | future_flags(code)
        ending = search_starts(text[border:], in_force, PROMPT_ATTEMPTS)
        if ending is None and border:
            continue
        if ending is None:
            break
        standing = Standing(start + border, len(prompt), ending, in_force, None)
        if is_complete(text + ending, flags):
            return standing
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
        return Standing(start, len(text), "", flags, None)
    begins_line = standing.end == 0 or text[standing.end - 1] == "\n"
    if begins_line and not standing.ending and not CONTINUES.match(added.lstrip("\n")):
        code = compiled(text[start : standing.end], flags)
        if isinstance(code, CodeType):
            flags |= future_flags(code)
            start = standing.end
    statement = text[start:]
    ending = Search(flags, LINE_ATTEMPTS).ending(statement)
    if ending is None:
        return None
    # These two look beyond their statement: the whole text is asked.
    looks_back = "__future__" in statement or "global" in statement
    if looks_back and start and not is_complete(text + ending, 0):
        return None
    opened = place_of(statement).opened_at
    return Standing(start, len(text), ending, flags, None if opened is None else start + opened)


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
