"""A grammar -> what may come next after each terminal: a pushdown automaton that follows all readings.

Each rule is a network of places joined by terminals and by other rules. A reading of what was read so far is
a stack of places: the one it is at, and those to go on from when the rules around it are done. Readings that
are at one place share their Node, whatever lies below, so that f(f(f( with its two readings a bracket has
not eight. A State is the set of all readings, and remembers the State that each terminal led to: code repeats
its forms, so that nearly every step is one look into a dictionary.
Source: Tomita 1985, "An efficient context-free parsing algorithm" (the graph-structured stack), without the
parse trees.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property

SYMBOL = re.compile(r'"(?P<quoted>[^"]+)"|(?P<name>\w+)|(?P<mark>[\[\]()|*+])')
MOST_STATES = 20_000  # kept by their readings, at about 2 kB each

Moves = dict[str, list[tuple[int, ...]]]  # terminal -> the places to stack, the outermost first


class Node:
    """The top of stacks that are at one place, and the tops below it; None is the bottom.

    Two that are equal are one: see Grammar.node.
    """

    __slots__ = ("below", "place")

    def __init__(self, place: int, below: Tops) -> None:
        self.place = place
        self.below = below


Tops = frozenset["Node | None"]
BOTTOM: Tops = frozenset((None,))


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
        self.moves_of: dict[int, tuple[Moves, bool]] = {}
        self.nodes: dict[tuple[int, Tops], Node] = {}
        self.states: dict[Tops, State] = {}

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

    def moves(self, place: int) -> tuple[Moves, bool]:
        """For each terminal that may be read here the places to stack instead of this one, the outermost
        first; and whether the rule may be done here."""
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
        return self.state([self.node(self.entry[name], BOTTOM) for name in names])

    def node(self, place: int, below: Tops) -> Node:
        known = self.nodes.get((place, below))
        if known is None:
            known = self.nodes[place, below] = Node(place, below)
        return known

    def state(self, nodes: Collection[Node | None]) -> State:
        """The State with these tops; those that are at one place become one."""
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
                self.states.clear()  # those in use go on by themselves
                self.nodes.clear()
            known = self.states[tops] = State(self, tops)
        return known


class State:
    """All the ways in which what was read so far can be understood; without any, nothing can follow."""

    def __init__(self, grammar: Grammar, tops: Tops) -> None:
        self.grammar = grammar
        self.tops = tops
        self.known: dict[str, State | None] = {}

    def readings(self) -> Iterator[tuple[Moves, Tops]]:
        """What may be read at the end of each reading, rules that are done there left, and what is below."""
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
        """The State after one more terminal, None where it cannot come here."""
        try:
            return self.known[terminal]
        except KeyError:
            tops = self.find(terminal)
            self.known[terminal] = answer = self.grammar.state(tops) if tops else None
            return answer

    def find(self, terminal: str) -> list[Node | None]:
        """The tops after one more terminal, some of them perhaps at one place."""
        tops: list[Node | None] = []
        for found, below in self.readings():
            for places in found.get(terminal, ()):
                under = below
                for place in places:
                    under = frozenset((self.grammar.node(place, under),))
                tops += under
        return tops

    def either(self, one: str, other: str) -> State | None:
        """The State after a word that is a keyword here and a name there."""
        key = f"{one} {other}"
        if key not in self.known:
            tops = self.find(one) + self.find(other)
            self.known[key] = self.grammar.state(tops) if tops else None
        return self.known[key]
