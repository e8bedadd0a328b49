"""Python's grammar for one logical line, and the pushdown automaton that reads it along.

The rules. [optional] (group)* (group)+, "quoted" terminals, CAPITALS for kinds of tokens. They follow
CPython's own Grammar/python.gram, without precedence (a + b * c is a row of operands here) and without what
CPython forbids in a second pass: they allow all that CPython allows and a little more. The block after a
header's colon is other lines. Source: https://docs.python.org/3/reference/grammar.html

The automaton. Each rule is a network of places joined by terminals and by other rules. One reading of the
text is a stack of places: the current one, and those to return to when the rules around it are done. Readings
at the same place share their Node, with several below it: f(f(f( with two readings a bracket has not eight.
A State is the set of all readings, and remembers the State that each terminal led to: code repeats its forms,
and nearly every step is one look into a dictionary.
Source: Tomita 1985, "An efficient context-free parsing algorithm" (the graph-structured stack), without the
parse trees.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from functools import cache, cached_property

STATEMENTS = """
statement: simple_statements NEWLINE | compound NEWLINE | decorated_line
decorated_line: "@" named_expression NEWLINE | ["async"] function NEWLINE | class_definition NEWLINE
simple_statements: simple_statement (";" simple_statement)* [";"]
simple_statement: assignment | star_expressions | yield_expr | "return" [star_expressions] | "pass"
simple_statement: "break" | "continue" | "global" names | "nonlocal" names | "del" del_targets
simple_statement: "raise" [expression ["from" expression]] | "assert" expression ["," expression]
simple_statement: "import" dotted_as ("," dotted_as)* | "from" from_name "import" imported
names: NAME ("," NAME)*
dotted_name: NAME ("." NAME)*
dotted_as: dotted_name ["as" NAME]
from_name: ("." | "...")* dotted_name | ("." | "...")+
import_as: NAME ["as" NAME]
imported: "*" | import_as ("," import_as)* | "(" import_as ("," import_as)* [","] ")"
assignment: (star_targets "=")+ right | single_target AUGMENTED right
assignment: single_target ":" expression ["=" right]
right: yield_expr | star_expressions
yield_expr: "yield" [star_expressions] | "yield" "from" expression
"""

TARGETS = """
place: primary "." NAME | primary "[" slices "]"
single_target: NAME | place | "(" single_target ")"
star_targets: star_target ("," star_target)* [","]
star_target: ["*"] (NAME | place | "(" [star_targets] ")" | "[" [star_targets] "]")
del_targets: del_target ("," del_target)* [","]
del_target: NAME | place | "(" [del_targets] ")" | "[" [del_targets] "]"
"""

COMPOUND = """
compound: "if" named_expression ":" body | "while" named_expression ":" body | "try" ":" body
compound: ["async"] "for" star_targets "in" star_expressions ":" body | ["async"] "with" with_items ":" body
compound: "match" star_named_expressions ":"
class_definition: "class" NAME [type_parameters] ["(" [arguments] ")"] ":" body
function: "def" NAME [type_parameters] "(" [parameters] ")" ["->" expression] ":" body
body: [simple_statements]
elif_line: "elif" named_expression ":" body NEWLINE
else_line: "else" ":" body NEWLINE
except_line: "except" [["*"] expression ["as" NAME]] ":" body NEWLINE
finally_line: "finally" ":" body NEWLINE
case_line: "case" patterns ["if" named_expression] ":" body NEWLINE
with_items: with_item ("," with_item)* | "(" with_item ("," with_item)* [","] ")"
with_item: expression ["as" star_target]
"""

EXPRESSIONS = """
star_expressions: star_expression ("," star_expression)* [","]
star_expression: "*" row | expression
star_named_expressions: star_named_expression ("," star_named_expression)* [","]
star_named_expression: "*" row | named_expression
named_expression: NAME ":=" expression | expression
expression: disjunction ["if" disjunction "else" expression] | "lambda" [lambda_parameters] ":" expression
disjunction: inversion (("and" | "or") inversion)*
inversion: ("not")* row ((COMPARISON | "in" | "not" "in" | "is" | "is" "not") row)*
row: operand (("+" | "-" | "*" | "**" | "/" | "@" | "|" | ARITHMETIC) operand)*
operand: ("+" | "-" | "~")* ["await"] primary
primary: atom ("." NAME | "(" [arguments] ")" | "(" generator ")" | "[" slices "]")*
atom: NAME | CONSTANT | NUMBER | "..." | (STRING | fstring)+ | (BYTES)+
atom: "(" [yield_expr | star_named_expressions | generator] ")"
atom: "[" [star_named_expressions | generator] "]"
atom: "{" [entries | star_named_expressions | generator | entry for_if] "}"
generator: named_expression for_if
for_if: (["async"] "for" star_targets "in" disjunction ("if" disjunction)*)+
entries: double_starred ("," double_starred)* [","]
double_starred: "**" row | entry
entry: expression ":" expression
slices: slice ("," slice)* [","]
slice: [expression] ":" [expression] [":" [expression]] | named_expression | "*" row
arguments: positional ("," positional)* ["," [keywords]] | keywords
positional: "*" expression | named_expression
keywords: by_name ("," by_name)* ["," [double_keywords]] | double_keywords
by_name: keyword | "*" expression
double_keywords: (keyword | "**" expression) ("," (keyword | "**" expression))* [","]
keyword: NAME "=" expression
fstring: FSTRING (field)* FSTRING_END
field: FIELD right ["="] [CONVERSION NAME] [FORMAT (field)*] FIELD_END
"""

# Used with annotations and for lambda: after a default every parameter has one.
PARAMETERS = """
P: NAME A plain | NAME A "=" expression defaulted | starred
Pplain: ["," [NAME A plain | NAME A "=" expression defaulted | "/" plain | starred]]
Pdefaulted: ["," [NAME A "=" expression defaulted | "/" defaulted | starred]]
Pstarred: "*" NAME SA named | "*" "," NAME A ["=" expression] named | "**" NAME A [","]
Pnamed: ["," [NAME A ["=" expression] named | "**" NAME A [","]]]
"""

PATTERNS = """
patterns: star_pattern ("," star_pattern)* [","]
star_pattern: "*" NAME | pattern
pattern: closed_pattern ("|" closed_pattern)* ["as" NAME]
closed_pattern: ["-"] NUMBER [("+" | "-") NUMBER] | CONSTANT | (STRING)+ | (BYTES)+
closed_pattern: NAME ("." NAME)* ["(" [class_patterns] ")"]
closed_pattern: "(" [patterns] ")" | "[" [patterns] "]" | "{" [key_pattern ("," key_pattern)* [","]] "}"
key_pattern: "**" NAME | key ":" pattern
key: ["-"] NUMBER [("+" | "-") NUMBER] | CONSTANT | (STRING)+ | (BYTES)+ | dotted_name
class_patterns: pattern ("," pattern)* ["," [keyword_patterns]] | keyword_patterns
keyword_patterns: keyword_pattern ("," keyword_pattern)* [","]
keyword_pattern: NAME "=" pattern
"""

NEWER = {
    (3, 12): """
simple_statement: "type" NAME [type_parameters] "=" expression
type_parameters: "[" type_parameter ("," type_parameter)* [","] "]"
type_parameter: NAME [":" expression] | "*" NAME | "**" NAME
""",
    (3, 13): """
type_parameters: "[" (type_parameter ",")* defaulted_parameter ("," defaulted_parameter)* [","] "]"
defaulted_parameter: NAME [":" expression] "=" expression | "*" NAME "=" star_expression
defaulted_parameter: "**" NAME "=" expression
""",
    (3, 14): """
except_line: "except" ["*"] expression ("," expression)* [","] ":" body NEWLINE
""",
}


def parameters(name: str, annotation: str, star_annotation: str) -> str:
    """The rules of a function's parameters; annotation: what may follow a name."""
    rules = PARAMETERS.replace(" SA ", f" {star_annotation} ").replace(" A", f" {annotation}")
    for part in ("plain", "defaulted", "starred", "named"):
        rules = rules.replace(f"P{part}:", f"{name}_{part}:").replace(f" {part}", f" {name}_{part}")
    return rules.replace("P:", f"{name}:")


def rules() -> str:
    """The grammar of the running Python."""
    older = [STATEMENTS, TARGETS, COMPOUND, EXPRESSIONS, PATTERNS]
    newer = [text for version, text in NEWER.items() if sys.version_info >= version]
    if sys.version_info < (3, 12):
        older = [text.replace("[type_parameters] ", "") for text in older]
    annotated = parameters("parameters", '[":" expression]', '[":" ["*"] expression]')
    return "".join([*older, annotated, parameters("lambda_parameters", "", ""), *newer])


SYMBOL = re.compile(r'"(?P<quoted>[^"]+)"|(?P<name>\w+)|(?P<mark>[\[\]()|*+])')
MOST_STATES = 20_000  # kept by their readings, at about 2 kB each

Moves = dict[str, list[tuple[int, ...]]]  # terminal -> the places to push, the outermost first


class Node:
    """The top of all stacks that are at one place, and the tops below it; None is the bottom.

    Equal nodes are the same object: see Grammar.node.
    """

    __slots__ = ("below", "place")

    def __init__(self, place: int, below: Tops) -> None:
        self.place = place
        self.below = below


Tops = frozenset["Node | None"]
BOTTOM: Tops = frozenset((None,))


class Grammar:
    """The rules as one network. A place is a number; its edges are (symbol, place), and "" reads nothing."""

    def __init__(self, rules: str) -> None:
        self.edges: list[list[tuple[str, int]]] = []
        self.entry: dict[str, int] = {}
        self.exits: set[int] = set()
        self.end: dict[str, int] = {}
        for line in filter(None, rules.splitlines()):
            name, _, body = line.partition(":")
            if name not in self.entry:
                self.entry[name], self.end[name] = self.place(), self.place()
                self.exits.add(self.end[name])
            symbols = [(found["mark"], found["quoted"] or found["name"]) for found in SYMBOL.finditer(body)]
            self.alternatives(symbols, self.entry[name], self.end[name])
        self.moves_of: dict[int, tuple[Moves, bool]] = {}
        self.nodes: dict[tuple[int, Tops], Node] = {}
        self.states: dict[Tops, State] = {}

    def place(self) -> int:
        self.edges.append([])
        return len(self.edges) - 1

    def alternatives(self, symbols: list[tuple[str, str]], start: int, end: int) -> None:
        """Join two places by the symbols up to the closing mark; both are removed from the list."""
        here = start
        while symbols:
            mark, name = symbols.pop(0)
            if mark in ("]", ")"):
                break
            if mark == "|":
                self.edges[here].append(("", end))
                here = start
                continue
            there = self.place()
            if mark in ("[", "("):
                first = self.place()
                self.edges[here].append(("", first))
                self.alternatives(symbols, first, there)
                repeats = symbols and mark == "(" and symbols[0][0] in ("*", "+")
                if repeats:
                    self.edges[there].append(("", first))
                if mark == "[" or (repeats and symbols[0][0] == "*"):
                    self.edges[here].append(("", there))
                if repeats:
                    symbols.pop(0)
            else:
                self.edges[here].append((name, there))
            here = there
        self.edges[here].append(("", end))

    def moves(self, place: int) -> tuple[Moves, bool]:
        """For each terminal that may be read here the places to push instead of this one, the outermost
        first; and whether the rule may end here."""
        known = self.moves_of.get(place)
        if known is None:
            known = self.moves_of[place] = self.find_moves(place)
        return known

    def find_moves(self, place: int) -> tuple[Moves, bool]:
        found: Moves = {}
        is_done, seen, todo = False, {place}, [place]
        while todo:
            here = todo.pop()
            is_done |= here in self.exits
            for symbol, there in self.edges[here]:
                if not symbol:
                    new = {there}
                elif symbol in self.entry:
                    # What the rule can begin with; "there" waits below, unless the outer rule ends there.
                    below = () if self.is_end(there) else (there,)
                    inner, can_be_empty = self.moves(self.entry[symbol])
                    for terminal, stacks in inner.items():
                        found.setdefault(terminal, []).extend(below + stack for stack in stacks)
                    new = {there} if can_be_empty else set()
                else:
                    found.setdefault(symbol, []).append(() if self.is_end(there) else (there,))
                    new = set()
                todo += new - seen
                seen |= new
        return {terminal: list(dict.fromkeys(stacks)) for terminal, stacks in found.items()}, is_done

    def is_end(self, place: int) -> bool:
        """Whether the rule ends here without reading anything more."""
        while place not in self.exits:
            if len(self.edges[place]) != 1 or self.edges[place][0][0]:
                return False
            place = self.edges[place][0][1]
        return True

    def start(self, names: tuple[str, ...]) -> State:
        """The State at the beginning of any of these rules."""
        return self.state([self.node(self.entry[name], BOTTOM) for name in names])

    def node(self, place: int, below: Tops) -> Node:
        known = self.nodes.get((place, below))
        if known is None:
            known = self.nodes[place, below] = Node(place, below)
        return known

    def state(self, nodes: Collection[Node | None]) -> State:
        """The State with these tops; tops at the same place are merged."""
        below: dict[int, Tops] = {}
        for node in nodes:
            if node is not None:
                below[node.place] = below.get(node.place, frozenset()) | node.below
        tops: Tops = frozenset(self.node(place, its) for place, its in below.items())
        if None in nodes:
            tops |= BOTTOM
        known = self.states.get(tops)
        if known is None:
            if len(self.states) >= MOST_STATES:
                self.states.clear()  # those in use keep working
                self.nodes.clear()
            known = self.states[tops] = State(self, tops)
        return known


class State:
    """All readings of the text so far."""

    def __init__(self, grammar: Grammar, tops: Tops) -> None:
        self.grammar = grammar
        self.tops = tops
        self.known: dict[str, State | None] = {}

    def readings(self) -> Iterator[tuple[Moves, Tops]]:
        """For each reading what may come next and what lies below, also after leaving rules that may end."""
        seen = set(self.tops)
        todo = list(self.tops)
        while todo:
            node = todo.pop()
            if node is None:
                continue
            found, is_done = self.grammar.moves(node.place)
            yield found, node.below
            if is_done:
                todo += node.below - seen
                seen |= node.below

    @cached_property
    def terminals(self) -> frozenset[str]:
        """What may come next."""
        return frozenset(terminal for found, _ in self.readings() for terminal in found)

    def after(self, terminal: str) -> State | None:
        """The State after one more terminal; None if the grammar refuses it."""
        try:
            return self.known[terminal]
        except KeyError:
            tops = self.find(terminal)
            self.known[terminal] = answer = self.grammar.state(tops) if tops else None
            return answer

    def find(self, terminal: str) -> list[Node | None]:
        """The tops after one more terminal, perhaps several at the same place."""
        tops: list[Node | None] = []
        for found, below in self.readings():
            for places in found.get(terminal, ()):
                under = below
                for place in places:
                    under = frozenset((self.grammar.node(place, under),))
                tops += under
        return tops

    def either(self, one: str, other: str) -> State | None:
        """The State after a word that may be a keyword or a name (match, case, type)."""
        key = f"{one} {other}"
        if key not in self.known:
            tops = self.find(one) + self.find(other)
            self.known[key] = self.grammar.state(tops) if tops else None
        return self.known[key]


@cache
def python_grammar() -> Grammar:
    return Grammar(rules())
