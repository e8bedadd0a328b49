"""A text that breaks off -> the short ending that completes it: ")", ": pass", "    pass".

EndingSearch follows the grammar from where the text ends, the shortest way first, until CPython compiles the
whole. clean_end keeps as much as it can of a text that has to end where it breaks off.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from functools import lru_cache
from heapq import heappop, heappush
from itertools import chain, count, islice

from python_syntax.compiler import FUTURE_FLAGS, Accepted, is_complete, is_viable, lexical_state
from python_syntax.lexer import (
    CONSTANTS,
    GLUED,
    KEYWORDS,
    LITERALS,
    OPERATORS,
    PREFIXES,
    SOFT_KEYWORDS,
    Bracket,
)
from python_syntax.prefix_parser import LogicalLine, PrefixParser

Cut = tuple[int, PrefixParser | None]  # where a text may be cut, and the parser up to there

# What may be missing, by its terminal, with what it costs. A closing mark adds no meaning; a name adds one.
MISSING = {
    **dict.fromkeys((")", "]", "}", "FIELD_END", "NEWLINE"), 1),
    **dict.fromkeys((":", ",", "NAME", "pass", "in", "else", "import", "def", "for"), 2),
    ".": 3,
    "=": 3,
    "(": 3,
    "*": 4,
    "NUMBER": 4,
}
MOST_COMPILED = 1 << 20  # characters in all: a second. A long text gets fewer tries, but FEWEST at least
FEWEST = 8
STEPS = 30  # of the search for each compilation that it may take
MOST_VISITS = 3  # to a state of the grammar: CPython may object to one way there and not to the next
STRING_STEPS = 300  # of the search for the end of a string
WORDS = (*KEYWORDS, *CONSTANTS, *SOFT_KEYWORDS)

HALF_ESCAPE = re.compile(r"\\(?:(?P<mark>[xuU])(?P<digits>[0-9a-fA-F]*)|N(?P<name>\{[^}]*)?)?$")
ESCAPE_DIGITS = {"x": 2, "u": 4, "U": 8}
# Names that unicodedata.name does not give, because they are aliases: those of the control characters
CONTROLS = (
    "NULL|START OF HEADING|START OF TEXT|END OF TEXT|END OF TRANSMISSION|ENQUIRY|ACKNOWLEDGE|ALERT|BACKSPACE"
    "|CHARACTER TABULATION|HORIZONTAL TABULATION|TAB|LINE FEED|LF|NEW LINE|END OF LINE|LINE TABULATION"
    "|VERTICAL TABULATION|FORM FEED|FF|CARRIAGE RETURN|CR|ESCAPE|ESC|NEXT LINE|NEL|NBSP|ZWNBSP|BOM|DELETE|DEL"
).split("|")

WORD = re.compile(r"[^\W\d]\w*")
NONLOCAL = re.compile(r"^[ \t]*nonlocal\b([^\n]*)", re.MULTILINE)
AWAIT = re.compile(r"\bawait\b")
OPENS_BLOCK = re.compile(r":\s*(?:#.*)?$")
INDENTATION = re.compile(r"^[ \t]*(?=[^\s#])", re.MULTILINE)
CLOSING = (")", "]", "}", "'", '"')  # the end of a line that may have closed what was open
# The line that a block needs after its last one, by the first of the clauses that may follow it
NEEDED_LINES = {"decorated": "def _(): pass", "except": "finally: pass"}

CLEAN_END_ATTEMPTS = 12  # compilations for what the blocks around a line need: "finally: pass"
# Closing marks and "pass" end a line without adding a meaning to it. If that would lose more of the model's
# tokens than this, a name stands for what is missing: "from os.path" + " import _".
MOST_LOST = 8
PLAIN = ("", ": pass", " pass")


class EndingSearch:
    """A search for an ending, with a limited number of compilations."""

    def __init__(self, flags: int, attempts: int) -> None:
        self.flags = flags
        self.attempts = attempts

    def find(self, text: str) -> str | None:
        """The ending that makes a text complete."""
        return next(self.all(text), None)

    def all(self, text: str) -> Iterator[str]:
        """The endings that make a text complete, the shortest first."""
        attempts = min(self.attempts, max(FEWEST, MOST_COMPILED // max(1, len(text))))
        found = islice(endings(text, None, attempts * STEPS), attempts)
        candidates = chain([""], found, [lexical_state(text).closing_brackets])
        yield from (ending for ending in candidates if is_complete(text + ending, self.flags))


def endings(text: str, parser: PrefixParser | None, steps: int, depth: int = 0) -> Iterator[str]:
    """Endings with which the grammar allows a text, the shortest first; CPython may still object.

    parser: the one that has read the text, if there is one. steps: how many of its states to follow at most.
    depth: end as soon as fewer brackets and strings than this are open; 0: where the program may end.
    """
    known = (parser, "") if parser else read_by_parser(text)
    if known is None:
        return
    parser, start = known
    words, order = Words(text), count()
    queue = [(0, next(order), 0, start, parser, "")]
    visits: Counter[Hashable] = Counter()
    while queue and steps:
        steps -= 1
        _, _, cost, ending, parser, names = heappop(queue)
        if depth and depth_of(parser) < depth:
            yield ending
        elif parser.line is None and not parser.in_comment:
            yield from with_owed_lines(ending, parser, text)
        else:
            for price, piece, name in pieces(parser, words, (text + ending)[-1:]):
                after, chosen = parser.after(piece), names + name
                if after is None:
                    continue
                key = (after.line and after.line.key(), chosen)
                visits[key] += after.line is not None
                if visits[key] <= MOST_VISITS:
                    total = cost + price
                    queued = total + depth_of(after), next(order), total, ending + piece, after, chosen
                    heappush(queue, queued)


def read_by_parser(text: str) -> tuple[PrefixParser, str] | None:
    """The parser of a text, and a line end if it had to leave out blanks that no line begins with."""
    for read in (text, AWAIT.sub("-", text)):  # a generator may await outside of asynchronous functions
        for kept, end in ((read, ""), (read.rstrip(" \t\f"), "\n")):
            parser = PrefixParser().after(kept)
            if parser and (not end or kept.endswith("\n")):
                return parser, end
    return None


def depth_of(parser: PrefixParser) -> int:
    """How many brackets, strings and replacement fields are open."""
    return parser.line.bracket.depth if parser.line and parser.line.bracket else 0


class Words:
    """The words of a text, for names that may stand where one is missing."""

    def __init__(self, text: str) -> None:
        self.of_text = sorted(set(WORD.findall(text)))
        self.of_line = sorted(set(WORD.findall(text, text.rfind("\n") + 1)))
        width = max((len(word) for word in self.of_text if not word.strip("_")), default=0)
        self.fresh = "_" * (width + 1)  # a new name: "_", or "__" if that is taken

    def names(self, line: LogicalLine) -> list[str]:
        """The names of the text that a line may need: a new one would be wrong there."""
        if line.first == "nonlocal":
            return self.of_text
        if line.first == "from" and "__future__" in self.of_text:
            return list(FUTURE_FLAGS)
        return self.of_line if line.first == "case" else []


def pieces(parser: PrefixParser, words: Words, last: str) -> Iterator[tuple[int, str, str]]:
    """What may come next: its cost, its text, and the name or number in it if others would do as well.

    last: the character before it.
    """
    line = parser.line
    if line is None or parser.in_comment:
        yield 1, "\n", ""
        return
    if line.bracket and line.bracket.kind in LITERALS:
        yield 1, literal_end(line.partial, line.bracket), ""
        return
    if line.partial:
        yield from rests(line.partial, words, line)
    after = parser.after(" ")  # what is partial is then read
    line = after.line if after else None
    if line is None or (line.bracket and line.bracket.kind in LITERALS):
        return
    blank = " " if last.isalnum() or last in ("_", "'", '"', ")", "]", "}") else ""
    for terminal in line.state.terminals & MISSING.keys():
        price = MISSING[terminal]
        if terminal == "NAME":
            new = "r" if line.last == "CONVERSION" else words.fresh
            yield price, blank + new, ""
            yield from ((price + 1, blank + name, name) for name in words.names(line))
        elif terminal == "NUMBER":
            yield price, f"{blank}0", ""
            yield price + 1, f"{blank}0j", "0j"
        elif terminal.isalpha() and terminal.islower():
            yield price, terminal if last.isspace() else f" {terminal}", ""
        else:
            yield price, {"NEWLINE": "\n", "FIELD_END": "}"}.get(terminal, terminal), ""


def rests(partial: str, words: Words, line: LogicalLine) -> Iterator[tuple[int, str, str]]:
    """What may be missing of a token, as pieces: "impo" -> "rt", "!" -> "=", "1e" -> "0"."""
    if partial == "\\":
        yield 1, "\n", ""
    elif partial.endswith(("'", '"')):
        yield 1, partial[-1], ""
    elif partial[0].isdigit() or partial[1:2].isdigit():
        yield 1, "0", ""
        yield 2, "j", "j"
        for word in GLUED:
            begun = [length for length in range(1, len(word)) if partial.endswith(word[:length])]
            yield from ((1, word[length:], "") for length in begun)
    elif partial[0].isidentifier():
        yield from ((1, rest, "") for rest in rests_among(WORDS, partial))
        yield from ((1, rest, partial + rest) for rest in rests_among(words.names(line), partial))
        if partial.lower() in PREFIXES:
            yield from ((1, quotes, "") for quotes in ("''", '""'))
            for kind in ("b", "t"):  # beside bytes or a template stand only such
                if partial.lower() + kind in PREFIXES:
                    yield 2, f"{kind}''", ""
        yield 3, "_", "_"  # "in" may become "int", and a name that was used another one
    else:
        yield from ((1, rest, "") for rest in rests_among(OPERATORS, partial))


def rests_among(words: Iterable[str], partial: str) -> list[str]:
    return [word[len(partial) :] for word in words if word.startswith(partial) and word != partial]


def literal_end(partial: str, string: Bracket) -> str:
    """What ends a string, or the text between its fields, after a mark or an escape that is cut in half."""
    mark = "}" if string.kind == "FORMAT" else string.quote
    if partial and string.quote.startswith(partial):
        return string.quote[len(partial) :]
    if partial in ("{", "}", "\\"):
        return partial + mark
    half = HALF_ESCAPE.search(partial)
    if half and half["mark"]:
        return "0" * (ESCAPE_DIGITS[half["mark"]] - len(half["digits"])) + mark
    return f"{rest_of_name(half['name'] or '')}}}{mark}" if half else mark


@lru_cache(maxsize=64)
def rest_of_name(start: str) -> str:
    """What is missing of a character's name in \\N{...}: "{BULL" -> "ET"; nothing if no name begins so."""
    wanted = start[1:].upper()
    names = (unicodedata.name(chr(code), "") for code in range(0x20, sys.maxunicode + 1))
    found = next((name for name in chain(names, CONTROLS) if name.startswith(wanted)), wanted)
    return "{"[len(start) :] + found[len(wanted) :]


def with_owed_lines(ending: str, parser: PrefixParser, text: str) -> Iterator[str]:
    """An ending after which a line has ended, with the lines that the open blocks still need."""
    typed, lines, blocks = parser.beginning, list[str](), parser.indents
    if blocks[-1].indentation is None:
        outer = blocks[-2].indentation or ""
        level = deeper(outer)
        if typed.startswith(outer) and len(typed) > len(outer) and not level.startswith(typed):
            level = typed
        lines.append(level + ("case _: pass" if blocks[-1].is_match else "pass"))
        blocks = blocks[:-1]
    needing = [block for block in reversed(blocks) if block.needs_clause]
    lines += [(block.indentation or "") + NEEDED_LINES[block.clauses[0]] for block in needing]
    # A function may declare a name nonlocal before the one around it binds it.
    names = [name for found in NONLOCAL.findall(text) for name in WORD.findall(found)]
    functions = [block.indentation or "" for block in reversed(blocks) if block.scope in ("def", "async")]
    bindings = [f"{level}{' = '.join(dict.fromkeys(names))} = _" for level in dict.fromkeys(functions)]
    for more in [[], *([binding] for binding in bindings if names)]:
        if whole := "\n".join(lines + more):
            yield ending + (whole.removeprefix(typed) if whole.startswith(typed) else f"\n{whole}")
        else:
            yield ending.removesuffix("\n")


def string_end(text: str, parser: PrefixParser | None = None) -> str | None:
    """What ends the string that is open at the end of a text, or None; parser: the one that has read it."""
    parser = parser or PrefixParser().after(text)
    if parser is None:
        string = lexical_state(text).string
        return string[2] if string else None
    bracket = parser.line.bracket if parser.line else None
    depth = 0
    while bracket:
        depth = bracket.depth if bracket.kind in LITERALS else depth
        bracket = bracket.outer
    return next(endings(text, parser, STRING_STEPS, depth), None) if depth else None


def deeper(indentation: str) -> str:
    """The indentation of a block inside a line with this one."""
    return indentation + ("\t" if "\t" in indentation else "    ")


def likely_ending(statement: str, last: str, flags: int) -> str | None:
    """The ending that a statement most often has after one more line; last: its ending before that line.

    A block that was opened needs its "pass" until it has its first line; "finally: pass", quotes and brackets
    are needed until they are written.
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


def clean_end(text: str, prompt: int, accepted: Accepted, cuts: list[Cut], *, is_whole: bool) -> str:
    """The longest beginning of a text that is a program, or becomes one with closing marks and "pass".

    prompt: how much of it must stay. accepted: the state of its whole lines. cuts: where it may be cut, the
    last first. is_whole: its writer has ended it, so nothing is added to its last line.
    """
    candidates = with_last_line(text, accepted, cuts, is_whole=is_whole)
    for candidate in chain(candidates, [text[: accepted.end] + accepted.ending]):
        text = candidate[:prompt] + candidate[prompt:].rstrip("\n")
        if accepted.compiles(text + "\n"):
            break
    return text


def with_last_line(text: str, accepted: Accepted, cuts: list[Cut], *, is_whole: bool) -> Iterator[str]:
    """The text with as much of its unfinished last line as something short completes."""
    in_line = [(place, parser) for place, parser in cuts if text[accepted.end : place].strip()]
    if is_whole:
        yield from dict.fromkeys(text[:place] for place, _ in in_line)
        return
    for place, parser in in_line[:MOST_LOST]:
        yield from closed(text[:place], parser, accepted)
    for place, parser in in_line[:1]:
        found = endings(text[accepted.start : place], parser, CLEAN_END_ATTEMPTS * STEPS)
        yield from (text[:place] + ending for ending in islice(found, CLEAN_END_ATTEMPTS))
    for place, parser in in_line[MOST_LOST:]:
        yield from closed(text[:place], parser, accepted)


def closed(text: str, parser: PrefixParser | None, accepted: Accepted) -> Iterator[str]:
    """The text with its strings and brackets closed, and perhaps "pass" after them."""
    state = lexical_state(text[accepted.start :])
    quotes = (string_end(text[accepted.start :], parser) or "") if state.string else ""
    for fill in PLAIN:
        tail = quotes + state.closing_brackets + fill
        whole = text + tail
        statement = whole[accepted.start :] + "\n"  # a line that lacks something is wrong with its line end
        if parser is None:
            is_right = is_viable(statement, accepted.flags)
        else:
            is_right = parser.after(tail + "\n") is not None
        if not is_right:
            continue
        ending = likely_ending(statement, accepted.ending, accepted.flags)
        if ending is not None:
            yield f"{whole}\n{ending}" if ending else whole
        else:
            ending = EndingSearch(accepted.flags, CLEAN_END_ATTEMPTS).find(whole[accepted.start :])
            if ending is not None and (not ending or ending.startswith("\n")):
                yield whole + ending


def shared_length(one: str, other: str) -> int:
    """The length of the beginning that two texts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
