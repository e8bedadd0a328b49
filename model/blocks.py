"""Which lines may come next by the blocks around them: how far indented, and beginning with which words."""

from __future__ import annotations

from typing import NamedTuple

# What may follow a block, at the indentation of its header.
AFTER: dict[str, tuple[str, ...]] = {
    "if": ("elif", "else"),
    "elif": ("elif", "else"),
    "for": ("else",),
    "while": ("else",),
    "try": ("except", "finally"),
    "except": ("except", "else", "finally"),
    "except:": ("else", "finally"),
    "@": ("decorated",),
}
HAS_TO = frozenset(("try", "@"))  # and what has to


class Level(NamedTuple):
    """A block that is open, and its last line."""

    indentation: str | None  # None: its first line is still to come
    scope: str = ""  # "def", "async" or "class": the innermost around it
    in_loop: bool = False
    is_match: bool = False
    after: tuple[str, ...] = ()
    has_to: bool = False

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of the grammar that its next line may follow."""
        if self.is_match:
            return ("case_line",)
        goes_on = tuple(f"{word}_line" for word in self.after)
        return goes_on if self.has_to else ("statement", *goes_on)


Levels = tuple[Level, ...]  # the outermost first
MODULE: Levels = (Level(""),)


def reachable(levels: Levels) -> Levels:
    """Those that the next line may belong to, the innermost first."""
    found = []
    for level in reversed(levels):
        found.append(level)
        if level.has_to:
            break
    return tuple(found)


def may_begin_with(levels: Levels, blanks: str) -> bool:
    """Whether the next line may begin with these blanks and perhaps more."""
    if levels[-1].indentation is None:
        outer = levels[-2].indentation or ""
        return outer.startswith(blanks) or blanks.startswith(outer)
    return any((level.indentation or "").startswith(blanks) for level in reachable(levels))


def indented(levels: Levels, blanks: str) -> Levels | None:
    """The levels around a line that begins with these blanks; None where no line may."""
    if levels[-1].indentation is None:
        outer = levels[-2].indentation or ""
        is_deeper = blanks.startswith(outer) and len(blanks) > len(outer)
        return (*levels[:-1], levels[-1]._replace(indentation=blanks)) if is_deeper else None
    for number, level in enumerate(reachable(levels)):
        if level.indentation == blanks:
            return levels[: len(levels) - number]
    return None


def ended(levels: Levels, word: str, *, is_async: bool, opens: bool) -> Levels:
    """The levels after a line; word: its first, opens: whether a block comes after it."""
    level = levels[-1]
    after = ("finally",) if word == "else" and "finally" in level.after else AFTER.get(word, ())
    levels = (*levels[:-1], level._replace(after=after, has_to=word in HAS_TO))
    if not opens:
        return levels
    is_definition = word in ("def", "class")
    scope = ("async" if is_async else word) if is_definition else level.scope
    in_loop = not is_definition and (level.in_loop or word in ("for", "while"))
    return (*levels, Level(None, scope, in_loop, word == "match"))
