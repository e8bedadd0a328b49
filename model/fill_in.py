"""Code before and after a gap -> what stands in it, by a model that was trained to fill gaps in.

The prompt is the prefix, then the suffix, each after its own token, and the model goes on with the middle.
Source: Bavarian et al. 2022, "Efficient training of language models to fill in the middle", section 3 (PSM).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pretrained import PretrainedError
from python_parser import is_complete
from valid_code import Standing, holds

if TYPE_CHECKING:
    from reading import Reading

MARKER = "<FILL>"
MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def fills_in(folder: Path) -> bool:
    """Whether the model was trained to fill gaps in, by its record."""
    try:
        record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        return float(record["options"].get("fim_rate") or 0) > 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def gap_of(before: list[int], after: list[int], id_of: Callable[[str], int | None]) -> list[int]:
    """The ids that a model reads of a gap: prefix and suffix, each after its mark, then the middle's.

    id_of: the id of a token by its name, None where the tokenizer has none.

    Raises:
        PretrainedError: the tokenizer lacks one of the marks.
    """
    ids = [id_of(mark) for mark in MARKS]
    if None in ids:
        raise PretrainedError(f"this model's tokenizer has no {MARKS[ids.index(None)]}: leave out --suffix")
    prefix, suffix, middle = (number for number in ids if number is not None)
    return [prefix, *before, suffix, *after, middle]


def check_fills_in(folder: Path) -> None:
    """Nothing, where the model was trained to fill gaps in.

    Raises:
        PretrainedError: it was not, or nobody knows.
    """
    if not fills_in(folder):
        raise PretrainedError(
            f"this model was not trained to fill a gap in, only to go on: {folder}: "
            f"leave out --suffix and {MARKER}"
        )


def split_at_marker(text: str) -> tuple[str, str] | None:
    """split_at_marker("a = <FILL>\\nb") -> ("a = ", "\\nb"); None without a marker."""
    before, marker, after = text.partition(MARKER)
    return (before, after) if marker else None


def closing_gap(text: str, suffix: str, reading: Reading | None, standing: Standing) -> str | None:
    """What lets a text compile together with what comes after its gap: nothing, or a line end; or None.

    reading, standing: those of the text, and of what is known of its beginning.
    """
    first_line = suffix[: suffix.find("\n") + 1] or suffix
    for end in ("", "\n"):
        after = reading.after(end) if reading else None
        if (not reading or (after and after.after(first_line))) and holds(f"{text}{end}{suffix}\n", standing):
            return end
    return None


def longest_middle(
    text: str, begins: int, suffix: str, places: list[tuple[int, Reading | None]], standing: Standing
) -> str | None:
    """What stands from `begins` on up to the first of these places where it closes the gap; None: at none."""
    for place, reading in places:
        end = closing_gap(text[:place], suffix, reading, standing)
        if end is not None:
            return text[begins:place] + end
    return None


def fitting(prefix: str, middle: str, suffix: str) -> str | None:
    """As many of the middle's lines as make the whole compile; None where no number of them does.

    The last line's end, which a completion is without, is put back where the suffix needs it.
    """
    cut = middle
    while True:
        for whole in (cut, f"{cut}\n"):
            if is_complete(prefix + whole + suffix + "\n", 0):
                return whole
        if not cut:
            return None
        cut = cut[: max(0, cut.rfind("\n"))]
