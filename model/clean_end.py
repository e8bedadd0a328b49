"""A text that has to end here -> as much of it as can stand: its last line cut off cleanly, or left out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ending import Search, string_ends
from open_brackets import closers, place_of
from python_parser import is_complete, is_viable
from valid_code import Standing

ATTEMPTS = 12  # compilations for what the blocks around a line need: "finally: pass"


def clean_end(text: str, prompt: int, standing: Standing, places: list[int], *, is_whole: bool) -> str:
    """The longest beginning of a text that is a program, or with closing marks and "pass" becomes one.

    prompt: how much of it must stay. standing: that of its whole lines. places: where it may be cut, the last
    first. is_whole: its writer has ended it, nothing is to be added to its last line.
    """
    candidates = with_last_line(text, standing, places, is_whole=is_whole)
    for candidate in chain(candidates, [text[: standing.end] + standing.ending]):
        text = candidate[:prompt] + candidate[prompt:].rstrip("\n")
        if is_complete(text + "\n", 0):
            break
    return text


def with_last_line(text: str, standing: Standing, places: list[int], *, is_whole: bool) -> Iterator[str]:
    """The text with as much of the line that is being written as closing marks alone complete."""
    for place in dict.fromkeys(places):
        if not text[standing.end : place].strip():
            return
        if is_whole:
            yield text[:place]
        else:
            yield from plainly_ended(text[:place], standing)


def plainly_ended(text: str, standing: Standing) -> Iterator[str]:
    """The text with closing marks and "pass", which cut a line off without adding a meaning to it."""
    place = place_of(text[standing.start :])
    closed = next(string_ends(text[standing.start :], place.string), "") if place.string else ""
    for rest in ("", ": pass", " pass"):
        ended = text + closed + closers(place) + rest
        statement = ended[standing.start :] + "\n"  # with which a line that lacks something is wrong
        if not is_viable(statement, place_of(statement), standing.flags):
            continue
        ending = Search(standing.flags, ATTEMPTS).ending(ended[standing.start :])
        if ending is not None and (not ending or ending.startswith("\n")):
            yield ended + ending
