"""A text that has to end here -> as much of it as can stand: its last line cut off cleanly, or left out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from ending import IN_BRACKETS, IN_STATEMENTS, Search, string_ends
from open_brackets import closers, place_of
from python_parser import is_viable
from valid_code import Standing, holds, likely_ending

if TYPE_CHECKING:
    from reading import Reading

    Place = tuple[int, Reading | None]  # where a text may be cut, and what is known of it up to there

ATTEMPTS = 12  # compilations for what the blocks around a line need: "finally: pass"
# Closing marks and "pass" cut a line off without adding a meaning to it. Where that would lose more tokens
# than this, a name stands for what is missing: "from os.path" + " import _".
MOST_LOST = 8
PLAIN = ("", ": pass", " pass")
STAND_INS = tuple(dict.fromkeys(fill for fill in (*IN_STATEMENTS, *IN_BRACKETS) if "_" in fill))


def clean_end(text: str, prompt: int, standing: Standing, places: list[Place], *, is_whole: bool) -> str:
    """The longest beginning of a text that is a program, or with closing marks and "pass" becomes one.

    prompt: how much of it must stay. standing: that of its whole lines. places: where it may be cut, the last
    first. is_whole: its writer has ended it, nothing is to be added to its last line.
    """
    candidates = with_last_line(text, standing, places, is_whole=is_whole)
    for candidate in chain(candidates, [text[: standing.end] + standing.ending]):
        text = candidate[:prompt] + candidate[prompt:].rstrip("\n")
        if holds(text + "\n", standing):
            break
    return text


def shared(one: str, other: str) -> int:
    """The length of the beginning that two texts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def with_last_line(text: str, standing: Standing, places: list[Place], *, is_whole: bool) -> Iterator[str]:
    """The text with as much of the line that is being written as something short completes."""
    in_line = [(place, reading) for place, reading in places if text[standing.end : place].strip()]
    if is_whole:
        yield from dict.fromkeys(text[:place] for place, _ in in_line)
        return
    for place, reading in in_line[:MOST_LOST]:
        yield from ended(text[:place], reading, standing, PLAIN)
    for place, reading in in_line[:1]:
        yield from ended(text[:place], reading, standing, STAND_INS)
    for place, reading in in_line[MOST_LOST:]:
        yield from ended(text[:place], reading, standing, PLAIN)


def ended(text: str, reading: Reading | None, standing: Standing, fills: tuple[str, ...]) -> Iterator[str]:
    """The text with its strings and brackets closed and one of these after or before the brackets."""
    place = place_of(text[standing.start :])
    closed = next(string_ends(text[standing.start :], place.string), "") if place.string else ""
    marks = closers(place)
    tails = [closed + marks + fill for fill in fills]
    if fills is STAND_INS:
        tails += [closed + fill + marks + rest for rest in ("", ": pass") for fill in fills if marks]
    for tail in tails:
        whole = text + tail
        statement = whole[standing.start :] + "\n"  # with which a line that lacks something is wrong
        if reading is None:
            is_right = is_viable(statement, place_of(statement), standing.flags)
        else:
            is_right = reading.after(tail + "\n") is not None
        if not is_right:
            continue
        ending = likely_ending(statement, standing.ending, standing.flags)
        if ending is not None:
            yield f"{whole}\n{ending}" if ending else whole
        else:
            ending = Search(standing.flags, ATTEMPTS).ending(whole[standing.start :])
            if ending is not None and (not ending or ending.startswith("\n")):
                yield whole + ending
