"""A grammar -> what may come next after each terminal: a pushdown automaton that follows all readings.

Each rule is a network of places joined by terminals and by other rules. A reading of what was read so far is
a stack of places: the one it is at, and those to go on from when the rules around it are done. A State is the
set of all readings, and remembers the State that each terminal led to: code repeats its forms, so that nearly
every step is one look into a dictionary.
Source: Tomita 1985, "An efficient context-free parsing algorithm", without the parse trees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

SYMBOL = re.compile(r'"(?P<quoted>[^"]+)"|(?P<name>\w+)|(?P<mark>[\[\]()|*+])')
MOST_STATES = 20_000  # kept by their readings, at about 2 kB each

Stack = tuple["int", "Stack | None"] | None  # a place, and the stack below it


class Grammar:
    """The rules as one network. A place is a number; its edges are (symbol, place), and "" is no symbol."""

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
        self.moves_of: dict[int, tuple[dict[str, list[tuple[int, ...]]], bool]] = {}
        self.states: dict[frozenset[Stack], State] = {}

    def place(self) -> int:
        self.edges.append([])
        return len(self.edges) - 1

    def alternatives(self, symbols: list[tuple[str, str]], start: int, end: int) -> None:
        """Join two places by everything up to the closing mark, which is taken from the symbols."""
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

    def moves(self, place: int) -> tuple[dict[str, list[tuple[int, ...]]], bool]:
        """For each terminal that may be read here the places to stack instead of this one, the outermost
        first; and whether the rule may be done here."""
        known = self.moves_of.get(place)
        if known is None:
            known = self.moves_of[place] = self.find_moves(place)
        return known

    def find_moves(self, place: int) -> tuple[dict[str, list[tuple[int, ...]]], bool]:
        found: dict[str, list[tuple[int, ...]]] = {}
        is_done, seen, todo = False, {place}, [place]
        while todo:
            here = todo.pop()
            is_done |= here in self.exits
            for symbol, there in self.edges[here]:
                if not symbol:
                    new = {there}
                elif symbol in self.entry:
                    # What the rule can begin with; "there" waits below, unless nothing is left to do there.
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
        """Whether nothing can be read here before the rule is done."""
        while place not in self.exits:
            if len(self.edges[place]) != 1 or self.edges[place][0][0]:
                return False
            place = self.edges[place][0][1]
        return True

    def start(self, names: tuple[str, ...]) -> State:
        """The State before anything is read of one of these rules."""
        return self.state(frozenset((self.entry[name], None) for name in names))

    def state(self, stacks: frozenset[Stack]) -> State:
        known = self.states.get(stacks)
        if known is None:
            if len(self.states) >= MOST_STATES:
                self.states.clear()  # those in use go on by themselves
            known = self.states[stacks] = State(self, stacks)
        return known


class State:
    """All the ways in which what was read so far can be understood; without any, nothing can follow."""

    def __init__(self, grammar: Grammar, stacks: frozenset[Stack]) -> None:
        self.grammar = grammar
        self.stacks = stacks
        self.known: dict[str, State | None] = {}

    def tops(self) -> Iterator[tuple[dict[str, list[tuple[int, ...]]], Stack]]:
        """What may be read at the end of each reading, rules that are done there left, and what is below."""
        for stack in self.stacks:
            while stack is not None:
                place, below = stack
                found, is_done = self.grammar.moves(place)
                yield found, below
                if not is_done:
                    break
                stack = below

    @cached_property
    def terminals(self) -> frozenset[str]:
        """What may come next."""
        return frozenset(terminal for found, _ in self.tops() for terminal in found)

    def after(self, terminal: str) -> State | None:
        """The State after one more terminal, None where it cannot come here."""
        try:
            return self.known[terminal]
        except KeyError:
            self.known[terminal] = answer = self.find(terminal)
            return answer

    def find(self, terminal: str) -> State | None:
        stacks: set[Stack] = set()
        for found, below in self.tops():
            for places in found.get(terminal, ()):
                stack = below
                for place in places:
                    stack = (place, stack)
                stacks.add(stack)
        return self.grammar.state(frozenset(stacks)) if stacks else None

    def either(self, one: str, other: str) -> State | None:
        """The State after a word that is a keyword here and a name there."""
        key = f"{one} {other}"
        if key not in self.known:
            answers = [answer for answer in (self.after(one), self.after(other)) if answer]
            stacks = frozenset(stack for answer in answers for stack in answer.stacks)
            self.known[key] = self.grammar.state(stacks) if stacks else None
        return self.known[key]
