"""Is the line that is being written still right? CPython is asked after each word, about that line alone.

A wrong line costs as many passes through the model as it has tokens by the time it is found out. The judge
of valid_code.py reads the whole statement and is asked at line ends; what can be seen in the line itself is
seen here, a word after it went wrong. An objection here is final, a silence is not: the judge has the last
word.

    objection("if x is not None and not in self.fs")     -> 24, where "in" is
    objection("get(url=url, url=url, ")                  -> 13, the argument that is there already
    objection("from os imp")                             -> None: the last word is not finished
"""

from __future__ import annotations

import keyword
import re
from functools import lru_cache

from ending import Search
from open_brackets import place_of
from python_parser import refusal

# The last lexeme of a text, when more of it may come: a word or a number, or an operator.
UNFINISHED = re.compile(r"(?:[\d.][\w.]*[eE][-+][\w.]*|[\w.]*\w|[-+*/%@&|^~<>=!.:\\]+)$")
LAST_LEXEME = re.compile(r"(?:\w+|[-+*/%@&|^~<>=!.:\\]+|\S)\s*$")
FIRST_WORD = re.compile(r"\w+")
# What the parser must have read before these words; "case" is a name as well and left to the judge.
BEFORE = {"elif": "if _: _\n", "else": "if _: _\n", "except": "try: _\n", "finally": "try: _\n"}
# Where most statements are allowed: return, yield, await, break and continue too.
AROUND = "async def _():\n while _:\n"
# Words that are not allowed there, or not together with others.
BOUND_ELSEWHERE = re.compile(r"\b(?:yield|nonlocal|__future__|await)\b")
# What a line's grammar depends on: not on which names there are, only on which of them are equal.
LEXEME = re.compile(
    r"""(?P<string>(?:\b[rRbBuUfF]{1,2})?(?:'''(?:[^'\\]|\\.|'(?!''))*+'''|\"{3}(?:[^"\\]|\\.|"(?!""))*+\"{3}
    |'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+")) | (?P<word>\w+)""",
    re.VERBOSE | re.DOTALL,
)
KEPT = frozenset([*keyword.kwlist, *keyword.softkwlist, "annotations"])
# Compilations for the arguments before a comma: two or three where nothing is wrong.
ATTEMPTS = 40


def objection(line: str) -> int | None:
    """Where a logical line goes wrong that begins at its first character and is cut anywhere; or None."""
    place = place_of(line)
    if place.in_comment:
        return None
    if place.string:
        start, prefix, quote = place.string
        settled = line[: start + len(prefix) + len(quote)] + quote  # an empty string in place of the open one
    else:
        settled = UNFINISHED.sub("", line)
    # Code repeats its forms: two of three lines that are asked about have been answered with other names.
    return fault(settled) if could_be_faulty(with_plain_names(settled)) else None


def with_plain_names(line: str) -> str:
    """with_plain_names("get(url=url, n=10, 'x'") -> "n0(n1=n1, n2=0, ''" """
    names: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        word = found["word"]
        if word is None:
            return "''"
        if word[0].isdecimal():
            return "0"
        if word in KEPT or word.startswith("__"):
            return word
        return names.setdefault(word, f"n{len(names)}")

    return LEXEME.sub(plain, line)


@lru_cache(maxsize=8192)
def could_be_faulty(plain: str) -> bool:
    return fault(plain) is not None


@lru_cache(maxsize=256)  # of one word's tokens all ask the same
def fault(settled: str) -> int | None:
    """The same for a line whose last lexeme is finished."""
    word = FIRST_WORD.match(settled)
    if not settled.strip() or (word and word[0] == "case"):
        return None
    before = BEFORE.get(word[0], "") if word else ""
    place = place_of(settled)
    is_open = bool(place.brackets)
    if not is_open and (error := refusal(before + settled, place, 0)) is not None:
        lines = (before + settled).split("\n")
        if error.msg == "invalid syntax" and error.lineno and error.offset:
            place_of_error = sum(len(line) + 1 for line in lines[: error.lineno - 1]) + error.offset - 1
            return max(0, min(place_of_error - len(before), len(settled) - 1))
        last = LAST_LEXEME.search(settled)
        return last.start() if last else 0
    # Inside brackets the parser sees little; an ending is looked for wherever something has just ended.
    if is_open and settled.rstrip()[-1] in ",)]}'\"" and not BOUND_ELSEWHERE.search(settled):
        arguments = settled.rstrip().removesuffix(",")
        lines = [indented(before) + "  " + text for text in dict.fromkeys((arguments, settled))]
        if all(Search(0, ATTEMPTS).ending(text) is None for text in lines):
            start = max(arguments.rfind(","), place.brackets[-1][0]) + 1
            return start + len(arguments[start:]) - len(arguments[start:].lstrip())
    return None


def indented(before: str) -> str:
    return AROUND + (f"  {before}" if before else "")
