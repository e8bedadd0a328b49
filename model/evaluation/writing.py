"""What a model writes after the beginning of a held-out file, beside what people wrote there.

Places are drawn once, at line ends within the sample's files, and every model continues the same texts:
greedily up to the end of the next line; without the judge; and with it, as code_generator.py does. That last
text is compared with the file's own continuation of the same length. All of it is seeded.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.intervals import wilson
from evaluation.token_classes import NUMBER_OF, label
from generation.inspection import lint
from inference.decoding import Decoding
from model_cli import UserError
from python_syntax.compiler import is_complete, is_viable

if TYPE_CHECKING:
    from attribution.copies import Copy, SourceNotes
    from evaluation.scoring import SampledText
    from generation.completer import Completer
    from generation.sample import Sample

FIRST_LINES = 10  # of a file stand before the first place, at least
NEXT_LINE_TOKENS = 64
GAPS = 200  # hidden lines, for a model that fills gaps
GRAM = 4  # tokens
EXAMPLES = 5  # on the page
SHOWN_LINES = 14  # of a prompt and of what follows it
SAVE_EVERY = 10  # places
WORD = re.compile(r"[^\W\d]\w*")
NAMES = tuple(NUMBER_OF[name] for name in ("builtin", "new name", "seen name"))
GREEDY = Decoding(temperature=0, valid=False, loop_penalty=0, max_new_tokens=NEXT_LINE_TOKENS)
REQUIREMENT = "rapidfuzz==3.14.6"

Row = dict[str, Any]  # what was measured at one place


@dataclass(frozen=True)
class Place:
    """A place in a held-out file: what stands before it, what people wrote after it."""

    number: int
    repository: str
    path: str
    prompt: str
    rest: str


def choose_places(texts: Sequence[SampledText], count: int, seed: int = 0) -> list[Place]:
    """Line ends before a line that is not empty, from each file in turn; fewer if there are fewer."""
    random = np.random.default_rng(seed)
    waiting = []
    for number in random.permutation(len(texts)):
        lines = texts[number].text.decode("utf-8", "replace").splitlines(keepends=True)
        ends = [n for n in range(FIRST_LINES, len(lines)) if lines[n].strip()]
        waiting.append((texts[number], lines, random.permutation(ends).astype(int).tolist()))
    places: list[Place] = []
    while len(places) < count and any(ends for _, _, ends in waiting):
        for text, lines, ends in waiting:
            if ends and len(places) < count:
                end = ends.pop()
                code = "".join(lines[:end]), "".join(lines[end:])
                places.append(Place(len(places), text.repository, text.path, *code))
    return places


def choose_gaps(texts: Sequence[SampledText], count: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """What stands before a hidden line (its indentation included), the line, what follows it."""
    found = []
    for place in choose_places(texts, count, seed + 1):
        line, newline, after = place.rest.partition("\n")
        word = line.strip()
        indentation = line[: len(line) - len(line.lstrip())]
        found.append((place.prompt + indentation, word, newline + after))
    return found


class Writing:
    """A model at the places: what it writes, and what can be said of that."""

    def __init__(self, completer: Completer, sources: SourceNotes, tokens: int, seed: int) -> None:
        """tokens: of each completion."""
        self.completer = completer
        self.sources = sources
        self.usual = Decoding(max_new_tokens=tokens)
        self.seed = seed

    def run(self, places: Sequence[Place], done: list[Row], save: Callable[[list[Row]], None]) -> list[Row]:
        """A row for each place. done: those of a run that was killed; save: called with what is there."""
        rows = list(done)
        for place in with_progress(places[len(done) :], "writing"):
            rows.append(self.row(place))
            if len(rows) % SAVE_EVERY == 0 and len(rows) < len(places):
                save(rows)
        return rows

    def row(self, place: Place) -> Row:
        """All that is measured at a place."""
        line = self.next_line(place.prompt)
        expected = place.rest.splitlines()[0]
        seeded = replace(self.usual, seed=self.seed + place.number)
        free = self.write(place.prompt, replace(seeded, valid=False))
        judged = self.write(place.prompt, seeded)
        good = good_bytes(place.prompt, free.text)
        code = judged.text
        people = longest_that_compiles(place.prompt, place.rest, len(code))
        return {
            "line": line,
            "expected": expected,
            **likeness(line, expected),
            "free_bytes": len(free.text.encode()),
            "good_bytes": good,
            "is_free_python": good == len(free.text.encode()),
            "text": code,
            "is_judged": judged.guaranteed,
            "is_valid": is_complete(f"{place.prompt}{code}\n", 0),
            "tokens": judged.tokens,
            "rejected": sum(judged.rejected_tokens.values()),
            "passes": judged.window.passes,
            "model": self.measured(place.prompt, code),
            "people": self.measured(place.prompt, people),
        }

    def next_line(self, prompt: str) -> str:
        """The first line with anything on it that the model finds likeliest."""
        [sample] = self.completer.start(prompt, GREEDY)
        for _ in self.completer.write([sample], GREEDY):
            if "\n" in sample.written.lstrip():
                break
        lines = [line for line in sample.written.splitlines() if line.strip()]
        return lines[0] if lines else ""

    def write(self, prompt: str, decoding: Decoding) -> Sample:
        [sample] = self.completer.start(prompt, decoding, warn=lambda _: None)
        for _ in self.completer.write([sample], decoding):
            pass
        return sample

    def fill(self, prefix: str, suffix: str) -> str:
        """The line that the model finds likeliest between two parts of a file."""
        [sample] = self.completer.start(prefix, GREEDY, suffix)
        for _ in self.completer.write([sample], GREEDY):
            if "\n" in sample.written:
                break
        return sample.written.partition("\n")[0]

    def fill_gaps(self, texts: Sequence[SampledText], seed: int) -> Row:
        """How often the likeliest line between two parts of a file is the one that was hidden."""
        gaps = with_progress(choose_gaps(texts, GAPS, seed), "filling")
        return gap_figures([(self.fill(before, after), line) for before, line, after in gaps])

    def measured(self, prompt: str, code: str) -> Row:
        """Undefined names, copies and loops in code after a prompt, a model's or people's."""
        ids = self.completer.vocabulary.encode(code)
        grams = [tuple(ids[n : n + GRAM]) for n in range(len(ids) - GRAM + 1)]
        copies = self.sources.copies(prompt, code)
        undefined = sum("undefined name" in finding.message for finding in lint(prompt, code))
        found: Row = {
            "tokens": len(ids),
            "names": count_names(prompt, code),
            "undefined": undefined,
            "grams": len(grams),
            "new_grams": len(set(grams)),
        }
        if copies is not None:
            found["copied"] = covered(copies)
            if copies:
                longest = max(copies, key=lambda copy: copy.end - copy.start)
                found["longest"] = {"tokens": longest.end - longest.start, **vars(longest.sources[0])}
        return found


def check_package() -> None:
    """Raises UserError if the package that measures edit similarity is missing."""
    if find_spec("rapidfuzz") is None:
        raise UserError(f"the package rapidfuzz is missing: run: python -m pip install {REQUIREMENT}")


def with_progress(items: Sequence[Any], name: str) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(items, desc=name, leave=False, disable=not sys.stderr.isatty())


def likeness(line: str, expected: str) -> Row:
    """How alike two lines are: the same but for blanks around them, edit similarity, F1 of their names.

    Edit similarity: 1 - Levenshtein distance / length of the longer line, without the blanks around them.
    Source of the three: CrossCodeEval (Ding et al. 2023), section 3.
    """
    from rapidfuzz.distance import Levenshtein

    one, other = line.strip(), expected.strip()
    names, wanted = ({w for w in WORD.findall(each) if not keyword.iskeyword(w)} for each in (one, other))
    shared = len(names & wanted)
    f1 = 2 * shared / (len(names) + len(wanted)) if names or wanted else 1.0
    similarity = Levenshtein.normalized_similarity(one, other)
    return {"is_exact": one == other, "similarity": similarity, "names_f1": f1}


def good_bytes(prompt: str, text: str) -> int:
    """How much of a text, in bytes and whole lines, may still become a program after the prompt.

    The whole text if all of its lines may. A line that is not ended is not looked at.
    """
    ends = [match.end() for match in re.finditer("\n", text)]
    low, high = 0, len(ends)  # the number of good lines lies between: after a wrong line all is wrong
    while low < high:
        middle = (low + high + 1) // 2
        if is_viable(prompt + text[: ends[middle - 1]], 0):
            low = middle
        else:
            high = middle - 1
    return len((text if low == len(ends) else text[: ends[low - 1] if low else 0]).encode())


def longest_that_compiles(prompt: str, rest: str, size: int) -> str:
    """People's continuation, as many whole lines of it within a size as compile after the prompt."""
    text, kept = "", ""
    for line in rest.splitlines(keepends=True):
        text += line
        if kept and len(text) > size:
            break
        if is_complete(prompt + text, 0):
            kept = text
    return kept.rstrip("\n")


def count_names(prompt: str, code: str) -> int:
    """The names in the code after a prompt, attributes and keywords left out."""
    before = len(prompt.encode())
    labels = label((prompt + code + "\n").encode())
    starts = labels.names[labels.names[:, 0] >= before, 0]
    return int(np.isin(labels.classes[starts], NAMES).sum())


def covered(copies: Sequence[Copy]) -> int:
    """Tokens that lie in some of the copies."""
    return len({place for copy in copies for place in range(copy.start, copy.end)})


# The record


def summary(rows: Sequence[Row], places: Sequence[Place]) -> Row:
    """The figures of a model's rows, five examples, and its longest copies."""
    count = len(rows)

    def share(name: str) -> Row:
        hits = sum(bool(row[name]) for row in rows)
        return {"value": hits / count, "interval": wilson(hits, count)}

    def mean(name: str) -> Row:
        values = np.array([row[name] for row in rows], float)
        error = 1.96 * float(values.std(ddof=1)) / count**0.5 if count > 1 else 0.0
        middle = float(values.mean())
        return {"value": middle, "interval": (middle - error, middle + error)}

    tokens, rejected = sum(row["tokens"] for row in rows), sum(row["rejected"] for row in rows)
    return {
        "places": count,
        "next_line_exact": share("is_exact"),
        "next_line_similarity": mean("similarity"),
        "next_line_names_f1": mean("names_f1"),
        "free_is_python": share("is_free_python"),
        "free_good_bytes": mean("good_bytes"),
        "judged_is_valid": share("is_valid"),
        "tokens_kept": tokens / max(1, tokens + rejected),
        "passes_a_token": sum(row["passes"] for row in rows) / max(1, tokens),
        **{who: code_figures([row[who] for row in rows]) for who in ("model", "people")},
        "examples": [example(row, place) for row, place in zip(rows[:EXAMPLES], places, strict=False)],
        "copies": longest_copies(rows, places),
    }


def code_figures(measured: Sequence[Row]) -> Row:
    """Undefined names in a hundred, the share of tokens copied, the share of 4-grams that are new."""

    def total(name: str) -> int:
        return sum(each.get(name, 0) for each in measured)

    knows = any("copied" in each for each in measured)
    return {
        "undefined_in_100_names": 100 * total("undefined") / max(1, total("names")),
        "copied": total("copied") / max(1, total("tokens")) if knows else None,
        "new_grams": total("new_grams") / max(1, total("grams")),
        "tokens": total("tokens"),
    }


def example(row: Row, place: Place) -> Row:
    """A place for the page: the end of the prompt, people's lines, the model's."""
    return {
        "repository": place.repository,
        "path": place.path,
        "prompt": "\n".join(place.prompt.splitlines()[-SHOWN_LINES:]),
        "people": "\n".join(place.rest.splitlines()[:SHOWN_LINES]),
        "model": "\n".join(row["text"].splitlines()[:SHOWN_LINES]),
        "line": row["line"],
    }


def longest_copies(rows: Sequence[Row], places: Sequence[Place]) -> list[Row]:
    """The model's longest copies, the longest first, each with its source and the place it was written at."""
    found = [
        {**row["model"]["longest"], "after": f"{place.repository}, {place.path}"}
        for row, place in zip(rows, places, strict=True)
        if "longest" in row["model"]
    ]
    return sorted(found, key=lambda copy: -copy["tokens"])[:EXAMPLES]


def gap_figures(lines: Sequence[tuple[str, str]]) -> Row:
    """Of hidden lines and what was written there: exact, and how alike they are."""
    alike = [likeness(written, hidden) for written, hidden in lines]
    hits = sum(each["is_exact"] for each in alike)
    return {
        "gaps": len(alike),
        "exact": {"value": hits / max(1, len(alike)), "interval": wilson(hits, len(alike))},
        "similarity": sum(each["similarity"] for each in alike) / max(1, len(alike)),
    }
