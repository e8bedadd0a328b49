"""Python as it is written: after each piece of text, is it still the beginning of a program?

CPython's compiler answers that for whole lines, after reading a statement again from its beginning. This
reads each character once and refuses the piece with which it goes wrong, so that no more is lost:

    Reading().after("from os ").after("imp")      -> a Reading: "import" may come of it
    Reading().after("from os ").after("path")     -> None
    Reading().after("get(url=url, url").after(")") -> None: that argument is there already

It allows all that CPython allows, but for rarities (lone carriage returns; "await" in a generator outside of
asynchronous functions; names with marks that combine), and some things that it forbids: what is allowed here
is judged once more, in whole lines, by CPython. What is refused here costs a model another choice of a token.
"""

from __future__ import annotations

from functools import cache

from automaton import Grammar, State
from blocks import MODULE, Levels, ended, indented, may_begin_with
from lexemes import (
    BLANKS,
    CAN_GROW,
    CONSTANTS,
    GROWN,
    HALF_ESCAPE,
    KEYWORDS,
    KIND,
    LEXEME,
    PREFIXES,
    SOFT,
    body,
    grown,
    number_at,
)
from openings import MOST_OPEN, Open
from python_grammar import rules

LITERALS = frozenset(("STRING", "BYTES", "FSTRING", "FORMAT"))
CALLED = frozenset(("NAME", ")", "]", "}"))  # what a "(" after it calls


@cache
def grammar() -> Grammar:
    return Grammar(rules())


class Reading:
    """What is known of a text whose every piece was allowed; it begins with a statement of a module."""

    __slots__ = ("before", "first", "is_async", "last", "levels", "open", "pending", "state", "word")

    def __init__(self) -> None:
        self.levels: Levels = MODULE
        self.state: State | None = None  # of the logical line; None: it has not begun
        self.open: Open | None = None
        self.pending = ""  # the end of the text, of which more may come
        self.first = ""  # the word that the line begins with
        self.is_async = False
        self.last = self.before = ""  # the newest terminals
        self.word = ""  # the newest name

    def after(self, text: str) -> Reading | None:
        """The Reading after some more text; None where no program goes on with it."""
        reading = Reading.__new__(Reading)
        reading.levels, reading.state, reading.open = self.levels, self.state, self.open
        reading.pending, reading.first, reading.is_async = self.pending, self.first, self.is_async
        reading.last, reading.before, reading.word = self.last, self.before, self.word
        return reading if reading.read(text) else None

    @property
    def in_comment(self) -> bool:
        return self.pending.startswith("#")

    @property
    def takes_any_letter(self) -> bool:
        """Whether any character at all may come next: in comments and in strings."""
        return self.in_comment or bool(self.open and self.open.kind in LITERALS - {"BYTES"})

    def read(self, text: str) -> bool:
        text, self.pending = self.pending + text, ""
        place: int | None = 0
        while place is not None and place < len(text):
            if self.open and self.open.kind in LITERALS:
                place = self.read_literal(text, place, self.open)
            elif self.state is None:
                place = self.begin_line(text, place)
            else:
                place = self.read_lexeme(text, place)
        return place is not None

    def step(self, terminal: str) -> bool:
        assert self.state is not None, "a line begins before its first terminal"
        after = self.state.either(terminal, "NAME") if terminal in SOFT else self.state.after(terminal)
        if after is None:
            return False
        self.state = after
        self.first = self.first or terminal
        self.before, self.last = self.last, terminal
        return True

    def wait(self, text: str, place: int, *terminals: str) -> int | None:
        """Leave the end of the text to what comes after it, if one of these can come of it."""
        assert self.state is not None, "a line begins before its first terminal"
        if self.state.terminals.isdisjoint(terminals):
            return None
        self.pending = text[place:]
        return len(text)

    def begin_line(self, text: str, place: int) -> int | None:
        found = BLANKS.match(text, place)
        blanks, end = (found[0], found.end()) if found else ("", place)
        if end == len(text):
            self.pending = blanks
            return end if may_begin_with(self.levels, blanks) else None
        if text[end] == "\n":
            return end + 1
        if text[end] == "#":
            end = text.find("\n", end)
            if end < 0:
                self.pending, end = "#", len(text)
            return end
        levels = indented(self.levels, blanks.rpartition("\f")[2])
        if levels is None:
            return None
        self.levels = levels
        self.state = grammar().start(levels[-1].rules)
        self.first = self.last = self.before = ""
        self.is_async = False
        return end

    def read_lexeme(self, text: str, place: int) -> int | None:
        found = LEXEME.match(text, place)
        if found is None:
            return None
        kind, lexeme, end = found.lastgroup, found[0], found.end()
        is_last = end == len(text)
        if self.open and (self.open.forbids(lexeme) or (kind == "comment" and self.open.forbids_comments)):
            return None
        match kind:
            case "blanks":
                return end
            case "word":
                if is_last:
                    return self.wait(text, place, *grown(lexeme))
                return end if self.read_word(lexeme) else None
            case "operator":
                in_field = self.open is not None and self.open.kind == "FIELD"
                if in_field and lexeme[0] == ":":
                    lexeme, end = ":", place + 1
                elif text[place:] == "..":
                    once = self.state.after(".") if self.state else None
                    return self.wait(text, place, "..." if once is None or "." not in once.terminals else ".")
                elif is_last and lexeme in CAN_GROW:
                    return self.wait(text, place, *GROWN[lexeme])
                return end if self.read_operator(lexeme) else None
            case "string":
                return self.begin_string(text, place, lexeme)
            case "number":
                return self.read_number(text, place)
            case "newline":
                if self.open:
                    return end if len(self.open.quote) != 1 else None
                return end if self.end_line() else None
            case "comment":
                self.pending = "#" if is_last else ""
                return end
        if lexeme == "\\":  # and no line end: not yet
            return self.wait(text, place, *self.state.terminals) if is_last and self.state else None
        return end

    def read_word(self, word: str) -> bool:
        if not word.isascii() and not word.isidentifier():
            return False
        if word in KEYWORDS or word in SOFT:
            if not self.first or self.first == "async":
                self.is_async = self.first == "async"
                self.first = word
            if word == "lambda" and self.open and self.open.named is not None:
                self.open = self.open._replace(named=None)  # whose names come next is not known any more
            return self.is_in_place(word) and self.step(word)
        if word in CONSTANTS:
            return self.step("CONSTANT")
        if self.last == "CONVERSION" and word not in ("r", "s", "a"):
            return False
        if self.open and self.open.named is not None:
            names, by = self.open.named, ("(", ",", "*", "**") if self.open.has_parameters else ("(", ",")
            if self.last in by:
                if word in names:
                    return False
                if self.open.has_parameters:
                    self.open = self.open._replace(named=names | {word})
        self.word = word
        return self.step("NAME")

    def is_in_place(self, word: str) -> bool:
        """Whether the blocks around allow a statement or an expression with this word."""
        level = self.levels[-1]
        scope = ("async" if self.is_async else "def") if self.first == "def" else level.scope
        if word in ("return", "yield"):
            return scope in ("def", "async") or self.last == ":" or bool(self.open)  # a lambda may yield
        if word == "await":
            return scope == "async"
        if word == "nonlocal":
            return scope != ""
        if word in ("break", "continue"):
            return level.in_loop or self.first in ("for", "while")
        return True

    def read_operator(self, operator: str) -> bool:
        opened = self.open
        if opened and opened.kind == "FIELD" and operator in (":", "}"):
            return self.end_field(opened) if operator == "}" else self.begin_format(opened)
        names_argument = operator == "=" and self.last == "NAME" and self.before in ("(", ",")
        if names_argument and opened and opened.named is not None and not opened.has_parameters:
            self.open = opened = opened._replace(named=opened.named | {self.word})
        called = self.last in CALLED
        is_function = self.before == "def"
        if operator == ":" and self.last == "except":
            self.first = "except:"
        if not self.step(KIND[operator]):
            return False
        if operator in ("(", "[", "{"):
            depth = opened.depth + 1 if opened else 1
            named: frozenset[str] | None = frozenset() if operator == "(" and called else None
            quote = opened.quote if opened else ""
            self.open = Open(operator, opened, depth, quote, named=named, has_parameters=is_function)
            return depth <= MOST_OPEN
        if operator in ")]}" and opened:
            self.open = opened.outer
        return True

    def read_number(self, text: str, place: int) -> int | None:
        length, is_half = number_at(text, place)
        if is_half:
            return self.wait(text, place, "NUMBER")
        return place + length if length and self.step("NUMBER") else None

    def begin_string(self, text: str, place: int, lexeme: str) -> int | None:
        prefix = lexeme.rstrip("'\"")
        quote = lexeme[len(prefix) :]
        kind = PREFIXES.get(prefix.lower())
        if kind is None:
            return None
        end = place + len(lexeme)
        if len(quote) == 1 and text[end : end + 1] in ("", quote) and end + 1 >= len(text):
            return self.wait(text, place, kind)  # an empty one, or the first of three quotes
        self.first = self.first or "string"
        if not self.step(kind):
            return None
        depth = self.open.depth + 1 if self.open else 1
        self.open = Open(kind, self.open, depth, quote, "r" in prefix.lower())
        return end if depth <= MOST_OPEN else None

    def read_literal(self, text: str, place: int, opened: Open) -> int | None:
        """Go on in a string, or in the text between the fields of one."""
        kind = "FSTRING" if opened.kind == "FORMAT" else opened.kind
        is_format = opened.kind == "FORMAT"
        pattern = body(opened.quote, kind, is_raw=opened.is_raw, is_format=is_format)
        found = pattern.match(text, place)
        assert found, "nothing at all is part of every string"
        end, rest = found.end(), text[found.end() : found.end() + 12]
        if kind == "BYTES" and not found[0].isascii():
            return None
        if not is_format and opened.outer and opened.outer.forbids(found[0]):
            return None
        if not rest:
            return end
        if rest.startswith(opened.quote):
            self.open = opened.outer
            if is_format or (kind == "FSTRING" and not self.step("FSTRING_END")):
                return None
            return end + len(opened.quote)
        if kind == "FSTRING" and rest[0] in "{}":
            return self.begin_field(text, end, opened, is_format=is_format)
        is_half = opened.quote.startswith(rest) or HALF_ESCAPE.fullmatch(rest)
        if not is_half and not (rest.startswith("\\N{") and "}" not in rest):
            return None
        self.pending = text[end:]
        return len(text)

    def begin_field(self, text: str, place: int, opened: Open, *, is_format: bool) -> int | None:
        if text[place] == "}":
            if is_format:
                self.open = opened.outer
                return place + 1 if opened.outer and self.end_field(opened.outer) else None
            self.pending = text[place:]
            return len(text) if self.pending == "}" else None
        if not is_format and place + 1 == len(text):  # "{{" is a brace
            self.pending = text[place:]
            return len(text)
        too_deep = is_format and opened.outer and opened.outer.outer and opened.outer.outer.kind == "FORMAT"
        if too_deep or not self.step("FIELD"):
            return None
        self.open = Open("FIELD", opened, opened.depth + 1, opened.quote, opened.is_raw)
        return place + 1

    def begin_format(self, field: Open) -> bool:
        self.open = Open("FORMAT", field, field.depth + 1, field.quote, field.is_raw)
        return self.step("FORMAT")

    def end_field(self, field: Open) -> bool:
        self.open = field.outer
        return self.step("FIELD_END")

    def end_line(self) -> bool:
        opens = self.last == ":"
        if not self.step("NEWLINE"):
            return False
        self.levels = ended(self.levels, self.first, is_async=self.is_async, opens=opens)
        self.state = None
        return True
