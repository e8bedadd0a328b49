"""Do the texts that the code generator writes repeat themselves more than code does?

    python benchmarks/repetition.py --model GPyT --data data.txt
    python benchmarks/repetition.py --settings temperature=0.6 temperature=0.6+loop_penalty=0 --show 2
    python benchmarks/repetition.py --judge LARGER --settings temperature=0.6 temperature=1

Each prompt is the first line of a class or function at the top level of a held-out file. The model continues
it with --tokens tokens under each of the settings, as code_generator.py would. The first row is the files'
own code, as many tokens of it. The columns, over all texts:

    looping     texts whose end is a loop: the same tokens three times or more in a row, 8 tokens at least
    lines again lines of 8 characters or more that the text has had before
    4-grams     different ones, of all sequences of 4 tokens
    names       different words in 100 words
    cost        nats a token that the penalties take from the probability of the files' own code
    nats/token  of the texts by --judge, a better model with the same tokenizer

A good setting comes close to real code in every column; less repetition than real code has is not the aim.
Source of the idea: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 5.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from always_valid import held_out_files, load
from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

from inference.decoding import SETTINGS, Decoding
from inference.sampling import apply_penalties, log_probability

if TYPE_CHECKING:
    from generation.completer import Completer

SETTINGS_SHOWN = (
    *("temperature=0.8", "temperature=0.6", "temperature=1", "temperature=0", "loop_penalty=0"),
    *("temperature=0.6+loop_penalty=0", "loop_penalty=0+repetition_penalty=1.2"),
)
BEGINS = re.compile(r"^(?:class|def) [^\n]*:\n", re.MULTILINE)
LOOP_REPEATS, LOOP_TOKENS, LONGEST_UNIT = 3, 8, 100
LINE_CHARACTERS = 8
WORDS = re.compile(r"[^\W\d]\w*")
NO_PENALTY = Decoding(repetition_penalty=1.0, loop_penalty=0.0)


@dataclasses.dataclass
class Tally:
    """Sums over the texts of one setting."""

    texts: int = 0
    looping: int = 0
    lines: int = 0
    lines_again: int = 0
    grams: int = 0
    different_grams: int = 0
    words: int = 0
    different_words: int = 0
    judged: list[tuple[float, int]] = dataclasses.field(default_factory=list)  # nats and tokens of a text
    costs: list[tuple[float, int]] = dataclasses.field(default_factory=list)  # of the penalties, on a file

    def add(self, ids: list[int], text: str) -> None:
        """Count a text and its tokens."""
        self.texts += 1
        self.looping += is_loop(ids)
        lines = [line for line in map(str.strip, text.split("\n")) if len(line) >= LINE_CHARACTERS]
        self.lines += len(lines)
        self.lines_again += len(lines) - len(set(lines))
        grams = list(zip(*(ids[first:] for first in range(4)), strict=False))
        self.grams += len(grams)
        self.different_grams += len(set(grams))
        words = WORDS.findall(text)
        self.words += len(words)
        self.different_words += len(set(words))

    def row(self, name: str, width: int) -> str:
        cost, judged = mean_of(self.costs, 4), mean_of(self.judged, 3)
        return (
            f"{name:<{width}}{self.texts:>7}{self.looping / max(1, self.texts):>10.1%}"
            f"{self.lines_again / max(1, self.lines):>13.1%}"
            f"{self.different_grams / max(1, self.grams):>10.1%}"
            f"{100 * self.different_words / max(1, self.words):>8.1f}{cost:>9}{judged:>12}"
        )


NAMES = ("texts", "looping", "lines again", "4-grams", "names", "cost", "nats/token")
HEADER = "".join(f"{name:>{width}}" for name, width in zip(NAMES, (7, 10, 13, 10, 8, 9, 12), strict=True))


def mean_of(sums: list[tuple[float, int]], digits: int) -> str:
    """Nats a token over texts of which each has so many nats and tokens; nothing where there are none."""
    tokens = sum(tokens for _, tokens in sums)
    return f"{sum(nats for nats, _ in sums) / tokens:.{digits}f}" if tokens else ""


def is_loop(ids: list[int]) -> bool:
    """Whether these tokens end in the same ones three times in a row."""
    for unit in range(1, LONGEST_UNIT + 1):
        repeats = max(LOOP_REPEATS, math.ceil(LOOP_TOKENS / unit))
        tail = ids[-repeats * unit :]
        if len(tail) == repeats * unit and tail == tail[:unit] * repeats:
            return True
    return False


def parse_settings(text: str) -> Decoding:
    """ "temperature=0.8+top_p=0.9" -> Decoding(temperature=0.8, top_p=0.9). Raises SystemExit."""
    given = {}
    for part in text.split("+"):
        name, _, value = part.partition("=")
        if name not in SETTINGS:
            raise SystemExit(f"error: there is no setting {name!r}: {', '.join(SETTINGS)}")
        given[name] = SETTINGS[name][0](value)
    return Decoding(**given)  # type: ignore[arg-type]


def beginnings(files: list[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Prompts and how their files continue: the first line of a class or function, at most one a file."""
    rng = random.Random(seed)
    found = []
    for text in rng.sample(files, len(files)):
        if places := list(BEGINS.finditer(text)):
            place = rng.choice(places)
            found.append((text[place.start() : place.end()], text[place.end() :]))
    return found[:count]


def continued(completer: Completer, prompt: str, decoding: Decoding) -> str:
    """What the model writes after a prompt."""
    samples = completer.start(prompt, decoding)
    return "".join(text for _, text in completer.write(samples, decoding))


def nats_of(
    judge: Completer, prompt: str, text: str, decoding: Decoding = NO_PENALTY, most: int | None = None
) -> tuple[float, int]:
    """Sum of -ln p over a text's first tokens after its prompt, as far as the model's context reaches.

    decoding: its penalties count, as if each token had been drawn.
    """
    prompt_ids, ids = judge.vocabulary.encode(prompt), judge.vocabulary.encode(text)
    begin = judge.vocabulary.begin_id
    read = ([] if begin is None else [begin]) + prompt_ids
    ids = ids[: judge.model.config.block_size - len(read)][:most]
    cache = judge.model.new_cache(1, len(read) + len(ids))
    logits = judge.model.next_logits([read], cache)
    nats = 0.0
    for place, token_id in enumerate(ids):
        nats -= log_probability(apply_penalties(logits, read + ids[:place], decoding)[0], token_id)
        logits = judge.model.next_logits([[token_id]], cache)
    return nats, len(ids)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", type=Path, default="GPyT", help="the model's folder")
    parser.add_argument("--data", type=Path, default="data.txt", help="where the held-out files are")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS_SHOWN), help="name=value, joined by +")
    parser.add_argument("--samples", type=int, default=100, help="texts of each")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each")
    parser.add_argument("--seed", type=int, default=0, help="of prompts and texts")
    parser.add_argument("--judge", type=Path, help="folder of a model that reads the texts")
    parser.add_argument("--show", type=int, default=0, help="of each setting's texts, so many in full")
    arguments = parser.parse_args(argv)
    settings = {text: parse_settings(text) for text in arguments.settings}
    completer = load(arguments.model, random_weights=False)
    judge = load(arguments.judge, random_weights=False) if arguments.judge else None
    prompts = beginnings(held_out_files(arguments.data), arguments.samples, arguments.seed)
    width = max(len("real code"), *map(len, settings)) + 2
    print(f"{'':<{width}}{HEADER}", flush=True)

    plain = [nats_of(completer, prompt, rest, most=arguments.tokens) for prompt, rest in prompts]

    def tallied(name: str, decoding: Decoding | None) -> None:
        tally = Tally()
        for number, (prompt, rest) in enumerate(prompts):
            text = rest
            if decoding:
                own = dataclasses.replace(
                    decoding, max_new_tokens=arguments.tokens, seed=arguments.seed + number
                )
                text = continued(completer, prompt, own)
                nats, tokens = nats_of(completer, prompt, rest, decoding, arguments.tokens)
                tally.costs.append((nats - plain[number][0], tokens))
            ids = completer.vocabulary.encode(text)[: arguments.tokens]
            text = b"".join(completer.vocabulary.token_bytes[i] for i in ids).decode("utf-8", "replace")
            tally.add(ids, text)
            if judge:
                tally.judged.append(nats_of(judge, prompt, text))
            if number < arguments.show:
                print(f"--- {name}\n{prompt}{text}", flush=True)
        print(tally.row(name, width), flush=True)

    tallied("real code", None)
    for name, decoding in settings.items():
        tallied(name, decoding)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
