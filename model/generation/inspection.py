"""What can be said of a finished sample: pyflakes' findings, its rank among others, the likeliest tokens.

Nothing of the generated code is run. For /why the model reads the text once more: few completions are asked
about, and nothing has to be kept while writing.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generation.sample import Sample
    from inference.language_model import Array, LanguageModel
    from pretrained.vocabulary import Vocabulary

SHOWN_TOKENS = 5
LOOP = (
    0.5  # of all groups of 4 tokens said before: so much repeats 1 of 100 windows of 110 tokens of real code
)
VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "→", "\r": "␍", "\f": "␌"})


@dataclass(frozen=True)
class Finding:
    """One line of pyflakes."""

    line: int  # of the whole text, from 1
    column: int  # from 1
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


def lint(prompt: str, completion: str, suffix: str = "") -> list[Finding]:
    """pyflakes' findings in a completion, in the order of its lines.

    lint("import os\\n", "print(x)") -> [line 2, column 7: undefined name 'x']

    A text that does not compile has one finding: what the compiler says of it.
    """
    last_line = (prompt + completion).count("\n") + 1
    return [
        finding
        for finding in findings(f"{prompt}{completion}{suffix}\n", len(prompt))
        if finding.line <= last_line
    ]


def findings(text: str, written_from: int) -> list[Finding]:
    from pyflakes.checker import Checker

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            found = Checker(tree).messages
    except SyntaxError as error:
        return [Finding(error.lineno or 1, error.offset or 1, str(error.msg))]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Finding(1, 1, str(error) or "too deeply nested")]
    first = text.count("\n", 0, written_from) + 1
    column = written_from - text.rfind("\n", 0, written_from) - 1
    all_findings = [Finding(f.lineno, f.col + 1, f.message % f.message_args) for f in found]
    written = [f for f in all_findings if f.line > first or (f.line == first and f.column > column)]
    return sorted(written, key=lambda f: (f.line, f.column, f.message))


def rank(sample: Sample, suffix: str = "") -> tuple[bool, bool, int, bool, float]:
    """What the best sample has least of: emptiness, loops, findings, a last "pass", surprise (nats a token).

    A model likes its own loops: by surprise alone they would win.
    """
    text = sample.text.strip()
    is_loop = repetition(sample.ids[sample.prompt_ids :]) > LOOP
    surprise = -sample.log_probability / max(1, sample.tokens)
    return not text, is_loop, len(lint(sample.prompt, sample.text, suffix)), is_stub(text), surprise


def is_stub(text: str) -> bool:
    """Whether a text ends in what stands for code that is not there."""
    return text.endswith(("pass", "..."))


def repetition(ids: list[int]) -> float:
    """The share of groups of 4 tokens that are there more than once: 0 to 1.

    Source: seq-rep-4 of Welleck et al. 2020, "Neural text generation with unlikelihood training", 4.2.
    """
    groups = list(zip(ids, ids[1:], ids[2:], ids[3:], strict=False))
    return 1 - len(set(groups)) / len(groups) if groups else 0.0


def top_tokens(
    model: LanguageModel, vocabulary: Vocabulary, sample: Sample, count: int = SHOWN_TOKENS
) -> Iterator[str]:
    """A line for each token that stayed: its number, and the likeliest there with their probabilities.

    "  2  [·self 61.2 %]  ·cls 20.9 %  ..."; the token that was taken stands in brackets, last if it is not
    among them.
    """
    new_bytes = len(sample.text.encode())
    left, number = sample.rewritten_bytes + new_bytes, 0
    written = sample.ids[sample.prompt_ids :]
    for token_id, logits in zip(written, logits_before(model, sample.ids, sample.prompt_ids), strict=True):
        if left <= 0:
            return
        left -= len(vocabulary.token_bytes[token_id])
        if left < new_bytes:  # otherwise it belongs to the end of the prompt
            number += 1
            yield f"{number:4}  {'  '.join(choices(logits, token_id, vocabulary, count))}"


def choices(logits: Array, taken: int, vocabulary: Vocabulary, count: int) -> list[str]:
    """The likeliest tokens by logits (V,), the taken one marked, at the end if it is not among them."""
    import numpy as np

    logits = logits.copy()
    logits[vocabulary.never_written] = -np.inf
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    top = np.argsort(-probabilities, kind="stable")[:count].tolist()
    if taken not in top:
        top.append(taken)
    words = [f"{spelled(i, vocabulary)} {probabilities[i]:.1%}".replace("%", " %") for i in top]
    return [f"[{word}]" if i == taken else word for i, word in zip(top, words, strict=True)]


def spelled(token_id: int, vocabulary: Vocabulary) -> str:
    """A token with visible blanks: b" if\\n" -> "·if↵"; half a character as \\xe2."""
    if token_id in vocabulary.end_ids:
        return "<end>"
    text = vocabulary.token_bytes[token_id].decode(errors="backslashreplace").translate(VISIBLE)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def logits_before(model: LanguageModel, ids: list[int], first: int) -> Iterator[Array]:
    """Logits (V,) before each of the ids from `first` on; beyond the model's context, by its last half."""
    block_size = model.config.block_size
    start, capacity = 0, min(block_size, len(ids))
    cache = model.new_cache(1, capacity)
    unread = ids[:first]
    for place in range(first, len(ids)):
        if place - start > capacity:
            start = place - max(1, block_size // 2)
            cache, unread = model.new_cache(1, block_size), ids[start:place]
            capacity = block_size
        yield model.next_logits([unread], cache)[0]
        unread = [ids[place]]
