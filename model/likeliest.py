"""A completion -> for each of its tokens the five that the model found likeliest there: /why.

The model reads the text once more for it: nothing has to be kept while writing, and few are asked about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from completion import Completer
    from continuation import Continuation
    from inference import LanguageModel
    from sampling import Array
    from vocabulary import Vocabulary

SHOWN = 5
VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "→", "\r": "␍", "\f": "␌"})


@dataclass(frozen=True)
class Written:
    """A completion, and where it began."""

    completion: Continuation
    read: int  # of its ids those that the model had read before its first token
    owed: int  # bytes of the prompt that its first tokens wrote again


def explain(completer: Completer, written: Written) -> Iterator[str]:
    """A line for each token that stayed: its number, the likeliest ones with their probabilities.

    "  2  [·self 61.2 %]  ·cls 20.9 %  ..."; the token that was taken stands in brackets, last where it is not
    among the five.
    """
    vocabulary, ids = completer.vocabulary, written.completion.ids
    new_bytes = len(written.completion.text.encode())
    left, number = written.owed + new_bytes, 0
    expected = expectations(completer.model, ids, written.read)
    for token_id, logits in zip(ids[written.read :], expected, strict=True):
        if left <= 0:
            return
        spelling = vocabulary.token_bytes[token_id]
        left -= len(spelling)
        if left < new_bytes:  # otherwise it is the end of the prompt
            number += 1
            yield f"{number:4}  {'  '.join(choices(logits, token_id, vocabulary))}"


def choices(logits: Array, taken: int, vocabulary: Vocabulary) -> list[str]:
    """The likeliest tokens by logits (V,), the taken one marked, at the end where it is not among them."""
    import numpy as np

    logits = logits.copy()
    logits[vocabulary.never_written] = -np.inf
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    likeliest = np.argsort(-probabilities, kind="stable")[:SHOWN].tolist()
    if taken not in likeliest:
        likeliest.append(taken)
    words = [f"{spelt(i, vocabulary)} {probabilities[i]:.1%}".replace("%", " %") for i in likeliest]
    return [f"[{word}]" if i == taken else word for i, word in zip(likeliest, words, strict=True)]


def spelt(token_id: int, vocabulary: Vocabulary) -> str:
    """A token with its blanks to be seen: b" if\\n" -> "·if↵"; half a character as \\xe2."""
    if token_id in vocabulary.end_ids:
        return "<end>"
    text = vocabulary.token_bytes[token_id].decode(errors="backslashreplace").translate(VISIBLE)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def expectations(model: LanguageModel, ids: list[int], first: int) -> Iterator[Array]:
    """Logits (V,) before each of the ids from `first` on; beyond the model's positions, by the last half."""
    positions = model.config.n_positions
    start, capacity = 0, min(positions, len(ids))
    cache = model.new_cache(1, capacity)
    unread = ids[:first]
    for place in range(first, len(ids)):
        if place - start > capacity:
            start = place - max(1, positions // 2)
            cache, unread = model.new_cache(1, positions), ids[start:place]
            capacity = positions
        yield model.next_logits([unread], cache)[0]
        unread = [ids[place]]
