"""Incremental parser: after each piece of text, is it still the beginning of a Python program?

CPython's compiler answers that for whole lines, and reads a statement again from its beginning for each. This
parser reads each character once and refuses the first piece that is wrong, which loses one token and no more:

    PrefixParser().after("from os ").after("imp")       -> a PrefixParser: it may become "import"
    PrefixParser().after("from os ").after("path")      -> None
    PrefixParser().after("get(url=url, url").after(")") -> None: that argument is there already

It allows all that CPython allows, with two rare exceptions: "await" in a generator outside of asynchronous
functions, and more than 80 open brackets. (Carriage returns are newlines before it reads them.) It also
allows some things that CPython forbids: judge.py asks CPython again about whole lines. A wrong refusal costs
a model one other choice.
"""

from __future__ import annotations

from collections.abc import Hashable

from python_syntax.grammar import State, python_grammar
from python_syntax.lexer import (
    BLANKS,
    CAN_GROW,
    CONSTANTS,
    GROWN,
    KEYWORDS,
    KIND,
    LITERALS,
    MODULE,
    MOST_FORMATS,
    MOST_OPEN,
    NESTED_QUOTES,
    PREFIXES,
    SOFT_KEYWORDS,
    TOKEN,
    Bracket,
    IndentedBlock,
    IndentStack,
    body_end,
    grown,
    may_become_mark,
    may_begin_with,
    number_at,
    stack_after,
    stack_at,
)

CALLABLE_ENDS = frozenset(("NAME", ")", "]", "}"))  # a "(" after one of these is a call


class PrefixParser:
    """The parse state of a text that was allowed piece by piece; it begins with a statement of a module."""

    __slots__ = ("beginning", "indents", "line")

    def __init__(self) -> None:
        self.indents: IndentStack = MODULE
        self.line: LogicalLine | None = None  # None: between two lines
        self.beginning = ""  # of the next line: its blanks so far, or "#" in a comment

    def after(self, text: str) -> PrefixParser | None:
        """The parser after some more text; None if no program continues with it."""
        parser = PrefixParser.__new__(PrefixParser)
        parser.indents, parser.beginning = self.indents, self.beginning
        parser.line = self.line and self.line.copy()
        return parser if parser.read(text) else None

    @property
    def in_comment(self) -> bool:
        return (self.line.partial if self.line else self.beginning).startswith("#")

    @property
    def takes_any_character(self) -> bool:
        """Whether any character at all may come next: in comments and in strings."""
        in_string = self.line and self.line.bracket and self.line.bracket.kind in LITERALS - {"BYTES"}
        return self.in_comment or bool(in_string)

    def read(self, text: str) -> bool:
        if self.line:
            text, self.line.partial = self.line.partial + text, ""
        else:
            text, self.beginning = self.beginning + text, ""
        place: int | None = 0
        while place is not None and place < len(text):
            if self.line is None:
                place = self.begin_line(text, place)
            else:
                place = self.line.read(text, place)
                if self.line.last == "NEWLINE":
                    self.end_line(self.line)
        return place is not None

    def begin_line(self, text: str, place: int) -> int | None:
        found = BLANKS.match(text, place)
        blanks, end = (found[0], found.end()) if found else ("", place)
        if end == len(text):
            self.beginning = blanks
            return end if may_begin_with(self.indents, blanks) else None
        if text[end] == "\n":
            return end + 1
        if text[end] == "#":
            end = text.find("\n", end)
            if end < 0:
                self.beginning, end = "#", len(text)
            return end
        indents = stack_at(self.indents, blanks.rpartition("\f")[2])
        if indents is None:
            return None
        self.indents = indents
        self.line = LogicalLine(indents[-1])
        return end

    def end_line(self, line: LogicalLine) -> None:
        opens_block = line.before == ":"
        self.indents = stack_after(self.indents, line.first, is_async=line.is_async, opens_block=opens_block)
        self.line = None


class LogicalLine:
    """The parse state of a logical line that has begun: its grammar, its brackets, its partial last token."""

    __slots__ = ("before", "block", "bracket", "first", "is_async", "last", "partial", "state", "word")

    def __init__(self, block: IndentedBlock) -> None:
        self.block = block  # that it stands in
        self.state: State = python_grammar().start(block.rules)
        self.bracket: Bracket | None = None  # the innermost open one
        self.partial = ""  # the end of the text, of which more may come
        self.first = ""  # the word that the line begins with
        self.is_async = False
        self.last = self.before = ""  # the newest two terminals
        self.word = ""  # the newest name

    def copy(self) -> LogicalLine:
        line = LogicalLine.__new__(LogicalLine)
        line.block, line.state, line.bracket = self.block, self.state, self.bracket
        line.partial, line.first, line.is_async = self.partial, self.first, self.is_async
        line.last, line.before, line.word = self.last, self.before, self.word
        return line

    def key(self) -> Hashable:
        """The same for two lines of a block that continue alike."""
        return self.state, self.bracket, self.partial, self.first, self.before, self.last

    def step(self, terminal: str) -> bool:
        """Take a terminal; False if the grammar refuses it here."""
        is_soft = terminal in SOFT_KEYWORDS
        after = self.state.either(terminal, "NAME") if is_soft else self.state.after(terminal)
        if after is None:
            return False
        self.state = after
        self.first = self.first or terminal
        self.before, self.last = self.last, terminal
        return True

    def wait(self, text: str, place: int, *terminals: str) -> int | None:
        """Keep the end of the text until more comes, if it may become one of these terminals."""
        if self.state.terminals.isdisjoint(terminals):
            return None
        self.partial = text[place:]
        return len(text)

    def read(self, text: str, place: int) -> int | None:
        """Read a token -> the place after it; None if no program continues with it."""
        bracket = self.bracket
        if bracket and bracket.kind in LITERALS:
            return self.read_literal(text, place, bracket)
        found = TOKEN.match(text, place)
        if found is None:
            return None
        kind, token, end = found.lastgroup, found[0], found.end()
        is_last = end == len(text)
        if bracket and (bracket.forbids(token) or (kind == "comment" and bracket.forbids_comments)):
            return None
        match kind:
            case "blanks":
                return end
            case "word":
                if not (token.isascii() or token.isidentifier()):
                    return None
                if is_last:
                    return self.wait(text, place, *grown(token))
                return end if self.read_word(token) else None
            case "operator":
                if token[0] == ":" and bracket and bracket.kind == "FIELD":
                    token, end = ":", place + 1
                elif text[place:] == "..":
                    once = self.state.after(".")
                    return self.wait(text, place, "..." if once is None or "." not in once.terminals else ".")
                elif is_last and token in CAN_GROW:
                    return self.wait(text, place, *GROWN[token])
                return end if self.read_operator(token) else None
            case "string":
                return self.begin_string(text, place, token)
            case "number":
                length, is_partial = number_at(text, place)
                if is_partial:
                    return self.wait(text, place, "NUMBER")
                return place + length if length and self.step("NUMBER") else None
            case "newline":
                if bracket:
                    return end if NESTED_QUOTES or len(bracket.quote) != 1 else None
                return end if self.step("NEWLINE") else None
            case "comment":
                self.partial = "#" if is_last else ""
                return end
        if token == "\\":  # its line end may still come
            return self.wait(text, place, *self.state.terminals) if is_last else None
        return end

    def read_word(self, word: str) -> bool:
        if word in KEYWORDS or word in SOFT_KEYWORDS:
            if not self.first or self.first == "async":
                self.is_async = self.first == "async"
                self.first = word
            if word == "lambda" and self.bracket:
                self.bracket = self.bracket._replace(names=None)  # the next names are the lambda's
            in_expression = self.last == ":" or self.bracket is not None
            is_allowed = self.block.allows(
                word, self.first, is_async=self.is_async, in_expression=in_expression
            )
            return is_allowed and self.step(word)
        if word in CONSTANTS:
            return self.step("CONSTANT")
        if self.last == "CONVERSION" and word not in ("r", "s", "a"):
            return False
        if self.bracket:
            if self.bracket.repeats(word, self.last):
                return False
            if self.bracket.has_parameters and self.last in ("(", ",", "*", "**"):
                self.bracket = self.bracket.with_name(word)
        self.word = word
        return self.step("NAME")

    def read_operator(self, operator: str) -> bool:
        bracket = self.bracket
        if bracket and bracket.kind == "FIELD" and operator in (":", "}"):
            return self.end_field(bracket) if operator == "}" else self.begin_format(bracket)
        is_keyword_argument = operator == "=" and self.last == "NAME" and self.before in ("(", ",")
        if is_keyword_argument and bracket and not bracket.has_parameters:
            self.bracket = bracket = bracket.with_name(self.word)
        is_call, is_definition = self.last in CALLABLE_ENDS, self.before == "def"
        if operator == ":" and self.last == "except":
            self.first = "except:"
        if not self.step(KIND[operator]):
            return False
        if operator in ("(", "[", "{"):
            names: frozenset[str] | None = frozenset() if operator == "(" and is_call else None
            quote = bracket.quote if bracket else ""
            new = Bracket(operator, quote=quote, names=names, has_parameters=is_definition)
            return self.open(new)
        if operator in ")]}" and bracket:
            self.bracket = bracket.outer
        return True

    def open(self, bracket: Bracket) -> bool:
        """Push onto the bracket stack; False if it is too deep for CPython."""
        self.bracket = bracket.inside(self.bracket)
        return self.bracket.depth <= MOST_OPEN

    def begin_string(self, text: str, place: int, token: str) -> int | None:
        prefix = token.rstrip("'\"")
        quote = token[len(prefix) :]
        kind = PREFIXES.get(prefix.lower())
        if kind is None:
            return None
        end = place + len(token)
        if len(quote) == 1 and text[end : end + 1] in ("", quote) and end + 1 >= len(text):
            return self.wait(text, place, kind)  # an empty one, or the first of three quotes
        self.first = self.first or "string"
        string = Bracket(kind, quote=quote, is_raw="r" in prefix.lower())
        is_opened = self.step(kind) and self.open(string)
        return end if is_opened else None

    def read_literal(self, text: str, place: int, string: Bracket) -> int | None:
        """Read on in a string, or in the text between the fields of one."""
        end = body_end(text, place, string)
        if end is None or end == len(text):
            return end
        rest, is_format = text[end : end + 12], string.kind == "FORMAT"
        if rest.startswith(string.quote):
            self.bracket = string.outer
            if is_format or (string.kind == "FSTRING" and not self.step("FSTRING_END")):
                return None
            return end + len(string.quote)
        if (is_format or string.kind == "FSTRING") and rest[0] in "{}":
            return self.begin_field(text, end, string, is_format=is_format)
        if not may_become_mark(rest, string.quote):
            return None
        self.partial = text[end:]
        return len(text)

    def begin_field(self, text: str, place: int, string: Bracket, *, is_format: bool) -> int | None:
        if text[place] == "}":
            if is_format:
                self.bracket = string.outer
                return place + 1 if string.outer and self.end_field(string.outer) else None
            self.partial = text[place:]
            return len(text) if self.partial == "}" else None
        if not is_format and place + 1 == len(text):  # "{{" is a brace
            self.partial = text[place:]
            return len(text)
        if (is_format and string.formats >= MOST_FORMATS) or not self.step("FIELD"):
            return None
        self.open(Bracket("FIELD", quote=string.quote, is_raw=string.is_raw))
        return place + 1

    def begin_format(self, field: Bracket) -> bool:
        self.open(Bracket("FORMAT", quote=field.quote, is_raw=field.is_raw))
        return self.step("FORMAT")

    def end_field(self, field: Bracket) -> bool:
        self.bracket = field.outer
        return self.step("FIELD_END")
